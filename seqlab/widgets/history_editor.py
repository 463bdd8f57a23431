"""HistoryEditor: type a history, or drop, move and add events, and see the top ten change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import Recommends, Scores, supports
from seqlab.datasets.history import History, typed_history
from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain
from seqlab.inspection import influence
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, displayed, in_report, panel
from seqlab.widgets.inputs.picking import HistoryBox, ItemPicker, history_for, max_events, titles_of, user_label
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

CALENDAR = 1e8, 2.5e11
"""Timestamps shown as dates (seconds, 1973 to 9999); other values are counters."""


@displayed
class HistoryEditor:
    """An editor of one user's history, with the top `k` after every edit compared with that of the original history.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: a random one. `history`: a typed
    history instead of a user, as `datasets.typed_items` reads it, or a History. Every edit costs one forward pass (two
    for a system without `score`). `.history` is the edited history.
    """

    question = "What is recommended if the history is edited?"
    needs = (Recommends,)

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: str | list[str | int] | History | None = None,
        k: int = 10,
    ) -> None:
        check(self, run)
        self._model, self._split, self._titles, self._k = run.model, split, titles_of(split), check_k(k)
        self._filter = run.seen_filter
        self._listeners: list[Callable[[History], None]] = []
        if history is not None and not isinstance(history, History):
            history = typed_history(split, history, max_events(self._model))
        self._start(history_for(split, self._model, user if history is None else history, seed))
        self.view = None if in_report() else self._controls()

    def follow(self, listener: Callable[[History], None]) -> None:
        """Call `listener(history)` after every edit and every typed history."""
        self._listeners.append(listener)

    @property
    def original(self) -> History:
        """The history before the edits, which the lists are compared with."""
        return self._original

    def show(self, history: History, original: History | None = None) -> None:
        """Edit another history, without calling the listeners. original: the history before earlier edits."""
        self._start(history_for(self._split, self._model, history if original is None else original))
        self.history = history_for(self._split, self._model, history)
        if self.view is not None:
            self._show(len(self.history) - 1)

    def read(self, typed: str | list[str | int]) -> None:
        """Edit a typed history of ids or titles. Raises `DataError` for an entry that cannot be read."""
        history = typed_history(self._split, typed, max_events(self._model))
        self._undo_stack.append((self._original, self.history))
        self._original = self.history = history
        self._changed(len(self.history) - 1)

    def ranking(self, history: History) -> pd.DataFrame:
        """The top k of a history compared with the original's: `inspection.influence.rerank` with titles."""
        frame = influence.rerank(self._model, self._original, history, self._k, self._filter)
        return frame.assign(title=[self._titles[item] for item in frame["item"]])

    def still(self) -> Html:
        """The top k of the original history, and after the current edits and three prepared ones."""
        original = self._original
        lists = {f"with {self._original_label}": self.ranking(original)[["rank", "title"]]}
        edits = {"with the edits made": self.history} if self._edited else {}
        if len(original) > 1:
            last = plain(self._titles[int(original.items[-1])], 40)
            edits[f"without the last event: {last}"] = original.drop(len(original) - 1)
            if supports(self._model, Scores):
                influences = influence.leave_one_out(self._model, original, seen_filter=self._filter)
                best = int(influences["value"].iloc[:-1].idxmax())
                other = plain(self._titles[int(original.items[best])], 40)
                edits[f"without the most influential of the others: {other} (event {best + 1})"] = original.drop(best)
            edits["with the order reversed"] = original.reversed()
        lists |= {caption: self.ranking(history) for caption, history in edits.items()}
        tables = figures.top_tens(lists)
        return Html("<div>{}; arrows are places gained or lost.</div>{}").format(self._summary(), tables)

    @property
    def _original_label(self) -> str:
        return "the true history" if self._original.user else "the typed history"

    @property
    def _edited(self) -> bool:
        return self.history.items.tolist() != self._original.items.tolist()

    def _summary(self) -> Html:
        """The user of the original history, and the number of events read."""
        read, earlier = len(self._original), len(self._original.earlier)
        events = f"{read:,} event{'s' * (read != 1)} read"
        unread = f", {earlier:,} earlier ones not" if earlier else ""
        user = text(user_label(self._split, self._original.user))
        return Html("<b>User {}</b>, {}{}").format(user, events, unread)

    def _start(self, history: History) -> None:
        self._original = self.history = history
        self._undo_stack: list[tuple[History, History]] = []

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        guard = self.status.guard
        self.events = ipywidgets.Select(rows=14, layout={"width": "97%"})
        self.picker = ItemPicker(self._titles, "add", on_enter=guard(self._add))
        self.typed = HistoryBox(guard(self.read))
        self.lists = ipywidgets.HTML(layout={"width": "100%"})
        self.message = ipywidgets.HTML()
        edits = {
            "Drop": self._drop,
            "Move earlier": lambda: self._move(-1),
            "Move later": lambda: self._move(+1),
            "Undo": self._undo,
            "Reset": self._reset,
            "Add": self._add,
        }
        self.buttons = {name: ipywidgets.Button(description=name, layout={"width": "auto"}) for name in edits}
        self.buttons["Add"].layout.width = "80px"
        for name, edit in edits.items():
            self.buttons[name].on_click(guard(lambda _, edit=edit: edit()))
        self._show(len(self.history) - 1)
        left = ipywidgets.VBox(
            [
                ipywidgets.HTML("<b>History</b>, oldest first"),
                self.events,
                ipywidgets.HBox([self.buttons[name] for name in ("Drop", "Move earlier", "Move later")]),
                ipywidgets.HBox([self.buttons[name] for name in ("Undo", "Reset")]),
                self.picker.view,
                self.buttons["Add"],
                self.typed.view,
            ],
            layout={"width": "350px"},
        )
        right = ipywidgets.VBox([self.message, self.lists], layout={"flex": "1 1 330px", "min_width": "0"})
        return panel(self.status, ipywidgets.HBox([left, right], layout={"width": "100%", "flex_flow": "row wrap"}))

    def _edit(self, history: History, chosen: int) -> None:
        self._undo_stack.append((self._original, self.history))
        self.history = history
        self._changed(chosen)

    def _drop(self) -> None:
        at = self.events.index
        self._edit(self.history.drop(at), min(at, len(self.history) - 2))

    def _move(self, by: int) -> None:
        at = self.events.index
        to = at + by
        if not 0 <= to < len(self.history):
            raise ValueError(f"this is already the {'first' if by < 0 else 'last'} event")
        self._edit(self.history.move(at, to), to)

    def _add(self) -> None:
        self._edit(self.history.add(self.picker.chosen()), len(self.history))

    def _undo(self) -> None:
        if not self._undo_stack:
            raise ValueError("there is nothing to undo")
        self._original, self.history = self._undo_stack.pop()
        self._changed(min(self.events.index or 0, len(self.history) - 1))

    def _reset(self) -> None:
        if self.history is not self._original:
            self._edit(self._original, len(self._original) - 1)

    def _changed(self, chosen: int) -> None:
        """Show the new lists, then call the listeners."""
        if self.view is not None:
            self._show(chosen)
        for listener in self._listeners:
            listener(self.history)

    def _show(self, chosen: int) -> None:
        items, moments = self.history.items.tolist(), self.history.times.tolist()
        dates = [_date(moment) if self.history.user else "" for moment in moments]
        words = [
            f"{at}. {date}{plain(self._titles[item], 60)}"
            for at, (item, date) in enumerate(zip(items, dates, strict=True), 1)
        ]
        self.events.options = [(word, at) for at, word in enumerate(words)]
        self.events.index = chosen
        edits = sum(original is self._original for original, _ in self._undo_stack)
        count = f"{edits} edit{'s' * (edits != 1)}" if self._edited else "no edit yet"
        self.message.value = Html("{}: {}; arrows compare with {}.").format(
            self._summary(), count, self._original_label
        )
        now = self.ranking(self.history)
        self.lists.value = figures.top_tens({f"with {self._original_label}": self._first_list(now), "now": now}).markup

    def _first_list(self, now: pd.DataFrame) -> pd.DataFrame:
        """The original list, from the column `was` of the current one."""
        before = now[now["status"] != "new"].sort_values("was")
        return before[["was", "title"]].rename(columns={"was": "rank"})


def _date(moment: float) -> str:
    """The day of a timestamp; empty if it is no date."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d} " if CALENDAR[0] < moment < CALENDAR[1] else ""
