"""Patching: parts of one user's forward pass put into another's, to see which part carries the recommendation."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.datasets.history import typed_history
from seqlab.figures.tables import Html, text
from seqlab.figures.theme import labels, plain
from seqlab.inspection import influence, patching
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, View, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import HistoryBox, max_events, history_for, sample_users, titles_of, user_label

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.inspection.patching import Patched
    from seqlab.runs.run import Run

USER_CHOICES = 50
"""Users user_choices; any other may be typed."""

INTRO = (
    "One value inside the model is taken from the other user; the colour says how much of the way to what the other is "
    "recommended this alone makes."
)


class Patching(View):
    """Activation patching between two users: a map of all places, and one of them looked at.

    `history`, `other`: a History, a number of the log (1..U) or, as text, an id of the source; None: users drawn at
    random, the other among those who are recommended something else first. `item`: what is watched (None: what the
    other is recommended first). Raises `ValueError` for a system that scores nothing or has no places to patch.
    """

    def __init__(
        self,
        run: Run,
        split: Split,
        history: History | int | str | None = None,
        other: History | int | str | None = None,
        item: int | None = None,
        k: int = 10,
        seed: int = 0,
    ) -> None:
        if not hasattr(run.model, "score"):
            raise ValueError(
                f"{run.system} makes lists without scoring the catalogue, so nothing tells how far a patch goes; "
                "choose a system that scores, such as sasrec"
            )
        self._model, self._split, self._titles, self._k = run.model, split, titles_of(split), check_k(k)
        self._filter, self._item = run.ranks.seen_filter, item
        self._users = sample_users(split, USER_CHOICES, seed)
        self.history = history_for(split, self._model, history, seed)
        self._meet(self._somebody_else(self.history) if other is None else history_for(split, self._model, other))
        if self.grid.empty:
            raise ValueError(f"{run.system} has no places to patch; choose a system with layers, such as sasrec")
        self.view = None if in_report() else self._controls()

    def show(self, history: History) -> None:
        """Patch into another user; from somebody else, if it is the one patched from so far."""
        history = history_for(self._split, self._model, history)
        known = self.other.user and self.other.user == history.user
        self._now(lambda: self._set(history, self._somebody_else(history) if known else self.other))

    def show_other(self, other: History) -> None:
        """Take from another user."""
        self._now(lambda: self._set(self.history, history_for(self._split, self._model, other)))

    @property
    def item(self) -> int:
        """What is watched."""
        return self.grid.attrs["item"]

    def best(self) -> tuple[str, int]:
        """The tap and the place from the end that recover most alone."""
        recovered = self.grid["recovered"]
        row = self.grid.loc[recovered.idxmax() if recovered.notna().any() else self.grid.index[-1]]
        return row["tap"], int(row["from_end"])

    def patched(self, tap: str, from_end: int) -> Patched:
        """What the user is recommended with the other's value at one place: `inspection.patched`."""
        return patching.patched(
            self._model, self.history, self.other, tap, [-1 - from_end], self.item, self._k, self._filter
        )

    def still(self) -> go.Figure:
        """The map, and in words what its best place does."""
        place = self.best()
        lines = [*_lines(INTRO), *_lines(self._who()), *_lines(self._sentence(place, self.patched(*place)))]
        return figures.patched_places(self.grid, place, "<br>".join(lines))

    def words(self) -> str:
        """Who is patched into whom, what is watched, and how far apart the two are (escaped)."""
        return f"<div>{text(self._who())}</div>"

    def result(self, tap: str, from_end: int) -> Html:
        """What one place does, in a sentence and as a list."""
        place = tap, from_end
        if self.grid[(self.grid["tap"] == tap) & (self.grid["from_end"] == from_end)].empty:
            return Html(
                f"<div>{text(tap)} has no place {from_end} from the end that both users have; choose another.</div>"
            )
        found = self.patched(*place)
        own = influence.rerank(self._model, self.history, self.history, self._k, self._filter)
        lists = {"the user's own": own[["rank", "item"]], "with the other's value there": found.ranking}
        titled = {
            name: frame.assign(title=[self._titles[item] for item in frame["item"]]) for name, frame in lists.items()
        }
        return Html(f"<p>{text(self._sentence(place, found))}</p>{figures.top_tens(titled).body}")

    def _who(self) -> str:
        """Plain words about the two."""
        into, source = (user_label(self._split, one.user) for one in (self.history, self.other))
        about = self.grid.attrs
        said = (
            f"Into user {into}, from user {source}; watched is “{plain(self._titles[self.item], 40)}” (log-probability "
            f"{about['before']:.2f} for the one, {about['other']:.2f} for the other); {about['alignment']}."
        )
        if math.isnan(self.grid["recovered"].iloc[0]):
            said += " Both give it the same probability, so there is no way to go: choose another user."
        return said

    def _sentence(self, place: tuple[str, int], found: Patched) -> str:
        """Plain words about one place."""
        tap, from_end = place
        where = "the last place" if from_end == 0 else f"place {from_end} from the end"
        share = "" if math.isnan(found.recovered) else f": {found.recovered:.0%} of the way"
        first = self._titles[int(found.ranking["item"].iloc[0])]
        return (
            f"With {tap} at {where} taken from the other, its log-probability goes from {found.before:.2f} to "
            f"{found.after:.2f} (the other's: {found.other:.2f}){share}; first in the list is “{plain(first, 40)}”."
        )

    def _somebody_else(self, history: History) -> History:
        """The first of the users user_choices who is recommended something else first."""
        others = [history_for(self._split, self._model, user) for user in self._users if user != history.user]
        first, *theirs = influence.lists_of(self._model, [history, *others], 1, self._filter).items[:, 0].tolist()
        different = (other for other, item in zip(others, theirs, strict=True) if item != first)
        return next(different, others[0] if others else history)

    def _meet(self, other: History) -> None:
        """Patch every place, one at a time."""
        self.other = other
        self.grid = patching.tracing_grid(self._model, self.history, other, self._item, self._filter)

    def _set(self, history: History, other: History) -> None:
        self.history = history
        self._meet(other)
        if self.view is not None:
            self._offer()

    def _now(self, change: Any) -> None:
        """Make a change, and tell in the widget what went wrong."""
        if self.view is None:
            change()
        else:
            self.status.guard(change)()

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        guard = self.status.guard
        self.user = ipywidgets.Combobox(
            options=[user_label(self._split, user) for user in self._users], value=self._other_label(),
            description="other user", continuous_update=False, placeholder="id of a user",
        )  # fmt: skip
        self.typed = HistoryBox(guard(self._read))
        self.tap = ipywidgets.Dropdown(options=self._taps(), description="part")
        self.place = ipywidgets.IntSlider(0, 0, 1, description="from the end", continuous_update=False)
        self.about = ipywidgets.HTML(layout={"width": "100%"})
        self.message = ipywidgets.HTML(layout={"width": "100%"})
        self.figure = interactive_figure(figures.patched_places(self.grid, self.best()))
        self.figure.data[0].on_click(guard(self._clicked))
        self._offer()
        self.user.observe(guard(self._choose), "value")
        for control in (self.tap, self.place):
            control.observe(guard(self._look), "value")
        wrap = {"flex_flow": "row wrap"}
        who = ipywidgets.HBox([self.user, self.typed.view], layout=wrap)
        where = ipywidgets.HBox([self.tap, self.place], layout=wrap)
        parts = (ipywidgets.HTML(INTRO), who, self.about, self.figure, where, self.message)
        return panel(self.status, *parts, figure=self.figure)

    def _taps(self) -> list[str]:
        return list(dict.fromkeys(self.grid["tap"]))

    def _other_label(self) -> str:
        return user_label(self._split, self.other.user) if self.other.user else ""

    def _offer(self) -> None:
        """Fill the controls for two users, at the place that recovers most."""
        tap, from_end = self.best()
        self._filling = True
        self.user.value = self._other_label()
        self.tap.options = self._taps()
        self.place.max = max(1, int(self.grid["from_end"].max()))
        self.tap.value, self.place.value = tap, from_end
        self.about.value = Html(self.words()).markup
        self._filling = False
        self._look()

    def _choose(self, change: object) -> None:
        if not self._filling and self.user.value.strip():
            self._set(self.history, history_for(self._split, self._model, self.user.value.strip()))

    def _read(self, typed: str) -> None:
        self._set(self.history, typed_history(self._split, typed, max_events(self._model)))

    def _clicked(self, trace: object, points: Any, state: object) -> None:
        if points.xs:
            self._filling = True
            self.tap.value, self.place.value = self._taps()[int(points.ys[0])], int(points.xs[0])
            self._filling = False
            self._look()

    def _look(self, change: object = None) -> None:
        if not self._filling:
            place = self.tap.value, self.place.value
            redraw(self.figure, figures.patched_places(self.grid, place))
            self.message.value = self.result(*place).markup


def _lines(words: str) -> list[str]:
    """Words as escaped lines that a phone can hold."""
    return labels(textwrap.wrap(words, 50))
