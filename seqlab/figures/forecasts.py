"""Draws forecasts: whether probabilities hold, what is gained by answering only the sure queries, one user's P."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from seqlab.figures.theme import INK, PALETTE, ends, finish, label, message, padded, panel_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PANEL_HEIGHT, COLUMNS = 300, 2
LEGEND = {"x": 0, "xanchor": "left", "y": 1, "yanchor": "top", "yref": "container", "orientation": "h"}
"""At the top of a figure, in as many rows as it takes."""


def reliability(frames: Mapping[str, pd.DataFrame] | pd.DataFrame, columns: int = COLUMNS) -> go.Figure:
    """The observed frequency by the predicted probability, with the 95 % consistency band; the diagonal is calibrated.

    frames: name -> table of `inspection.calibration.reliability`, in one panel; or the table of a study, a panel per
    system, `columns` side by side. The band is what calibrated probabilities would show: a filled dot lies inside of
    it, an open one outside.
    """
    panels = _panels(frames)
    if not panels:
        return message("There are no probabilities.")
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    figure = _grid(panels, columns)
    for at, (title, series) in enumerate(panels.items()):
        row, column = divmod(at, columns)
        place = {"row": row + 1, "col": column + 1}
        for name, frame in series.items():
            _calibrated(figure, frame, name, names.index(name), at == _first(panels, name), place)
        every = [frame[part] for frame in series.values() for part in ("predicted", "observed", "low", "high")]
        low, high = ends([value for part in every for value in part], zero=True)
        low, high = padded(low, high)
        figure.add_shape(
            type="line", x0=0, x1=high, y0=0, y1=high, line={"color": INK, "width": 1.2, "dash": "dash"}, **place
        )
        figure.update_xaxes(
            title="predicted probability", tickformat=".0%", range=[low, high], title_standoff=4, **place
        )
        figure.update_yaxes(title="" if column else "observed frequency", tickformat=".0%", range=[low, high], **place)
        if title:
            panel_text(figure, f"<b>{label(title, 40)}</b>", **place)
    return _finished(figure, len(panels), columns, len(names))


def risk_coverage(frames: Mapping[str, pd.DataFrame] | pd.DataFrame, columns: int = COLUMNS) -> go.Figure:
    """The share of misses among the queries that are answered, by how many are: the surest ones first.

    frames: name -> table of `evaluation.calibration.risk_coverage`, in one panel; or the table of a study, a panel per
    system. At the right end all are answered; a forecast that knows nothing is a flat line.
    """
    panels = _panels(frames)
    if not panels:
        return message("There are no forecasts.")
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    figure = _grid(panels, columns)
    for at, (title, series) in enumerate(panels.items()):
        row, column = divmod(at, columns)
        place = {"row": row + 1, "col": column + 1}
        for name, frame in series.items():
            shown = frame[frame["coverage"] >= min(0.01, frame["coverage"].max())]
            one = len(shown) == 1  # a constant forecast answers all or none
            style = {"color": PALETTE[names.index(name) % len(PALETTE)], "width": 2, "dash": "dot" if one else "solid"}
            x, y = ([0.0, 1.0], [*shown["risk"]] * 2) if one else (shown["coverage"], shown["risk"])
            figure.add_scatter(
                x=x, y=y, mode="lines", name=label(name, 40), legendgroup=name,
                line=style, showlegend=at == _first(panels, name), customdata=[*shown["threshold"]] * (2 if one else 1),
                hovertemplate="the surest %{x:.0%}: %{y:.1%} misses, P > %{customdata:.3f}<extra>" + label(name, 40)
                + "</extra>", **place,
            )  # fmt: skip
        figure.update_xaxes(title="share answered", tickformat=".0%", range=[0, 1.02], title_standoff=4, **place)
        figure.update_yaxes(title="" if column else "misses among them", tickformat=".0%", **place)
        if title:
            panel_text(figure, f"<b>{label(title, 40)}</b>", **place)
    return _finished(figure, len(panels), columns, len(names))


def selective(
    diagrams: Mapping[str, pd.DataFrame],
    curves: Mapping[str, pd.DataFrame],
    answered: pd.DataFrame,
    events: pd.DataFrame,
) -> go.Figure:
    """Above, whether probabilities hold, and the misses among those answered; below, one user's P after each event.

    diagrams, curves: by forecast, of `inspection.calibration.reliability` and `evaluation.calibration.risk_coverage`.
    answered: one row, threshold, coverage and risk: what is answered above a threshold of the first forecast. events:
    columns event (from 1), title, next (what came next), hit (whether the list held it) and a column per forecast.
    """
    from plotly.subplots import make_subplots

    grid = [[{}, {}], [{"colspan": 2}, None]]
    figure = make_subplots(2, 2, specs=grid, vertical_spacing=0.2, horizontal_spacing=0.14, row_heights=[0.58, 0.42])
    parts = [frame[name] for frame in diagrams.values() for name in ("predicted", "observed", "high")]
    most = padded(0, max(float(part.max()) for part in parts))[1] if parts else 1.0
    one = answered.iloc[0]
    for at, name in enumerate(diagrams):
        _calibrated(figure, diagrams[name], name, at, True, {"row": 1, "col": 1})
    for at, (name, curve) in enumerate(curves.items()):
        colour = PALETTE[at % len(PALETTE)]
        shown = curve[curve["coverage"] >= min(0.01, curve["coverage"].max())]
        figure.add_scatter(
            x=shown["coverage"], y=shown["risk"], mode="lines", line={"color": colour, "width": 2}, legendgroup=name,
            showlegend=False, customdata=shown["threshold"], row=1, col=2,
            hovertemplate="the surest %{x:.0%}: %{y:.1%} misses, P > %{customdata:.3f}<extra>" + label(name, 40)
            + "</extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=events["event"], y=events[name], mode="lines+markers", legendgroup=name, showlegend=False, row=2, col=1,
            line={"color": colour, "width": 2}, customdata=[[label(a, 40), label(b, 40)] for a, b in
                                                          zip(events["title"], events["next"], strict=True)],
            marker={"size": 8, "symbol": ["circle" if hit else "circle-open" for hit in events["hit"]]},
            hovertemplate="after %{customdata[0]}: %{y:.1%}; next came %{customdata[1]}<extra>" + label(name, 40)
            + "</extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[one["coverage"]], y=[one["risk"]], mode="markers", showlegend=False, row=1, col=2,
        marker={"size": 13, "color": PALETTE[0], "symbol": "diamond"},
        hovertemplate="%{x:.0%} are answered: %{y:.1%} misses<extra></extra>",
    )  # fmt: skip
    at_threshold, span = [one["threshold"]] * 2, [events["event"].min(), events["event"].max()]
    for x, y, dash, row in (
        ([0, most], [0, most], "dash", 1), (at_threshold, [0, most], "dot", 1), (span, at_threshold, "dot", 2)
    ):  # fmt: skip
        line = {"color": INK, "width": 1.2, "dash": dash}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, showlegend=False, hoverinfo="skip", row=row, col=1)
    figure.update_xaxes(
        title="predicted probability", tickformat=".0%", range=[0, most], title_standoff=4, row=1, col=1
    )
    figure.update_yaxes(title="observed frequency", tickformat=".0%", range=[0, most], row=1, col=1)
    figure.update_xaxes(title="share answered", tickformat=".0%", range=[0, 1.03], title_standoff=4, row=1, col=2)
    figure.update_yaxes(title="misses", title_standoff=4, tickformat=".0%", row=1, col=2)
    figure.update_xaxes(title="events so far (filled: a hit came next)", title_standoff=4, row=2, col=1)
    figure.update_yaxes(title="P(hit)", tickformat=".0%", rangemode="tozero", row=2, col=1)
    head = 16 + 21 * len(diagrams)
    finish(figure, "", 560 + head, legend=True, name="selective")
    return figure.update_layout(margin={"l": 56, "t": head, "b": 46}, legend=LEGEND)


def _panels(frames: Mapping[str, pd.DataFrame] | pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """Panel -> series -> table."""
    if isinstance(frames, Mapping):
        return {"": dict(frames)} if frames else {}
    return {
        system: dict(iter(part.groupby("forecast", sort=False)))
        for system, part in frames.groupby("system", sort=False)
    }


def _first(panels: Mapping[str, Mapping[str, object]], name: str) -> int:
    """The first panel with this series; it has the entry of the legend."""
    return next(at for at, series in enumerate(panels.values()) if name in series)


def _grid(panels: Mapping[str, object], columns: int) -> go.Figure:
    from plotly.subplots import make_subplots

    rows = -(-len(panels) // columns)
    gap = 90 / (rows * PANEL_HEIGHT) if rows > 1 else 0.1
    return make_subplots(rows, min(columns, len(panels)), vertical_spacing=gap, horizontal_spacing=0.14)


def _finished(figure: go.Figure, panels: int, columns: int, names: int) -> go.Figure:
    rows = -(-panels // columns)
    head = 30 + 21 * -(-names // 2)  # two names beside each other on a narrow page
    height = rows * PANEL_HEIGHT + head + 50
    finish(figure, "", height, legend=True)
    return figure.update_layout(margin={"l": 56, "t": head, "b": 46}, legend=LEGEND)


def _calibrated(
    figure: go.Figure, frame: pd.DataFrame, name: str, at: int, legend: bool, place: Mapping[str, int]
) -> None:
    """The dots of one series, and its band."""
    colour = PALETTE[at % len(PALETTE)]
    red, green, blue = (int(colour[first : first + 2], 16) for first in (1, 3, 5))
    x, none = frame["predicted"], {"width": 0}
    band = {"mode": "lines", "line": none, "hoverinfo": "skip", "legendgroup": name, "showlegend": False, **place}
    figure.add_scatter(x=x, y=frame["high"], **band)
    figure.add_scatter(x=x, y=frame["low"], fill="tonexty", fillcolor=f"rgba({red}, {green}, {blue}, 0.13)", **band)
    inside = frame["observed"].between(frame["low"], frame["high"])
    figure.add_scatter(
        x=x, y=frame["observed"], mode="lines+markers", name=label(name, 40), legendgroup=name, showlegend=legend,
        line={"color": colour, "width": 1}, customdata=frame[["count", "low", "high"]].to_numpy(),
        marker={"size": 8, "color": colour, "symbol": ["circle" if one else "circle-open" for one in inside]},
        hovertemplate="predicted %{x:.1%}, observed %{y:.1%}, of %{customdata[0]:,}; if calibrated: "
        "%{customdata[1]:.1%} to %{customdata[2]:.1%}<extra>" + label(name, 40) + "</extra>", **place,
    )  # fmt: skip
