"""The tree of a code book as a picture: branches, the words and categories on them, and the items below.

Where a function wants the items with their codes, that is a frame with one row per item (index item, the most popular
first) and columns "level 0", "level 1", ...; `widgets.CodeTree` makes one as its `items`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.theme import PALETTE, finish, heading, label, labels, plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    Prefix = tuple[int, ...]

FIRST, ROWS = 9, 34
"""Branches of the left column, and rows, that a tree shows; the rest is told as a number."""

ROW = 21  # pixels per row
GREY = "rgba(128, 134, 144, 0.45)"
PANE = "rgba(128, 134, 144, 0.10)"
STRIP = 0.14  # of a row: the height of what says how much of a selection a branch holds
LETTER = 0.062  # of a unit of x (a tenth of the figure), at some 1,000 pixels


def code_tree(
    frame: pd.DataFrame,
    words: Mapping[Prefix, str],
    path: Prefix = (),
    picked: Prefix = (),
    group: str = "",
    other: str = "",
    selected: np.ndarray | None = None,
) -> go.Figure:
    """The branches below one prefix, from left to right: their codes, the next codes, the items they stand for.

    frame: the items with their codes, title, and where known "group" (a category: the coloured part of a branch says
    how its items are divided) and "there" (the item's first code in the `other` tokenizer). words: what to write on a
    branch, by its prefix. path: the prefix whose branches are shown; picked: a prefix to outline, which is then never
    left out. The largest branches are shown, the others are one row, "... more". Always thirteen traces; the first has
    the branches, which can be clicked (customdata: the prefix as text, "3.17"). With selected (items) two more say how
    many of those each branch holds; selected without any item leaves the place for it. Raises `KeyError` for a prefix
    that no item has.
    """
    import plotly.graph_objects as go

    levels = levels_of(frame)
    below = frame[_under(frame, path)]
    if not len(below) or len(path) >= levels:
        raise KeyError(f"no item has a code that begins with {path} and goes on")
    rows = _rows(below, path, picked, levels)
    colours = _colours(frame)
    right = 5.2 if len(path) + 1 < levels else 2.5
    end = 8.3 if "there" in frame else 10.0
    indent = 0.62 if "group" in frame else 0.06  # behind the coloured part
    room = 0.0 if selected is None else 0.42  # at the end of a branch, for its share
    blocks, texts = [], []  # (x, width, first row, rows, prefix, items); (x, y, text)
    for at, (a, b, items, count) in enumerate(rows):
        first = at == 0 or rows[at - 1][0] != a
        height = sum(row[0] == a for row in rows)
        if a is None:
            texts.append((0.1, at, f"<i>… {count:,} more codes with {len(items):,} items</i>"))
            continue
        if first:
            whole = below[_under(below, a)]
            blocks.append((0.0, 2.2, at, height, a, whole))
            said = _told(a, whole, words, height, (1.6 if right > 3 else 1.85) - room)
            texts.append((indent, at + (height - 1) / 2, said))
        if b is None and len(a) < levels and right > 3:
            texts.append((2.35, at, f"<i>… {count:,} more codes with {len(items):,} items</i>"))
        elif right > 3:
            blocks.append((2.25, 2.9, at, 1, b, items))
            texts.append((2.25 + indent, at, _told(b, items, words, 1, 2.28 - room)))
        texts.append((right + 0.05, at, _titles(items, end - right - 0.1)))
        if "there" in frame:
            texts.append((end + 0.05, at, _elsewhere(items, 10 - end - 0.1)))
    figure = go.Figure()
    figure.add_bar(
        x=[width for _, width, *_ in blocks],
        base=[x for x, *_ in blocks],
        y=[first + (height - 1) / 2 for _, _, first, height, *_ in blocks],
        width=[height - 0.12 for _, _, _, height, *_ in blocks],
        orientation="h",
        marker={
            "color": PANE,
            "line": {
                "width": [2.5 if picked and block[4] == tuple(picked) else 0 for block in blocks],
                "color": PALETTE[4],
            },
        },
        customdata=[".".join(map(str, block[4])) for block in blocks],
        text=[_hover(block[4], block[5], words, group) for block in blocks],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
    _divided(figure, blocks, colours, "group" in frame)
    figure.add_scatter(
        x=[x for x, *_ in texts],
        y=[y for _, y, _ in texts],
        mode="text",
        text=[text for *_, text in texts],
        textposition="middle right",
        hoverinfo="skip",
        showlegend=False,
    )
    if selected is not None and len(selected):
        figure.add_traces(_shares(figure.data[0], held(figure.data[0], frame, selected), len(selected)))
    told = f"All {len(frame):,} items" if not path else f"The {len(below):,} items whose code begins {_name(path)}"
    one = tuple(rows[0][2][[f"level {level}" for level in range(levels)]].iloc[0])
    example = f"“{label(rows[0][2]['title'].iloc[0], 30)}” is {_name(one)}"
    finish(figure, "", 150 + ROW * len(rows), legend="group" in frame)
    figure.update_layout(
        barmode="overlay",
        hovermode="closest",
        dragmode=False,
        margin={"l": 8, "r": 8, "t": 84, "b": 44},
        legend={
            "y": 0,
            "yanchor": "top",
            "x": 0,
            "xanchor": "left",
            "title": {"text": label(group or " "), "side": "top"},
        },
        font={"size": 11.5},
    )
    figure.update_xaxes(range=[0, 10], visible=False, fixedrange=True)
    figure.update_yaxes(range=[len(rows) - 0.45, -0.55], visible=False, fixedrange=True)
    for x, text in _headers(len(path), right, end, below, levels, other):
        figure.add_annotation(
            text=text, x=x, xref="x", xanchor="left", y=1, yref="paper", yanchor="bottom", yshift=2, showarrow=False
        )
    return heading(figure, f"{told}. A code is {levels} numbers ({example}); like items begin alike.", up=26)


def held(branches: go.Bar, frame: pd.DataFrame, selected: np.ndarray) -> dict[str, int]:
    """How many of the selected items each branch of a tree holds, as customdata of a branch -> items; no zeros.

    branches: the first trace of a `code_tree` of the same frame.
    """
    branches_of: dict[int, list[str]] = {}
    for one in branches.customdata:
        branches_of.setdefault(one.count(".") + 1, []).append(one)
    inside = frame.index.isin(selected)
    found: dict[str, int] = {}
    for length, names in branches_of.items():
        columns = [frame[f"level {level}"].to_numpy() for level in range(length)]
        sizes = [int(column.max()) + 1 for column in columns]
        codes = np.sort(np.ravel_multi_index([column[inside] for column in columns], sizes))
        asked = np.ravel_multi_index(np.array([name.split(".") for name in names], dtype=np.int64).T, sizes)
        counts = np.searchsorted(codes, asked, "right") - np.searchsorted(codes, asked, "left")
        found |= {name: int(count) for name, count in zip(names, counts, strict=True) if count}
    return found


def share(count: int, of: int) -> str:
    """A part of a selection, as it is written on a branch."""
    return f"{count / of:.0%}" if count / of >= 0.005 else "<1%"


def _shares(branches: go.Bar, inside: Mapping[str, int], of: int) -> list[go.Bar | go.Scatter]:
    """A strip along the bottom of each branch, as long, in parts of the branch, as its part of the selection."""
    import plotly.graph_objects as go

    at = [at for at, one in enumerate(branches.customdata) if one in inside]
    counts = [inside[branches.customdata[place]] for place in at]
    base, long, y, high = (np.asarray(part, dtype=float)[at] for part in (
        branches.base, branches.x, branches.y, branches.width
    ))  # fmt: skip
    return [
        go.Bar(
            x=long * np.asarray(counts) / of,
            base=base,
            y=y + high / 2 - STRIP / 2,
            width=np.full(len(at), STRIP),
            orientation="h",
            marker={"color": PALETTE[4], "line": {"width": 0}},
            text=[f"{count:,} of the {of:,} selected items" for count in counts],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        ),
        go.Scatter(
            x=base + long - 0.03,
            y=y,
            mode="text",
            text=["<b>" + label(share(count, of)) + "</b>" for count in counts],
            textposition="middle left",
            textfont={"color": PALETTE[4]},
            hoverinfo="skip",
            showlegend=False,
        ),
    ]


def levels_of(frame: pd.DataFrame) -> int:
    return sum(str(column).startswith("level ") for column in frame.columns)


def _under(frame: pd.DataFrame, prefix: Prefix) -> np.ndarray:
    """Which items' codes begin so."""
    mask = np.ones(len(frame), dtype=bool)
    for level, code in enumerate(prefix):
        mask &= frame[f"level {level}"].to_numpy() == code
    return mask


def _shown(counts: pd.Series, most: int, forced: int | None) -> list[int]:
    """The most frequent codes; all if only one would be left out; `forced` among them."""
    codes = [int(code) for code in counts.index[: most if len(counts) > most + 1 else most + 1]]
    if forced is not None and forced in counts.index and forced not in codes:
        codes[-1] = int(forced)
    return codes


def _rows(below: pd.DataFrame, path: Prefix, picked: Prefix, levels: int) -> list[tuple]:
    """Rows as (left prefix, right prefix, items, codes left out); None stands for what is left out."""
    depth, two = len(path), len(path) + 1 < levels
    wanted = [picked[at] if picked[:depth] == path and len(picked) > at else None for at in (depth, depth + 1)]
    column = below[f"level {depth}"]
    counts = column.value_counts()
    codes = _shown(counts, FIRST if two else ROWS, wanted[0])
    each = max(2, ROWS // max(len(codes), 1) - 1)
    rows: list[tuple] = []
    for code in codes:
        a, items = (*path, code), below[(column == code).to_numpy()]
        if not two:
            rows.append((a, None, items, 0))
            continue
        nexts = items[f"level {depth + 1}"]
        all_next = nexts.value_counts()
        seconds = _shown(all_next, each, wanted[1] if code == wanted[0] else None)
        rows += [(a, (*a, one), items[(nexts == one).to_numpy()], 0) for one in seconds]
        if len(all_next) > len(seconds):
            rows.append((a, None, items[~nexts.isin(seconds).to_numpy()], len(all_next) - len(seconds)))
    if len(counts) > len(codes):
        rows.append((None, None, below[~column.isin(codes).to_numpy()], len(counts) - len(codes)))
    return rows


def _colours(frame: pd.DataFrame) -> dict[str, str]:
    """The ten most frequent groups of all items; a group keeps its colour wherever the tree is opened."""
    if "group" not in frame:
        return {}
    return dict(zip(frame["group"].value_counts().index, PALETTE, strict=False))


def _divided(figure: go.Figure, blocks: list[tuple], colours: Mapping[str, str], grouped: bool) -> None:
    """The coloured part of every branch: a trace for each of ten groups, and one for the rest."""
    known = [*colours.items(), *[("", GREY)] * (len(PALETTE) - len(colours)), ("other", GREY)]
    counts = [items["group"].value_counts() if grouped else {} for *_, items in blocks]
    left = [0.0] * len(blocks)
    for at, (name, colour) in enumerate(known):
        shares = []
        for block, count in zip(blocks, counts, strict=True):
            whole = len(block[-1])
            rest = at == len(known) - 1 and grouped
            hits = whole - sum(count.get(one, 0) for one in colours) if rest else count.get(name, 0) if name else 0
            shares.append(float(hits / whole))
        figure.add_bar(
            x=[0.52 * share for share in shares],
            base=[block[0] + 0.04 + 0.52 * start for block, start in zip(blocks, left, strict=True)],
            y=[block[2] + (block[3] - 1) / 2 for block in blocks],
            width=[block[3] - 0.3 for block in blocks],
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            name=label(name, 24) if name else "",
            showlegend=bool(name) and grouped and any(shares),
            hoverinfo="skip",
        )
        left = [start + share for start, share in zip(left, shares, strict=True)]


def _name(prefix: Prefix) -> str:
    return "‹" + "·".join(map(str, prefix)) + "›"


def _told(prefix: Prefix, items: pd.DataFrame, words: Mapping[Prefix, str], rows: int, room: float) -> str:
    """A branch's code, how many items it has and its words, in as many lines as there is place for."""
    most = int(room / LETTER)
    head = f"{_name(prefix)}  {len(items):,} item{'s' * (len(items) != 1)}"
    said = words.get(prefix, "")
    if rows == 1:
        left = most - int(1.17 * len(head)) - 2  # bold letters are wider
        return f"<b>{head}</b>" + (f"  {label(said, left)}" if said and left > 5 else "")
    return f"<b>{head}</b>" + (f"<br>{label(said, most)}" if said else "")


def _titles(items: pd.DataFrame, room: float) -> str:
    """As many titles as fit in a line."""
    most, line, used = int(room / LETTER), [], 0
    for title in items["title"].iloc[:8]:
        title = plain(title, max(24, most // 2))
        if line and used + len(title) + 2 > most:
            break
        line.append(label(title, most))
        used += len(title) + 3
    more = len(items) - len(line)
    return " · ".join(line) + (" …" if more > 0 and not line[-1].endswith("…") else "")


def _elsewhere(items: pd.DataFrame, room: float) -> str:
    counts = items["there"].value_counts()
    said = ", ".join(f"‹{code}› {count:,}" for code, count in counts.iloc[:3].items())
    return label(said + (f", {len(counts) - 3:,} more" if len(counts) > 3 else ""), int(room / LETTER))


def _hover(prefix: Prefix, items: pd.DataFrame, words: Mapping[Prefix, str], group: str) -> str:
    lines = [f"<b>{_name(prefix)}</b>: {len(items):,} items"]
    if said := words.get(prefix, ""):
        lines.append(f"its words: {label(said, 80)}")
    if "group" in items:
        shares = items["group"].value_counts(normalize=True).iloc[:3]
        lines.append(
            label(group) + ": " + ", ".join(f"{label(name, 30)} {share:.0%}" for name, share in shares.items())
        )
    return "<br>".join([*lines, *(f"– {title}" for title in labels(items["title"].iloc[:8], 60))])


def _headers(depth: int, right: float, end: float, below: pd.DataFrame, levels: int, other: str) -> list[tuple]:
    """Always four, for a live figure forgets no annotation."""
    codes = below[f"level {depth}"].nunique()
    return [
        (0.0, f"<b>level {depth}</b>: {codes:,} code{'s' * (codes != 1)}, the largest"),
        (2.25, f"<b>level {depth + 1}</b>" if right > 3 else " "),
        (right + 0.05, "<b>items</b>, the most frequent first"),
        (end + 0.05 if end < 10 else 9.9, f"<b>in {label(other, 12)}</b>: items" if "there" in below else " "),
    ]
