"""Attention as a picture: what a model looked at, from which event, and what each event was worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.memory import add_bars
from seqlab.figures.theme import FAINT, SCALE, finish, heading, labels

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ROW = 19  # pixels per event: one line of a title


def attention(
    frame: pd.DataFrame, influence: pd.DataFrame, titles: Sequence[str], top: float | None = None
) -> go.Figure:
    """One head's attention, a column per event that looks and a row per event looked at; beside it each event's worth.

    frame: columns query, key, value (positions from 0, oldest first) of one layer and head; influence: columns
    position, value (`evaluation.influence.leave_one_out`); titles: (T,) one per position; top: the attention at the
    bright end of the scale (None: chosen from the frame). Two traces: the heatmap, the bars.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, shared_yaxes=True, column_widths=[0.68, 0.32], horizontal_spacing=0.02)
    count = len(titles)
    _heatmap(figure, frame, titles, 1, 1)
    add_bars(figure, influence, titles, 1, 2)
    named = _numbered(titles)
    places = list(range(count))
    figure.update_xaxes(
        title="looking from (after this event)",
        tickvals=places,
        ticktext=labels(titles, 24),
        tickangle=-90,
        row=1,
        col=1,
    )
    figure.update_xaxes(title="worth (log-probability)", row=1, col=2)
    figure.update_yaxes(tickvals=places, ticktext=named, range=[count - 0.5, -0.5], row=1, col=1)
    figure.update_yaxes(range=[count - 0.5, -0.5], row=1, col=2)
    figure.update_yaxes(title="looked at", row=1, col=1)
    top = top if top is not None else bright_end(frame)
    finish(figure, "", 300 + ROW * count)
    figure.update_layout(margin={"t": 76, "l": 40}, coloraxis=_colours(top, 1 + 20 / (ROW * count)))
    figure.update_xaxes(showgrid=False, row=1, col=1).update_yaxes(showgrid=False)
    return figure


def attention_grid(frame: pd.DataFrame, influence: pd.DataFrame, titles: Sequence[str], caption: str = "") -> go.Figure:
    """Every layer and head as small multiples, and the worth of each event with the titles: all the sliders reach.

    frame: columns layer, head, query, key, value; influence, titles: see `attention`; caption: escaped words above.
    """
    from plotly.subplots import make_subplots

    layers, heads = int(frame["layer"].max()) + 1, int(frame["head"].max()) + 1
    count = len(titles)
    specs = [[{} for _ in range(heads)] + [{"rowspan": layers} if row == 0 else None] for row in range(layers)]
    names = [f"layer {row + 1}, head {column + 1}" for row in range(layers) for column in range(heads)]
    names.insert(heads, "worth to the top item")
    share = 0.62 / heads
    figure = make_subplots(
        layers,
        heads + 1,
        specs=specs,
        subplot_titles=names,
        column_widths=[share] * heads + [0.38],
        horizontal_spacing=0.035,
        vertical_spacing=0.09,
    )
    top = bright_end(frame)
    for (layer, head), part in frame.groupby(["layer", "head"]):
        _heatmap(figure, part, titles, int(layer) + 1, int(head) + 1)
    add_bars(figure, influence, titles, 1, heads + 1)
    finish(figure, "", max(120 + ROW * count, 90 + 250 * layers))
    every = list(range(4, count, 5))
    for row in range(1, layers + 1):
        for column in range(1, heads + 1):
            figure.update_xaxes(tickvals=every, ticktext=[at + 1 for at in every], showgrid=False, row=row, col=column)
            figure.update_yaxes(
                tickvals=every,
                ticktext=[at + 1 for at in every],
                showgrid=False,
                range=[count - 0.5, -0.5],
                row=row,
                col=column,
            )
        figure.update_yaxes(title="looked at (event)", row=row, col=1)
    for column in range(1, heads + 1):
        figure.update_xaxes(title="looking from (event)", row=layers, col=column)
    figure.update_yaxes(
        tickvals=list(range(count)),
        ticktext=_numbered(titles, after=True),
        range=[count - 0.5, -0.5],
        side="right",
        showgrid=False,
        row=1,
        col=heads + 1,
    )
    figure.update_xaxes(title="log-probability", row=1, col=heads + 1)
    figure.update_layout(coloraxis=_colours(top, 1 + 40 / (figure.layout.height - 170)))
    return heading(figure, caption, up=82)


def bright_end(frame: pd.DataFrame) -> float:
    """Where the colour scale ends: the first events can only look at each other, so their weights do not count."""
    late = frame["value"][frame["query"] >= frame["query"].max() / 2]
    return float(min(1.0, max(late.quantile(0.995), 1e-6)))


def _heatmap(figure: go.Figure, frame: pd.DataFrame, titles: Sequence[str], row: int, column: int) -> None:
    import plotly.graph_objects as go

    grid = frame.pivot(index="key", columns="query", values="value").to_numpy()  # (key, query)
    ahead = np.tril(np.ones(grid.shape, bool), -1)  # a key after the query
    shown = grid.astype(object)
    if not grid[ahead].any():
        shown[ahead] = None
    full = labels(titles, 80)
    words = [
        [f"after <b>{full[query]}</b><br>looks at <b>{full[key]}</b>" for query in range(len(full))]
        for key in range(len(full))
    ]
    heatmap = go.Heatmap(
        z=shown,
        customdata=words,
        coloraxis="coloraxis",
        hovertemplate="%{customdata}<br>%{z:.1%}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    figure.add_trace(heatmap, row=row, col=column)


def _colours(top: float, y: float) -> dict:
    return {
        "colorscale": SCALE,
        "cmin": 0,
        "cmax": top,
        "colorbar": {
            "title": {"text": "attention", "side": "right"},
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": y,
            "yanchor": "bottom",
            "ypad": 0,
            "xpad": 0,
            "len": 0.3,
            "thickness": 9,
            "tickformat": ".0%",
            "outlinecolor": FAINT,
            "nticks": 4,
        },
    }


def _numbered(titles: Sequence[str], after: bool = False) -> list[str]:
    return [f"{at}  {name}" if after else f"{name}  {at}" for at, name in enumerate(labels(titles, 24), 1)]
