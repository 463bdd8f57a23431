"""InfluenceView: the influence of each event under one or several systems, and the update gates of recurrent ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures, tracing
from seqlab.contracts import Scores
from seqlab.datasets.history import history_of
from seqlab.figures.theme import plain
from seqlab.inspection import influence
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import answers_of, titles_of, user_choices, user_dropdown, user_label
from seqlab.widgets.views import checked

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run


DEFAULT_MAX_EVENTS = 30
"""Events shown if no system has a maximum history length."""

UPDATE_GATE = 1
"""The index of the update gate of a GRU (0 is the reset gate)."""


@displayed
class InfluenceView:
    """The leave-one-out influence of each event on the next item, by run, for one user (`users` in the still).

    runs: a run, or several by label. All systems read the same events and score the same item, the answer of the test
    query. For a system with gates, the mean update gate of each event is shown too. `history`: a History instead of a
    user; `show` replaces it. A typed history has no answer: its item is the first recommendation of the first system.
    """

    question = "How much does each event count for the item that came next?"
    needs = (Scores,)
    topic = "Attention and memory"

    def __init__(
        self,
        runs: Run | Mapping[str, Run],
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        users: int = 2,
    ) -> None:
        self._runs = checked(self, runs)
        self._split, self._titles, self._count, self._history = split, titles_of(split), users, history
        self._longest = min(run.model.config.max_length or DEFAULT_MAX_EVENTS for run in self._runs.values())
        self._targets = answers_of(split)
        self._users = [] if history is not None else user_choices(split, user, seed)
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._history = None if isinstance(history, int) else history
        if self.view is not None:
            redraw(self.figure, self._figure([history]))

    def still(self) -> go.Figure:
        """The first users, one below the other."""
        return self._figure(self._users[: self._count] if self._history is None else [self._history])

    def measure(self, user_or_history: History | int) -> tuple[str, pd.DataFrame, list[str]]:
        """For one user: a caption, the tidy frame of all panels, and the titles of the events."""
        import pandas as pd

        if isinstance(user_or_history, int):
            user_or_history = history_of(self._split, user_or_history)
        history, target = user_or_history.last(self._longest), self._targets.get(user_or_history.user)
        if target is None:
            target = int(influence.scores_of(next(iter(self._runs.values())).model, [history])[0].argmax())
        influences = {name: influence.leave_one_out(run.model, history, target) for name, run in self._runs.items()}
        panels = [
            frame.assign(panel=f"influence in {name}", unit="log-probability") for name, frame in influences.items()
        ]
        panels += [gate for name, run in self._runs.items() if (gate := _update_gate(name, run, history)) is not None]
        relation = "next item" if user_or_history.user in self._targets else "scored item"
        caption = (
            f"User {user_label(self._split, user_or_history.user)}, {relation} “{plain(self._titles[target], 60)}”."
        )
        if len(influences) == 2:
            _, agreement = influence.agreement(*influences.values())
            caption += f"\n{' and '.join(influences)} {agreement}"
        titles = [self._titles[item] for item in history.items.tolist()]
        return caption, pd.concat(panels, ignore_index=True), titles

    def _figure(self, users: list[History | int]) -> go.Figure:
        import pandas as pd

        frames, titles = [], {}
        for user in users:
            caption, frame, events = self.measure(user)
            frames.append(frame.assign(history=caption))
            titles[caption] = events
        return figures.influences(pd.concat(frames, ignore_index=True), titles)

    def _controls(self) -> Any:

        self.status = StatusLine()
        self.user = user_dropdown(self._split, self._users)
        self.figure = interactive_figure(self._figure([self.user.value if self._history is None else self._history]))
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        return panel(self.status, self.user, self.figure, figure=self.figure)


def _update_gate(name: str, run: Run, history: History) -> pd.DataFrame | None:
    """The mean update gate of each event, the share of the hidden state that it rewrites; None without gates."""
    import pandas as pd

    if not any(tap.kind == "gates" for tap in tracing.taps(run.model).values()):
        return None
    with tracing.watch(run.model, "gates") as trace:
        influence.scores_of(run.model, [history])
    record = trace["gates"].passes[-1]
    values = record.values[-1] if record.axes[0] == "layer" else record.values  # (1, T, gate, D)
    update = values[0, : len(history), UPDATE_GATE].mean(-1)
    return pd.DataFrame(
        {
            "position": range(len(history)),
            "value": update.double().numpy(),
            "panel": f"rewritten in {name}",
            "unit": "update gate, mean",
        }
    )
