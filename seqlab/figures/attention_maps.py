"""Draws attention maps, with the influence of each event beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.beams import percent
from seqlab.figures.influence_bars import add_bars
from seqlab.figures.theme import FAINT, SCALE, finish, heading, label, labels, least_width

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ROW = 19  # pixels per event: one line of a title


def attention(
    frame: pd.DataFrame,
    influence: pd.DataFrame,
    titles: Sequence[str],
    top: float | None = None,
    tokens: Sequence[str] | None = None,
    rows: Sequence[int | None] | None = None,
) -> go.Figure:
    """One head's attention, a column per query event and a row per key event; beside it the influence of each event.

    frame: columns query, key, value (positions from 0, oldest first) of one layer and head; influence: columns
    position, value (`inspection.influence.leave_one_out`); titles: (T,) one per event; top: the largest attention on
    the colour scale (None: chosen from the frame). tokens: names of the rows and columns where tokens are not events;
    rows: the event (from 0) that each token belongs to, or None. Two traces: the heatmap, the bars.
    """
    from plotly.subplots import make_subplots

    tokens, rows, what = _rows(titles, tokens, rows)
    figure = make_subplots(1, 2, shared_yaxes=True, column_widths=[0.68, 0.32], horizontal_spacing=0.02)
    count = len(tokens)
    _heatmap(figure, frame, tokens, rows, 1, 1)
    add_bars(figure, influence, titles, 1, 2, rows)
    places = list(range(count))
    figure.update_xaxes(
        title="looking from (after this event)" if what == "event" else f"looking from (this {what})",
        tickvals=places,
        ticktext=_short(tokens),
        tickangle=-90,
        row=1,
        col=1,
    )
    figure.update_xaxes(title="influence (log-probability)", row=1, col=2)
    figure.update_yaxes(tickvals=places, ticktext=_numbered(tokens, rows), range=[count - 0.5, -0.5], row=1, col=1)
    figure.update_yaxes(range=[count - 0.5, -0.5], row=1, col=2)
    figure.update_yaxes(title="looked at", row=1, col=1)
    top = top if top is not None else scale_end(frame, rows)
    finish(figure, "", 300 + ROW * count, name="attention")
    figure.update_layout(
        margin={"t": 76, "l": 40}, coloraxis=_colours(top, 1 + 20 / (ROW * count), frame["value"].max())
    )
    figure.update_xaxes(showgrid=False, row=1, col=1).update_yaxes(showgrid=False)
    return figure


def attention_grid(
    frame: pd.DataFrame,
    influence: pd.DataFrame,
    titles: Sequence[str],
    caption: str = "",
    tokens: Sequence[str] | None = None,
    rows: Sequence[int | None] | None = None,
) -> go.Figure:
    """Every layer and head as small multiples, and the influence of each event with the titles.

    frame: columns layer, head, query, key, value; influence, titles, tokens, rows: see `attention`; caption: escaped
    words above.
    """
    from plotly.subplots import make_subplots

    tokens, rows, what = _rows(titles, tokens, rows)
    layers, heads = int(frame["layer"].max()) + 1, int(frame["head"].max()) + 1
    count = len(tokens)
    specs = [[{} for _ in range(heads)] + [{"rowspan": layers} if row == 0 else None] for row in range(layers)]
    names = [f"layer {row + 1}, head {column + 1}" for row in range(layers) for column in range(heads)]
    names.insert(heads, "influence on the top item")
    share = 0.62 / heads
    figure = make_subplots(
        layers,
        heads + 1,
        specs=specs,
        subplot_titles=names,
        column_widths=[share] * heads + [0.38],
        horizontal_spacing=0.035,
        vertical_spacing=0.09,
    )
    top = scale_end(frame, rows)
    for (layer, head), part in frame.groupby(["layer", "head"]):
        _heatmap(figure, part, tokens, rows, int(layer) + 1, int(head) + 1)
    add_bars(figure, influence, titles, 1, heads + 1, rows)
    finish(figure, "", max(120 + ROW * count, 90 + 250 * layers) + 18 * caption.count("<br>"), name="attention-grid")
    fifth = _every_fifth(rows)
    for row in range(1, layers + 1):
        for column in range(1, heads + 1):
            figure.update_xaxes(**fifth, tickangle=0, showgrid=False, row=row, col=column)
            figure.update_yaxes(**fifth, showgrid=False, range=[count - 0.5, -0.5], row=row, col=column)
        figure.update_yaxes(title=f"looked at ({what}; names at the right)", row=row, col=1)
    for column in range(1, heads + 1):
        figure.update_xaxes(title=f"looking from ({what})", row=layers, col=column)
    figure.update_yaxes(
        tickvals=list(range(count)),
        ticktext=_numbered(tokens, rows, after=True),
        range=[count - 0.5, -0.5],
        side="right",
        showgrid=False,
        row=1,
        col=heads + 1,
    )
    figure.update_xaxes(title="log-probability", row=1, col=heads + 1)
    figure.update_layout(
        coloraxis=_colours(
            top, 1 + 40 / (figure.layout.height - 170 - 18 * caption.count("<br>")), frame["value"].max()
        )
    )
    return least_width(heading(figure, caption, up=82), 460 + 180 * heads)


def _rows(
    titles: Sequence[str], tokens: Sequence[str] | None, rows: Sequence[int | None] | None
) -> tuple[Sequence[str], Sequence[int | None], str]:
    """The names of the rows, the event of each, and what a row is, in words."""
    tokens = titles if tokens is None else tokens
    rows = [*range(len(titles)), *[None] * (len(tokens) - len(titles))] if rows is None else rows
    return tokens, rows, "event" if list(rows) == list(range(len(titles))) else "token"


def _every_fifth(rows: Sequence[int | None]) -> dict[str, list[int]]:
    """Ticks at the first row of every fifth event, with its number."""
    first = {event: at for at, event in reversed(list(enumerate(rows))) if event is not None}
    shown = [event for event in sorted(first) if event % 5 == 4]
    return {"tickvals": [first[event] for event in shown], "ticktext": [event + 1 for event in shown]}


def scale_end(frame: pd.DataFrame, rows: Sequence[int | None] | None = None) -> float:
    """The largest value of the colour scale, from the later half of the queries: the first ones have few keys.

    rows: the event of each row, or None; only keys that belong to an event count (None: all rows).
    """
    late = frame["query"] >= frame["query"].max() / 2
    if rows is not None:
        late &= frame["key"].isin([at for at, event in enumerate(rows) if event is not None])
    return float(min(1.0, max(frame["value"][late].quantile(0.995), 1e-6)))


def _heatmap(
    figure: go.Figure, frame: pd.DataFrame, titles: Sequence[str], rows: Sequence[int | None], row: int, column: int
) -> None:
    import plotly.graph_objects as go

    grid = frame.pivot(index="key", columns="query", values="value").to_numpy()  # (key, query)
    ahead = np.tril(np.ones(grid.shape, bool), -1)  # a key after the query
    shown = grid.astype(object)
    if not grid[ahead].any():
        shown[ahead] = None
    full = labels(titles, 80)
    after = "after " if list(rows) == list(range(len(rows))) else "from "
    words = [
        [f"{after}<b>{full[query]}</b><br>looks at <b>{full[key]}</b>" for query in range(len(full))]
        for key in range(len(full))
    ]
    heatmap = go.Heatmap(
        z=shown,
        customdata=words,
        coloraxis="coloraxis",
        hovertemplate="%{customdata}<br>%{z:.1%}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    figure.add_trace(heatmap, row=row, col=column)


def _colours(top: float, y: float, most: float) -> dict:
    """A colour scale from 0 to `top`, whose end says so where the largest value, `most`, is beyond it."""
    return {
        "colorscale": SCALE,
        "cmin": 0,
        "cmax": top,
        "colorbar": {
            "title": {"text": "attention", "side": "right"},
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": y,
            "yanchor": "bottom",
            "ypad": 0,
            "xpad": 0,
            "len": 0.3,
            "thickness": 9,
            "tickvals": [0, top / 2, top],
            "ticktext": ["0", percent(top / 2), f"{'≥ ' if most > top * 1.001 else ''}{percent(top)}"],
            "tickangle": 0,
            "outlinecolor": FAINT,
        },
    }


def _numbered(tokens: Sequence[str], rows: Sequence[int | None], after: bool = False) -> list[str]:
    """Row names with the number of their event, which is written only on the first of several rows."""
    named, before = [], None
    for name, event in zip(_short(tokens), rows, strict=True):
        number = "" if event is None or event == before else event + 1
        named.append(f"{number}  {name}" if after else f"{name}  {number}")
        before = event
    return named


def _short(tokens: Sequence[str]) -> list[str]:
    """Names short enough for an axis; of "title · code 2" the title is cut."""
    short = []
    for token in tokens:
        title, _, part = token.rpartition(" · ")
        short.append(f"{label(title, 15)} · {label(part)}" if title and len(part) <= 8 else label(token, 24))
    return short
