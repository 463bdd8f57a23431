"""DirectAttribution: the parts of an item's logit, by layer, head and event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import Scores
from seqlab.figures.html import Html, text
from seqlab.figures.theme import label, plain
from seqlab.inspection.attribution import direct_attribution
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw, sentence
from seqlab.widgets.inputs.picking import (
    answers_of,
    history_for,
    titles_of,
    user_choices,
    user_dropdown,
    user_label,
)
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.inspection.attribution import Attribution
    from seqlab.runs.run import Run

LISTED = 10
"""Recommendations that can be chosen."""


@displayed
class DirectAttribution:
    """The logit of an item as a sum: what each layer adds, and by the value of which event, through which head.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: a random one. `history`: a History
    instead of a user; `show` replaces it. `item`: the explained item (None: the first recommendation). `other`: an item
    whose logit is subtracted, for "why this and not that" (None: none). Where a logit is no sum of parts, `refusal` and
    the still say why.
    """

    question = "Which layer, head and event's value made the score of this item, and why not that of another?"
    needs = (Scores, "hidden", "attention")
    topic = "Layers"

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        item: int | None = None,
        other: int | None = None,
    ) -> None:
        check(self, run)
        self._model, self._split, self._titles, self._filter = run.model, split, titles_of(split), run.seen_filter
        self._answers, self._item, self._other = answers_of(split), item, other
        self._users = [] if history is not None else user_choices(split, user, seed)
        self.refusal = ""
        self._set_history(self._users[0] if history is None else history)
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Show the first recommendation for another history, or for a user of the log."""
        self._item = self._other = None
        self._set_history(history)
        if self.view is not None and not self.refusal:
            self._draw()

    def explain(self, item: int, other: int | None = None) -> None:
        """Explain another item, or the difference from another one."""
        self._item, self._other = item, other
        self._attribute()
        if self.view is not None and not self.refusal:
            self._draw()

    def still(self) -> go.Figure | Html:
        """The parts of the logit, and the value of each event by head; or the reason why there are none."""
        return Html("<div>{}</div>").format(text(self.refusal)) if self.refusal else self._figure()

    def caption(self) -> str:
        """The item, its place, and the part and the event that add most (escaped)."""
        found = self._attribution
        name, user = label(self._titles[found.item], 36), label(user_label(self._split, self._history.user), 24)
        place = int((found.scores > found.scores[found.item]).sum()) + 1
        what = f"User {user}: <b>{name}</b><br>has rank {place:,}, its logit is {found.logit:.2f}."
        if found.other:
            what = (
                f"User {user}: why <b>{name}</b><br>and not <b>{label(self._titles[found.other], 40)}</b>?<br>"
                f"The difference of their logits is {found.logit:+.2f}."
            )
        events = found.by_event()
        events = events[events["event"] >= 0].groupby("event")["value"].sum()
        if len(events):
            best = int(events.idxmax())
            title = label(self._titles[int(self._history.items[best])], 36)
            what += f"<br>Through attention, event {best + 1} adds most:<br><b>{title}</b> ({events[best]:+.2f})."
        return what

    @property
    def attribution(self) -> Attribution | None:
        """The parts; None where a logit is no sum of them."""
        return self._attribution

    def _set_history(self, source: History | int) -> None:
        self._history = history_for(self._split, self._model, source)
        self._attribute()

    def _attribute(self) -> None:
        self._attribution: Attribution | None = None
        try:
            self._attribution = direct_attribution(self._model, self._history, self._item, self._other, self._filter)
        except ValueError as error:
            self.refusal = sentence(error)

    def _figure(self) -> go.Figure:
        found = self._attribution
        return figures.direct_attribution(
            found.by_part(), found.by_event(), [self._titles[item] for item in self._history.items.tolist()],
            self.caption(), "the difference" if found.other else "the logit",
        )  # fmt: skip

    def _options(self) -> list[tuple[str, int]]:
        """Items to choose: the recommendations, the item that came next, and the explained ones."""
        found = self._attribution
        best = found.scores.topk(min(LISTED, len(found.scores) - 1)).indices.tolist()
        options = {item: f"{place}. {plain(self._titles[item], 50)}" for place, item in enumerate(best, 1)}
        answer = self._answers.get(self._history.user)
        for item in (answer, found.item, found.other):
            if item and item not in options:
                came = "came next: " if item == answer else ""
                options[item] = f"{came}{plain(self._titles[item], 50)}"
        return [(name, item) for item, name in options.items()]

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        if self.refusal:
            return panel(self.status, ipywidgets.HTML(label(self.refusal)))
        self.user = user_dropdown(self._split, self._users)
        self.item = ipywidgets.Dropdown(description="why", layout={"width": "360px"})
        self.other = ipywidgets.Dropdown(description="and not", layout={"width": "360px"})
        self.figure = interactive_figure(self._figure())
        self._updating = False
        self._set_options()
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        for control in (self.item, self.other):
            control.observe(self.status.guard(self._choose), "value")
        bar = ipywidgets.HBox([self.user, self.item, self.other], layout={"flex_flow": "row wrap"})
        return panel(self.status, bar, self.figure, figure=self.figure)

    def _choose(self, change: object) -> None:
        if not self._updating:
            self.explain(self.item.value, self.other.value or None)

    def _set_options(self) -> None:
        """Set the lists to the shown items, without their callbacks."""
        self._updating = True
        try:
            options, found = self._options(), self._attribution
            self.item.options, self.item.value = options, found.item
            self.other.options, self.other.value = [("nothing", 0), *options], found.other
        finally:
            self._updating = False

    def _draw(self) -> None:
        self._set_options()
        redraw(self.figure, self._figure())
