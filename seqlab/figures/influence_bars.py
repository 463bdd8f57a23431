"""Draws measures of the events of a history, such as their influence, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from seqlab.figures.theme import INK, PALETTE, ends, finish, label, labels, least_width, padded, panel_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ROW = 19  # pixels per event: one line of a title
BETWEEN = 112  # pixels between two histories: an axis below, three lines above


def influences(frame: pd.DataFrame, titles: Mapping[str, Sequence[str]]) -> go.Figure:
    """Several measures of the same events side by side, one panel each; one row of panels per history.

    Panels of one history and unit have the same axis.

    frame: columns history (its caption; line breaks are kept), panel (the measure), unit (the axis), position (from 0,
    oldest first), value; titles: of the events of each history, by its caption.
    """
    from plotly.subplots import make_subplots

    panels, rows = list(dict.fromkeys(frame["panel"])), list(titles)
    counts = [len(titles[name]) for name in rows]
    height = [ROW * count + BETWEEN for count in counts]
    figure = make_subplots(
        len(rows),
        len(panels),
        shared_yaxes=True,
        row_heights=height,
        horizontal_spacing=0.04,
        vertical_spacing=0 if len(rows) == 1 else min(BETWEEN / sum(height), 0.9 / (len(rows) - 1)),
    )
    for row, name in enumerate(rows, 1):
        for column, panel in enumerate(panels, 1):
            part = frame[(frame["history"] == name) & (frame["panel"] == panel)]
            add_bars(figure, part, titles[name], row, column)
            alike = (frame["history"] == name) & (frame["unit"] == part["unit"].iloc[0])  # these have one scale
            reach = padded(*ends(frame.loc[alike, "value"], zero=True))
            figure.update_xaxes(
                title=label(part["unit"].iloc[0]), range=reach, nticks=4, tickangle=0, row=row, col=column
            )
            panel_text(figure, f"<b>{label(panel)}</b>", row, column, 0)
        panel_text(figure, "<br>".join(labels(name.split("\n"), 110)), row, 1, 20)
        named = [f"{word}  {at}" for at, word in enumerate(labels(titles[name], 32), 1)]
        for column in range(1, len(panels) + 1):
            figure.update_yaxes(
                range=[len(named) - 0.5, -0.5], tickvals=list(range(len(named))), ticktext=named, row=row, col=column
            )
    finish(figure, "", 60 + sum(height) + BETWEEN * (len(rows) - 1), name="influences")
    figure.update_layout(margin_t=78)
    figure.update_yaxes(showgrid=False)
    return least_width(figure, 220 + 130 * len(panels))


def add_bars(
    figure: go.Figure,
    frame: pd.DataFrame,
    titles: Sequence[str],
    row: int,
    column: int,
    rows: Sequence[int | None] | None = None,
) -> None:
    """Draw a bar per event, to the right where its value is positive.

    rows: the event that each row of the panel belongs to, or None, where events have several rows; a bar is as wide as
    the rows of its event. None: one row per event.
    """
    import plotly.graph_objects as go

    value = frame["value"].to_numpy()
    colours = [PALETTE[0] if one >= 0 else PALETTE[1] for one in value]
    full = labels(titles, 80)
    words = [f"{full[at]}<br>event {at + 1}" for at in frame["position"]]
    places, width = frame["position"].to_numpy(), None
    if rows is not None:
        spans = [[at for at, event in enumerate(rows) if event == one] for one in frame["position"]]
        places, width = [sum(span) / len(span) for span in spans], [len(span) - 0.2 for span in spans]
    bars = go.Bar(
        x=value,
        y=places,
        width=width,
        orientation="h",
        marker={"color": colours, "line": {"width": 0}},
        customdata=words,
        hovertemplate="<b>%{customdata}</b><br>%{x:+.3f}<extra></extra>",
        showlegend=False,
    )
    figure.add_trace(bars, row=row, col=column)
    figure.add_vline(x=0, line={"color": INK, "width": 1}, row=row, col=column)
