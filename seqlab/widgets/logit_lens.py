"""LogitLens: what a system would recommend after each of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import Scores
from seqlab.figures.html import Html, plotly_html, text
from seqlab.figures.theme import plain
from seqlab.inspection.attribution import Lens, logit_lens
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
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
    from seqlab.runs.run import Run

INTRO = (
    "The state after every layer, read as the last one is: what the system would recommend if it ended there. "
    "Bars are probabilities."
)


@displayed
class LogitLens:
    """The `k` best items after every layer (and reasoning step) for one user, and the rank of a watched item.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: a random one. `history`: a History
    instead of a user; `show` replaces it. The watched item is the one that came next; for a typed history, the first
    recommendation. `watch` and `read_to` choose another item, and an earlier event. Raises `ValueError` for a system
    without scores or layers.
    """

    question = "At which layer does the recommendation appear, and what stood there before?"
    needs = (Scores, "hidden")
    topic = "Layers"

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        k: int = 5,
    ) -> None:
        check(self, run)
        self._model, self._split, self._titles, self._filter = run.model, split, titles_of(split), run.seen_filter
        self._k, self._answers = check_k(k), answers_of(split)
        self._users = [] if history is not None else user_choices(split, user, seed)
        self._set_history(self._users[0] if history is None else history)
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._set_history(history)
        if self.view is not None:
            self._set_slider()
            self._draw()

    def read_to(self, events: int) -> None:
        """Show the state after the first `events` events; the watched item is the one that came next."""
        if not 1 <= events <= len(self._whole):
            raise ValueError(f"the history has {len(self._whole)} events, so {events} of them cannot be read")
        self._cut_history(events)
        if self.view is not None:
            self._draw()

    def watch(self, item: int) -> None:
        """Watch another item."""
        if not 1 <= item < len(self._titles):
            raise ValueError(f"there is no item {item}; there are {len(self._titles) - 1}")
        self.watched = item
        if self.view is not None:
            self._draw()

    def still(self) -> Html:
        """The items of every layer, and the ranks of the watched item and of the first recommendation."""
        return self.caption() + self.items() + plotly_html(self.ranks().to_plotly_json())

    def caption(self) -> Html:
        """The user, the last event, and the watched item."""
        relation = "what came next" if self.watched == self._next else "the watched item"
        count = len(self._history.earlier) + len(self._history)
        return Html("<div class='quiet'>{}</div><div>User {}, after event {}, {}: <b>{}</b> is {}.</div>").format(
            INTRO, text(user_label(self._split, self._history.user), 40), count,
            text(self._titles[int(self._history.items[-1])], 60), text(self._titles[self.watched], 60), relation,
        )  # fmt: skip

    def items(self, clickable: bool = False) -> Html:
        """The best items of every layer; clickable: as buttons."""
        watch = self._lens.watch(self.watched)
        return figures.logit_lens(
            self._lens.top(self._k), watch, self._lens.layers, self._titles, self.watched, clickable
        )

    def ranks(self) -> go.Figure:
        """The rank of the watched item, and of the first recommendation, after every layer."""
        shown = dict.fromkeys([self.first, self.watched])
        curves = {self._titles[item]: self._lens.watch(item) for item in shown}
        if len(curves) < len(shown):  # two items of one title
            curves = {f"{self._titles[item]} ({item})": self._lens.watch(item) for item in shown}
        return figures.lens_ranks(curves, self._lens.layers)

    @property
    def first(self) -> int:
        """The item that the last layer puts first."""
        return int(self._lens.top(1)["item"].iloc[-1])

    @property
    def lens(self) -> Lens:
        """The scores of every layer."""
        return self._lens

    def _set_history(self, source: History | int) -> None:
        self._whole = history_for(self._split, self._model, source)
        self._cut_history(len(self._whole))

    def _cut_history(self, events: int) -> None:
        """Read the first events of the history, and watch the item after them."""
        whole = self._whole
        self._history = whole if events == len(whole) else whole.drop(*range(events, len(whole)))
        self._lens = logit_lens(self._model, self._history, self._filter)
        after = None if events == len(whole) else int(whole.items[events])
        self._next = self._answers.get(whole.user) if after is None else after
        self.watched = self._next or self.first

    def _controls(self) -> Any:
        import ipywidgets

        from seqlab.widgets.inputs.clickable_html import ClickableHtml

        self.status = StatusLine()
        self.user = user_dropdown(self._split, self._users)
        self.events = ipywidgets.IntSlider(1, 1, 1, description="after event", continuous_update=False)
        self._set_slider()
        self.watch_next = ipywidgets.Button(description="watch what came next", layout={"width": "auto"})
        self.caption_view = ipywidgets.HTML(self.caption().markup)
        self.listed = ClickableHtml(lambda key: self.status.guard(self.watch)(int(key)))
        self.listed.show(self.items(clickable=True).markup)
        self.figure = interactive_figure(self.ranks())
        self.user.observe(self.status.guard(lambda change: self.show(change.new)), "value")
        self.events.observe(self.status.guard(self._read_to), "value")
        self.watch_next.on_click(self.status.guard(lambda _: self.watch(self._next or self.first)))
        bar = ipywidgets.HBox([self.user, self.events, self.watch_next], layout={"flex_flow": "row wrap"})
        hint = ipywidgets.HTML("Press an item to watch it.")
        return panel(self.status, bar, self.caption_view, self.listed, hint, self.figure, figure=self.figure)

    def _set_slider(self) -> None:
        """Set the slider to the whole history, without its callback."""
        self._updating = True
        try:
            length = len(self._whole)
            self.events.max = max(length, 2)  # a slider of one position has no width
            self.events.value, self.events.disabled = length, length == 1
        finally:
            self._updating = False

    def _read_to(self, change: Any) -> None:
        if not self._updating:
            self.read_to(change.new)

    def _draw(self) -> None:
        self.caption_view.value = self.caption().markup
        self.listed.show(self.items(clickable=True).markup)
        self.watch_next.tooltip = plain(self._titles[self._next or self.first], 60)
        redraw(self.figure, self.ranks())
