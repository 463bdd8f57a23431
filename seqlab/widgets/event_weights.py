"""EventWeights: how much each past event can weigh in the last state of several systems, and its influence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import Scores
from seqlab.figures.html import Html, text
from seqlab.figures.theme import label, labels
from seqlab.inspection import influence
from seqlab.inspection.event_weights import event_weights
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw, sentence
from seqlab.widgets.inputs.picking import (
    answers_of,
    history_for,
    max_events,
    titles_of,
    user_choices,
    user_dropdown,
    user_label,
)
from seqlab.widgets.views import checked

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run


@displayed
class EventWeights:
    """The weight that each event can have in the last state, by system, above its leave-one-out influence.

    runs: a run, or several by label; all read the same events and score the same item, the one that came next (for a
    typed history, the first recommendation of the first run). The weights are the attention, kernel or response of each
    layer, and the sensitivity of the last state: see `inspection.event_weights`. `user` is a number of the log (1..U)
    or, as text, an id of the source; None: a random one. `history`: a History instead of a user; `show` replaces it.
    A run whose last state is not that of its layers is left out: `refusals`, by label, say why.
    """

    question = "How far back does each system look, and which events does it use of what it could?"
    needs = (Scores, "hidden")
    topic = "Attention and memory"

    def __init__(
        self,
        runs: Run | Mapping[str, Run],
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
    ) -> None:
        self._runs = checked(self, runs)
        self._split, self._titles, self._answers = split, titles_of(split), answers_of(split)
        self._least = min(self._runs.values(), key=lambda run: max_events(run.model)).model
        self._users = [] if history is not None else user_choices(split, user, seed)
        self._set_history(self._users[0] if history is None else history)
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._set_history(history)
        if self.view is not None and not self._weights.empty:
            redraw(self.figure, self._figure())

    def still(self) -> go.Figure | Html:
        """Weights and influence of the events, by system; or the reason why there are none."""
        return self._refused() if self._weights.empty else self._figure()

    def weights(self) -> pd.DataFrame:
        """The weights: columns run, measure, layer, position, from_end, value, see `inspection.event_weights`."""
        return self._weights

    def caption(self) -> str:
        """The user, the watched item, and how many of the last events have half of each system's sensitivity."""
        relation = "next item" if self._history.user in self._answers else "watched item"
        user, title = label(user_label(self._split, self._history.user), 24), label(self._titles[self._watched], 40)
        states = self._weights[self._weights["measure"] == "sensitivity"]
        halves = []
        for name, part in states.groupby("run", sort=False):
            shares = part.sort_values("from_end")["value"].cumsum()
            count = int((shares < 0.5).sum()) + 1
            halves.append(f"{label(name, 30)}: {count}")
        lines = [
            f"User {user}, {relation} <b>{title}</b>.",
            f"Last events with half of the sensitivity, of {len(self._history)}:",
            *("; ".join(halves[first : first + 3]) for first in range(0, len(halves), 3)),
            *labels(self.refusals.values(), 120),
        ]
        return "<br>".join(lines)

    def _set_history(self, source: History | int) -> None:
        import pandas as pd

        self._history = history = history_for(self._split, self._least, source)
        first = next(iter(self._runs.values())).model
        answer = self._answers.get(history.user)
        self._watched = answer or int(influence.scores_of(first, [history])[0].argmax())
        none = pd.DataFrame({name: [] for name in ("run", "measure", "layer", "position", "value")})
        weights, effects = [none], [none[["run", "position", "value"]]]
        self.refusals: dict[str, str] = {}
        for name, run in self._runs.items():
            try:
                weights.append(event_weights(run.model, history).assign(run=name))
            except ValueError as error:
                self.refusals[name] = sentence(error)
                continue
            if len(history) > 1:
                effects.append(influence.leave_one_out(run.model, history, self._watched).assign(run=name))
        self._weights, self._effects = (
            joined.assign(from_end=len(history) - 1 - joined["position"])
            for joined in (pd.concat(frames[len(frames) > 1 :], ignore_index=True) for frames in (weights, effects))
        )

    def _refused(self) -> Html:
        return Html("").join(Html("<div>{}</div>").format(text(words)) for words in self.refusals.values())

    def _figure(self) -> go.Figure:
        titles = [self._titles[item] for item in self._history.items.tolist()]
        return figures.event_weights(self._weights, self._effects, titles, self.caption())

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        if self._weights.empty:
            return panel(self.status, ipywidgets.HTML(self._refused().markup))
        self.user = user_dropdown(self._split, self._users)
        self.figure = interactive_figure(self._figure())
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        return panel(self.status, self.user, self.figure, figure=self.figure)
