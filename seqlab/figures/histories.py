"""Draws measures of the events of one history, events dropped from it, and patched activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.html import Html, downloadable, render
from seqlab.figures.theme import FAINT, PALETTE, SCALE, finish, heading, label, labels

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FOR, AGAINST = PALETTE[0], PALETTE[1]
SMALLEST, LARGEST = 0.1, 1.5
"""The least and the largest end of the colour scale, as shares recovered."""


AROUND = 2
"""Events shown before and after a dropped one."""


@dataclass(frozen=True)
class Measure:
    """A number per event: its name, its unit, the values by position (events without one are absent), a format."""

    name: str
    unit: str
    values: Mapping[int, float]
    form: str = "+.2f"


def event_measures(titles: Sequence[str], measures: Sequence[Measure], marked: int | None = None) -> Html:
    """A row per event, oldest first, with a bar per measure; right of the line is above zero.

    titles: (T,); marked: the position of a highlighted row.
    """
    width = f"{20 * min(len(measures), 3) / max(len(measures), 1):.0f}"
    scales = [_scale(one) for one in measures]
    rows = [
        (title, [_bar(one, at, *scale) for one, scale in zip(measures, scales, strict=True)])
        for at, title in enumerate(titles)
    ]
    made = render("event_measures.html.j2", measures=measures, rows=rows, marked=marked, width=width)
    return downloadable(made, "event-measures")


def dropped_events(titles: Sequence[str], dropped: Sequence[int]) -> Html:
    """A history, oldest first, with the dropped events struck out and labelled, and `AROUND` events on either side.

    titles: (T,); dropped: positions from 0.
    """
    shown = sorted({
        at for one in dropped for at in range(max(0, one - AROUND), min(len(titles), one + AROUND + 1))
    })  # fmt: skip
    return render("dropped_events.html.j2", titles=titles, dropped=dropped, shown=shown)


def patching_heatmap(frame: pd.DataFrame, chosen: tuple[str, int] | None = None, caption: str = "") -> go.Figure:
    """How much of another user's recommendation each position of each tap recovers when patched; two traces.

    frame: of `inspection.tracing_grid` (columns tap, kind, from_end, log_probability, recovered); chosen: the tap
    and the position from the end to ring; caption: escaped text above. The colour scale ends at shares of -1 and 1.5.
    """
    import plotly.graph_objects as go

    taps = list(dict.fromkeys(frame["tap"]))
    wide = int(frame["from_end"].max()) + 1 if len(frame) else 1
    cells, words = np.full((len(taps), wide), None, dtype=object), np.full((len(taps), wide), "", dtype=object)
    for row in frame.itertuples():
        at = taps.index(row.tap), row.from_end
        cells[at] = None if np.isnan(row.recovered) else row.recovered
        words[at] = f"<b>{label(row.tap)}</b> ({label(row.kind)})<br>log-probability {row.log_probability:.2f} nats"
    known = [value for value in cells.flat if value is not None]
    low = max(-1.0, min([0.0, *known]))
    high = min(LARGEST, max([SMALLEST, *known]))
    figure = go.Figure()
    figure.add_heatmap(
        z=cells, x=list(range(wide)), y=list(range(len(taps))), customdata=words, colorscale=SCALE, zmin=low, zmax=high,
        xgap=1, ygap=1, hoverongaps=False,
        hovertemplate="%{customdata}<br>place %{x} from the end: %{z:.0%} recovered<extra></extra>",
        colorbar={
            "title": {"text": "share recovered", "side": "top"}, "tickformat": ".0%", "thickness": 9, "nticks": 5,
            "outlinecolor": FAINT, "orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom",
            "len": 0.6, "xpad": 0, "ypad": 6,
        },
    )  # fmt: skip
    ring = [] if chosen is None or chosen[0] not in taps else [(chosen[1], taps.index(chosen[0]))]
    figure.add_scatter(
        x=[x for x, _ in ring], y=[y for _, y in ring], mode="markers", hoverinfo="skip", cliponaxis=False,
        marker={"symbol": "square-open", "size": 15, "color": PALETTE[4], "line": {"width": 3, "color": PALETTE[4]}},
    )  # fmt: skip
    finish(figure, "", 124 + 18 * (caption.count("<br>") + 1) * bool(caption) + 26 * len(taps), name="patching-heatmap")
    side = 24 + max(map(len, labels(taps, 26)), default=0) * 6
    figure.update_xaxes(title="place from the end (0: last)", range=[wide - 0.5, -0.5], showgrid=False)
    figure.update_xaxes(tickmode="linear", dtick=1 if wide <= 12 else 5)
    figure.update_yaxes(tickvals=list(range(len(taps))), ticktext=labels(taps, 26), showgrid=False, automargin=False)
    figure.update_yaxes(range=[len(taps) - 0.5, -0.5])
    figure.update_layout(hovermode="closest", margin={"l": side, "r": 14, "t": 62, "b": 50})
    if caption:
        heading(figure, caption, up=56)
        figure.update_annotations(xshift=8 - side)
    return figure


def _scale(measure: Measure) -> tuple[float, float]:
    """The position of the zero line, and the width of one unit; both in percent of the column."""
    low, high = min([0.0, *measure.values.values()]), max([0.0, *measure.values.values()])
    unit = 100 / (high - low or 1.0)
    return (0.0 - low) * unit, unit


def _bar(measure: Measure, at: int, zero: float, unit: float) -> dict[str, str] | None:
    if at not in measure.values:
        return None
    value = measure.values[at]
    left, colour = (zero, FOR) if value >= 0 else (zero + value * unit, AGAINST)
    return {
        "left": f"{left:.1f}", "width": f"{abs(value) * unit:.1f}", "colour": colour, "zero": f"{zero:.1f}",
        "value": f"{value:{measure.form}}",
    }  # fmt: skip
