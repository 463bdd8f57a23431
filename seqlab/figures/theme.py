"""The layout, the colours and the text escapes that all figures share."""

from __future__ import annotations

import functools
import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from numpy.typing import ArrayLike

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6BB1", "#B8A800", "#44AA99", "#AA4466")
"""The colour-blind safe palette of Okabe and Ito (without black and with a darker yellow: both have no contrast on one
of the two backgrounds), then three colours that differ from all of these."""

INK = "#6F7680"
"""Text and axes: about 4.5 to 1 against white and 4 to 1 against JupyterLab's dark background."""

FAINT = "rgba(128, 134, 144, 0.22)"
SCALE = "Cividis"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

CONFIG = {
    "showSendToCloud": False,
    "displaylogo": False,
    "modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "png", "filename": "seqlab", "scale": 2},
}
"""The configuration of plotly.js: no button that uploads a figure ("Share chart"), none that opens plotly's site; the
camera saves a PNG of twice the size on the screen. `downloads.js` adds SVG and CSV."""

_WHITESPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_BREAKS = " -/,;:&(·|"
"""Characters at which a title is cut."""

_BIDI_CONTROLS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def label(text: object, most: int = 0) -> str:
    """A title as one line of escaped text for a plotly label or hover, cut to `most` characters (0: never).

    plotly renders tags and entities in labels, so &, < and > are escaped after the cut. Bidirectional control
    characters are removed; right-to-left letters are kept.
    """
    return html.escape(plain(text, most), quote=False)


def plain(text: object, most: int = 0) -> str:
    """A title as one line of text for a control, which renders no tags: not escaped, "(no title)" when empty."""
    line = str(text)
    if not line.isprintable() or "  " in line:  # most titles are, and there are many of them
        line = _WHITESPACE.sub(" ", _BIDI_CONTROLS.sub("", line))
    line = line.strip() or "(no title)"
    return shortened(line, most) if most and len(line) > most else line


def shortened(line: str, most: int) -> str:
    """A line cut to `most` characters, between words where one ends in its second half; a bracket is closed again."""
    room = most - 1
    if line[room].isalnum() and line[room - 1 : room].isalnum():
        start = max(line.rfind(mark, 0, room) for mark in _BREAKS)
        room = start + 1 if start >= most // 2 else room
    cut = line[:room].rstrip(_BREAKS)
    opened = cut.count("(") > cut.count(")") and len(cut) + 2 <= most
    return f"{cut}…)" if opened else f"{cut}…"


def labels(texts, most: int = 0) -> list[str]:
    """`label` of each."""
    return [label(text, most) for text in texts]


COLUMNS = {
    "exact_rank": "rank by exact score", "log_probability": "log-probability", "from_end": "events before the last",
    "entropy_even": "entropy (even)", "peak_memory_mb": "peak memory (MB)",
}  # fmt: skip
"""Names of columns that are none of a paper or of the data -> words for people."""


def column_words(name: object) -> str:
    """A column's name for people: see `COLUMNS`; the levels of a code book, "level 0", are counted from 1."""
    text = str(name)
    if found := re.fullmatch(r"level (\d+)", text):
        return f"level {int(found[1]) + 1}"
    return COLUMNS.get(text, text)


