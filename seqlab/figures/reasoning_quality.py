"""Draws the quality of a reasoning system over all users: against the steps taken, and its gain by groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqlab.figures import results
from seqlab.figures.theme import INK, PALETTE, finish, labels, least_width, logarithmic, padded, panel_text, whiskers

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

BLUE, GREEN, PINK, ORANGE = PALETTE[0], PALETTE[2], PALETTE[3], PALETTE[4]

KINDS = {
    "fixed": (BLUE, "circle", "everybody at the same step"),
    "stop": (ORANGE, "diamond", "stopped"),
    "best": (GREEN, "triangle-up", "best step of each user: uses the answer"),
    "worst": (PINK, "triangle-down", "worst step of each user: uses the answer"),
}


def reasoning_tradeoff(
    curve: pd.DataFrame, outcomes: pd.DataFrame, stops: dict[int, int], epsilon: float | None = None
) -> go.Figure:
    """Quality against mean steps over all users: every stop threshold, everybody at one step, and the ceiling.

    curve: of `inspection.stopping.tradeoff`; outcomes: of `inspection.stopping.outcomes`; stops: step -> users who
    stop there under the threshold `epsilon`, which is marked. The best and the worst step of each user are chosen with
    knowledge of the answer, and labelled so.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(2, 2, horizontal_spacing=0.14, vertical_spacing=0.2)
    line = curve.sort_values("steps")
    for column, metric in enumerate(("recall@10", "ndcg@10"), 1):
        figure.add_scatter(
            x=line["steps"], y=line[metric], mode="lines", line={"color": ORANGE, "width": 2},
            name="every stop threshold", showlegend=column == 1, customdata=line["epsilon"],
            hovertemplate="stop below %{customdata:.2g}: %{x:.2f} steps, %{y:.4f}<extra></extra>", row=1, col=column,
        )  # fmt: skip
        for kind, (colour, symbol, words) in KINDS.items():
            rows = outcomes[(outcomes["metric"] == metric) & (outcomes["kind"] == kind)]
            if not len(rows):
                continue
            figure.add_scatter(
                x=rows["steps"], y=rows["mean"], mode="markers", name=words, showlegend=column == 1,
                marker={"size": 10, "color": colour, "symbol": symbol}, text=labels(rows["way"]),
                error_y=whiskers(rows, colour),
                hovertemplate="%{text}: %{y:.4f}, %{x:.2f} steps<extra></extra>", row=1, col=column,
            )  # fmt: skip
        figure.update_xaxes(title="mean steps", title_standoff=4, row=1, col=column)
        figure.update_yaxes(rangemode="tozero", row=1, col=column)
    users = max(sum(stops.values()), 1)
    figure.add_bar(
        x=list(stops), y=[count / users for count in stops.values()], marker_color=BLUE, showlegend=False,
        text=[f"{count:,}" for count in stops.values()], textposition="outside", textangle=0, cliponaxis=False,
        hovertemplate="step %{x}: %{text} users<extra></extra>", row=2, col=1,
    )  # fmt: skip
    last = outcomes.loc[outcomes["kind"] == "fixed", "steps"].max()
    figure.update_xaxes(title="step", title_standoff=4, dtick=1, range=[-0.5, last + 0.5], row=2, col=1)
    figure.update_yaxes(tickformat=".0%", range=[0, 1.15], row=2, col=1)
    positive = curve[curve["epsilon"] > 0]
    figure.add_scatter(
        x=positive["epsilon"], y=positive["steps"], mode="lines", line={"color": ORANGE, "width": 2}, showlegend=False,
        hovertemplate="stop below %{x:.2g}: %{y:.2f} steps<extra></extra>", row=2, col=2,
    )  # fmt: skip
    seen = [*positive["epsilon"], epsilon or positive["epsilon"].max()]
    figure.update_xaxes(title="stop threshold", title_standoff=4, row=2, col=2)
    if len(positive):
        figure.update_xaxes(row=2, col=2, **logarithmic(min(seen) / 1.3, max(seen) * 1.3, 1.2), tickangle=0)
    figure.update_yaxes(rangemode="tozero", row=2, col=2)
    finish(figure, "", 620, legend=True, name="reasoning-tradeoff")
    if epsilon:
        figure.add_vline(x=epsilon, line={"color": INK, "width": 1.5, "dash": "dash"}, row=2, col=2)
    title = f"stops, KL below {epsilon:.2g}" if epsilon else "where users stop"
    for place, words in enumerate(("recall@10", "ndcg@10", title, "mean steps taken")):
        panel_text(figure, f"<b>{words}</b>", 1 + place // 2, 1 + place % 2)
    figure.update_layout(margin={"l": 48, "r": 14, "b": 44, "t": 130}, legend={"x": 0, "xanchor": "left", "y": 1.08})
    return least_width(figure, 560)


def reasoning_gains(values: dict[str, pd.DataFrame], metric: str = "ndcg@10") -> go.Figure:
    """The gain of reasoning over the encoder without it, for groups of users; right of the line it helps.

    values: name of a run -> result of `inspection.stopping.gains`.
    """
    figure = results.slices(values)
    low = min(min(frame["low"]) for frame in values.values())
    high = max(max(frame["high"]) for frame in values.values())
    figure.update_xaxes(range=padded(min(low, 0.0), max(high, 0.0)), title=f"gain in {metric}")
    return figure.add_vline(x=0, line={"color": INK, "width": 1.5})
