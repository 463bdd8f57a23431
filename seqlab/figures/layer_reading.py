"""Draws what a model would recommend after each of its layers: a table of items, and the ranks of some items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from seqlab.figures.html import Html, render
from seqlab.figures.theme import FAINT, PALETTE, finish, label, plain

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FINAL, WATCHED = PALETTE[0], PALETTE[4]
"""The colours of the item that the last layer recommends, and of the watched one."""


def logit_lens(
    top: pd.DataFrame, watch: pd.DataFrame, layers: Sequence[str], titles: Sequence[str], watched: int,
    clickable: bool = False,
) -> Html:  # fmt: skip
    """A row per layer, the input first, with its best items; the last layer's best item and the watched one are marked.

    top: of `inspection.attribution.Lens.top` (columns step, layer, rank, item, probability); watch: of `Lens.watch` for
    the item `watched` (columns step, layer, rank, probability); layers: the names of the states; titles: (N + 1), by
    item. clickable: items are buttons, whose `data-press` is the item.
    """
    last = top[(top["step"] == top["step"].max()) & (top["layer"] == top["layer"].max())]
    final = int(last.sort_values("rank")["item"].iloc[0])
    highest, steps = float(top["probability"].max()), top["step"].nunique()
    rows = []
    for place in watch.itertuples():
        best = top[(top["step"] == place.step) & (top["layer"] == place.layer)]
        items = [
            {"item": one.item, "title": plain(titles[one.item]), "share": _share(one.probability),
             "width": f"{100 * one.probability / (highest or 1):.1f}",
             "mark": "final" if one.item == final else "watched" if one.item == watched else ""}
            for one in best.itertuples()
        ]  # fmt: skip
        step = "" if steps == 1 or place.layer else _step(place.step)
        rows.append({"state": layers[place.layer], "step": step, "items": items, "rank": place.rank,
                     "share": _share(place.probability)})  # fmt: skip
    return render(
        "logit_lens.html.j2", rows=rows, count=int(top["rank"].max()), title=titles[watched], clickable=clickable,
        same=final == watched, final=titles[final],
    )  # fmt: skip


def lens_ranks(curves: Mapping[str, pd.DataFrame], layers: Sequence[str]) -> go.Figure:
    """The rank of items after each layer, 1 on top; a line per item, at most two.

    curves: title -> of `inspection.attribution.Lens.watch` (columns step, layer, rank, probability). Two traces.
    """
    import math

    import plotly.graph_objects as go

    figure, worst = go.Figure(), 10.0
    shown = [*curves.items(), *[("", None)] * (2 - len(curves))]
    for at, ((title, frame), colour) in enumerate(zip(shown, (FINAL, WATCHED), strict=True)):
        if frame is None:
            figure.add_scatter(x=[], y=[], mode="lines+markers+text", showlegend=False)
            continue
        beside = shown[1 - at][1]
        above = (
            [True] * len(frame) if beside is None else [*(frame["rank"].to_numpy() < beside["rank"].to_numpy() + at)]
        )
        worst = max(worst, float(frame["rank"].max()))
        states = [layers[layer] for layer in frame["layer"]]
        x = states if frame["step"].nunique() == 1 else [[_step(step) for step in frame["step"]], states]
        figure.add_scatter(
            x=x, y=frame["rank"], mode="lines+markers+text", name=label(title, 44), showlegend=True,
            text=[f"{rank:,.10g}" for rank in frame["rank"]], cliponaxis=False,
            textposition=["top center" if one else "bottom center" for one in above],
            line={"color": colour, "width": 2.5}, marker={"color": colour, "size": 8}, textfont={"color": colour},
            customdata=frame["probability"], hovertemplate="rank %{y:,}, probability %{customdata:.2%}<extra></extra>",
        )  # fmt: skip
    decades = range(math.ceil(math.log10(worst)) + 1)
    finish(figure, "", 270, legend=True, name="lens-ranks")
    figure.update_yaxes(
        type="log", range=[math.log10(worst) + 0.25, -0.3], title="rank", tickvals=[10**power for power in decades],
        ticktext=[f"{10**power:,}" for power in decades],
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, linecolor=FAINT, dividercolor=FAINT)
    figure.update_layout(
        margin={"l": 60, "r": 30, "t": 58, "b": 50},
        legend={"x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "orientation": "h"},
    )
    return figure


def _share(probability: float) -> str:
    return f"{probability:.1%}" if probability >= 0.001 or not probability else "<0.1%"


def _step(step: int) -> str:
    return "no step" if step == 0 else f"step {step}"
