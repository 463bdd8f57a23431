"""Draws the parts of a logit: what each layer adds, and which event's value each head adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqlab.figures.histories import AGAINST, FOR
from seqlab.figures.influence_bars import add_bars
from seqlab.figures.theme import FAINT, INK, finish, heading, label, labels, panel_text, plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SCALE = [[0.0, AGAINST], [0.5, "rgba(128, 134, 144, 0.07)"], [1.0, FOR]]
ROW = 19  # pixels per event
BAR = 24  # pixels per part
BETWEEN = 96  # pixels between the panels
TITLE = 21  # characters of a title


def direct_attribution(
    parts: pd.DataFrame, events: pd.DataFrame, titles: Sequence[str], caption: str = "", total: str = "logit"
) -> go.Figure:
    """The parts of a logit, added up from the top, and what each head adds by the value of each event.

    parts: of `inspection.attribution.Attribution.by_part` (columns layer, part, value); events: of `by_event` (columns
    layer, head, event, value), empty for a model without attention; titles: (T,), of the events, oldest first; caption:
    escaped text above; total: what the parts sum to. Traces: the parts; with attention also the heatmap and the bars of
    the events.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    names = [*(_name(*row) for row in parts[["layer", "part"]].itertuples(index=False)), total]
    count = len(titles) + bool((events["event"] < 0).any())
    heights = [BAR * len(names), *[ROW * count] * bool(len(events))]
    height = sum(heights) + BETWEEN * (len(heights) - 1)
    figure = make_subplots(
        len(heights), 2, specs=[[{"colspan": 2}, None], *[[{}, {}]] * (len(heights) - 1)], row_heights=heights,
        column_widths=[0.62, 0.38], horizontal_spacing=0.02, vertical_spacing=BETWEEN / height if len(events) else 0,
    )  # fmt: skip
    waterfall = go.Waterfall(
        x=[*parts["value"], float(parts["value"].sum())], y=list(range(len(names))), orientation="h",
        measure=[*["relative"] * len(parts), "total"], increasing={"marker": {"color": FOR}},
        decreasing={"marker": {"color": AGAINST}}, totals={"marker": {"color": INK}},
        connector={"line": {"color": FAINT, "width": 1}}, text=[f"{value:+.2f}" for value in parts["value"]] +
        [f"<b>{parts['value'].sum():.2f}</b>"], textposition="outside", cliponaxis=False, customdata=names,
        hovertemplate="<b>%{customdata}</b>: %{delta:+.3f}<br>up to here: %{final:.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_trace(waterfall, row=1, col=1)
    figure.add_vline(x=0, line={"color": INK, "width": 1}, row=1, col=1)
    low, high = _span(parts["value"].tolist())
    before, after = 0.32 if low < 0 else 0.02, 0.26  # of the span, for the numbers beside the bars
    figure.update_xaxes(range=[low - before * (high - low), high + after * (high - low)], row=1, col=1)
    rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]}
    figure.update_yaxes(**rows, row=1, col=1)
    if len(events):
        _heads(figure, events, titles)
    finish(figure, "", height + 130, name="direct-attribution")
    side = 14 + 6.6 * max(*map(len, names), *(len(plain(title, TITLE)) + 4 for title in titles))  # pixels
    figure.update_layout(margin={"l": side, "r": 16, "t": 30, "b": 56}, bargap=0.25)
    figure.update_yaxes(showgrid=False, automargin=False)
    figure.update_xaxes(nticks=6, row=1, col=1)
    if len(events):
        figure.update_xaxes(showgrid=False, row=2, col=1)
        end = events["value"].abs().max()
        panel_text(figure, f"<b>value of each event</b>, by layer·head (full colour: ±{end:.2g})", 2, 1, 26)
    if caption:
        heading(figure, caption, up=12)
    figure.update_annotations(xshift=10 - side)
    return figure


def _heads(figure: go.Figure, events: pd.DataFrame, titles: Sequence[str]) -> None:
    """The heatmap of heads by events, and the sums over heads as bars."""
    import numpy as np
    import plotly.graph_objects as go

    grid = events.assign(event=events["event"].where(events["event"] >= 0, len(titles)))  # tokens without one are last
    grid = grid.pivot(index="event", columns=["layer", "head"], values="value").sort_index()
    full = [*labels(titles, 80), *["tokens that are no events"] * (len(grid) - len(titles))]
    heads = [f"layer {layer}, head {head}" for layer, head in grid.columns]
    largest = float(np.abs(grid.to_numpy()).max()) or 1.0
    heatmap = go.Heatmap(
        z=grid.to_numpy(), x=list(range(len(heads))), y=list(range(len(grid))), colorscale=SCALE, zmin=-largest,
        zmax=largest, xgap=1, ygap=1, showscale=False,
        customdata=[[f"<b>{title}</b><br>{head}" for head in heads] for title in full],
        hovertemplate="%{customdata}: %{z:+.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_trace(heatmap, row=2, col=1)
    sums = grid.sum(axis=1)
    frame = sums.rename("value").reset_index().rename(columns={"event": "position"})
    add_bars(figure, frame, [*titles, *["tokens that are no events"] * (len(grid) - len(titles))], 2, 2)
    short = [f"{label(title, TITLE)}  {at}" for at, title in enumerate(titles, 1)]
    short += ["no events"] * (len(grid) - len(titles))
    figure.update_yaxes(tickvals=list(range(len(short))), ticktext=short, range=[len(short) - 0.5, -0.5], row=2, col=1)
    figure.update_yaxes(showticklabels=False, range=[len(short) - 0.5, -0.5], row=2, col=2)
    figure.update_xaxes(
        tickvals=list(range(len(heads))), ticktext=[f"{layer}·{head}" for layer, head in grid.columns], side="top",
        range=[-0.5, len(heads) - 0.5], row=2, col=1,
    )  # fmt: skip
    figure.update_xaxes(title="sum", nticks=3, tickangle=0, row=2, col=2)


def _name(layer: int, part: str) -> str:
    if part == "constant":
        return "biases"
    return "the token itself" if part == "input" else f"layer {layer}: {part}"


def _span(values: list[float]) -> tuple[float, float]:
    """The lowest and the highest value on the way from 0 to the sum."""
    from itertools import accumulate

    path = [0.0, *accumulate(values)]
    return min(path), max(path)