def finish(figure: go.Figure, title: str = "", height: int = 380, legend: bool = False, name: str = "") -> go.Figure:
    """Apply the common layout to a figure; `title` is not escaped, so it never holds data.

    name: of the files that a figure is saved as in the browser ("": that of the heading above it).
    """
    set_renderer_config()
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "xref": "paper", "font": {"size": 15}} if title else None,
        height=height,
        meta={"name": name} if name else None,
        autosize=True,
        font={"family": FONT, "size": 12, "color": INK},
        colorway=list(PALETTE),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 20, "t": 50 if title else 24, "b": 50},
        showlegend=legend,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        hoverlabel={"font": {"family": FONT, "size": 12}, "align": "left", "namelength": -1},
    )
    axis = {"gridcolor": FAINT, "zeroline": False, "linecolor": FAINT, "automargin": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def least_width(figure: go.Figure, pixels: int) -> go.Figure:
    """Let a figure scroll in a page that is narrower than this."""
    return figure.update_layout(meta={**(figure.layout.meta or {}), "least_width": pixels})


@functools.cache
def set_renderer_config() -> None:
    """Apply `CONFIG` to every renderer of plotly in this process, for notebooks and browsers."""
    import plotly.io

    for name in plotly.io.renderers:
        renderer = plotly.io.renderers[name]
        if hasattr(renderer, "config"):  # image renderers have none
            renderer.config = {**(renderer.config or {}), **CONFIG}


def heading(figure: go.Figure, text: str, up: int) -> go.Figure:
    """Add escaped text `up` pixels above the top edge of the plot; the margin grows with its lines."""
    lines = text.count("<br>") + 1
    figure.add_annotation(
        text=text,
        x=0,
        xref="paper",
        xanchor="left",
        y=1,
        yref="paper",
        yanchor="bottom",
        yshift=up,
        showarrow=False,
        align="left",
        font={"size": 13},
    )
    figure.update_layout(margin_t=up + 18 * lines + 10)
    return figure


def padded(low: float, high: float, zero: bool = False) -> list[float]:
    """An axis range with padding at both ends; with `zero`, one that includes 0."""
    low = min(0.0, low) if zero else low
    padding = 0.04 * (high - low or 1.0)
    return [low - padding, high + padding]


def ends(values: ArrayLike, zero: bool = False) -> tuple[float, float]:
    """The smallest and the largest of the finite values; with `zero`, 0 is one of them. (0, 1) without any."""
    import numpy as np

    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (min(low, 0.0), max(high, 0.0)) if zero else (low, high)


def verdict_colour(low: float, high: float, higher: bool = True) -> str:
    """The colour of a difference by its interval: better, worse, or ink where it contains 0. higher: as in `Metric`."""
    if low <= 0 <= high or low != low:
        return INK
    return PALETTE[2] if (low > 0) == higher else PALETTE[4]


def panel_text(figure: go.Figure, text: str, row: int, col: int, up: int = 3) -> None:
    """Add escaped text `up` pixels above a panel, left-aligned."""
    panel = figure.get_subplot(row, col)
    figure.add_annotation(
        text=text, x=panel.xaxis.domain[0], xref="paper", xanchor="left", y=panel.yaxis.domain[1], yref="paper",
        yanchor="bottom", yshift=up, showarrow=False, align="left", font={"size": 11.5},
    )  # fmt: skip


def message(text: str) -> go.Figure:
    """A sentence in place of a plot that has no data."""
    import plotly.graph_objects as go

    figure = go.Figure().add_annotation(text=text, showarrow=False, font={"size": 14})
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return finish(figure, "", 120)


def whiskers(rows: pd.DataFrame, colour: str) -> dict:
    """Error bars for the 95 % interval of each dot: `rows` has columns mean, low and high."""
    return {
        "type": "data", "symmetric": False, "array": rows["high"] - rows["mean"],
        "arrayminus": rows["mean"] - rows["low"], "thickness": 1.5, "width": 3, "color": colour,
    }  # fmt: skip


def logarithmic(low: float, high: float, most_decades: float = 2.2) -> dict:
    """A log axis with ticks at 1, 2 and 5 times powers of ten; from `most_decades` on, at powers of ten only."""
    import numpy as np

    span = np.log10(high / low)
    digits = (1, 2, 5) if span < most_decades else (1,)
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    every = max(1, round(span / 4))  # at most about five labels
    shown = ticks if len(digits) > 1 else ticks[::every]
    return {
        "type": "log", "range": [np.log10(low), np.log10(high)], "tickvals": shown,
        "ticktext": [f"{tick:g}" for tick in shown],
    }  # fmt: skip
