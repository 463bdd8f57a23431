"""Draws how much each past event can weigh in the last state of several systems, above the influence that it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqlab.figures.histories import AGAINST, FOR
from seqlab.figures.theme import INK, PALETTE, finish, heading, label, labels, least_width, panel_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLOURS = (*PALETTE[2:4], *PALETTE[5:])
"""Of the systems: those of the bars are left out."""

DASHES = {"dot": "·····", "dash": "- - -", "longdash": "— —", "dashdot": "— · —", "solid": "———"}
"""The lines of the layers, the first one first, and the same as characters."""

WEIGHTS, INFLUENCE, GAP, BETWEEN = 130, 76, 24, 70
"""Pixels of the two panels of a system, between them, and between two systems."""


def event_weights(
    weights: pd.DataFrame, influence: pd.DataFrame, titles: Sequence[str], caption: str = ""
) -> go.Figure:
    """Two panels per system on one axis, the events of a history, the newest on the right.

    Above, the shares of the events: bars for the sensitivity of the last state, a line per layer. Below, the influence
    of each event. weights: columns run, measure, layer, from_end (0 = the last event), value, see
    `inspection.event_weights`; influence: columns run, from_end, value; titles: (T,), of the events, oldest first;
    caption: escaped text above. The traces of a run are its measures, then its influence.
    """
    from plotly.subplots import make_subplots

    runs = list(dict.fromkeys(weights["run"]))
    each = WEIGHTS + GAP + INFLUENCE
    height = each * len(runs) + BETWEEN * (len(runs) - 1)
    figure = make_subplots(2 * len(runs), 1, shared_xaxes=True)
    for at, run in enumerate(runs):
        above, below, top = 2 * at + 1, 2 * at + 2, 1 - at * (each + BETWEEN) / height
        figure.update_yaxes(domain=[top - WEIGHTS / height, top], row=above, col=1)
        end = top - each / height
        figure.update_yaxes(domain=[max(0.0, end), end + INFLUENCE / height], row=below, col=1)
        lines = _add_weights(figure, weights[weights["run"] == run], titles, COLOURS[at % len(COLOURS)], above)
        _add_influence(figure, influence[influence["run"] == run], titles, below)
        panel_text(figure, f"<b>{label(run, 40)}</b>  {lines}", above, 1, 4)
        panel_text(figure, "influence, log-probability", below, 1, 2)
    finish(figure, "", height + 210, name="event-weights")
    figure.update_xaxes(range=[0.4 - len(titles), 0.6], showgrid=False, showticklabels=False)
    figure.update_xaxes(
        tickvals=list(range(1 - len(titles), 1)), ticktext=labels(titles, 22), tickangle=-90, tickfont={"size": 9.5},
        showticklabels=True, automargin=False, row=2 * len(runs), col=1,
    )  # fmt: skip
    figure.update_layout(margin={"l": 56, "r": 14, "t": 34, "b": 150}, hovermode="closest", bargap=0.15)
    if caption:
        heading(figure, caption, up=42)
        figure.update_annotations({"xshift": -46}, selector={"font": {"size": 13}})
    return least_width(figure, min(640, 70 + 13 * len(titles)))


def _add_weights(figure: go.Figure, frame: pd.DataFrame, titles: Sequence[str], colour: str, row: int) -> str:
    """Draw the measures of one system; returns their legend, escaped."""
    import plotly.graph_objects as go

    dashes, signs = list(DASHES), {}
    for (measure, layer), part in frame.groupby(["measure", "layer"], sort=False):
        place = {"x": -part["from_end"], "y": part["value"], "customdata": _words(part, titles), "showlegend": False}
        name = f"{label(measure)} of layer {layer}" if layer else "sensitivity of the state"
        place["hovertemplate"] = f"<b>%{{customdata}}</b><br>{name}: %{{y:.1%}}<extra></extra>"
        if layer:
            dash = dashes[(layer - 1) % len(dashes)]
            signs.setdefault(label(measure), []).append(f"{layer} {DASHES[dash]}")
            trace = go.Scatter(mode="lines", line={"color": INK, "width": 1.4, "dash": dash}, **place)
        else:
            trace = go.Bar(marker={"color": colour, "opacity": 0.6, "line": {"width": 0}}, **place)
        figure.add_trace(trace, row=row, col=1)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", nticks=5, row=row, col=1)
    square = f"<span style='color:{colour}'>▇</span>"
    lines = [f"{measure} of layer {', '.join(layers)}" for measure, layers in signs.items()]
    return f"{square} sensitivity of the state<br>{'; '.join(lines)}"


def _add_influence(figure: go.Figure, frame: pd.DataFrame, titles: Sequence[str], row: int) -> None:
    import plotly.graph_objects as go

    bars = go.Bar(
        x=-frame["from_end"], y=frame["value"], showlegend=False, customdata=_words(frame, titles),
        marker={"color": [FOR if value >= 0 else AGAINST for value in frame["value"]], "line": {"width": 0}},
        hovertemplate="<b>%{customdata}</b><br>influence %{y:+.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_trace(bars, row=row, col=1)
    figure.add_hline(y=0, line={"color": INK, "width": 1}, row=row, col=1)
    figure.update_yaxes(nticks=4, row=row, col=1)


def _words(frame: pd.DataFrame, titles: Sequence[str]) -> list[str]:
    """The event of each row: its title, and how many events ago it was."""
    return [
        f"{label(titles[-1 - ago], 80)}<br>{'the last event' if not ago else f'{ago} events before the last'}"
        for ago in frame["from_end"]
    ]
