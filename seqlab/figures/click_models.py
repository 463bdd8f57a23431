"""Draws click models: where the attention of candidates goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqlab.figures.theme import INK, PALETTE, finish, panel_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

LABELS = {1: ("what came next", PALETTE[0]), 0: ("the others", PALETTE[1])}


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
    finish(figure, "", 360, legend=True, name="attention-by-recency")
    return figure.update_layout(margin_t=62, legend={"x": 0, "xanchor": "left", "y": 1.08})
