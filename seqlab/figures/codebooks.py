"""Code books as pictures: the tree of codes with the items below it, use and residual per level, collisions.

Where a function wants the items with their codes, that is a frame with one row per item (index item, the most popular
first where that matters) and columns "level 0", "level 1", ...; `widgets.CodeTree` makes one as its `items`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.theme import INK, PALETTE, finish, heading, label, labels, plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    Prefix = tuple[int, ...]

FIRST, ROWS = 9, 34
"""Branches of the left column, and rows, that a tree shows; the rest is told as a number."""

ROW = 21  # pixels per row
GREY = "rgba(128, 134, 144, 0.45)"
PANE = "rgba(128, 134, 144, 0.10)"
LETTER = 0.062  # of a unit of x (a tenth of the figure), at some 1,000 pixels
CROWDS = ((1, 1, "alone"), (2, 2, "2"), (3, 5, "3 to 5"), (6, 20, "6 to 20"), (21, np.inf, "more"))
SHADES = ("#009E73", "#56B4E9", "#E69F00", "#D55E00", "#A63D00")


def code_tree(
    frame: pd.DataFrame,
    words: Mapping[Prefix, str],
    path: Prefix = (),
    picked: Prefix = (),
    group: str = "",
    other: str = "",
) -> go.Figure:
    """The branches below one prefix, from left to right: their codes, the next codes, the items they stand for.

    frame: the items with their codes, title, and where known "group" (a category: the coloured part of a branch says
    how its items are divided) and "there" (the item's first code in the `other` tokenizer). words: what to write on a
    branch, by its prefix. path: the prefix whose branches are shown; picked: a prefix to outline, which is then never
    left out. The largest branches are shown, the others are one row, "... more". Always thirteen traces; the first has
    the branches, which can be clicked (customdata: the prefix as text, "3.17"). Raises `KeyError` for a prefix that no
    item has.
    """
    import plotly.graph_objects as go

    levels = _levels(frame)
    below = frame[_under(frame, path)]
    if not len(below) or len(path) >= levels:
        raise KeyError(f"no item has a code that begins with {path} and goes on")
    rows = _rows(below, path, picked, levels)
    colours = _colours(frame)
    right = 5.2 if len(path) + 1 < levels else 2.5
    end = 8.3 if "there" in frame else 10.0
    indent = 0.62 if "group" in frame else 0.06  # behind the coloured part
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
            texts.append((indent, at + (height - 1) / 2, _told(a, whole, words, height, 1.6 if right > 3 else 1.85)))
        if b is None and len(a) < levels and right > 3:
            texts.append((2.35, at, f"<i>… {count:,} more codes with {len(items):,} items</i>"))
        elif right > 3:
            blocks.append((2.25, 2.9, at, 1, b, items))
            texts.append((2.25 + indent, at, _told(b, items, words, 1, 2.28)))
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


def code_use(use: pd.DataFrame) -> go.Figure:
    """How evenly the codes of each level are used: codes sorted by their items, the dashed line is even use.

    use: columns level, code, items; a row for every code, also those of no item.
    """
    from plotly.subplots import make_subplots

    levels = sorted(use["level"].unique())
    parts = [use.loc[use["level"] == level, "items"].sort_values(ascending=False).to_numpy() for level in levels]
    names = [
        f"level {level}: {(part > 0).sum():,} of {len(part):,} codes used"
        for level, part in zip(levels, parts, strict=True)
    ]
    figure = make_subplots(1, max(len(levels), 1), subplot_titles=names, horizontal_spacing=0.05)
    for column, part in enumerate(parts, 1):
        figure.add_bar(
            x=list(range(1, len(part) + 1)),
            y=part,
            marker={"color": PALETTE[0], "line": {"width": 0}},
            hovertemplate="place %{x}: %{y:,} items<extra></extra>",
            row=1,
            col=column,
        )
        figure.add_hline(y=part.mean(), line={"color": PALETTE[4], "dash": "dash", "width": 1.5}, row=1, col=column)
        figure.update_xaxes(title="codes, the most used first", row=1, col=column)
    figure.update_yaxes(title="items", row=1, col=1)
    finish(figure, "", 300)
    figure.update_layout(bargap=0, margin_t=36)
    figure.update_annotations(font_size=12)
    return figure


def code_levels(reports: Mapping[str, pd.DataFrame]) -> go.Figure:
    """What each level adds, one colour per tokenizer: variance left, codes used and their perplexity, legal codes.

    reports: by the tokenizer's name, what `CodeBook.report` returns.
    """
    from plotly.subplots import make_subplots

    names = ["variance of the vectors left", "codes in effective use", "codes that may follow, mean"]
    figure = make_subplots(1, 3, subplot_titles=names, horizontal_spacing=0.07)
    for at, (name, report) in enumerate(reports.items()):
        colour = PALETTE[at % len(PALETTE)]
        known = report["variance left"].dropna()
        lines = {
            1: (["none", *known.index], [1.0, *known], "%{y:.1%} left"),
            3: (list(report.index), report["legal"], "%{y:,.1f} legal codes"),
        }
        for column, (x, y, words) in lines.items():
            figure.add_scatter(
                x=[str(one) for one in x],
                y=list(y),
                mode="lines+markers",
                line_color=colour,
                name=label(name, 60),
                showlegend=column == 1,
                legendgroup=str(at),
                hovertemplate=f"after level %{{x}}: {words}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_bar(
            x=[str(level) for level in report.index],
            y=report["perplexity"],
            marker_color=colour,
            name=label(name, 60),
            showlegend=False,
            legendgroup=str(at),
            customdata=report[["used", "codes"]].to_numpy(),
            hovertemplate="level %{x}: %{customdata[0]} of %{customdata[1]} codes used,"
            " as many as %{y:.1f} used evenly<extra></extra>",
            row=1,
            col=2,
        )
    finish(figure, "", 330, legend=len(reports) > 1)
    for column, axis in enumerate(("after level", "level", "level"), 1):
        figure.update_xaxes(title=axis, type="category", row=1, col=column)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(tickformat=".0%", row=1, col=1)
    figure.update_yaxes(type="log", tickvals=[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000], row=1, col=3)
    figure.update_layout(margin_t=60, legend={"y": 1.12})
    figure.update_annotations(font_size=12)
    return figure


def code_training(history: pd.DataFrame | Sequence[Mapping[str, float]]) -> go.Figure:
    """A tokenizer while it learns, by epoch: its loss parts, and where it tells them use per level and unique tuples.

    history: a tokenizer's `history_`; empty for one that is not trained by epochs (`rq_kmeans` and other clusterings).
    """
    import pandas as pd
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    frame = pd.DataFrame(history)
    if not len(frame):
        figure = go.Figure().add_annotation(
            text="This tokenizer is not trained by epochs: it clusters once.", showarrow=False, font={"size": 14}
        )
        figure.update_xaxes(visible=False).update_yaxes(visible=False)
        return finish(figure, "", 120)
    shares = [name for name in frame.columns if name.startswith("use ") or name == "unique"]
    losses = [name for name in frame.columns if name not in (*shares, "epoch")]
    figure = make_subplots(1, 2 if shares else 1, horizontal_spacing=0.12)
    for column, names in enumerate((losses, shares)[: 2 if shares else 1], 1):
        for at, name in enumerate(names):
            shown = "unique tuples" if name == "unique" else label(name.replace("use ", "codes used, level "))
            figure.add_scatter(
                x=frame["epoch"] + 1,
                y=frame[name],
                name=shown,
                mode="lines",
                line={"color": PALETTE[(at + 5 * (column - 1)) % 10], "dash": "dot" if name == "unique" else "solid"},
                legend="legend" if column == 1 else "legend2",
                hovertemplate="epoch %{x}: %{y:.4g}<extra>" + shown + "</extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(title="epoch", row=1, col=column)
    figure.update_yaxes(title="loss parts", type="log", row=1, col=1)
    finish(figure, "", 340, legend=True)
    place = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "xanchor": "left"}
    figure.update_layout(legend=place | {"x": 0}, legend2=place | {"x": 0.56}, margin_t=60)
    if shares:
        figure.update_yaxes(title="share", tickformat=".0%", rangemode="tozero", row=1, col=2)
    return figure


def collisions(books: Mapping[str, pd.DataFrame]) -> go.Figure:
    """After each level, how many items still share their code so far, and with how many: one panel per tokenizer.

    books: by the tokenizer's name, the items with their codes. Items that are not alone after the last level collide.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(1, max(len(books), 1), subplot_titles=labels(books, 60), horizontal_spacing=0.12)
    for column, frame in enumerate(books.values(), 1):
        levels = _levels(frame)
        sizes = [_crowd(frame, level + 1) for level in range(levels)]
        for (low, high, name), colour in zip(CROWDS, SHADES, strict=True):
            counts = [int(((size >= low) & (size <= high)).sum()) for size in sizes]
            figure.add_bar(
                x=[count / max(len(frame), 1) for count in counts],
                y=[f"after level {level} " for level in range(levels)],
                orientation="h",
                marker_color=colour,
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                customdata=counts,
                hovertemplate="%{customdata:,} items (%{x:.1%})<extra>" + name + "</extra>",
                row=1,
                col=column,
            )
        figure.update_xaxes(title="items", tickformat=".0%", range=[0, 1], row=1, col=column)
    deepest = max((_levels(frame) for frame in books.values()), default=1)
    finish(figure, "", 130 + 34 * deepest, legend=True)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(
        barmode="stack",
        margin_t=70,
        legend={"title": {"text": "items with the same code so far: "}, "y": 1.16, "traceorder": "normal"},
    )
    figure.update_annotations(font_size=12)
    return figure


def two_codebooks(
    here: pd.DataFrame,
    there: pd.DataFrame,
    names: tuple[str, str],
    words: tuple[Mapping[Prefix, str], Mapping[Prefix, str]] = ({}, {}),
    most: int = 10,
) -> go.Figure:
    """Where the items of one tokenizer's first codes are in another's: a band is as wide as its items are many.

    here, there: the same items with their codes; words: what to write on the first codes of either. The `most` used
    codes of `here` are shown, and of `there` those that hold most of their items; the rest of `there` is one block.
    """
    import pandas as pd
    import plotly.graph_objects as go

    left = here["level 0"]
    shown = list(left.value_counts().index[:most])
    left = left[left.isin(shown)]
    right = there["level 0"].loc[left.index]
    held = list(right.value_counts().index[: most + 2])
    flows = pd.DataFrame({"a": left, "b": right.where(right.isin(held), -1)}).value_counts()
    nodes = [("a", code) for code in shown] + [("b", code) for code in (*held, -1)]
    place = {node: at for at, node in enumerate(nodes)}
    tints = [PALETTE[at % len(PALETTE)] if at < len(shown) else INK for at in range(len(nodes))]
    told = {"a": words[0], "b": words[1]}
    written = [
        f"‹{code}› {label(told[side].get((int(code),), ''), 34)}" if code >= 0 else "other codes"
        for side, code in nodes
    ]
    flow = go.Sankey(
        arrangement="fixed",
        node={
            "label": written,
            "color": tints,
            "pad": 9,
            "thickness": 12,
            "line": {"width": 0},
            "hovertemplate": "%{label}: %{value:,} items<extra></extra>",
        },
        link={
            "source": [place["a", a] for a, _ in flows.index],
            "target": [place["b", b] for _, b in flows.index],
            "value": flows.to_numpy(),
            "color": [_faded(tints[place["a", a]], 0.34) for a, _ in flows.index],
            "hovertemplate": "%{value:,} items<extra></extra>",
        },
        textfont={"color": INK, "size": 12},
    )
    figure = finish(go.Figure(flow), "", 520)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 40, "b": 16})
    for x, name in enumerate(names):
        figure.add_annotation(
            text=f"<b>first codes of {label(name, 50)}</b>",
            x=x,
            y=1,
            xref="paper",
            yref="paper",
            yanchor="bottom",
            yshift=8,
            xanchor="left" if x == 0 else "right",
            showarrow=False,
        )
    return figure


def _levels(frame: pd.DataFrame) -> int:
    return sum(str(column).startswith("level ") for column in frame.columns)


def _under(frame: pd.DataFrame, prefix: Prefix) -> np.ndarray:
    """Which items' codes begin so."""
    mask = np.ones(len(frame), dtype=bool)
    for level, code in enumerate(prefix):
        mask &= frame[f"level {level}"].to_numpy() == code
    return mask


def _crowd(frame: pd.DataFrame, length: int) -> np.ndarray:
    """With how many items (itself included) each item shares its first codes."""
    columns = [f"level {level}" for level in range(length)]
    return frame.groupby(columns)[columns[0]].transform("size").to_numpy()


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
    left = [0.0] * len(blocks)
    for at, (name, colour) in enumerate(known):
        rest = at == len(known) - 1
        shares = []
        for *_, items in blocks:
            of = items["group"] if grouped else []
            hits = (~of.isin(list(colours))).mean() if rest and grouped else (of == name).mean() if grouped else 0.0
            shares.append(float(hits) if (name and grouped) else 0.0)
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


def _faded(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"
