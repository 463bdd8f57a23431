"""HistoryEditor: type a history, or drop, move and add events, and see the top tens change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from seqlab.widgets.views import checked

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

CALENDAR = 1e8, 2.5e11
"""Timestamps shown as dates (seconds, 1973 to 9999); other values are counters."""


@displayed
class HistoryEditor:
    """An editor of one user's history, with the top `k` of one or more systems after every edit, side by side.

    Each list is compared with that of the original history. runs: a run, or several by label; the history is cut to the
    longest that one of them reads, and each reads as much of it as it can. `user` is a number of the log (1..U) or, as
    text, an id of the source; None: a random one. `history`: a typed history instead of a user, as
    `datasets.typed_items` reads it, or a History. Every edit costs one forward pass per run (two for a system without
    `score`). `.history` is the edited history.
    """

    question = "What is recommended if the history is edited?"
    needs = (Recommends,)

    def __init__(
        self,
        runs: Run | Mapping[str, Run],
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: str | list[str | int] | History | None = None,
        k: int = 10,
    ) -> None:
        self._runs = checked(self, runs)
        self._model = max((run.model for run in self._runs.values()), key=max_events)
        self._split, self._titles, self._k = split, titles_of(split), check_k(k)
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

    def read(self, typed: str | list[str | int]) -> list[int]:
        """Edit a typed history of ids or titles; returns its items. Raises `DataError` for one that cannot be read."""
        history = typed_history(self._split, typed, max_events(self._model))
        self._undo_stack.append((self._original, self.history))
        self._original = self.history = history
        self._changed(len(self.history) - 1)
        return history.items.tolist()

    def rankings(self, history: History) -> dict[str, pd.DataFrame]:
        """The top k of a history by label, each compared with the original's: `influence.rerank` with titles."""
        return top_lists(self._runs, self._split, self._original, history, self._k)

    def still(self) -> Html:
        """The top k of the original history, and after the current edits and three prepared ones."""
        plain_lists = {label: frame[["rank", "title"]] for label, frame in self.rankings(self._original).items()}
        lists = {f"with {self._original_label}": plain_lists}
        lists |= {caption: self.rankings(history) for caption, history in self._prepared_edits().items()}
        message = Html("<div>{}; arrows are places gained or lost.</div>").format(self._summary())
        if len(self._runs) == 1:
            return message + figures.top_tens({caption: next(iter(one.values())) for caption, one in lists.items()})
        parts = [Html("<h4>{}</h4>{}").format(text(caption), figures.top_tens(one)) for caption, one in lists.items()]
        return message + Html("").join(parts)

    def _prepared_edits(self) -> dict[str, History]:
        """The current edits and three prepared ones, by caption."""
        original = self._original
        edits = {"with the edits made": self.history} if self._edited else {}
        if len(original) > 1:
            last = plain(self._titles[int(original.items[-1])], 40)
            edits[f"without the last event: {last}"] = original.drop(len(original) - 1)
            scoring = next(((one, run) for one, run in self._runs.items() if supports(run.model, Scores)), None)
            if scoring is not None:
                label, run = scoring
                read = history_for(self._split, run.model, original)
                influences = influence.leave_one_out(run.model, read, seen_filter=run.seen_filter)
                best = int(influences["value"].iloc[:-1].idxmax()) + len(original) - len(read)
                other = plain(self._titles[int(original.items[best])], 40)
                to = f" to {label}" if len(self._runs) > 1 else ""
                words = f"without the most influential of the others{to}: {other} (event {best + 1})"
                edits[words] = original.drop(best)
            edits["with the order reversed"] = original.reversed()
        return edits

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
        guard, edit_error, add_error = self.status.guard, self.status.line(), self.status.line()
        wide = {"width": "100%"}
        self.events = ipywidgets.Select(rows=14, layout={"width": "98%"})
        self.picker = ItemPicker(self._titles, "add", on_enter=guard(self._add, add_error), rows=4)
        self.typed = HistoryBox(self.read, self.status, self._titles)
        self.lists, self.before = (ipywidgets.HTML(layout=wide).add_class("seqlab-lists") for _ in range(2))
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
        for name, edit in edits.items():
            error = add_error if name == "Add" else edit_error
            self.buttons[name].on_click(guard(lambda _, edit=edit: edit(), error))
        self._show(len(self.history) - 1)
        self.picker.view.layout.width = self.typed.view.layout.width = "100%"
        buttons = [self.buttons[name] for name in ("Drop", "Move earlier", "Move later", "Undo", "Reset")]
        left = ipywidgets.VBox(
            [
                ipywidgets.HTML("<b>History</b>, oldest first"),
                self.events,
                ipywidgets.HBox(buttons, layout={"flex_flow": "row wrap"}),
                edit_error,
                self.picker.view,
                self.buttons["Add"],
                add_error,
                self.typed.view,
            ],
            layout={"flex": "1 1 260px", "min_width": "0", "max_width": "420px"},
        )
        share, least = 1 + min(len(self._runs), 3), min(230 * len(self._runs), 540)
        right = ipywidgets.VBox([self.lists, self.before], layout={"flex": f"{share} 1 {least}px", "min_width": "0"})
        row = ipywidgets.HBox([left, right], layout={"width": "100%", "flex_flow": "row wrap"})
        return panel(self.status, self.message, row)

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
        count = f"{edits} edit{'s' * (edits != 1)}; arrows compare with {self._original_label}"
        self.message.value = Html("{}: {}.").format(self._summary(), count if self._edited else "no edit yet")
        now = self.rankings(self.history)
        if not self._edited:
            self.lists.value = figures.top_tens({one: frame[["rank", "title"]] for one, frame in now.items()}).markup
            self.before.value = ""
            return
        captioned = {f"{one} now: {_effect(frame)}": frame for one, frame in now.items()}
        self.lists.value = figures.top_tens(captioned).markup
        before = figures.top_tens({one: _list_before(frame) for one, frame in now.items()})
        fold = Html("<details><summary>With {}</summary>{}</details>").format(self._original_label, before)
        self.before.value = fold.markup  # the same after every edit, so that an opened fold stays open


def top_lists(
    runs: Mapping[str, Run], split: Split, before: History, after: History, k: int = 10
) -> dict[str, pd.DataFrame]:
    """The top k of every run after an edit, by label: `inspection.influence.rerank` with the column title."""
    titles, lists = titles_of(split), {}
    for label, run in runs.items():
        read = [history_for(split, run.model, history) for history in (before, after)]
        frame = influence.rerank(run.model, *read, k, run.seen_filter)
        lists[label] = frame.assign(title=[titles[item] for item in frame["item"]])
    return lists


def _list_before(now: pd.DataFrame) -> pd.DataFrame:
    """The original list, from the column `was` of the current one."""
    before = now[now["status"] != "new"].sort_values("was")
    return before[["was", "title"]].rename(columns={"was": "rank"})


def _effect(now: pd.DataFrame) -> str:
    """What an edit did to a list, in words."""
    new, moved = (int(now["status"].isin(kinds).sum()) for kinds in (["new"], ["up", "down"]))
    words = [f"{new} new"] * bool(new) + [f"{moved} moved"] * bool(moved)
    return ", ".join(words) or "no change"


def _date(moment: float) -> str:
    """The day of a timestamp; empty if it is no date."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d} " if CALENDAR[0] < moment < CALENDAR[1] else ""
