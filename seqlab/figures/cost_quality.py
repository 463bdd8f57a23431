"""Plots a metric of each system against its cost: parameters, or seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.comparison_tables import FLOOR, KINDS, SYSTEM
from seqlab.figures.theme import INK, PALETTE, ends, finish, label, padded

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.evaluation.outcome import Metric

COSTS = {
    "parameters": "parameters (numbers that are trained)",
    "seconds": "training (seconds)",
    "milliseconds": "recommending (milliseconds per user)",
}
"""Column with a cost -> the title of its axis."""

ROOM = 0.2
"""Padding for names beside the outer dots, as a share of the distance between these."""


def cost_and_quality(frame: pd.DataFrame, cost: str, metric: Metric) -> go.Figure:
    """One metric with its 95 % interval against a cost on a logarithmic axis; up and to the left is better.

    Of a metric of which less is better, down and to the left. frame: the same as for `figures.standings`. cost: one of
    COSTS. A cost of 0 is drawn left of the axis; systems whose cost is not known are named below. A name that would
    overlap others is shown on hover only.
    """
    import plotly.graph_objects as go

    metric, zero, less = metric.name, metric.from_zero, ", less is better" * (not metric.higher)
    known = frame[frame[cost].notna()]
    paid = known.loc[known[cost] > 0, cost]
    least, most = (float(paid.min()), float(paid.max())) if len(paid) else (1.0, 1.0)
    free = 10 ** (math.floor(math.log10(least)) - 1)
    spots = known[cost].where(known[cost] > 0, free).map(math.log10)
    low, high = spots.min() if len(spots) else 0.0, math.log10(most)
    figure = go.Figure()
    reach = padded(*ends(known[[metric, f"{metric} low", f"{metric} high"]], zero))
    names = [label(name, 28) for name in known["system"]]
    intervals = known[[f"{metric} low", f"{metric} high"]].fillna(
        {f"{metric} low": known[metric], f"{metric} high": known[metric]}
    )
    sides = _sides(
        spots.to_numpy(),
        known[metric].to_numpy(),
        *intervals.to_numpy().T,
        reach,
        [len(name) for name in names],
        (known["kind"] == "number").to_numpy(),
    )
    for (kind, (words, symbol)), colour in zip(KINDS.items(), (SYSTEM, FLOOR, PALETTE[2], INK), strict=True):
        mine = (known["kind"] == kind).to_numpy()
        if kind == "outside" and not mine.any():
            continue
        rows = known[mine]
        up, down = rows[f"{metric} high"] - rows[metric], rows[metric] - rows[f"{metric} low"]
        figure.add_scatter(
            x=10 ** spots[mine], y=rows[metric], mode="markers+text", name=words,
            text=[name if side else "" for name, side, one in zip(names, sides, mine, strict=True) if one],
            textposition=[side or "top center" for side, one in zip(sides, mine, strict=True) if one] or None,
            textfont={"color": INK, "size": 11}, cliponaxis=False,
            marker={"size": 11, "symbol": symbol, "color": colour, "line": {"width": 2, "color": colour}},
            error_y={"type": "data", "symmetric": False, "array": up.fillna(0), "arrayminus": down.fillna(0),
                     "thickness": 1.5, "width": 3, "color": colour},
            customdata=[[f"{value:,.4g}", _interval(row, metric), label(row["system"])] for value, row in
                        zip(rows[cost], rows.to_dict("records"), strict=True)],
            hovertemplate=f"%{{customdata[2]}}<br>{label(metric)} %{{y:.4f}}%{{customdata[1]}}<br>"
                          f"{cost} %{{customdata[0]}}<extra></extra>",
        )  # fmt: skip
    exponents = range(math.floor(math.log10(least)), math.ceil(high) + 1)
    digits = (1, 2, 5) if high - math.log10(least) < 2 else (1,)  # powers of ten alone would be a tick or two
    values, end = [digit * 10.0**one for one in exponents for digit in digits], ""
    shown = list(map(_written, values))
    if (known[cost] == 0).any():
        values = [free, *(value for value in values if value > 2 * free)]
        shown, end = ["0", *map(_written, values[1:])], "; what costs nothing stands left of it"
    padding = ROOM * max(high - low, 1.0)
    figure.update_xaxes(
        type="log", range=[low - padding, high + padding], tickvals=values, ticktext=shown,
        title=f"{COSTS[cost]}, log scale{end}",
    )  # fmt: skip
    figure.update_yaxes(title=f"{metric}, 95 % interval{less}", range=reach)
    finish(figure, "", 400, legend=True, name="cost-and-quality")
    unknown = frame.loc[frame[cost].isna(), "system"]
    note = f"not measured: {', '.join(label(name, 28) for name in unknown)}" if len(unknown) else ""
    figure.add_annotation(
        text=_wrapped(note), x=0, xref="paper", y=0, yref="paper", yanchor="top", yshift=-54, xanchor="left",
        showarrow=False, align="left", font={"size": 11},
    )  # fmt: skip
    figure.update_layout(
        margin={"t": 60, "b": 64 + 15 * _wrapped(note).count("<br>") + (18 if note else 0)},
        legend={"x": 0, "xanchor": "left"},
    )
    return figure


def _interval(row: Mapping, metric: str) -> str:
    low, high = row[f"{metric} low"], row[f"{metric} high"]
    return f" ({low:.4f} to {high:.4f})" if low == low else ""


def _sides(x, y, low, high, reach: list[float], lengths: list[int], last: np.ndarray) -> list[str | None]:
    """For each dot the side where its name overlaps nothing; None where there is no such side.

    x: positions on the axis; y, low and high: the dots and their whiskers; reach: the range of their axis; lengths: of
    the names in characters; last: dots whose names are placed after the others.
    """
    if not len(x):
        return []
    room = ROOM * max(np.ptp(x), 1.0)
    across = (x - x.min() + room) / (np.ptp(x) + 2 * room)
    at, foot, head = ((one - reach[0]) / (reach[1] - reach[0]) for one in (y, low, high))
    whiskers = list(zip(across - 0.008, foot, across + 0.008, head, strict=True))
    dots = list(zip(across - 0.008, at - 0.02, across + 0.008, at + 0.02, strict=True))
    names: list[tuple] = []
    chosen: list[str | None] = [None] * len(x)
    for one in np.argsort(last, kind="stable"):
        size, line, gap = 0.0085 * lengths[one], 0.055, 0.014
        corners = {
            "middle right": (across[one] + gap, at[one] - line / 2),
            "middle left": (across[one] - gap - size, at[one] - line / 2),
            "top center": (across[one] - size / 2, at[one] + line / 2),
            "bottom center": (across[one] - size / 2, at[one] - 1.5 * line),
        }
        for obstacles in (whiskers,) if last[one] else (whiskers, dots):  # a name over a whisker is better than none
            others = names + [box for place, box in enumerate(obstacles) if place != one]
            free = [
                (side, (left, bottom, left + size, bottom + line))
                for side, (left, bottom) in corners.items()
                if left >= 0 and left + size <= 1
                and not any(_overlap((left, bottom, left + size, bottom + line), other) for other in others)
            ]  # fmt: skip
            if free:
                chosen[one] = free[0][0]
                names.append(free[0][1])
                break
    return chosen


def _overlap(a: tuple, b: tuple) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def _written(value: float) -> str:
    return f"{value:,.12f}".rstrip("0").rstrip(".")


def _wrapped(words: str, most: int = 100) -> str:
    """An escaped note, wrapped at commas."""
    lines = [""]
    for part in words.split(", "):
        if lines[-1] and len(lines[-1]) + len(part) > most:
            lines[-1] += ","
            lines.append("")
        lines[-1] += f", {part}" if lines[-1] else part
    return "<br>".join(lines)
