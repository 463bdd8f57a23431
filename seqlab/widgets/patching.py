"""Patching: activation patching between two users, to find the part of a model that carries a recommendation."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import Scores
from seqlab.datasets.history import typed_history
from seqlab.figures.html import Html, text
from seqlab.figures.theme import labels, plain
from seqlab.inspection import influence, patching
from seqlab.inspection.examples import most_different
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, displayed, guarded, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs import picking
from seqlab.widgets.inputs.picking import HistoryBox, history_for, sample_users, titles_of, user_label
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.inspection.patching import Patched
    from seqlab.runs.run import Run

INTRO = (
    "One value inside the model is replaced by the other user's; the colour shows how much of the difference between "
    "the two users' log-probabilities of an item this recovers."
)


@displayed
class Patching:
    """Activation patching between two users: a map of all positions of all taps, and the result of one of them.

    `user`, `source` (whose values are taken): a number of the log (1..U) or, as text, an id of the source data; None:
    a random user, and of 50 others the one whose first recommendation is most unlike this user's, see
    `inspection.examples.most_different`. `history`: a History instead of a user; `source` may be one too. `item`: the
    watched item (None: the first recommendation of `source`). `intro`: whether the view explains itself. Raises
    `ValueError` for a system without `score` or without taps to patch.
    """

    question = "Which part of the system carries what distinguishes this user from another?"
    needs = (Scores, "hidden")
    topic = "History editor"
    explanation = INTRO

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        source: History | int | str | None = None,
        item: int | None = None,
        k: int = 10,
        intro: bool = True,
    ) -> None:
        check(self, run)
        self._intro = INTRO if intro else ""
        self._model, self._split, self._titles, self._k = run.model, split, titles_of(split), check_k(k)
        self._filter, self._item = run.seen_filter, item
        self._users = sample_users(split, picking.USER_CHOICES, seed)
        self.history = history_for(split, self._model, user if history is None else history, seed)
        other = self._default_other(self.history) if source is None else history_for(split, self._model, source)
        self._set_other(other)
        self.view = None if in_report() else self._controls()

    def show(self, history: History) -> None:
        """Patch into another user; if this is the current other user, choose a new other one."""
        history = history_for(self._split, self._model, history)
        known = self.other.user and self.other.user == history.user
        guarded(self, lambda: self._set(history, self._default_other(history) if known else self.other))

    def show_other(self, other: History) -> None:
        """Take the values of another user."""
        guarded(self, lambda: self._set(self.history, history_for(self._split, self._model, other)))

    @property
    def item(self) -> int:
        """The watched item."""
        return self.grid.attrs["item"]

    def best(self) -> tuple[str, int]:
        """The tap and the position from the end with the largest `recovered`."""
        recovered = self.grid["recovered"]
        row = self.grid.loc[recovered.idxmax() if recovered.notna().any() else self.grid.index[-1]]
        return row["tap"], int(row["from_end"])

    def patched(self, tap: str, from_end: int) -> Patched:
        """The recommendations with the other's value at one position: `inspection.patched`."""
        at = [-1 - from_end] if patching.has_positions(self._model, tap) else None
        return patching.patched(self._model, self.history, self.other, tap, at, self.item, self._k, self._filter)

    def still(self) -> go.Figure:
        """The map, with the result of its best position in words."""
        place = self.best()
        words = (self._intro, self._summary(), self._sentence(place, self.patched(*place)))
        lines = [line for one in words for line in _lines(one)]
        return figures.patching_heatmap(self.grid, place, "<br>".join(lines))

    def caption(self) -> Html:
        """The two users, the watched item, and its probabilities."""
        return Html("<div>{}</div>").format(text(self._summary()))

    def result(self, tap: str, from_end: int) -> Html:
        """The result of one position, as a sentence and a list."""
        place = tap, from_end
        if self.grid[(self.grid["tap"] == tap) & (self.grid["from_end"] == from_end)].empty:
            return Html("<div>{} has no position {} from the end that both users have; choose another.</div>").format(
                text(tap), from_end
            )
        found = self.patched(*place)
        unpatched = influence.rerank(self._model, self.history, self.history, self._k, self._filter)
        lists = {"unpatched": unpatched[["rank", "item"]], "patched": found.ranking}
        titled = {
            name: frame.assign(title=[self._titles[item] for item in frame["item"]]) for name, frame in lists.items()
        }
        return Html("<p>{}</p>{}").format(text(self._sentence(place, found)), figures.top_tens(titled))

    def _summary(self) -> str:
        """The same as `caption`, as plain text."""
        into, source = (user_label(self._split, one.user) for one in (self.history, self.other))
        about = self.grid.attrs
        before, other = (math.exp(about[name]) for name in ("before", "other"))
        message = (
            f"Into user {into}, from user {source}. The watched item is “{plain(self._titles[self.item], 40)}”, with a "
            f"probability of {before:.2%} and {other:.2%}. {about['alignment'][0].upper()}{about['alignment'][1:]}."
        )
        if math.isnan(self.grid["recovered"].iloc[0]):
            message += " Both users give it the same probability, so there is nothing to recover: choose another user."
        return message

    def _sentence(self, place: tuple[str, int], found: Patched) -> str:
        """The result of one position, as plain text."""
        tap, from_end = place
        where = " at the last position" if from_end == 0 else f" at position {from_end} from the end"
        where = where if patching.has_positions(self._model, tap) else ""
        share = "" if math.isnan(found.recovered) else f": {found.recovered:.0%} recovered"
        first = self._titles[int(found.ranking["item"].iloc[0])]
        return (
            f"With {tap}{where} replaced, its probability goes from {math.exp(found.before):.2%} to "
            f"{math.exp(found.after):.2%} (the other's: {math.exp(found.other):.2%}){share}; the first recommendation "
            f"is “{plain(first, 40)}”."
        )

    def _default_other(self, history: History) -> History:
        """The offered user who differs most."""
        others = [history_for(self._split, self._model, user) for user in self._users if user != history.user]
        return others[most_different(self._model, history, others, self._filter)] if others else history

    def _set_other(self, other: History) -> None:
        """Set the other user and compute the map."""
        self.other = other
        self.grid = patching.tracing_grid(self._model, self.history, other, self._item, self._filter)

    def _set(self, history: History, other: History) -> None:
        self.history = history
        self._set_other(other)
        if self.view is not None:
            self._fill_controls()

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        guard = self.status.guard
        self.user = ipywidgets.Combobox(
            options=[user_label(self._split, user) for user in self._users], value=self._other_label(),
            description="other user", continuous_update=False, placeholder="id of a user",
        )  # fmt: skip
        self.typed = HistoryBox(self._read_typed, self.status, self._titles)
        self.tap = ipywidgets.Dropdown(options=self._taps(), description="part")
        self.place = ipywidgets.IntSlider(0, 0, 1, description="from the end", continuous_update=False)
        self.about = ipywidgets.HTML(layout={"width": "100%"})
        self.message = ipywidgets.HTML(layout={"width": "100%"})
        self.figure = interactive_figure(figures.patching_heatmap(self.grid, self.best()))
        self.figure.data[0].on_click(guard(self._clicked))
        self._fill_controls()
        self.user.observe(guard(self._other_chosen), "value")
        for control in (self.tap, self.place):
            control.observe(guard(self._show_result), "value")
        wrap = {"flex_flow": "row wrap"}
        who = ipywidgets.HBox([self.user, self.typed.view], layout=wrap)
        where = ipywidgets.HBox([self.tap, self.place], layout=wrap)
        parts = (ipywidgets.HTML(self._intro), who, self.about, self.figure, where, self.message)
        return panel(self.status, *parts, figure=self.figure)

    def _taps(self) -> list[str]:
        return list(dict.fromkeys(self.grid["tap"]))

    def _other_label(self) -> str:
        return user_label(self._split, self.other.user) if self.other.user else ""

    def _fill_controls(self) -> None:
        """Fill the controls for the two users, at the best position."""
        tap, from_end = self.best()
        self._filling = True
        self.user.value = self._other_label()
        self.tap.options = self._taps()
        self.place.max = max(1, int(self.grid["from_end"].max()))
        self.tap.value, self.place.value = tap, from_end
        self.about.value = self.caption().markup
        self._filling = False
        self._show_result()

    def _other_chosen(self, change: object) -> None:
        if not self._filling and self.user.value.strip():
            self._set(self.history, history_for(self._split, self._model, self.user.value.strip()))

    def _read_typed(self, typed: str) -> list[int]:
        self._set(self.history, typed_history(self._split, typed, picking.max_events(self._model)))
        return self.other.items.tolist()

    def _clicked(self, trace: object, points: Any, state: object) -> None:
        if points.xs:
            self._filling = True
            self.tap.value, self.place.value = self._taps()[int(points.ys[0])], int(points.xs[0])
            self._filling = False
            self._show_result()

    def _show_result(self, change: object = None) -> None:
        if not self._filling:
            place = self.tap.value, self.place.value
            redraw(self.figure, figures.patching_heatmap(self.grid, place))
            self.message.value = self.result(*place).markup


def _lines(caption: str) -> list[str]:
    """Words as short escaped lines, for a narrow screen."""
    return labels(textwrap.wrap(caption, 50))
