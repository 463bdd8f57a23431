"""Draws recall@k of several systems over k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from seqlab.figures.theme import PALETTE, finish, label, message

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def recall_curves(frame: pd.DataFrame, show: Mapping[str, str] | None = None) -> go.Figure:
    """recall@k of every system for every k: where two curves cross, the better system depends on how many are shown.

    frame: the result of `evaluation.Standings.curves`; an empty one gives a message. show: label -> kind, one
    of `comparison_tables.KINDS`; floors are dashed.
    """
    import plotly.graph_objects as go

    if not len(frame):
        return message("These systems were not measured by ranks, so there is no recall at every cutoff.")
    figure = go.Figure()
    signs = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "hexagon")
    for place, (name, rows) in enumerate(frame.groupby("system", sort=False)):
        floor = (show or {}).get(name) == "floor"
        figure.add_scatter(
            x=rows["k"], y=rows["recall"], mode="lines+markers", name=label(name, 40),
            line={"color": PALETTE[place % len(PALETTE)], "width": 2, "dash": "dot" if floor else "solid"},
            marker={"size": 6, "symbol": signs[place % len(signs)]},
            hovertemplate="first %{x}: %{y:.4f}<extra>" + label(name, 40) + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(title="k, how many items are shown", dtick=5, range=[0.5, frame["k"].max() + 0.5])
    figure.update_yaxes(title="recall@k, share of users", rangemode="tozero")
    finish(figure, "", 380, legend=True, name="recall-curves")
    return figure.update_layout(legend={"x": 0, "xanchor": "left"}, margin_t=70)
