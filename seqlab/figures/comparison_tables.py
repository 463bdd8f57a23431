"""Compares systems in HTML tables: all systems, two by groups of users, and two user by user.

With `buttons`, the `data-press` of each button has its row in the given frame: "system:ROW", "cell:ROW:METRIC",
"group:ROW", "user:ROW".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seqlab.evaluation.comparison import EVERYBODY
from seqlab.figures.html import Html, downloadable, render
from seqlab.figures.theme import FAINT, INK, PALETTE, ends, verdict_colour

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.evaluation.outcome import Metric

KINDS = {
    "trained": ("trained", "circle"),
    "floor": ("floor: only counts", "diamond-open"),
    "outside": ("not trained here", "square-open"),
    "number": ("only a number", "x-thin-open"),
}
"""Kind of a row -> its name, and its symbol in the plot."""

SYSTEM, REFERENCE, FLOOR = PALETTE[0], PALETTE[1], PALETTE[4]
MANY = 3
"""The number of metrics above which the difference to the reference stands below a number, not beside it."""

WIDTH = 132
"""The width of a drawing in a table, in pixels."""

COSTS = {"parameters": "parameters", "seconds": "s of training", "milliseconds": "ms per user"}


def standings(
    frame: pd.DataFrame, metrics: Sequence[Metric], reference: str, buttons: bool = False, pick: bool = False
) -> Html:
    """The table of all systems: each metric with its 95 % interval and its paired difference to `reference`.

    frame: one row per system: system, kind (one of KINDS), seeds, parameters, seconds, milliseconds (NaN: not known)
    and, of each metric, METRIC, "METRIC low", "METRIC high", "METRIC difference", "METRIC difference low", "METRIC
    difference high"; a row that is only a number has no differences, and one of several seeds no interval either (NaN).
    pick: names are buttons too.
    """
    scales = [ends(frame[[one.name, f"{one.name} low", f"{one.name} high"]], one.from_zero) for one in metrics]
    baseline = frame[frame["system"] == reference].iloc[0]
    rows = []
    for row in frame.to_dict("records"):
        is_reference = row["system"] == reference
        tags = [KINDS[row["kind"]][0]] if row["kind"] != "trained" else []
        tags += ["reference"] if is_reference else []
        tags += [f"{row['seeds']:.0f} seeds"] if row["seeds"] > 1 else []
        costs = [(_number(row[column]), unit) for column, unit in COSTS.items() if row[column] == row[column]]
        shown = [_metric(row, one, scale, baseline[one.name]) for one, scale in zip(metrics, scales, strict=True)]
        rows.append({
            "system": row["system"], "kind": row["kind"], "is_reference": is_reference, "tags": tags, "costs": costs,
            "metrics": shown,
        })  # fmt: skip
    heads = [(one, *_scale_texts(*scale)) for one, scale in zip(metrics, scales, strict=True)]
    return _table(
        "standings", rows=rows, metrics=heads, reference=reference, compact=len(heads) > MANY, buttons=buttons,
        pick=pick,
    )  # fmt: skip


def group_differences(frame: pd.DataFrame, system: str, reference: str, metric: Metric, buttons: bool = False) -> Html:
    """One metric of two systems for groups of users, and the paired difference, each with its 95 % interval.

    frame: the result of `evaluation.Standings.slices`.
    """
    scale = ends(frame[[f"{side}{end}" for side in "ab" for end in ("", " low", " high")]], metric.from_zero)
    reach = ends(frame[["difference", "low", "high"]], zero=True)
    signs = ((SYSTEM, "●"), (REFERENCE, "◆"))
    rows, before = [], None
    for row in frame.to_dict("records"):
        sides = [(row[side], row[f"{side} low"], row[f"{side} high"]) for side in ("a", "b")]
        difference = (row["difference"], row["low"], row["high"])
        colour = verdict_colour(row["low"], row["high"], metric.higher)
        heading = row["slice"] if row["slice"] not in (before, EVERYBODY[0]) else ""
        before = heading or before
        marks = [(*one, *sign) for one, sign in zip(sides, signs, strict=True)]
        rows.append({
            "heading": heading, "group": row["group"], "users": row["users"], "sides": sides, "difference": difference,
            "both": _track(marks, *scale), "track": _track([(*difference, colour, "●")], *reach, line=0.0),
        })  # fmt: skip
    return _table(
        "group_differences", rows=rows, names=(system, reference), signs=signs, metric=metric,
        scale=_scale_texts(*scale), reach=_scale_texts(*reach), buttons=buttons,
    )  # fmt: skip


def user_differences(
    frame: pd.DataFrame,
    system: str,
    reference: str,
    metric: Metric,
    ranks: bool = True,
    picked: int | None = None,
    buttons: bool = False,
) -> Html:
    """Users, a row per query, with the rank of their next item in two systems, or the metric where there are no ranks.

    frame: columns user (number), name (id), a and b (the rank in `system` and in `reference`; halves are ties, or means
    of seeds; infinite = not listed; the metric without ranks), difference (of the metric) and, where they are known,
    history_length and title (of the answer). picked: the number of a user.
    """
    cutoff = metric.name.partition("@")[2]
    return _table(
        "user_differences", rows=frame.to_dict("records"), names=(system, reference), metric=metric, ranks=ranks,
        picked=picked, k=int(cutoff) if cutoff.isdecimal() else 0, has={*frame.columns}, buttons=buttons,
        infinite=math.inf,
    )  # fmt: skip


def _table(name: str, **values: Any) -> Html:
    made = render(f"{name}.html.j2", faint=FAINT, ink=INK, width=WIDTH, **values)
    return downloadable(made, name.replace("_", "-"))


def _metric(row: dict[str, Any], metric: Metric, scale: tuple[float, float], baseline: float) -> dict[str, Any]:
    """A metric of a system: its interval as text and as a drawing (dashes: the reference's mean), its difference."""
    mean, low, high = row[metric.name], row[f"{metric.name} low"], row[f"{metric.name} high"]
    known = low == low
    difference = tuple(row[f"{metric.name} difference{end}"] for end in ("", " low", " high"))
    mark = (mean, *((low, high) if known else (mean, mean)), INK if row["kind"] == "number" else SYSTEM, "●")
    return {
        "metric": metric, "mean": mean, "interval": f"{low:.4f} to {high:.4f}" if known else "interval: needs its runs",
        "track": _track([mark], *scale, dashes=baseline),
        "difference": None if row["kind"] == "number" else difference,
    }  # fmt: skip


def _scale_texts(low: float, high: float) -> tuple[str, str, str]:
    """The ends of a scale, with as many decimals as tell them apart, and the place of 0 where it is far from both."""
    decimals = max(0, 1 - math.floor(math.log10(high - low))) if high > low else 2
    place = (
        f"{6 + (WIDTH - 12) * -low / (high - low):.1f}" if low < 0 < high and 0.2 < -low / (high - low) < 0.8 else ""
    )
    return f"{round(low, decimals):.6g}", f"{round(high, decimals):.6g}", place


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.2g}" if value < 1 else f"{value:,.1f}"


def _track(
    marks: list[tuple[float, float, float, str, str]],
    low: float,
    high: float,
    line: float | None = None,
    dashes: float | None = None,
) -> dict[str, Any]:
    """The coordinates of a drawing, in pixels: marks (mean, low, high, colour, shape) on a scale from `low` to `high`.

    line, dashes: where a vertical line is drawn. What lies outside of the scale is drawn at its end.
    """

    def at(value: float) -> str:
        share = (value - low) / ((high - low) or 1.0)
        return f"{6 + (WIDTH - 12) * (min(max(share, 0.0), 1.0) if share == share else 0.0):.1f}"

    return {
        "width": WIDTH, "height": 6 + 9 * len(marks),
        "lines": [(at(value), dashed) for value, dashed in ((line, False), (dashes, True)) if value is not None],
        "marks": [(at(mean), at(start), at(end), colour, shape == "◆") for mean, start, end, colour, shape in marks],
    }  # fmt: skip
