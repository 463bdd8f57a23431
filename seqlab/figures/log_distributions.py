"""Draws distributions of a log (history lengths, popularity, gaps, repeats) from `log.events`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.theme import INK, PALETTE, finish, message

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

DAY = 86_400.0
GAP_TICKS = {
    1: "1 s",
    60: "1 min",
    3_600: "1 hour",
    DAY: "1 day",
    7 * DAY: "1 week",
    30 * DAY: "1 month",
    365 * DAY: "1 year",
}


def history_lengths(events: pd.DataFrame) -> go.Figure:
    """Users per history length, on a log axis, with the median marked."""
    import plotly.graph_objects as go

    lengths = events["user"].value_counts().to_numpy()
    edges = _log_edges(lengths.min(), lengths.max())
    counts, _ = np.histogram(lengths, edges)
    kept = counts > 0
    figure = go.Figure(
        go.Bar(
            x=_centres(edges)[kept],
            y=counts[kept],
            width=np.diff(edges)[kept] * 0.96,
            marker_color=PALETTE[0],
            customdata=_spans(edges)[kept],
            hovertemplate="%{customdata} events: %{y:,} users<extra></extra>",
        )
    )
    _mark(figure, float(np.median(lengths)), f"median {np.median(lengths):,.0f}")
    figure.update_xaxes(
        type="log", title="events in a history (log scale)", dtick="D2" if lengths.max() < 200 * lengths.min() else 1
    )
    figure.update_yaxes(title="users")
    return finish(figure, "How long are the histories?", 340, name="history-lengths")


def popularity(events: pd.DataFrame) -> go.Figure:
    """Frequency of the items by rank, both on log axes."""
    import plotly.graph_objects as go

    counts = np.sort(events["item"].value_counts().to_numpy())[::-1]
    ranks = np.arange(1, len(counts) + 1)
    shown = np.unique(np.geomspace(1, len(counts), 400).round().astype(int)) - 1
    drawn = counts.cumsum() / counts.sum()
    figure = go.Figure(
        go.Scatter(
            x=ranks[shown],
            y=counts[shown],
            mode="lines",
            line={"color": PALETTE[0], "width": 2.5},
            customdata=drawn[shown],
            hovertemplate="rank %{x:,}: %{y:,} events<br>the items up to here draw %{customdata:.0%}<extra></extra>",
        )
    )
    half = int(np.searchsorted(drawn, 0.5)) + 1
    _mark(figure, half, f"half of all events: {half:,} of {len(counts):,} items")
    figure.update_xaxes(type="log", title="item, by popularity (rank, log scale)", dtick=1)
    figure.update_yaxes(type="log", title="events (log scale)", dtick=1)
    return finish(figure, "How unequal is the catalogue?", 340, name="popularity")


def gaps(events: pd.DataFrame) -> go.Figure:
    """The time between neighbouring events of a user that have one, on a log axis.

    Pairs at the same moment, and pairs that go back in time (the order is then the source's), are counted in words.
    """
    import plotly.graph_objects as go

    from seqlab.datasets.event_order import simultaneous

    timed = events[events["timestamp"].notna()]
    user, time = timed["user"].to_numpy(), timed["timestamp"].to_numpy()
    gap = np.diff(time)[np.diff(user) == 0]
    if not len(gap):
        return message("This log has no timestamps.")
    figure = go.Figure()
    apart = gap[gap > 0]
    edges = np.geomspace(1, max(apart.max() if len(apart) else 10, 10) * 1.01, 49)
    counts, _ = np.histogram(np.maximum(apart, 1), edges)
    shared = simultaneous(user, time).sum() / len(events)
    kept = counts > 0
    figure.add_bar(
        x=_centres(edges)[kept],
        y=counts[kept] / len(gap),
        width=np.diff(edges)[kept] * 0.96,
        marker_color=PALETTE[0],
        customdata=[_duration(at) for at in _centres(edges)[kept]],
        hovertemplate="about %{customdata}: %{y:.2%} of pairs<extra></extra>",
    )
    ticks = {at: name for at, name in GAP_TICKS.items() if at <= edges[-1]}
    figure.update_xaxes(
        type="log", title="time to the next event (log scale)", tickvals=list(ticks), ticktext=list(ticks.values())
    )
    figure.update_yaxes(
        title="share of neighbouring pairs", tickformat=".0%" if counts.max() > 0.03 * len(gap) else ".1%"
    )
    finish(figure, "How much time passes between two events?", 340, name="gaps")
    note = f"{(gap == 0).mean():.1%} of pairs share one moment ({shared:.1%} of events)"
    if (gap < 0).any():
        note += f", {(gap < 0).mean():.1%} go back in time"
    note += ": not drawn"
    figure.add_annotation(
        text=note, x=1, y=1.04, xref="paper", yref="paper", xanchor="right", yanchor="bottom", showarrow=False
    )
    return figure


def repeats_by_lag(events: pd.DataFrame, longest: int = 50) -> go.Figure:
    """The share of events that repeat the item of `lag` events before, by lag.

    A lag is counted from the last occurrence of the item, so each repeat counts once. Exact copies of an event
    (user, item and timestamp) are left out: one event that was logged twice is no repeat.
    """
    import plotly.graph_objects as go

    events = events[~(events.duplicated(["user", "item", "timestamp"]) & events["timestamp"].notna())]
    lag = _lags(events["user"].to_numpy(), events["item"].to_numpy())
    counts = np.bincount(np.minimum(lag[lag > 0], longest + 1), minlength=longest + 2)
    at = np.arange(1, longest + 1)
    figure = go.Figure(
        go.Bar(
            x=at,
            y=counts[1:-1] / len(lag),
            marker_color=PALETTE[0],
            hovertemplate="%{x} events ago: %{y:.2%} of all events<extra></extra>",
        )
    )
    figure.update_xaxes(title="how many events ago the item last occurred")
    figure.update_yaxes(title="share of all events", tickformat=".1%", rangemode="tozero")
    finish(figure, "How soon does an item come back?", 340, name="repeats-by-lag")
    beyond, ever = counts[-1] / len(lag), (lag > 0).mean()
    note = f"{ever:.1%} of events bring an item back; {beyond:.1%} after more than {longest} others"
    figure.add_annotation(
        text=note, x=1, y=1.04, xref="paper", yref="paper", xanchor="right", yanchor="bottom", showarrow=False
    )
    return figure


def _lags(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """(E,) the number of events of the user since the last occurrence of the item; 0 where it is new."""
    order = np.lexsort((np.arange(len(user)), item, user))
    again = np.zeros(len(user), bool)
    again[1:] = (user[order][1:] == user[order][:-1]) & (item[order][1:] == item[order][:-1])
    lag = np.zeros(len(user), np.int64)
    lag[order[again]] = np.diff(order, prepend=0)[again]
    return lag


def _log_edges(low: int, high: int, bins: int = 36) -> np.ndarray:
    """Bin edges for whole numbers, even on a log scale, none narrower than one."""
    return np.unique(np.geomspace(low, high + 1, bins).round()) - 0.5


def _centres(edges: np.ndarray) -> np.ndarray:
    return (edges[1:] + edges[:-1]) / 2


def _spans(edges: np.ndarray) -> np.ndarray:
    low, high = np.ceil(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int) - 1
    return np.array([f"{a:,}" if a == b else f"{a:,} to {b:,}" for a, b in zip(low, high, strict=True)])


def _duration(seconds: float) -> str:
    for size, unit in ((365 * DAY, "years"), (DAY, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _mark(figure: go.Figure, x: float, text: str) -> None:
    """Draw a dotted line at x on a log axis, with a label above the plot."""
    figure.add_vline(x=x, line={"dash": "dot", "color": INK, "width": 1.5})
    figure.add_annotation(x=np.log10(x), y=1, yref="paper", yanchor="bottom", text=text, showarrow=False)
