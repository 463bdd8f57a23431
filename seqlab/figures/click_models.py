"""Draws click models: whether probabilities hold, and where the attention of candidates goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from seqlab.figures.theme import INK, PALETTE, finish, label, padded, panel_text, whiskers

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

LABELS = {1: ("what came next", PALETTE[0]), 0: ("the others", PALETTE[1])}


def reliability(frames: Mapping[str, pd.DataFrame]) -> go.Figure:
    """The share of label 1 by predicted probability, with 95 % intervals; calibrated systems lie on the diagonal.

    frames: name of a system -> result of `inspection.clicks.reliability`.
    """
    import plotly.graph_objects as go

    figure, ends = go.Figure(), []
    for at, (name, frame) in enumerate(frames.items()):
        colour = PALETTE[at % len(PALETTE)]
        figure.add_scatter(
            x=frame["predicted"], y=frame["observed"], mode="lines+markers", name=label(name, 40),
            line={"color": colour, "width": 1}, marker={"size": 8, "color": colour},
            error_y=whiskers(frame.rename(columns={"observed": "mean"}), colour), customdata=frame["candidates"],
            hovertemplate="predicted %{x:.1%}, observed %{y:.1%}, %{customdata:,} candidates<extra>" + label(name, 40)
            + "</extra>",
        )  # fmt: skip
        ends += [*frame["predicted"], *frame["low"], *frame["high"]]
    low, high = padded(min(ends), max(ends)) if ends else (0.0, 1.0)
    low, high = max(low, 0.0), min(high, 1.0)
    figure.add_shape(type="line", x0=low, x1=high, y0=low, y1=high, line={"color": INK, "width": 1.2, "dash": "dash"})
    figure.update_xaxes(title="predicted probability", tickformat=".0%", range=[low, high])
    figure.update_yaxes(title="share that came next", tickformat=".0%", range=[low, high])
    rows = len(frames)
    finish(figure, "", 400 + 22 * rows, legend=True)
    return figure.update_layout(margin_t=20 + 22 * rows, legend={"x": 0, "xanchor": "left"})


def attention_by_recency(frame: pd.DataFrame) -> go.Figure:
    """How much more attention than an even share an event gets, by how recent it is, by category and by label.

    frame: of `inspection.clicks.attention_by_recency`. 1 is an even share.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.05)
    order = list(dict.fromkeys(frame["recency"]))
    for column, (same, words) in enumerate(((True, "of its category"), (False, "other events")), 1):
        for value, (name, colour) in LABELS.items():
            part = frame[(frame["same"] == same) & (frame["label"] == value)]
            figure.add_scatter(
                x=part["recency"], y=part["lift"], mode="lines+markers", name=name, legendgroup=name,
                line={"color": colour, "width": 2}, marker={"size": 7}, showlegend=column == 1,
                customdata=part["events"],
                hovertemplate="event %{x} from the end: %{y:.2f} × an even share, %{customdata:,} pairs<extra>" + name
                + "</extra>", row=1, col=column,
            )  # fmt: skip
        panel_text(figure, f"<b>{words}</b>", 1, column)
        figure.add_hline(y=1, line={"color": INK, "width": 1, "dash": "dash"}, row=1, col=column)
        figure.update_xaxes(
            type="category", categoryorder="array", categoryarray=order, range=[-0.3, len(order) - 0.7],
            title="event, from the end", tickangle=-45, row=1, col=column,
        )  # fmt: skip
    figure.update_yaxes(title="attention ÷ an even share", rangemode="tozero", row=1, col=1)
    finish(figure, "", 360, legend=True)
    return figure.update_layout(margin_t=62, legend={"x": 0, "xanchor": "left", "y": 1.08})
