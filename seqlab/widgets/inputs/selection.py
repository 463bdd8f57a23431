"""Selection: the selected items, branch of codes and users, shared by all views of a page."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain
from seqlab.widgets.display import StatusLine, displayed, in_report, panel
from seqlab.widgets.distinctive_words import word_table, words_of_items
from seqlab.widgets.inputs.picking import default_category, titles_of, user_label

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.tokenizers import CodeBook

    Prefix = tuple[int, ...]

UNDO_LIMIT = 50
"""The number of selections that can be undone."""

MAX_LISTED = 200
"""The number of selected items listed by title; the others are counted."""

MAX_WORDS = 3
"""The number of words that set a selection apart."""

EMPTY = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Selected:
    """One state of a selection; items and users (numbers of the log) are ascending.

    codes: the branch of these items, if they were selected by branch. kind: "items", "codes" or "users", the part that
    was selected and implies the others ("": nothing is selected). by: the object that selected it.
    """

    items: np.ndarray = field(default_factory=lambda: EMPTY)
    users: np.ndarray = field(default_factory=lambda: EMPTY)
    codes: Prefix | None = None
    kind: str = ""
    by: object = None

    def __bool__(self) -> bool:
        return bool(self.kind)

    def same(self, other: Selected) -> bool:
        """Whether both select the same, whatever `by`."""
        return (
            (self.kind, self.codes) == (other.kind, other.codes)
            and np.array_equal(self.items, other.items)
            and np.array_equal(self.users, other.users)
        )


@displayed
class Selection:
    """Items, a branch of codes and users that are selected together, and the listeners of changes.

    Users are those of the test queries, with their history before their first query. Items imply the users with one of
    them in their history, users imply the items of their histories, a prefix of `book` implies its items. `now` is the
    current state. The view shows a sentence, the selected items, what sets them apart, and the buttons Undo and Clear.
    """

    question = "Which items and users are selected?"
    needs = ()

    def __init__(self, split: Split, book: CodeBook | None = None) -> None:
        self._split, self._book, self._titles = split, book, titles_of(split)
        self.now = Selected()
        self._undo_stack: deque[Selected] = deque(maxlen=UNDO_LIMIT)
        self._listeners: list[Callable[[Selected], object]] = []
        self._notifying = False
        self.view = None if in_report() else self._controls()

    def select(
        self,
        items: Iterable[int] | None = None,
        codes: Prefix | None = None,
        users: Iterable[int] | None = None,
        by: object = None,
    ) -> None:
        """Select items, a branch of codes or users; the rest is implied. No arguments: select nothing.

        items with codes: the items of a branch of another book than this selection's. by: the caller. A change notifies
        all listeners once; selections that they make meanwhile are ignored. Raises `ValueError` for unknown items,
        codes or users, and for users together with items or codes.
        """
        if not self._notifying:
            self._change(self._state(items, codes, users, by))

    def clear(self, by: object = None) -> None:
        """Select nothing."""
        self.select(by=by)

    def undo(self) -> None:
        """Restore the previous selection. Raises `ValueError` if there is none."""
        if self._notifying:
            return
        if not self._undo_stack:
            raise ValueError("there is no earlier selection to restore")
        before = self._undo_stack.pop()
        self._notify(Selected(before.items, before.users, before.codes, before.kind))

    def follow(self, listener: Callable[[Selected], object], status: StatusLine | None = None) -> None:
        """Call `listener(now)` after every change. Its errors are shown on its status line.

        Without a status line, its error is raised after all listeners were called.
        """
        self._listeners.append(listener if status is None else status.guard(listener))

    def counts(self) -> np.ndarray:
        """How many of the selected items are in the history of each of `users`: (Q,)."""
        return self._seen_counts(self.now.items)

    @cached_property
    def users(self) -> np.ndarray:
        """The users of the test queries, ascending."""
        return np.unique(self._split.test.user.cpu().numpy())

    def sentence(self) -> str:
        """The selection in words (plain text)."""
        now = self.now
        items, users = _counted(len(now.items), "item"), _counted(len(now.users), "user")
        if not now:
            return "Nothing is selected: draw around dots of a map, open a branch of codes, or pick a user."
        if now.kind == "users":
            who = f"User {user_label(self._split, int(now.users[0]))}" if len(now.users) == 1 else users
            return f"{who} and the {items} seen before the test query."
        branch = f" of branch ({', '.join(map(str, now.codes))})" if now.codes else ""
        return f"{items}{branch}, seen by {users}."

    def set_apart(self) -> str:
        """What distinguishes the selected items from all: their category, and words of their texts (plain text)."""
        inside = np.isin(np.arange(1, self._split.n_items + 1), self.now.items)
        words, parts = words_of_items(self._words, inside, 2 * MAX_WORDS), []
        if self._category and 0 < inside.sum() < len(inside):
            column = self._split.log.items[self._category]
            here, overall = (some.value_counts(normalize=True) for some in (column[inside], column))
            gain = here * np.log(here / overall.reindex(here.index))
            if len(gain) and gain.max() > 0:
                name = gain.idxmax()
                shares = f"{here[name]:.0%} instead of {overall[name]:.0%}"
                parts.append(f"{plain(self._category)} {plain(name, 40)} ({shares})")
                words = [word for word in words if word not in str(name).casefold()]
        return ", ".join([*parts, f"the words {', '.join(words[:MAX_WORDS])}"] if words else parts)

    def still(self) -> Html:
        """The selection as a sentence, what sets its items apart, and the items in a fold."""
        sentence = Html("<div role='status'>{}</div>").format(text(self.sentence()))
        return sentence + self._contents() if self.now else sentence

    def _contents(self) -> Html:
        """What sets the selected items apart, and their titles, the most frequent first."""
        items, apart = self.now.items, self.set_apart() if len(self.now.items) > 1 else ""
        items = items[np.argsort(-self._frequency[items], kind="stable")]
        rows = Html("").join(Html("<li>{}</li>").format(text(self._titles[item], 60)) for item in items[:MAX_LISTED])
        more = Html("<div class='quiet'>and {:,} more</div>").format(len(items) - MAX_LISTED)
        words = Html("<div class='quiet'>Set apart by {}.</div>").format(text(apart)) if apart else Html("")
        titles = Html("<ol class='titles'>{}</ol>{}").format(rows, more if len(items) > MAX_LISTED else "")
        fold = Html("<details><summary>The {}, the most frequent first</summary>{}</details>")
        count = _counted(len(items), "item")
        if self.now.kind == "users":  # the items come second here
            return fold.format(count, words + titles)
        return words + fold.format(count, titles)

    @cached_property
    def _words(self) -> tuple[np.ndarray, Any]:
        return word_table(self._split.log)

    @cached_property
    def _category(self) -> str:
        return default_category(self._split.log.items)

    @cached_property
    def _frequency(self) -> np.ndarray:
        """The training events of every item: (N + 1,)."""
        return self._split.train.item_counts(self._split.n_items).cpu().numpy()

    @cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct (user, item) pairs of the histories before the first query: rows of `users`, and items."""
        import pandas as pd

        test = self._split.test
        _, order = np.unique(test.user.cpu().numpy(), return_index=True)
        start, lengths = test.start.cpu()[order].numpy(), (test.end - test.start).cpu()[order].numpy()
        row = np.repeat(np.arange(len(lengths)), lengths)
        step = np.arange(len(row)) - np.repeat(lengths.cumsum() - lengths, lengths)
        item = test.sequences.items.cpu().numpy()[start[row] + step]
        width = self._split.n_items + 1
        return np.divmod(pd.unique(row * width + item), width)  # by a hash table: ten times as fast as np.unique

    def _seen_counts(self, items: np.ndarray) -> np.ndarray:
        """How many of these items are in the history of each of `users`: (Q,)."""
        row, item = self._pairs
        return np.bincount(row[np.isin(item, items)], minlength=len(self.users))

    def _items_of(self, users: np.ndarray) -> np.ndarray:
        """The items in the history of at least one of these users."""
        row, item = self._pairs
        return np.unique(item[np.isin(self.users[row], users)])

    def _state(self, items: Any, codes: Any, users: Any, by: object) -> Selected:
        if users is not None:
            if items is not None or codes is not None:
                raise ValueError("select items, a branch of codes or users, not several of them")
            users = _known_ids(users, self.users, "user with a test query")
            return Selected(self._items_of(users), users, None, "users", by) if len(users) else Selected(by=by)
        codes = tuple(int(code) for code in codes or ())
        if items is None and codes:
            if self._book is None:
                raise ValueError("this selection has no code book; create it with Selection(split, book)")
            items = self._book.items_of(codes).cpu().numpy()
            if not len(items):
                raise ValueError(f"no item has a code that begins with {codes}")
        items = _known_ids(() if items is None else items, np.arange(1, self._split.n_items + 1), "item")
        if not len(items):
            return Selected(by=by)
        who = self.users[self._seen_counts(items) > 0]
        return Selected(items, who, codes or None, "codes" if codes else "items", by)

    def _change(self, now: Selected) -> None:
        if not now.same(self.now):
            self._undo_stack.append(self.now)
            self._notify(now)

    def _notify(self, now: Selected) -> None:
        self.now, self._notifying, wrong = now, True, []
        try:
            for listener in list(self._listeners):
                try:
                    listener(now)
                except Exception as error:
                    wrong.append(error)
        finally:  # later selections must notify again after an interrupt
            self._notifying = False
        if wrong:
            raise wrong[0] if len(wrong) == 1 else ExceptionGroup("several views could not follow the selection", wrong)

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        # as high with words and a fold as without, so that a map below does not move under the mouse
        steady = {"flex": "1 1 200px", "min_width": "0", "min_height": "64px"}
        self.message = ipywidgets.HTML(self.still().markup, layout=steady)
        wide = {"width": "auto"}
        self.undo_button = ipywidgets.Button(description="Undo selection", icon="undo", layout=wide)
        self.clear_button = ipywidgets.Button(description="Clear selection", icon="times", layout=wide)
        self.undo_button.on_click(self.status.guard(lambda _: self.undo()))
        self.clear_button.on_click(self.status.guard(lambda _: self.clear()))
        self.follow(lambda now: setattr(self.message, "value", self.still().markup), self.status)
        return panel(
            self.status, ipywidgets.HBox([self.message, self.undo_button, self.clear_button], layout={"width": "100%"})
        )


def _known_ids(given: Iterable[int], known: np.ndarray, what: str) -> np.ndarray:
    """The distinct numbers, ascending. Raises `ValueError` if one is not in `known` (ascending)."""
    numbers = np.unique(np.asarray(given if isinstance(given, np.ndarray) else list(given), dtype=np.int64))
    if len(unknown := numbers[~np.isin(numbers, known, assume_unique=True)]):
        raise ValueError(f"there is no {what} with the number {unknown[0]}; there are {len(known):,}")
    return numbers


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
