"""Draws the tree of a code book as HTML: its branches with their words and categories, and the items below them.

Where a function takes the items with their codes, that is a frame with one row per item (index item, the most popular
first) and columns "level 0", "level 1", ...; `widgets.CodeTree` makes one as its `items`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.html import Html, render
from seqlab.figures.theme import PALETTE, plain

if TYPE_CHECKING:
    import pandas as pd

    Prefix = tuple[int, ...]

FIRST, ROWS = 9, 34
"""Branches of the left column, and rows, that a tree shows; the others are counted in one row."""

TITLES = 5
"""Titles at the end of a row, as far as there is room; the tooltip of a branch has twice as many."""

GREY = "rgba(128, 134, 144, 0.45)"


def code_tree(
    frame: pd.DataFrame,
    words: Mapping[Prefix, str],
    path: Prefix = (),
    picked: Prefix = (),
    group: str = "",
    other: str = "",
    selected: np.ndarray | None = None,
    buttons: bool = False,
) -> Html:
    """The branches below one prefix, from left to right: their codes, the next codes, and the items they stand for.

    frame: the items with their codes, title, and where known "group" (a category: the coloured part of a branch shows
    its shares of the items) and "there" (the item's first code in the `other` tokenizer). words: text of a branch, by
    its prefix. path: the prefix whose branches are shown; picked: a prefix to outline, which is then never left out.
    The largest branches are shown, the others are one row, "... more". selected: items; each branch then shows its
    share of them. buttons: branches are buttons whose `data-press` is their prefix, "3.17", for
    `widgets.inputs.clickable_html`. Raises `KeyError` for a prefix that no item has.
    """
    tree = _Tree(frame, words, group, picked, selected)
    levels, depth = tree.codes.shape[1], len(path)
    below = np.flatnonzero((tree.codes[:, :depth] == path).all(1)) if depth else np.arange(len(frame))
    if not len(below) or depth >= levels:
        raise KeyError(f"no item has a code that begins with {path} and goes on")
    two = depth + 1 < levels
    columns = ("29fr 31fr 17fr" if tree.there is not None else "29fr 48fr") if two else "58fr 17fr"
    columns = columns if two or tree.there is not None else "75fr"
    branches = tree.branches(below, path)
    return render(
        "code_tree.html.j2", tree=tree, branches=branches, below=below, path=path, levels=levels, two=two,
        codes=len(np.unique(tree.codes[below, depth])), example=branches[0][1][0].items[0], group=group, other=other,
        picked=tuple(picked), tag="button" if buttons else "div", most=TITLES, columns=_grid(columns),
        left=_grid("22fr 78fr" if two else "25fr 75fr"), code=_code, count=_count,
    )  # fmt: skip


def levels_of(frame: pd.DataFrame) -> int:
    return sum(str(column).startswith("level ") for column in frame.columns)


@dataclass(frozen=True)
class _Branch:
    """A branch: its prefix and the places of its items in the frame.

    Without a prefix, it stands for the `more` codes that are left out, or for the branch on the left.
    """

    prefix: Prefix | None
    items: np.ndarray
    more: int = 0


class _Tree:
    """The content of branches, from arrays over the rows of the frame."""

    def __init__(
        self, frame: pd.DataFrame, words: Mapping[Prefix, str], group: str, picked: Prefix, selected: np.ndarray | None
    ) -> None:
        import pandas as pd

        self.codes = frame[[f"level {level}" for level in range(levels_of(frame))]].to_numpy()  # (N, C)
        self.titles, self._words, self._group, self._picked = frame["title"].to_numpy(), words, group, tuple(picked)
        self.there = frame["there"].to_numpy() if "there" in frame else None
        self._inside = None if selected is None or not len(selected) else frame.index.isin(selected)
        self.groups: list[str] = []  # the most frequent of all items: a group has one colour in every branch
        if "group" in frame:
            of, names = pd.factorize(frame["group"])
            order = np.argsort(-np.bincount(of, minlength=len(names)), kind="stable")
            place = np.argsort(order)
            self._of = np.minimum(place[of], len(PALETTE))  # (N,) the last one: all other groups
            self.groups = [str(names[at]) for at in order[: len(PALETTE)]]
            self._others = len(names) > len(PALETTE)

    def branches(self, below: np.ndarray, path: Prefix) -> list[tuple[_Branch, list[_Branch]]]:
        """The branches of the left column, each with the rows beside it, of the items `below` the prefix `path`."""
        two = len(path) + 1 < self.codes.shape[1]
        firsts = self._split(below, path, FIRST if two else ROWS)
        each = max(2, ROWS // max(sum(one.prefix is not None for one in firsts), 1) - 1)
        return [
            (one, self._split(one.items, one.prefix, each) if two and one.prefix else [_Branch(None, one.items)])
            for one in firsts
        ]

    def _split(self, items: np.ndarray, prefix: Prefix, most: int) -> list[_Branch]:
        """The next codes of these items, the largest first; those beyond `most` as one."""
        depth = len(prefix)
        column = self.codes[items, depth]
        wanted = self._picked[depth] if self._picked[:depth] == prefix and len(self._picked) > depth else None
        counted = _by_frequency(column)
        codes = _shown(counted, most, wanted)
        found = [_Branch((*prefix, code), items[column == code]) for code in codes]
        if len(counted) > len(codes):
            found.append(_Branch(None, items[~np.isin(column, codes)], len(counted) - len(codes)))
        return found

    def legend(self) -> list[tuple[str, str]]:
        """The colours and the groups they stand for."""
        return [*zip(PALETTE, self.groups, strict=False), *[(GREY, "other")] * self._others]

    def words_on(self, branch: _Branch) -> str:
        return self._words.get(branch.prefix, "")

    def share(self, items: np.ndarray) -> float | None:
        """The part of the selection that is among these items; None where there is none."""
        count = 0 if self._inside is None else int(self._inside[items].sum())
        return count / int(self._inside.sum()) if count else None

    def gradient(self, items: np.ndarray) -> str:
        """The colours of a branch as CSS, each as wide as its group's share of the items."""
        counts = np.bincount(self._of[items], minlength=len(PALETTE) + 1)
        ends = 100 * counts.cumsum() / len(items)
        stops = [
            f"{colour} {end - 100 * count / len(items):.1f}% {end:.1f}%"
            for colour, count, end in zip((*PALETTE, GREY), counts, ends, strict=True) if count
        ]  # fmt: skip
        return f"linear-gradient(90deg, {', '.join(stops)})"

    def tooltip(self, branch: _Branch) -> str:
        """Lines of plain text about a branch."""
        items = branch.items
        lines = [f"{_code(branch.prefix)}: {_count(len(items))}"]
        if self._inside is not None:
            lines.append(f"{self._inside[items].sum():,} of the {self._inside.sum():,} selected items")
        if words := self.words_on(branch):
            lines.append(f"its words: {plain(words)}")
        if self.groups:
            counts = np.bincount(self._of[items], minlength=len(PALETTE) + 1)
            largest = [at for at in np.argsort(-counts, kind="stable")[:3] if counts[at]]
            names = [*self.groups, *["other"] * (len(PALETTE) + 1 - len(self.groups))]
            shares = ", ".join(f"{plain(names[at], 30)} {counts[at] / len(items):.0%}" for at in largest)
            lines.append(f"{plain(self._group)}: {shares}" if self._group else shares)
        return "\n".join([*lines, *(f"– {plain(title, 60)}" for title in self.titles[items[: 2 * TITLES]])])

    def elsewhere(self, items: np.ndarray) -> str:
        """The most frequent first codes of these items in the other tokenizer."""
        found, counts = np.unique(self.there[items], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        listed = ", ".join(f"‹{found[at]}› {counts[at]:,}" for at in order[:3])
        return listed + (f", {len(found) - 3:,} more" if len(found) > 3 else "")


def _by_frequency(codes: np.ndarray) -> list[int]:
    """The codes that occur, the most frequent first, of equals the one that comes first."""
    found, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return found[np.lexsort((first, -counts))].tolist()


def _shown(codes: list[int], most: int, wanted: int | None) -> list[int]:
    """The first of these codes; all if only one would be left out; `wanted` among them."""
    shown = codes[: most if len(codes) > most + 1 else most + 1]
    return [*shown[:-1], wanted] if wanted in codes and wanted not in shown else shown


def _code(prefix: Prefix) -> str:
    return "‹" + "·".join(map(str, prefix)) + "›"


def _count(items: int) -> str:
    return f"{items:,} item{'s' * (items != 1)}"


def _grid(columns: str) -> str:
    """Columns of these widths as CSS, whatever is in them."""
    return f"grid-template-columns: {' '.join(f'minmax(0, {one})' for one in columns.split())}"
