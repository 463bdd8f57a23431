"""Draws the catalogue as a map: an item per dot, coloured by a column, with the neighbours of a chosen item."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.theme import INK, PALETTE, SCALE, column_words, finish, label, labels, least_width

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

GROUPS = 10
"""Categories with a distinct colour; the others share a grey."""

OTHER = "rgba(128, 134, 144, 0.45)"


FAINT = 0.07
"""Opacity of items that are not selected."""


def item_map(
    frame: pd.DataFrame,
    color: str,
    picked: int | None = None,
    neighbours: list[int] | None = None,
    selected: np.ndarray | None = None,
) -> go.Figure:
    """A dot per item at (x, y), titles on hover, coloured by one column.

    frame: index item; columns x, y, title and the `color` column. Numbers get a colour scale (logarithmic when they are
    very unequal), text its ten most frequent values and "other". picked and neighbours: items to ring. selected: items
    that stay opaque while the others fade; None or none: all stay. There are always thirteen traces, so that a figure
    can be updated in place: ten groups, the others (customdata: item ids), the neighbours, the chosen item.
    Raises `KeyError` for a column that is not there.
    """
    import plotly.graph_objects as go

    if color not in frame.columns:
        raise KeyError(f"the items have no column {color!r}; they have {', '.join(map(str, frame.columns))}")
    groups = _groups(frame, color)
    if selected is not None and len(selected):
        for group in groups:
            group.selectedpoints = np.flatnonzero(np.isin(group.customdata, selected)).tolist()
    figure = go.Figure([*groups, *rings(frame, picked, neighbours)])
    numeric = _is_number(frame[color])
    finish(figure, "", 560, legend=not numeric, name="item-map")
    bare = {"showticklabels": False, "showgrid": False, "showline": False, "ticks": ""}
    figure.update_xaxes(**bare).update_yaxes(**bare)
    figure.update_layout(
        legend={
            "title": {"text": label(_words(color))},
            "orientation": "v",
            "x": 1.02,
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "itemsizing": "constant",
        },
        dragmode="pan",
        hovermode="closest",
        margin={"l": 20, "r": 20, "t": 30, "b": 30},
        uirevision="kept",
    )
    return figure


def rings(frame: pd.DataFrame, picked: int | None, neighbours: list[int] | None) -> list[go.Scattergl]:
    """The last two traces of an `item_map`: rings around the neighbours, and around the chosen item."""
    import plotly.graph_objects as go

    return [
        go.Scattergl(
            x=frame.loc[chosen, "x"].to_numpy(),
            y=frame.loc[chosen, "y"].to_numpy(),
            mode="markers",
            showlegend=False,
            text=labels(frame.loc[chosen, "title"], 90),
            marker={"size": size, "symbol": symbol, "color": PALETTE[4], "line": {"width": width, "color": PALETTE[4]}},
            unselected={"marker": {"opacity": 1}},  # a lasso does not fade them
            hovertemplate="<b>%{text}</b><extra></extra>",
        )
        for chosen, size, width, symbol in (
            (neighbours or [], 11, 2, "circle-open"),
            ([] if picked is None else [picked], 15, 3, "diamond-open"),
        )
    ]


def item_map_with_neighbours(
    frame: pd.DataFrame, color: str, examples: dict[int, pd.DataFrame], selected: np.ndarray | None = None
) -> go.Figure:
    """The map, and below it the nearest neighbours of a few items as bars of their cosine: the still of `ItemMap`.

    examples: item -> frame with columns item, title, cosine, nearest first (`inspection.projection.neighbours`).
    selected: as in `item_map`.
    """
    from plotly.subplots import make_subplots

    count = max(len(examples), 1)
    title = frame["title"]
    names = ["", *(f"nearest to<br><b>{label(title[item], 30)}</b>" for item in examples)]
    figure = make_subplots(
        2,
        count,
        specs=[[{"colspan": count, "type": "scatter"}, *[None] * (count - 1)], [{}] * count],
        row_heights=[0.68, 0.32],
        subplot_titles=names,
        vertical_spacing=0.1,
        horizontal_spacing=0.04,
    )
    plain = item_map(frame, color, selected=selected)
    for trace in plain.data[: GROUPS + 1]:
        figure.add_trace(trace, row=1, col=1)
    for column, near in enumerate(examples.values(), 1):
        near = near.head(6).iloc[::-1]
        places, words = list(range(len(near))), labels(near["title"], 90)
        figure.add_bar(
            x=near["cosine"],
            y=[place - 0.36 for place in places],  # below the words, which are longer than most bars
            width=[0.16] * len(near),
            orientation="h",
            marker={"color": PALETTE[0], "line": {"width": 0}},
            showlegend=False,
            customdata=words,
            hovertemplate="<b>%{customdata}</b><br>cosine %{x:.3f}<extra></extra>",
            row=2,
            col=column,
        )
        text = [
            f"{cosine:.2f}  {title}" for cosine, title in zip(near["cosine"], labels(near["title"], 30), strict=True)
        ]
        figure.add_scatter(
            x=[0] * len(near),
            y=places,
            mode="text",
            text=text,
            textposition="middle right",
            showlegend=False,
            hoverinfo="skip",
            row=2,
            col=column,
        )
        figure.update_yaxes(showticklabels=False, showgrid=False, row=2, col=column)
        figure.update_xaxes(title="cosine", range=[0, 1], row=2, col=column)
    legend = plain.layout.legend
    numeric = _is_number(frame[color])
    finish(figure, "", 900, legend=not numeric, name="item-map-with-neighbours")
    figure.update_layout(legend=legend, hovermode="closest", margin={"t": 30})
    figure.update_xaxes(showticklabels=False, showgrid=False, showline=False, row=1, col=1)
    figure.update_yaxes(showticklabels=False, showgrid=False, showline=False, row=1, col=1)
    figure.update_layout(margin_l=20)
    if numeric:
        figure.update_traces(marker_colorbar={"len": 0.6, "y": 1, "yanchor": "top"}, selector={"type": "scattergl"})
    figure.update_annotations(font_size=13)
    return least_width(figure, 300 * count)


def _words(column: str) -> str:
    return column_words(column).replace("_", " ")


def _groups(frame: pd.DataFrame, color: str) -> list[go.Scattergl]:
    """Eleven traces: numbers use only the first, text one per frequent value and the last for the others."""
    size = float(np.clip(240 / np.sqrt(max(len(frame), 1)), 4, 9))
    column = frame[color]
    if _is_number(column):
        marker = _scale(column, color) | {"size": size, "opacity": 0.85}
        return [
            _dots(frame, "all items", marker, color),
            *(_dots(frame.iloc[:0], "", {"size": size}, color) for _ in range(GROUPS)),
        ]
    words = column.astype(object).where(column.notna(), "(unknown)").astype(str)
    frequent = list(words.value_counts().index[:GROUPS])
    traces = []
    for at in range(GROUPS):
        rows = frame[(words == frequent[at]).to_numpy()] if at < len(frequent) else frame.iloc[:0]
        name = label(frequent[at], 30) if at < len(frequent) else ""
        traces.append(_dots(rows, name, {"color": PALETTE[at], "size": size, "opacity": 0.9}, color))
    rest = frame[~words.isin(frequent).to_numpy()]
    return [*traces, _dots(rest, f"other ({len(rest):,})", {"color": OTHER, "size": size * 0.8, "opacity": 1}, color)]


def _dots(rows: pd.DataFrame, name: str, marker: dict, color: str) -> go.Scattergl:
    import plotly.graph_objects as go

    shown = rows[color]
    values = [f"{one:,.6g}" for one in shown] if _is_number(shown) else labels(shown, 60)
    text = [
        f"<b>{title}</b><br>{label(_words(color))}: {value}"
        for title, value in zip(labels(rows["title"], 90), values, strict=True)
    ]
    return go.Scattergl(
        x=rows["x"].to_numpy(dtype=np.float32),
        y=rows["y"].to_numpy(dtype=np.float32),
        mode="markers",
        name=name,
        marker=marker,
        text=text,
        customdata=rows.index.to_numpy(),
        unselected={"marker": {"opacity": FAINT}},
        hovertemplate="%{text}<extra></extra>",
        showlegend=bool(len(rows)),
    )


def _scale(column: pd.Series, color: str) -> dict:
    """A colour scale for numbers; logarithmic where the largest is more than thirty times the median."""
    values = column.fillna(column.min()).to_numpy(dtype=np.float64)
    bar = {"title": {"text": label(_words(color)), "side": "right"}, "thickness": 12, "outlinewidth": 0}
    if values.min() >= 0 and values.max() > 30 * max(np.median(values), 1):
        top = int(np.log10(values.max())) + 1
        bar |= {"tickvals": list(range(top)), "ticktext": [f"{10**at:,}" for at in range(top)]}
        values = np.log10(np.maximum(values, 1))
    return {
        "color": values,
        "colorscale": SCALE,
        "showscale": True,
        "colorbar": bar,
        "line": {"width": 0, "color": INK},
    }


def _is_number(column: pd.Series) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
