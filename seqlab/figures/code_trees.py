"""The tree of a code book as a page of branches: the words and categories on them, and the items below.

Where a function wants the items with their codes, that is a frame with one row per item (index item, the most popular
first) and columns "level 0", "level 1", ...; `widgets.CodeTree` makes one as its `items`.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.tables import Html, text
from seqlab.figures.theme import PALETTE, plain

if TYPE_CHECKING:
    import pandas as pd

    Prefix = tuple[int, ...]

FIRST, ROWS = 9, 34
"""Branches of the left column, and rows, that a tree shows; the rest is told as a number."""

TITLES = 5
"""Titles at the end of a row, as far as there is place for them; twice as many can be read by pointing at a branch."""

GREY = "rgba(128, 134, 144, 0.45)"

STYLE = f"""<style>
.sl .tree {{ font-size: 12px; line-height: 21px; margin: 6px 0 10px; overflow-x: auto; }}
.sl .tree > .kin {{ min-width: 620px; }}
.sl .tree .kin, .sl .tree .row {{ display: grid; column-gap: 6px; }}
.sl .tree .kin {{ padding: 1px 0; }}
.sl .tree .row {{ height: 21px; }}
.sl .tree .row > *, .sl .tree .cut {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.sl .tree .branch {{ position: relative; display: flex; align-items: center; gap: 6px; margin: 1px 0; padding: 0 5px;
  border: 0; border-radius: 3px; background: rgba(128, 134, 144, .12); color: inherit; font: inherit; text-align: left;
  line-height: 17px; min-width: 0; overflow: hidden; box-sizing: border-box; }}
.sl .tree button.branch {{ cursor: pointer; }}
.sl .tree button.branch:hover {{ background: rgba(128, 134, 144, .26); }}
.sl .tree button.branch:focus-visible {{ outline: 2px solid {PALETTE[0]}; outline-offset: -2px; }}
.sl .tree .branch.picked {{ box-shadow: inset 0 0 0 2px {PALETTE[4]}; }}
.sl .tree .said {{ flex: 1 1 auto; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.sl .tree .parts {{ flex: 0 0 20%; align-self: stretch; margin: 3px 0; border-radius: 2px; }}
.sl .tree .share {{ flex: none; font-weight: 700; color: {PALETTE[4]}; }}
.sl .tree .strip {{ position: absolute; left: 0; bottom: 0; height: 3px; background: {PALETTE[4]}; }}
.sl .tree .kind {{ display: inline-block; margin-right: 14px; white-space: nowrap; }}
.sl .tree .kind i {{ display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 5px; }}
</style>"""


def code_tree(
    frame: pd.DataFrame,
    words: Mapping[Prefix, str],
    path: Prefix = (),
    picked: Prefix = (),
    group: str = "",
    other: str = "",
    selected: np.ndarray | None = None,
    pressable: bool = False,
) -> Html:
    """The branches below one prefix, from left to right: their codes, the next codes, the items they stand for.

    frame: the items with their codes, title, and where known "group" (a category: the coloured part of a branch says
    how its items are divided) and "there" (the item's first code in the `other` tokenizer). words: what to write on a
    branch, by its prefix. path: the prefix whose branches are shown; picked: a prefix to outline, which is then never
    left out. The largest branches are shown, the others are one row, "... more". selected: items; each branch then says
    how many of them it holds. pressable: branches are buttons whose `data-press` is their prefix, "3.17", for
    `widgets.inputs.clickable_html`. Raises `KeyError` for a prefix that no item has.
    """
    tree = _Tree(frame, words, group, picked, selected, pressable)
    levels, depth = tree.codes.shape[1], len(path)
    below = np.flatnonzero((tree.codes[:, :depth] == path).all(1)) if depth else np.arange(len(frame))
    if not len(below) or depth >= levels:
        raise KeyError(f"no item has a code that begins with {path} and goes on")
    kin, two = tree.kin(below, path), depth + 1 < levels
    told = f"All {len(frame):,} items" if not path else f"The {len(below):,} items whose code begins {_name(path)}"
    first = kin[0].rows[0].items[0]
    example = f"“{text(tree.titles[first], 30)}” is {_name(tuple(tree.codes[first]))}"
    columns = ("29fr 31fr 17fr" if tree.there is not None else "29fr 48fr") if two else "58fr 17fr"
    columns = columns if two or tree.there is not None else "75fr"
    rows = "".join(tree.shown(one, two, _grid(columns)) for one in kin)
    codes = len(np.unique(tree.codes[below, depth]))
    heads = [f"<b>level {depth + 1}</b>"] * two + ["<b>items</b>, the most frequent first"]
    heads += [f"<b>in {text(other, 24)}</b>: items"] * (tree.there is not None)
    head = "".join(f"<span>{one}</span>" for one in heads)
    return Html(
        f"{STYLE}<div class='tree'><div>{told}. A code is {levels} numbers ({example}); like items begin alike.</div>"
        f"{tree.legend()}<div class='kin' style='{_left(two)}'>"
        f"<div class='cut'><b>level {depth}</b>: {codes:,} code{'s' * (codes != 1)}, the largest</div>"
        f"<div class='row' style='{_grid(columns)}'>{head}</div></div>{rows}</div>"
    )


def levels_of(frame: pd.DataFrame) -> int:
    return sum(str(column).startswith("level ") for column in frame.columns)


@dataclass(frozen=True)
class _Row:
    """A branch (prefix) of the right column and the places of its items in the frame, or, without a prefix, the items
    of the `more` codes that are left out, or those of the branch on the left."""

    prefix: Prefix | None
    items: np.ndarray
    more: int = 0


@dataclass(frozen=True)
class _Kin:
    """A branch of the left column and the rows beside it; prefix None: the branches that are left out, `more`."""

    prefix: Prefix | None
    items: np.ndarray
    rows: list[_Row]
    more: int = 0


class _Tree:
    """What branches are made of, as arrays over the rows of the frame."""

    def __init__(
        self, frame: pd.DataFrame, words: Mapping[Prefix, str], group: str, picked: Prefix,
        selected: np.ndarray | None, pressable: bool,
    ) -> None:  # fmt: skip
        import pandas as pd

        self.codes = frame[[f"level {level}" for level in range(levels_of(frame))]].to_numpy()  # (N, C)
        self.titles, self._words, self._group, self._picked = frame["title"].to_numpy(), words, group, tuple(picked)
        self._tag = "button" if pressable else "div"
        self.there = frame["there"].to_numpy() if "there" in frame else None
        self._inside = None if selected is None or not len(selected) else frame.index.isin(selected)
        self.groups: list[str] = []  # the most frequent of all items: one keeps its colour wherever the tree is opened
        if "group" in frame:
            of, names = pd.factorize(frame["group"])
            order = np.argsort(-np.bincount(of, minlength=len(names)), kind="stable")
            place = np.argsort(order)
            self._of = np.minimum(place[of], len(PALETTE))  # (N,) the last one: all the others
            self.groups = [str(names[at]) for at in order[: len(PALETTE)]]
            self._others = len(names) > len(PALETTE)

    def kin(self, below: np.ndarray, path: Prefix) -> list[_Kin]:
        """The branches of two levels below `path`, of the items at these places."""
        depth, two = len(path), len(path) + 1 < self.codes.shape[1]
        on_it = self._picked[:depth] == path
        column, wanted = self.codes[below, depth], self._picked[depth] if on_it and len(self._picked) > depth else None
        counted = _counted(column)
        firsts = _shown(counted, FIRST if two else ROWS, wanted)
        each, found = max(2, ROWS // max(len(firsts), 1) - 1), []
        for code in firsts:
            prefix, items = (*path, code), below[column == code]
            found.append(_Kin(prefix, items, self._beside(prefix, items, each) if two else [_Row(None, items)]))
        if len(counted) > len(firsts):
            rest = below[~np.isin(column, firsts)]
            found.append(_Kin(None, rest, [_Row(None, rest)], len(counted) - len(firsts)))
        return found

    def _beside(self, prefix: Prefix, items: np.ndarray, most: int) -> list[_Row]:
        depth = len(prefix)
        nexts = self.codes[items, depth]
        wanted = self._picked[depth] if self._picked[:depth] == prefix and len(self._picked) > depth else None
        counted = _counted(nexts)
        codes = _shown(counted, most, wanted)
        rows = [_Row((*prefix, code), items[nexts == code]) for code in codes]
        if len(counted) > len(codes):
            rows.append(_Row(None, items[~np.isin(nexts, codes)], len(counted) - len(codes)))
        return rows

    def shown(self, kin: _Kin, two: bool, columns: str) -> str:
        """One branch of the left column and all that stands beside it."""
        rows = []
        for row in kin.rows:
            cells = []
            if two:
                cells.append("<span></span>" if kin.prefix is None else self._cell(row.prefix, row.items, row.more, 1))
            cells.append(f"<span>{self._titled(row.items)}</span>")
            if self.there is not None:
                cells.append(f"<span>{_elsewhere(self.there[row.items])}</span>")
            rows.append(f"<div class='row' style='{columns}'>{''.join(cells)}</div>")
        first = self._cell(kin.prefix, kin.items, kin.more, len(kin.rows))
        return f"<div class='kin' style='{_left(two)}'>{first}<div>{''.join(rows)}</div></div>"

    def legend(self) -> str:
        """What the colours stand for."""
        if not self.groups:
            return ""
        kinds = [*zip(self.groups, PALETTE, strict=False), *[("other", GREY)] * self._others]
        marks = "".join(
            f"<span class='kind'><i style='background:{colour}'></i>{text(name, 24)}</span>" for name, colour in kinds
        )
        of = f"<span class='kind'>{text(self._group)}:</span>" if self._group else ""
        return f"<div>{of}{marks}</div>"

    def _cell(self, prefix: Prefix | None, items: np.ndarray, more: int, rows: int) -> str:
        if prefix is None:
            return f"<div class='cut'><i>… {more:,} more codes with {len(items):,} items</i></div>"
        head, said = f"<b>{_name(prefix)}</b>&ensp;{_many(len(items))}", self._words.get(prefix, "")
        words = ("<br>" if rows > 1 else "&ensp;") + text(said) if said else ""
        parts = f"<span class='parts' style='background:{self._divided(items)}'></span>" if self.groups else ""
        key, kind = ".".join(map(str, prefix)), " type='button'" if self._tag == "button" else ""
        picked = " picked" if prefix == self._picked else ""
        return (
            f"<{self._tag} class='branch{picked}'{kind} data-press='{key}' title='{self._hover(prefix, items)}'>"
            f"{parts}<span class='said'>{head}{words}</span>{self._share(items)}</{self._tag}>"
        )

    def _share(self, items: np.ndarray) -> str:
        """The part of the selection that a branch holds: in figures, and as a part of its lower edge."""
        count = 0 if self._inside is None else int(self._inside[items].sum())
        if not count:
            return ""
        part = count / int(self._inside.sum())
        said = f"{part:.0%}" if part >= 0.005 else "&lt;1%"
        return f"<span class='share'>{said}</span><span class='strip' style='width:{100 * part:.2f}%'></span>"

    def _divided(self, items: np.ndarray) -> str:
        """The colours of a branch, each as broad as its group's part of the items."""
        counts = np.bincount(self._of[items], minlength=len(PALETTE) + 1)
        ends = 100 * counts.cumsum() / len(items)
        stops = [
            f"{colour} {end - 100 * count / len(items):.1f}% {end:.1f}%"
            for colour, count, end in zip((*PALETTE, GREY), counts, ends, strict=True) if count
        ]  # fmt: skip
        return f"linear-gradient(90deg, {', '.join(stops)})"

    def _hover(self, prefix: Prefix, items: np.ndarray) -> str:
        """What pointing at a branch tells, escaped for an attribute."""
        lines = [f"{_name(prefix)}: {_many(len(items))}"]
        if self._inside is not None:
            lines.append(f"{self._inside[items].sum():,} of the {self._inside.sum():,} selected items")
        if said := self._words.get(prefix, ""):
            lines.append(f"its words: {plain(said)}")
        if self.groups:
            counts = np.bincount(self._of[items], minlength=len(PALETTE) + 1)
            largest = [at for at in np.argsort(-counts, kind="stable")[:3] if counts[at]]
            names = [*self.groups, *["other"] * (len(PALETTE) + 1 - len(self.groups))]
            shares = ", ".join(f"{plain(names[at], 30)} {counts[at] / len(items):.0%}" for at in largest)
            lines.append(f"{plain(self._group)}: {shares}" if self._group else shares)
        lines += [f"– {plain(title, 60)}" for title in self.titles[items[: 2 * TITLES]]]
        return html.escape("\n".join(lines))

    def _titled(self, items: np.ndarray) -> str:
        more = " …" if len(items) > TITLES else ""
        return " · ".join(text(title, 60) for title in self.titles[items[:TITLES]]) + more


def _counted(codes: np.ndarray) -> list[int]:
    """The codes that occur, the most frequent first, of equals the one that comes first."""
    found, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return found[np.lexsort((first, -counts))].tolist()


def _shown(codes: list[int], most: int, wanted: int | None) -> list[int]:
    """The first of these codes; all if only one would be left out; `wanted` among them."""
    shown = codes[: most if len(codes) > most + 1 else most + 1]
    return [*shown[:-1], wanted] if wanted in codes and wanted not in shown else shown


def _elsewhere(codes: np.ndarray) -> str:
    found, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    said = ", ".join(f"‹{found[at]}› {counts[at]:,}" for at in order[:3])
    return said + (f", {len(found) - 3:,} more" if len(found) > 3 else "")


def _name(prefix: Prefix) -> str:
    return "‹" + "·".join(map(str, prefix)) + "›"


def _many(count: int) -> str:
    return f"{count:,} item{'s' * (count != 1)}"


def _left(two: bool) -> str:
    """The left column and the rest of a tree."""
    return _grid("22fr 78fr" if two else "25fr 75fr")


def _grid(columns: str) -> str:
    """Columns as wide as told, whatever is in them."""
    return f"grid-template-columns: {' '.join(f'minmax(0, {one})' for one in columns.split())}"
