"""Saves a figure as a file: a page, a picture, or its data."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.figures.html import Html, page
from seqlab.runtime.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PICTURES = (".svg", ".png", ".pdf", ".jpg", ".jpeg", ".webp")
WIDTH = 1000  # pixels of a picture whose figure has no width of its own
FIRST = [
    "panel", "trace", "x axis", "y axis", "x", "x label", "x low", "x high", "y", "y label", "y low", "y high", "base",
    "value", "from", "to", "text",
]  # fmt: skip
"""The columns of a figure's data that come first; then what is shown on hover."""


def save(figure: Any, path: str | Path) -> Path:
    """Save a figure, a table (`Html`) or the still of a widget; the ending of the path says as what.

    .html: a page that opens without a network, where a figure stays interactive. .csv: the data of a figure, a row per
    point: see `figure_rows`. .svg, .png, .pdf, .jpg, .webp: a picture of a figure, which needs the package kaleido and
    a Chrome (the toolbar of a figure in a notebook or a page saves PNG and SVG without them). Returns the path. Raises
    `ValueError` for another ending, `ImportError` without kaleido.
    """
    path = Path(path)
    figure = figure.still() if hasattr(figure, "still") else figure
    kind = path.suffix.lower()
    is_html = isinstance(figure, Html)
    kinds = (".html",) if is_html else (".html", ".csv", *PICTURES)
    if kind not in kinds:
        what = "a table is" if is_html else "a figure is"
        raise ValueError(f"{path.name}: {what} saved as {', '.join(kinds)}; give the path one of these endings")
    if kind == ".html":
        content: str | bytes = page(figure if is_html else figure.to_plotly_json(), path.stem)
    elif kind == ".csv":
        content = figure_rows(figure).to_csv(index=False)
    else:
        if importlib.util.find_spec("kaleido") is None:
            raise ImportError(
                f"{path.name} needs the package kaleido, which draws with an installed Chrome: pip install kaleido. "
                "Without it, save the figure as .html and press SVG or the camera in its toolbar."
            )
        size = {"width": figure.layout.width or WIDTH, "height": figure.layout.height or 450}
        content = figure.to_image(format=kind[1:], **size, scale=1 if kind in (".svg", ".pdf") else 2)
    return atomic_write(path, content)


def figure_rows(figure: go.Figure) -> pd.DataFrame:
    """The data that a figure draws, a row per point; columns without any value are left out.

    panel: the words above it. trace: the name in the legend. x axis, y axis: the titles of the axes. x, y, and x label,
    y label where an axis shows words for the number; low, high: the ends of error bars; base: where a bar begins;
    value: of a cell of a heatmap, or of a flow from, to. text and hover 1, hover 2, ...: what is written at a point and
    shown on hover (`meta={"hover": names}` of a trace names it). Traces that only decorate (without hover) are left
    out. The button CSV of a figure's toolbar saves the same.
    """
    import pandas as pd

    drawn = [trace for trace in figure.data if trace.visible in (None, True)]
    telling = [trace for trace in drawn if trace.hoverinfo != "skip"]
    panels = "xaxis2" in figure.layout or "yaxis2" in figure.layout
    rows = []
    for trace in telling or drawn:
        axes = {name: _axis(figure, trace, name) for name in "xy"}
        names = dict(enumerate((trace.meta or {}).get("hover", ())))
        about = {"panel": _panel(figure, axes) if panels else None, "trace": _words(trace.name)}
        about |= {f"{name} axis": None if axis is None else _words(axis.title.text) for name, axis in axes.items()}
        for point in _points(trace):
            hover = point.pop("hover", None)
            shown = list(hover) if hasattr(hover, "__len__") and not isinstance(hover, str) else [hover]
            row = about | point | {f"{name} label": _tick(axis, point.get(name)) for name, axis in axes.items()}
            row |= {names.get(at, f"hover {at + 1}"): _words(value) for at, value in enumerate(shown)}
            rows.append(row | {"text": _words(point.get("text"))})
    frame = pd.DataFrame(rows).replace("", None).dropna(axis="columns", how="all")
    return frame[sorted(frame.columns, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))]


def _points(trace: Any) -> list[dict[str, Any]]:
    """The points of a trace, or the flows of a Sankey diagram."""
    if trace.type == "sankey":
        nodes, link = trace.node.label, trace.link
        ends = zip(link.source, link.target, link.value, strict=True)
        return [{"from": _words(nodes[one]), "to": _words(nodes[other]), "value": value} for one, other, value in ends]
    x, y, custom = (getattr(trace, name, None) for name in ("x", "y", "customdata"))
    if getattr(trace, "z", None) is not None:
        return [
            {"x": _at(x, c, c), "y": _at(y, r, r), "value": value, "hover": _at(_at(custom, r), c)}
            for r, row in enumerate(trace.z)
            for c, value in enumerate(row)
        ]
    text, base = (getattr(trace, name, None) for name in ("text", "base"))
    points = []
    for at in range(max(len(values) for values in (x, y, ()) if values is not None)):
        point = {"x": _at(x, at, at), "y": _at(y, at, at), "text": _at(text, at), "base": _at(base, at)}
        for name in "xy":
            bars = getattr(trace, f"error_{name}", None)
            if bars is not None and bars.array is not None:
                below = bars.array if bars.arrayminus is None else bars.arrayminus
                point[f"{name} low"], point[f"{name} high"] = point[name] - below[at], point[name] + bars.array[at]
        points.append(point | {"hover": _at(custom, at)})
    return points


def _at(values: Any, place: int, other: Any = None) -> Any:
    """The value at a place of a list or an array; `other` where there is none."""
    listed = values is not None and hasattr(values, "__len__") and not isinstance(values, str)
    return values[place] if listed and place < len(values) else other


def _axis(figure: go.Figure, trace: Any, name: str) -> Any:
    """The axis "x" or "y" of a trace; None if its kind has none."""
    known = getattr(trace, f"{name}axis", None) or name
    return figure.layout[f"{name}axis{known[1:]}"] if hasattr(trace, f"{name}axis") else None


def _panel(figure: go.Figure, axes: dict[str, Any]) -> str | None:
    """The words above the panel of these axes."""
    if None in axes.values():
        return None
    (left, right), (_, top) = (axes[name].domain or (0, 1) for name in "xy")
    for one in figure.layout.annotations:
        above = one.xref == one.yref == "paper" and one.y is not None and abs(one.y - top) < 1e-6
        if above and left - 1e-6 <= one.x <= right + 1e-6:
            return _words(one.text)
    return None


def _tick(axis: Any, value: Any) -> str | None:
    """The words that an axis shows at a value."""
    if axis is None or axis.tickvals is None or axis.ticktext is None:
        return None
    places = list(axis.tickvals)
    return _words(axis.ticktext[places.index(value)]) if value in places else None


def _words(value: Any) -> Any:
    """A label as plain text: without tags and entities."""
    if not isinstance(value, str) or not re.search("[<&]", value):
        return value
    return html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<br\s*/?>", " ", value)))
