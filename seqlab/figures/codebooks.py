"""Draws statistics of code books: use and residual per level, training, collisions, two tokenizers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.code_trees import levels_of
from seqlab.figures.theme import INK, PALETTE, finish, label, labels, least_width, message

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    Prefix = tuple[int, ...]

GROUP_SIZES = ((1, 1, "alone"), (2, 2, "2"), (3, 5, "3 to 5"), (6, 20, "6 to 20"), (21, np.inf, "more"))
COLOURS = ("#009E73", "#56B4E9", "#E69F00", "#D55E00", "#A63D00")


def code_use(use: pd.DataFrame) -> go.Figure:
    """Items per code of each level, sorted; the dashed line is uniform use.

    use: columns level, code, items; a row for every code, also for unused ones.
    """
    from plotly.subplots import make_subplots

    levels = sorted(use["level"].unique())
    parts = [use.loc[use["level"] == level, "items"].sort_values(ascending=False).to_numpy() for level in levels]
    names = [
        f"level {level + 1}: {(part > 0).sum():,} of {len(part):,} codes used"
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
    finish(figure, "", 300, name="code-use")
    figure.update_layout(bargap=0, margin_t=36)
    figure.update_annotations(font_size=12)
    return least_width(figure, 210 * len(parts))


def code_levels(reports: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Residual variance, codes used with their perplexity, and legal codes per level, one colour per tokenizer.

    reports: name of a tokenizer -> result of `CodeBook.report`.
    """
    from plotly.subplots import make_subplots

    names = ["variance of the vectors left", "codes in effective use", "codes that may follow, mean"]
    figure = make_subplots(1, 3, subplot_titles=names, horizontal_spacing=0.07)
    for at, (name, report) in enumerate(reports.items()):
        colour = PALETTE[at % len(PALETTE)]
        known = report["variance left"].dropna()
        lines = {
            1: (["none", *(level + 1 for level in known.index)], [1.0, *known], "%{y:.1%} left"),
            3: ([level + 1 for level in report.index], report["legal"], "%{y:,.1f} legal codes"),
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
                hovertemplate=f"{'after level' if column == 1 else 'level'} %{{x}}: {words}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_bar(
            x=[str(level + 1) for level in report.index],
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
    finish(figure, "", 330, legend=len(reports) > 1, name="code-levels")
    for column, axis in enumerate(("after level", "level", "level"), 1):
        figure.update_xaxes(title=axis, type="category", row=1, col=column)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(tickformat=".0%", row=1, col=1)
    figure.update_yaxes(type="log", tickvals=[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000], row=1, col=3)
    figure.update_layout(margin_t=60, legend={"y": 1.12})
    figure.update_annotations(font_size=12)
    return least_width(figure, 690)


def code_training(history: pd.DataFrame | Sequence[Mapping[str, float]]) -> go.Figure:
    """The training of a tokenizer by epoch: its loss terms and, where recorded, code use per level and unique tuples.

    history: a tokenizer's `history_`; empty for one that is not trained by epochs (`rq_kmeans` and other clusterings).
    """
    import pandas as pd
    from plotly.subplots import make_subplots

    frame = pd.DataFrame(history)
    if not len(frame):
        return message("This tokenizer is not trained by epochs: it clusters once.")
    shares = [name for name in frame.columns if name.startswith("use ") or name == "unique"]
    losses = [name for name in frame.columns if name not in (*shares, "epoch")]
    figure = make_subplots(1, 2 if shares else 1, horizontal_spacing=0.12)
    for column, names in enumerate((losses, shares)[: 2 if shares else 1], 1):
        for at, name in enumerate(names):
            shown = _words(name)
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
    below = 56 + 20 * max(len(losses), len(shares))  # a legend under each panel: side by side they would be too wide
    finish(figure, "", 260 + below, legend=True, name="code-training")
    place = {"orientation": "v", "y": -50 / 240, "yanchor": "top", "xanchor": "left"}
    figure.update_layout(legend=place | {"x": 0}, legend2=place | {"x": 0.56}, margin={"t": 20, "b": below})
    if shares:
        figure.update_yaxes(title="share", tickformat=".0%", rangemode="tozero", row=1, col=2)
    return least_width(figure, 560 if shares else 0)


def _words(name: str) -> str:
    """A column of a tokenizer's history as words; its levels are counted from 1."""
    level = name.removeprefix("use ")
    if level != name and level.isdecimal():
        return f"codes used, level {int(level) + 1}"
    return "unique tuples" if name == "unique" else label(name.replace("_", " "))


def collisions(books: Mapping[str, pd.DataFrame]) -> go.Figure:
    """How many items share their prefix after each level, and with how many others: one panel per tokenizer.

    books: name of a tokenizer -> the items with their codes. Items that share their whole code collide.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(1, max(len(books), 1), subplot_titles=labels(books, 60), horizontal_spacing=0.12)
    for column, frame in enumerate(books.values(), 1):
        levels = levels_of(frame)
        sizes = [_group_sizes(frame, level + 1) for level in range(levels)]
        for (low, high, name), colour in zip(GROUP_SIZES, COLOURS, strict=True):
            counts = [int(((size >= low) & (size <= high)).sum()) for size in sizes]
            figure.add_bar(
                x=[count / max(len(frame), 1) for count in counts],
                y=[f"after level {level + 1} " for level in range(levels)],
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
    deepest = max((levels_of(frame) for frame in books.values()), default=1)
    finish(figure, "", 130 + 34 * deepest, legend=True, name="collisions")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(
        barmode="stack",
        margin_t=70,
        legend={"title": {"text": "items with the same code so far: "}, "y": 1.16, "traceorder": "normal"},
    )
    figure.update_annotations(font_size=12)
    return least_width(figure, 280 * len(books))


def two_codebooks(
    here: pd.DataFrame,
    there: pd.DataFrame,
    names: tuple[str, str],
    words: tuple[Mapping[Prefix, str], Mapping[Prefix, str]] = ({}, {}),
    most: int = 10,
) -> go.Figure:
    """How the items of one tokenizer's first codes are distributed over another's, as a Sankey diagram.

    here, there: the same items with their codes; words: text on the first codes of each. The `most` frequent codes of
    `here` are shown, and of `there` those with most of their items; the other codes of `there` are one block.
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
    texts = {"a": words[0], "b": words[1]}
    written = [
        "other codes"
        if code < 0
        else f"‹{code}› {label(text, 34)}"
        if (text := texts[side].get((int(code),)))
        else f"‹{code}›"
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
    figure = finish(go.Figure(flow), "", 520, name="two-codebooks")
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


def _group_sizes(frame: pd.DataFrame, length: int) -> np.ndarray:
    """(N,) the number of items, itself included, that have the same first codes as each item."""
    columns = [f"level {level}" for level in range(length)]
    return frame.groupby(columns)[columns[0]].transform("size").to_numpy()


def _faded(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"
