"""Compares systems in HTML tables: all systems, two by groups of users, and two user by user.

With `buttons`, the `data-press` of each button has its row in the given frame: "system:ROW", "cell:ROW:METRIC",
"group:ROW", "user:ROW".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab.evaluation.comparison import EVERYBODY
from seqlab.figures.html import Html, render
from seqlab.figures.theme import FAINT, INK, PALETTE

if TYPE_CHECKING:
    import pandas as pd

KINDS = {
    "trained": ("trained", "circle"),
    "floor": ("floor: only counts", "diamond-open"),
    "number": ("only a number", "x-thin-open"),
}
"""Kind of a row -> its name, and its symbol in the plot."""

SYSTEM, REFERENCE, BETTER, WORSE = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[4]
WIDTH = 132
"""The width of a drawing in a table, in pixels."""

COSTS = {"parameters": "parameters", "seconds": "s of training", "milliseconds": "ms per user"}


def standings(
    frame: pd.DataFrame, metrics: tuple[str, ...], reference: str, buttons: bool = False, pick: bool = False
) -> Html:
    """The table of all systems: each metric with its 95 % interval and its paired difference to `reference`.

    frame: one row per system: system, kind (one of KINDS), seeds, parameters, seconds, milliseconds (NaN: not known)
    and, of each metric, METRIC, "METRIC low", "METRIC high", "METRIC difference", "METRIC difference low", "METRIC
    difference high"; a row without ranks has no differences, and one of several seeds no interval either (NaN).
    pick: names are buttons too.
    """
    most = {metric: float(frame[[metric, f"{metric} high"]].max().max()) for metric in metrics}
    baseline = frame[frame["system"] == reference].iloc[0]
    rows = []
    for row in frame.to_dict("records"):
        is_reference = row["system"] == reference
        tags = [KINDS[row["kind"]][0]] if row["kind"] != "trained" else []
        tags += ["reference"] if is_reference else []
        tags += [f"{row['seeds']:.0f} seeds"] if row["seeds"] > 1 else []
        costs = [(_number(row[column]), unit) for column, unit in COSTS.items() if row[column] == row[column]]
        shown = [_metric(row, metric, most[metric], baseline[metric]) for metric in metrics]
        rows.append({
            "system": row["system"], "kind": row["kind"], "is_reference": is_reference, "tags": tags, "costs": costs,
            "metrics": shown,
        })  # fmt: skip
    return _table("standings", rows=rows, metrics=list(most.items()), reference=reference, buttons=buttons, pick=pick)


def group_differences(frame: pd.DataFrame, system: str, reference: str, metric: str, buttons: bool = False) -> Html:
    """One metric of two systems for groups of users, and the paired difference, each with its 95 % interval.

    frame: the result of `evaluation.Standings.slices`.
    """
    most = float(frame[["a high", "b high"]].max().max())
    ends = min(float(frame["low"].min()), 0.0), max(float(frame["high"].max()), 0.0)
    signs = ((SYSTEM, "●"), (REFERENCE, "◆"))
    rows, before = [], None
    for row in frame.to_dict("records"):
        sides = [(row[side], row[f"{side} low"], row[f"{side} high"]) for side in ("a", "b")]
        difference = (row["difference"], row["low"], row["high"])
        colour = BETTER if row["low"] > 0 else WORSE if row["high"] < 0 else INK
        heading = row["slice"] if row["slice"] not in (before, EVERYBODY[0]) else ""
        before = heading or before
        marks = [(*one, *sign) for one, sign in zip(sides, signs, strict=True)]
        rows.append({
            "heading": heading, "group": row["group"], "users": row["users"], "sides": sides, "difference": difference,
            "both": _track(marks, 0.0, most), "track": _track([(*difference, colour, "●")], *ends, line=0.0),
        })  # fmt: skip
    return _table(
        "group_differences", rows=rows, names=(system, reference), signs=signs, metric=metric, most=most, ends=ends,
        buttons=buttons,
    )  # fmt: skip


def user_differences(
    frame: pd.DataFrame, system: str, reference: str, metric: str, picked: int | None = None, buttons: bool = False
) -> Html:
    """Users with the rank of their next item in two systems.

    frame: columns user (number), name (id), history_length, title (of the answer), a and b (its ranks in `system` and
    in `reference`; halves are ties, or means of seeds), difference (of the metric). picked: the number of a user.
    """
    return _table(
        "user_differences", rows=frame.to_dict("records"), names=(system, reference), metric=metric, picked=picked,
        k=int(metric.partition("@")[2]), buttons=buttons,
    )  # fmt: skip


def _table(name: str, **values: Any) -> Html:
    return render(f"{name}.html.j2", faint=FAINT, ink=INK, width=WIDTH, **values)


def _metric(row: dict[str, Any], metric: str, most: float, baseline: float) -> dict[str, Any]:
    """A metric of a system: its interval as text and as a drawing (dashes: the reference's mean), its difference."""
    mean, low, high = row[metric], row[f"{metric} low"], row[f"{metric} high"]
    known = low == low
    difference = tuple(row[f"{metric} difference{end}"] for end in ("", " low", " high"))
    mark = (mean, *((low, high) if known else (mean, mean)), INK if row["kind"] == "number" else SYSTEM, "●")
    return {
        "metric": metric, "mean": mean, "interval": f"{low:.4f} to {high:.4f}" if known else "interval: needs its runs",
        "track": _track([mark], 0.0, most, dashes=baseline),
        "difference": difference if difference[0] == difference[0] else None,
    }  # fmt: skip


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

    line, dashes: where a vertical line is drawn.
    """

    def at(value: float) -> str:
        return f"{6 + (WIDTH - 12) * (value - low) / ((high - low) or 1.0):.1f}"

    return {
        "width": WIDTH, "height": 6 + 9 * len(marks),
        "lines": [(at(value), dashed) for value, dashed in ((line, False), (dashes, True)) if value is not None],
        "marks": [(at(mean), at(start), at(end), colour, shape == "◆") for mean, start, end, colour, shape in marks],
    }  # fmt: skip
