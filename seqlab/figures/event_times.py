"""Draws when the next event is expected: intensities, what an event changes, survival, and calibration in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqlab.figures.theme import INK, PALETTE, finish, label, message, panel_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

QUIET = [[0, "rgba(128, 134, 144, 0.38)"], [1, "rgba(128, 134, 144, 0.0)"]]
"""The shading of the hours of the week: the fewer events an hour has, the darker."""

PANEL, BETWEEN = 128, 64
"""Pixels of a panel of a household, and between two of them."""


def intensities(frame: pd.DataFrame, events: pd.DataFrame, hours: pd.DataFrame) -> go.Figure:
    """The intensity of each model over time, one panel per caption, with the events as ticks below.

    frame: columns panel (the caption), model, time (unix seconds), intensity (events per day). events: panel, time,
    title, wait (days since the event before). hours: panel, time, rate: the relative rate of events of all users in the
    hours of the panel, as shading.
    """
    from plotly.subplots import make_subplots

    panels, models = list(dict.fromkeys(frame["panel"])), list(dict.fromkeys(frame["model"]))
    height = PANEL * len(panels) + BETWEEN * (len(panels) - 1)
    figure = make_subplots(len(panels), 1, vertical_spacing=0 if len(panels) == 1 else BETWEEN / height)
    for row, panel in enumerate(panels, 1):
        part = frame[frame["panel"] == panel]
        most = float(part["intensity"].max()) or 1.0
        _shading(figure, hours[hours["panel"] == panel], most, row)
        for at, model in enumerate(models):
            line = part[part["model"] == model]
            figure.add_scatter(
                x=_dates(line["time"]), y=line["intensity"], mode="lines", name=label(model, 40), legendgroup=model,
                showlegend=row == 1, line={"color": PALETTE[at], "width": 1.6}, fill="tozeroy",
                fillcolor=_translucent(PALETTE[at]), hovertemplate="%{x|%a %d %b %H:%M}: %{y:.2f} a day<extra>"
                + label(model, 40) + "</extra>", row=row, col=1,
            )  # fmt: skip
        _ticks(figure, events[events["panel"] == panel], -0.09 * most, row)
        figure.update_yaxes(range=[-0.18 * most, 1.06 * most], tickmode="auto", nticks=4, row=row, col=1)
        figure.update_xaxes(
            range=_dates(part["time"].agg(["min", "max"])), tickformat="%a %-d", nticks=5, tickangle=0, row=row
        )
        panel_text(figure, label(panel, 96), row, 1)
    finish(figure, "", height + 128, legend=True, name="intensities")
    figure.update_layout(margin={"l": 44, "t": 80, "b": 40}, legend=_below(4, height + 128))
    figure.update_yaxes(title="events a day", title_standoff=4, row=(len(panels) + 1) // 2, col=1)
    figure.update_xaxes(showgrid=False)
    return figure


def event_changes(frame: pd.DataFrame, caption: str = "") -> go.Figure:
    """The intensity and the survival after an event: one row per model, one line per change of its history.

    frame: columns model, change (what was changed, in words), days, intensity (events per day), survival. caption:
    escaped, of up to two lines.
    """
    from plotly.subplots import make_subplots

    models, changes = list(dict.fromkeys(frame["model"])), list(dict.fromkeys(frame["change"]))
    height = (PANEL + 30) * len(models) + BETWEEN * (len(models) - 1)
    figure = make_subplots(
        len(models), 2, horizontal_spacing=0.13, vertical_spacing=0 if len(models) == 1 else BETWEEN / height
    )
    for row, model in enumerate(models, 1):
        for at, change in enumerate(changes):
            line = frame[(frame["model"] == model) & (frame["change"] == change)]
            for column, (name, words) in enumerate(
                (("intensity", "%{y:.2f} a day"), ("survival", "%{y:.0%} not yet")), 1
            ):
                figure.add_scatter(
                    x=line["days"], y=line[name], mode="lines", name=label(change, 60), legendgroup=change,
                    showlegend=row == 1 and column == 1, row=row, col=column,
                    line={"color": PALETTE[(0, 4, 2)[at % 3]], "width": 2, "dash": ("solid", "dot", "dash")[at % 3]},
                    hovertemplate="after %{x:.1f} days: " + words + "<extra>" + label(change, 60) + "</extra>",
                )  # fmt: skip
        panel_text(figure, f"<b>{label(model, 40)}</b>", row, 1)
        figure.update_yaxes(rangemode="tozero", title="events a day", title_standoff=4, row=row, col=1)
        figure.update_yaxes(tickformat=".0%", range=[0, 1.03], row=row, col=2)
        panel_text(figure, "has not come yet", row, 2)
    figure.update_xaxes(title="days", title_standoff=2, row=len(models))
    finish(figure, "", height + 174, legend=True, name="event-changes")
    figure.update_layout(margin={"l": 52, "t": 128, "b": 46}, legend=_below(44, height + 174))
    _caption(figure, caption, 86)
    return figure


def survival_fans(frame: pd.DataFrame, low: str = "10 %", high: str = "90 %") -> go.Figure:
    """How long waits are expected to last, beside those that were observed: one row per model, one column per user.

    frame: of `inspection.event_time.survival_fan`, with a column panel (a short caption) for several users.
    """
    from plotly.subplots import make_subplots

    frame = frame if "panel" in frame else frame.assign(panel="")
    panels, models = list(dict.fromkeys(frame["panel"])), list(dict.fromkeys(frame["model"]))
    height = (PANEL + 22) * len(models) + BETWEEN * (len(models) - 1)
    figure = make_subplots(
        len(models), len(panels), shared_yaxes=True, horizontal_spacing=0.06,
        vertical_spacing=0 if len(models) == 1 else BETWEEN / height,
    )  # fmt: skip
    hover = "%{y:.0%} last longer than %{x:.1f} days<extra></extra>"
    for row, model in enumerate(models, 1):
        for column, panel in enumerate(panels, 1):
            part, first = frame[(frame["panel"] == panel) & (frame["model"] == model)], row == column == 1
            colour = PALETTE[row - 1]
            for name, fill in ((low, None), (high, "tonexty")):
                figure.add_scatter(
                    x=part["days"], y=part[name], mode="lines", line={"width": 0}, fill=fill, hoverinfo="skip",
                    fillcolor=_translucent(colour, 0.3), showlegend=False, row=row, col=column,
                )  # fmt: skip
            figure.add_scatter(
                x=part["days"], y=part["mean"], mode="lines", line={"color": colour, "width": 2}, hovertemplate=hover,
                name="expected", showlegend=first, row=row, col=column,
            )  # fmt: skip
            figure.add_scatter(
                x=part["days"], y=part["observed"], mode="lines", line={"color": INK, "width": 1.8, "shape": "hv"},
                name="observed", hovertemplate=hover, showlegend=first, row=row, col=column,
            )  # fmt: skip
            if panel and row == 1:
                panel_text(figure, label(panel, 40), row, column, 20)
        panel_text(figure, f"<b>{label(model, 40)}</b>", row, 1)
        figure.update_yaxes(title="last longer", tickformat=".0%", range=[0, 1.03], title_standoff=4, row=row, col=1)
    figure.update_xaxes(title="days", title_standoff=2, row=len(models))
    finish(figure, "", height + 124, legend=True, name="survival-fans")
    figure.update_layout(margin={"l": 56, "t": 78, "b": 46}, legend=_below(4, height + 124))
    return figure


def time_calibration(points: pd.DataFrame) -> go.Figure:
    """Whether waits fall below each quantile as often as they should, and the QQ plot of the rescaled waits.

    points: of `inspection.event_time.pit_points`. Above, the share of waits below the quantile of a level, minus the
    level; below, the quantiles of the integrated intensity against those of the exponential distribution.
    """
    from plotly.subplots import make_subplots

    if not len(points):
        return message("There are no measured waits.")
    figure = make_subplots(2, 1, vertical_spacing=0.2)
    for at, (model, part) in enumerate(points.groupby("model", sort=False)):
        style = {"color": PALETTE[at % len(PALETTE)], "width": 2}
        name = label(model, 40)
        figure.add_scatter(
            x=part["level"], y=part["share"] - part["level"], mode="lines", line=style, name=name, legendgroup=name,
            customdata=part["share"], row=1, col=1,
            hovertemplate="%{customdata:.1%} of the waits are below the %{x:.1%} quantile<extra>" + name + "</extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=part["expected"], y=part["rescaled"], mode="lines", line=style, legendgroup=name, showlegend=False,
            hovertemplate="%{y:.2f} instead of %{x:.2f}<extra>" + name + "</extra>", row=2, col=1,
        )  # fmt: skip
    most = float(points["expected"].max())
    line = {"color": INK, "width": 1.2, "dash": "dash"}
    figure.add_shape(type="line", x0=0, x1=1, y0=0, y1=0, line=line, row=1, col=1)
    figure.add_shape(type="line", x0=0, x1=most, y0=0, y1=most, line=line, row=2, col=1)
    figure.update_xaxes(title="level of the quantile", tickformat=".0%", range=[0, 1], title_standoff=4, row=1)
    figure.update_yaxes(title="share minus level", tickformat="+.0%", row=1)
    figure.update_xaxes(title="expected: exponential of mean 1", range=[0, most], title_standoff=4, row=2)
    figure.update_yaxes(title="measured", range=[0, most * 1.15], row=2)
    panel_text(figure, "<b>The share of waits below each quantile</b>", 1, 1)
    panel_text(figure, "<b>The intensity summed up over each wait</b>", 2, 1)
    rows = -(-points["model"].nunique() // 2)
    finish(figure, "", 560 + 22 * rows, legend=True, name="time-calibration")
    figure.update_layout(margin={"l": 62, "t": 40 + 22 * rows, "b": 46}, legend=_below(4, 560 + 22 * rows))
    return figure


def _shading(figure: go.Figure, hours: pd.DataFrame, most: float, row: int) -> None:
    figure.add_heatmap(
        x=_dates(hours["time"]), y=[-0.18 * most, 1.06 * most], z=[hours["rate"].to_numpy()], zmin=0,
        zmax=float(hours["rate"].max()) or 1.0, colorscale=QUIET, showscale=False, hoverinfo="skip", row=row, col=1,
    )  # fmt: skip


def _ticks(figure: go.Figure, events: pd.DataFrame, level: float, row: int) -> None:
    waited = [f", {wait:.1f} days after the one before" if wait == wait else "" for wait in events["wait"]]
    figure.add_scatter(
        x=_dates(events["time"]), y=[level] * len(events), mode="markers", name="events", legendgroup="events",
        showlegend=row == 1, marker={"symbol": "line-ns", "size": 13, "line": {"color": INK, "width": 2.5}},
        customdata=[[label(title, 50), words] for title, words in zip(events["title"], waited, strict=True)],
        hovertemplate="%{x|%a %d %b %H:%M}: %{customdata[0]}%{customdata[1]}<extra></extra>", row=row, col=1,
    )  # fmt: skip


def _dates(times: Sequence[float] | pd.Series):
    import pandas as pd

    return pd.to_datetime(pd.Series(times).to_numpy(), unit="s").round("s").to_list()


def _translucent(colour: str, alpha: float = 0.14) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def _below(pixels: int, height: int) -> dict:
    """A legend that begins `pixels` below the top of a figure of this height, at the left."""
    return {"x": 0, "xanchor": "left", "y": 1 - pixels / height, "yanchor": "top", "yref": "container"}


def _caption(figure: go.Figure, text: str, up: int) -> None:
    """Escaped text of up to two lines, `up` pixels above the plot."""
    figure.add_annotation(
        text=text, x=0, xref="paper", xanchor="left", y=1, yref="paper", yanchor="bottom", yshift=up,
        showarrow=False, align="left", font={"size": 13},
    )  # fmt: skip
