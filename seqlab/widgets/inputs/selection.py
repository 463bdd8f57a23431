"""Selection: what a person has selected, shared by every view of a page: items, a branch of codes, users."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.figures.tables import Html, text
from seqlab.widgets.display import StatusLine, View, in_report, panel
from seqlab.widgets.inputs.picking import titles_of, user_label

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.tokenizers import CodeBook

    Prefix = tuple[int, ...]

KEPT = 50
"""Selections that can be taken back."""

EMPTY = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Selected:
    """One state of a selection; items and users (numbers of the log) ascend.

    codes: the branch whose items these are, if they are a branch's. asked: what was asked for, "items", "codes" or
    "users"; the rest follows from it ("": nothing is selected). by: who asked, the object itself.
    """

    items: np.ndarray = field(default_factory=lambda: EMPTY)
    users: np.ndarray = field(default_factory=lambda: EMPTY)
    codes: Prefix | None = None
    asked: str = ""
    by: object = None

    def __bool__(self) -> bool:
        return bool(self.asked)

    def same(self, other: Selected) -> bool:
        """Whether both hold the same, whoever asked."""
        return (
            (self.asked, self.codes) == (other.asked, other.codes)
            and np.array_equal(self.items, other.items)
            and np.array_equal(self.users, other.users)
        )


class Selection(View):
    """Items, a branch of codes and users that are selected together, and who follows them.

    Users are those of the test queries, and what they met is their history up to that query. Items imply the users
    who met one of them, users the items they met, a prefix of `book` its items. `now` is the state. Shown in a notebook
    it says what is selected, and has Undo and Clear.
    """

    def __init__(self, split: Split, book: CodeBook | None = None) -> None:
        self._split, self._book, self._titles = split, book, titles_of(split)
        self.now = Selected()
        self._before: deque[Selected] = deque(maxlen=KEPT)
        self._listeners: list[Callable[[Selected], object]] = []
        self._telling = False
        self.view = None if in_report() else self._controls()

    def select(
        self,
        items: Iterable[int] | None = None,
        codes: Prefix | None = None,
        users: Iterable[int] | None = None,
        by: object = None,
    ) -> None:
        """Select items, a branch of codes or users; what is not given follows from what is. Nothing given: nothing.

        items with codes: the items of a branch of another book than this selection's. by: who asks. If anything changed
        all listeners are told, once; what they would select while they are told is an echo of it, and is dropped.
        Raises `ValueError` for items, codes or users that are not there, and for users together with items or codes.
        """
        if not self._telling:
            self._change(self._state(items, codes, users, by))

    def clear(self, by: object = None) -> None:
        """Select nothing."""
        self.select(by=by)

    def undo(self) -> None:
        """Go back to what was selected before. Raises `ValueError` if there is nothing to go back to."""
        if self._telling:
            return
        if not self._before:
            raise ValueError("there is no earlier selection to go back to")
        before = self._before.pop()
        self._tell(Selected(before.items, before.users, before.codes, before.kind))

    def follow(self, listener: Callable[[Selected], object], status: StatusLine | None = None) -> None:
        """Call `listener(now)` after every change. What goes wrong there is told on its status line, and stops nobody.

        Without a status line its error is raised once everybody has been told.
        """
        self._listeners.append(listener if status is None else status.guard(listener))

    def counts(self) -> np.ndarray:
        """How many of the selected items each of `users` met: (Q,)."""
        return self._met(self.now.items)

    @cached_property
    def users(self) -> np.ndarray:
        """Everybody who can be selected: the users of the test queries, ascending."""
        return np.sort(self._split.test.user.cpu().numpy())

    def sentence(self) -> str:
        """What is selected, in plain text."""
        now = self.now
        items, users = _many(len(now.items), "item"), _many(len(now.users), "user")
        if not now:
            return "Nothing is selected: draw around dots of a map, open a branch of codes, or pick a user."
        if now.kind == "users":
            who = f"User {user_label(self._split, int(now.users[0]))}" if len(now.users) == 1 else users
            return f"{who} and the {items} met before the test query."
        branch = f" of branch ({', '.join(map(str, now.codes))})" if now.codes else ""
        return f"{items}{branch}, met by {users}."

    def still(self) -> Html:
        """What is selected, as a sentence."""
        return Html(f"<div role='status'>{text(self.sentence())}</div>")

    @cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Who met what before the test query, each pair once: rows of `users` and items, by row."""
        test = self._split.test
        order = test.user.cpu().argsort()
        start, lengths = test.start.cpu()[order].numpy(), (test.end - test.start).cpu()[order].numpy()
        row = np.repeat(np.arange(len(lengths)), lengths)
        step = np.arange(len(row)) - np.repeat(lengths.cumsum() - lengths, lengths)
        item = test.sequences.items.cpu().numpy()[start[row] + step]
        width = self._split.n_items + 1
        return np.divmod(np.unique(row * width + item), width)

    def _met(self, items: np.ndarray) -> np.ndarray:
        """How many of these items each of `users` met."""
        row, item = self._pairs
        asked = np.zeros(self._split.n_items + 1, dtype=bool)
        asked[items] = True
        return np.bincount(row[asked[item]], minlength=len(self.users))

    def _of(self, users: np.ndarray) -> np.ndarray:
        """The items that at least one of these users met."""
        row, item = self._pairs
        asked = np.zeros(len(self.users), dtype=bool)
        asked[np.searchsorted(self.users, users)] = True
        return np.unique(item[asked[row]])

    def _state(self, items: Any, codes: Any, users: Any, by: object) -> Selected:
        if users is not None:
            if items is not None or codes is not None:
                raise ValueError("select items, a branch of codes or users; the others follow from it")
            users = _numbers(users, self.users, "user with a test query")
            return Selected(self._of(users), users, None, "users", by) if len(users) else Selected(by=by)
        codes = tuple(int(code) for code in codes or ())
        if items is None and codes:
            if self._book is None:
                raise ValueError("this selection knows no code book; give it one: Selection(split, book)")
            items = self._book.items_of(codes).cpu().numpy()
            if not len(items):
                raise ValueError(f"no item has a code that begins with {codes}")
        items = _numbers(() if items is None else items, np.arange(1, self._split.n_items + 1), "item")
        if not len(items):
            return Selected(by=by)
        who = self.users[self._met(items) > 0]
        return Selected(items, who, codes or None, "codes" if codes else "items", by)

    def _change(self, now: Selected) -> None:
        if not now.same(self.now):
            self._before.append(self.now)
            self._tell(now)

    def _tell(self, now: Selected) -> None:
        self.now, self._telling, wrong = now, True, []
        try:
            for listener in list(self._listeners):
                try:
                    listener(now)
                except Exception as error:
                    wrong.append(error)
        finally:  # an interrupted view must not silence the selection
            self._telling = False
        if wrong:
            raise wrong[0] if len(wrong) == 1 else ExceptionGroup("several views could not follow the selection", wrong)

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.message = ipywidgets.HTML(self.still().markup, layout={"flex": "1 1 auto", "min_width": "0"})
        wide = {"width": "auto"}
        self.back = ipywidgets.Button(description="Undo selection", icon="undo", layout=wide)
        self.none = ipywidgets.Button(description="Clear selection", icon="times", layout=wide)
        self.back.on_click(self.status.guard(lambda _: self.undo()))
        self.none.on_click(self.status.guard(lambda _: self.clear()))
        self.follow(lambda now: setattr(self.message, "value", self.still().markup), self.status)
        return panel(self.status, ipywidgets.HBox([self.message, self.back, self.none], layout={"width": "100%"}))


def _numbers(asked: Iterable[int], known: np.ndarray, what: str) -> np.ndarray:
    """The numbers asked for, each once, ascending; an error if one of them is not known (ascending)."""
    numbers = np.unique(np.asarray(asked if isinstance(asked, np.ndarray) else list(asked), dtype=np.int64))
    if len(strange := numbers[~np.isin(numbers, known, assume_unique=True)]):
        raise ValueError(f"there is no {what} with the number {strange[0]}; known are {len(known):,}")
    return numbers


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
