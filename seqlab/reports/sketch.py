"""Draws a figure of plotly as a small SVG without text, for the list of reports; no browser is needed."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.figures.html import environment
from seqlab.figures.theme import INK, PALETTE, SCALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT = 240, 150
MOST_DOTS, MOST_CELLS = 600, 24
COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}|rgba?\([\d., %]+\)|[a-zA-Z]{1,20}")

Shape = tuple[str, dict[str, Any]]
"""The name of an element of SVG, and its attributes."""


def sketch(figure: Mapping[str, Any]) -> str:
    """The lines, dots, bars and heat maps of a figure's JSON as SVG, each panel in its place; "" where it has none.

    Axes, texts and other kinds of traces are left out.
    """
    layout = figure.get("layout", {})
    traces = [one for one in figure.get("data", ()) if one.get("visible", True) is True and _kind(one) in DRAWN]
    panels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number, trace in enumerate(traces):
        drawn = _numbers(trace, layout) | {"colour": PALETTE[number % len(PALETTE)]}
        panels.setdefault((trace.get("xaxis") or "x", trace.get("yaxis") or "y"), []).append(drawn)
    drawn = [panel for axes, some in panels.items() if (panel := _panel(axes, some, layout))["shapes"]]
    template = environment(TEMPLATES).get_template("sketch.svg.j2")
    return template.render(width=WIDTH, height=HEIGHT, panels=drawn) if drawn else ""


def _kind(trace: Mapping[str, Any]) -> str:
    return str(trace.get("type") or "scatter").removesuffix("gl")


def _panel(axes: tuple[str, str], traces: list[dict[str, Any]], layout: Mapping[str, Any]) -> dict[str, Any]:
    """One pair of axes: its place, and its shapes with their attributes."""
    about = [layout.get(f"{name[0]}axis{name[1:]}") or {} for name in axes]
    (left, right), (bottom, top) = (one.get("domain") or (0, 1) for one in about)
    width, height = (right - left) * WIDTH, (top - bottom) * HEIGHT
    _stack(traces, layout)
    (low_x, high_x), (low_y, high_y) = (_scale(one, traces, place) for place, one in enumerate(about))

    def at(xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (xs - low_x) / (high_x - low_x) * width, (high_y - ys) / (high_y - low_y) * height

    shapes = [shape for one in traces for shape in DRAWN[one["kind"]](one, at)]
    return {"x": left * WIDTH, "y": (1 - top) * HEIGHT, "width": width, "height": height, "shapes": shapes}


def _numbers(trace: Mapping[str, Any], layout: Mapping[str, Any]) -> dict[str, Any]:
    """What is drawn of a trace, as arrays of numbers: x, y, and z of a heat map."""
    kind, found = _kind(trace), {"trace": trace, "kind": _kind(trace)}
    if kind == "heatmap":
        z = _array(trace.get("z"))
        z = z.astype(float) if z.ndim == 2 and z.size else np.zeros((1, 1))
        steps = [max(1, -(-size // MOST_CELLS)) for size in z.shape]
        z = z[:: steps[0], :: steps[1]]
        return found | {"z": z, "x": np.array([-0.5, z.shape[1] - 0.5]), "y": np.array([-0.5, z.shape[0] - 0.5])}
    x, y = _array(trace.get("x")), _array(trace.get("y"))
    x = x if x.size else np.arange(y.size)
    for letter, values in (("x", x), ("y", y)):
        axis = layout.get(f"{letter}axis{(trace.get(f'{letter}axis') or letter)[1:]}") or {}
        found[letter] = _positions(values, axis)
    size = min(found["x"].size, found["y"].size)
    return found | {"x": found["x"][:size], "y": found["y"][:size]}


def _array(values: Any) -> np.ndarray:
    """A list, or numbers as plotly packs them: {"dtype", "bdata", "shape"}."""
    if isinstance(values, dict) and "bdata" in values:
        found = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
        shape = [int(size) for size in str(values.get("shape", found.size)).split(",")]
        return found.reshape(shape)
    if values is None or isinstance(values, (str, dict)):
        return np.empty(0)
    try:
        return np.array(values, float)
    except (TypeError, ValueError):
        return np.array([str(value) for value in values])


def _positions(values: np.ndarray, axis: Mapping[str, Any]) -> np.ndarray:
    """Positions along an axis: logarithms on a logarithmic one, places in their order for categories and dates."""
    if values.ndim != 1:
        return np.empty(0)
    if values.dtype.kind not in "fiub":
        order = list(dict.fromkeys(axis.get("categoryarray") or ())) or list(dict.fromkeys(values.tolist()))
        places = {str(value): place for place, value in enumerate(order)}
        return np.array([places.get(str(value), np.nan) for value in values], float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(values.astype(float)) if axis.get("type") == "log" else values.astype(float)


def _stack(traces: list[dict[str, Any]], layout: Mapping[str, Any]) -> None:
    """The start and the end of every bar, and its width: beside or on one another, as the figure has them."""
    bars = [one for one in traces if one["kind"] == "bar"]
    stacked, tops = layout.get("barmode") in ("stack", "relative"), {}
    for place, one in enumerate(bars):
        flat = one["trace"].get("orientation") == "h"
        where, length = (one["y"], one["x"]) if flat else (one["x"], one["y"])
        base = _array(one["trace"].get("base"))
        start = (
            base.astype(float) if base.shape == length.shape and base.dtype.kind in "fiu" else np.zeros(length.shape)
        )
        if stacked:
            start = np.array([tops.get(spot, 0.0) for spot in where])
            tops |= dict(zip(where, start + np.nan_to_num(length), strict=True))
        gaps = np.diff(np.unique(where[np.isfinite(where)]))
        width = 0.8 * (gaps.min() if gaps.size else 1.0)
        if not stacked and layout.get("barmode") not in ("overlay",) and base.size == 0:
            width /= len(bars)
            where = where + width * (place - (len(bars) - 1) / 2)
        one |= {"where": where, "start": start, "end": start + length, "width": width, "flat": flat}


def _scale(axis: Mapping[str, Any], traces: list[dict[str, Any]], place: int) -> tuple[float, float]:
    """The values at both ends of an axis: its range, else what its traces need."""
    if len(axis.get("range") or ()) == 2:
        try:
            low, high = (float(end) for end in axis["range"])
            return (low, high) if low != high else (low - 0.5, low + 0.5)
        except (TypeError, ValueError):
            pass
    values = [one["xy"[place]] for one in traces if one["kind"] != "bar"]
    for one in (one for one in traces if one["kind"] == "bar"):
        along = one["flat"] == (place == 0)
        half = one["width"] / 2
        values += [one["start"], one["end"]] if along else [one["where"] - half, one["where"] + half]
    known = np.concatenate([some[np.isfinite(some)] for some in values]) if values else np.empty(0)
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    padding = 0.04 * (high - low) or 0.5
    ends = (float(low - padding), float(high + padding))
    return ends[::-1] if axis.get("autorange") == "reversed" else ends


def _colours(given: Any, size: int, fallback: str, scale: Any = None) -> list[str]:
    """The colour of each of `size` marks; numbers are shown by a scale."""
    from plotly.colors import sample_colorscale

    if isinstance(given, str):
        return [given if COLOUR.fullmatch(given) else fallback] * size
    values = _array(given)
    if values.ndim != 1 or values.size < size or not size:
        return [fallback] * size
    if values.dtype.kind in "fiu":
        low, high = np.nanmin(values), np.nanmax(values)
        shares = np.nan_to_num((values[:size] - low) / ((high - low) or 1.0))
        try:
            return sample_colorscale(scale or SCALE, list(shares))
        except Exception:  # a scale that plotly.js knows and its Python does not
            return [fallback] * size
    return [str(one) if COLOUR.fullmatch(str(one)) else fallback for one in values[:size]]


def _scatter(one: dict[str, Any], at: Callable) -> Iterator[Shape]:
    trace, (x, y) = one["trace"], at(one["x"], one["y"])
    mode = trace.get("mode") or "lines"
    marker, line = trace.get("marker") or {}, trace.get("line") or {}
    if "lines" in mode and x.size:
        (colour,) = _colours(line.get("color"), 1, one["colour"])
        breaks = np.flatnonzero(~(np.isfinite(x) & np.isfinite(y)))
        for part in np.split(np.arange(x.size), breaks):
            part = part[np.isfinite(x[part]) & np.isfinite(y[part])]
            part = part[:: max(1, part.size // 200)]
            points = " ".join(f"{x[p]:.1f},{y[p]:.1f}" for p in part)
            if part.size > 1:
                yield "polyline", {"points": points, "fill": "none", "stroke": colour, "stroke-width": 1.5}
    if "markers" in mode:
        colours = _colours(marker.get("color"), x.size, one["colour"], marker.get("colorscale"))
        radius = 2.4 if x.size < 60 else 1.3
        for p in range(0, x.size, max(1, -(-x.size // MOST_DOTS))):
            if np.isfinite(x[p]) and np.isfinite(y[p]):
                yield "circle", {"cx": f"{x[p]:.1f}", "cy": f"{y[p]:.1f}", "r": radius, "fill": colours[p]}


def _bar(one: dict[str, Any], at: Callable) -> Iterator[Shape]:
    marker, half = one["trace"].get("marker") or {}, one["width"] / 2
    sides = (one["where"] - half, one["where"] + half)
    ends = (one["start"], one["end"])
    (x0, y0), (x1, y1) = (at(*((ends[k], sides[k]) if one["flat"] else (sides[k], ends[k]))) for k in (0, 1))
    colours = _colours(marker.get("color"), x0.size, one["colour"], marker.get("colorscale"))
    for p in np.flatnonzero(np.isfinite(x0 + x1 + y0 + y1))[:MOST_DOTS]:
        yield _rectangle(x0[p], y0[p], x1[p], y1[p], colours[p])


def _heatmap(one: dict[str, Any], at: Callable) -> Iterator[Shape]:
    z = one["z"]
    rows, columns = z.shape
    colours = _colours(z.ravel(), z.size, INK, one["trace"].get("colorscale"))
    x, _ = at(np.arange(columns + 1) - 0.5, np.zeros(columns + 1))
    _, y = at(np.zeros(rows + 1), np.arange(rows + 1) - 0.5)
    for row, column in np.argwhere(np.isfinite(z)):
        yield _rectangle(x[column], y[row], x[column + 1], y[row + 1], colours[row * columns + column])


def _rectangle(x0: float, y0: float, x1: float, y1: float, colour: str) -> Shape:
    sides = {"x": min(x0, x1), "y": min(y0, y1), "width": abs(x1 - x0), "height": abs(y1 - y0)}
    return "rect", {**{name: f"{value:.1f}" for name, value in sides.items()}, "fill": colour}


DRAWN = {"scatter": _scatter, "bar": _bar, "heatmap": _heatmap}
"""The kinds of traces that are drawn, each with what draws it."""
