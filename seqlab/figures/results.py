"""Draws the results of an evaluation: metrics with intervals, paired differences, slices, training curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from seqlab.figures.theme import INK, PALETTE, ends, finish, label, labels, least_width, message, padded, verdict_colour

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def scoreboard(intervals: Mapping[str, pd.DataFrame], metrics: tuple[str, ...] = ()) -> go.Figure:
    """Systems side by side, one panel per metric, each with its 95 % interval; the best by the last metric on top.

    intervals: name of a system -> result of `evaluation.intervals` (index metric; columns mean, low, high). metrics:
    () = the headline of their task, the primary one last, as far as all systems have them.
    """
    import pandas as pd
    from plotly.subplots import make_subplots

    first = next(iter(intervals.values()))
    headline, primary = first.attrs.get("headline", first.index), first.attrs.get("primary")
    shared = [name for name in headline if all(name in rows.index for rows in intervals.values())]
    metrics = metrics or tuple(sorted(shared, key=lambda name: name == primary))
    lower, unbounded = (first.attrs.get(name, ()) for name in ("lower", "unbounded"))
    means = {name: intervals[name].at[metrics[-1], "mean"] for name in intervals}
    order = sorted(intervals, key=lambda name: means[name], reverse=metrics[-1] in lower)
    titles = [metric + "<br>less is better" * (metric in lower) for metric in metrics]
    figure = make_subplots(1, len(metrics), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.06)
    for column, metric in enumerate(metrics, 1):
        rows = pd.DataFrame([intervals[name].loc[metric] for name in order])
        _dots(figure, rows, list(range(len(order))), PALETTE[0], 1, column)
        reach = padded(*ends(rows[["mean", "low", "high"]], zero=metric not in unbounded))
        figure.update_xaxes(range=reach, row=1, col=column)
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=labels(order, 30), range=[-0.6, len(order) - 0.4])
    finish(figure, "", 110 + 42 * len(order), name="scoreboard")
    figure.update_xaxes(nticks=max(2, 12 // len(metrics)), tickangle=0)
    figure.update_layout(margin_t=56 if lower else 40)
    return least_width(figure, 100 + 125 * len(metrics))


def differences(frame: pd.DataFrame, a: str, b: str, metrics: tuple[str, ...] = ()) -> go.Figure:
    """`a` minus `b` on the same users, with the paired 95 % interval; dots whose interval excludes 0 are coloured.

    frame: the result of `evaluation.compare` (index metric; columns difference, low, high). metrics: those that are
    drawn; () = the headline of their task, at every cutoff. Metrics without common bounds have an axis each.
    """
    from plotly.subplots import make_subplots

    lower, unbounded = (frame.attrs.get(name, ()) for name in ("lower", "unbounded"))
    kinds = {metric.partition("@")[0] for metric in frame.attrs.get("headline", frame.index)}
    drawn = list(metrics) or [metric for metric in frame.index if metric.partition("@")[0] in kinds]
    panels = [[metric] for metric in drawn] if any(one in unbounded for one in drawn) else [drawn[::-1]]
    figure = make_subplots(len(panels), 1, vertical_spacing=0.45 / len(panels))
    for row, names in enumerate(panels, 1):
        rows = frame.loc[names]
        colours = [
            verdict_colour(low, high, name not in lower)
            for name, low, high in zip(names, rows["low"], rows["high"], strict=True)
        ]
        _dots(figure, rows.rename(columns={"difference": "mean"}), list(range(len(rows))), colours, row, 1)
        figure.add_vline(x=0, line={"color": INK, "width": 1.5}, row=row, col=1)
        texts = [label(name) + "<br>less is better" * (name in lower) for name in names]
        figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=texts, range=[-0.6, len(rows) - 0.4], row=row)
        reach = padded(*ends(rows[["difference", "low", "high"]], zero=True))
        figure.update_xaxes(range=reach, row=row, col=1)
    left, right = (label(a), label(b)) if drawn and all(name in lower for name in drawn) else (label(b), label(a))
    words = f"← {left} is better · difference · {right} is better →"
    if 0 < sum(name in lower for name in drawn) < len(drawn):
        words = f"difference · green: {label(a)} is better · red: {label(b)} is better"
    figure.update_xaxes(title=words, row=len(panels), col=1)
    height = 120 + 34 * len(drawn) if len(panels) == 1 else 100 + 80 * len(panels)
    return finish(figure, f"{label(a)} minus {label(b)}, the same users", height, name="differences")


def slices(values: Mapping[str, pd.DataFrame], only: str | None = None) -> go.Figure:
    """One metric for groups of users, with intervals; one colour per system.

    values: name of a system -> result of `evaluation.slices` (columns slice, group, users, mean, low, high).
    only: the one slice that is drawn.
    """
    import pandas as pd
    import plotly.graph_objects as go

    attributes = next(iter(values.values())).attrs
    metric = attributes.get("metric", "mean")
    frame = pd.concat([rows.assign(system=name) for name, rows in values.items()])
    if only is not None:
        frame = frame[frame["slice"] == only]
    if not len(frame):
        return message("There are no groups of users to show.")
    systems = list(values)
    groups = list(dict.fromkeys(zip(frame["slice"], frame["group"], frame["users"], strict=True)))[::-1]
    at, gap = {}, 0.0
    for place, group in enumerate(groups):
        gap += 0.7 if place and group[0] != groups[place - 1][0] else 0.0
        at[group[:2]] = place + gap
    figure = go.Figure()
    for index, name in enumerate(systems):
        rows = frame[frame["system"] == name]
        shift = 0.0 if len(systems) == 1 else 0.25 - 0.5 * index / (len(systems) - 1)
        places = [at[key] + shift for key in zip(rows["slice"], rows["group"], strict=True)]
        _dots(figure, rows, places, PALETTE[index % len(PALETTE)], name=label(name))
    text = [f"{label(group)} <i>({users:,} users)</i>" for _, group, users in groups]
    figure.update_yaxes(tickvals=list(at.values()), ticktext=text, range=[-0.6, max(at.values()) + 0.9])
    for name in dict.fromkeys(group[0] for group in groups):
        top = max(place for key, place in at.items() if key[0] == name)
        figure.add_annotation(
            text=f"<b>by {label(name)}</b>", x=0, xref="paper", y=top + 0.62, xanchor="left", showarrow=False
        )
    less = ", less is better" * (metric in attributes.get("lower", ()))
    reach = padded(*ends(frame[["mean", "low", "high"]], zero=metric not in attributes.get("unbounded", ())))
    figure.update_xaxes(title=f"{metric}, with its 95 % interval{less}", range=reach)
    return finish(figure, "", 130 + int(32 * (max(at.values()) + 1)), legend=len(systems) > 1, name="slices")


def training_curve(frame: pd.DataFrame, best_epoch: int | None = None) -> go.Figure:
    """Loss and the validation metric by epoch, side by side; the epoch whose weights are kept is marked.

    frame: columns epoch, loss and the metric, NaN where it was not measured (a DataFrame of `run.history`). best_epoch:
    None = that of the highest metric.
    """
    from plotly.subplots import make_subplots

    if not len(frame):
        return message("This system is not trained by epochs: it counts once.")
    metric = next(column for column in frame if column not in ("epoch", "loss", "steps", "seconds"))
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    for column, (name, colour) in enumerate({"loss": PALETTE[4], metric: PALETTE[0]}.items(), 1):
        measured = frame.dropna(subset=[name])
        figure.add_scatter(
            x=measured["epoch"],
            y=measured[name],
            mode="lines+markers",
            line_color=colour,
            marker_size=5,
            row=1,
            col=column,
            hovertemplate="epoch %{x}: %{y:.4f}<extra></extra>",
        )
        figure.update_xaxes(title="epoch", dtick=1 if len(frame) <= 15 else None, row=1, col=column)
    figure.update_yaxes(title="training loss (nats per target)", row=1, col=1)
    figure.update_yaxes(title=f"validation {metric}", row=1, col=2)
    best = frame.loc[frame[metric].idxmax() if best_epoch is None else (frame["epoch"] == best_epoch).idxmax()]
    figure.add_scatter(
        x=[best["epoch"]],
        y=[best[metric]],
        mode="markers",
        marker={"size": 12, "symbol": "circle-open", "color": PALETTE[0], "line": {"width": 2.5}},
        row=1,
        col=2,
        hovertemplate="kept: epoch %{x}, %{y:.4f}<extra></extra>",
    )
    finish(figure, "", 320, name="training-curve")
    note = f"kept: epoch {best['epoch']:.0f}"
    figure.add_annotation(
        text=note, x=1, xref="x2 domain", y=1, yref="y2 domain", xanchor="right", yanchor="bottom", showarrow=False
    )
    return figure


def _dots(figure, rows, places, colour, row=None, col=None, name: str = "") -> None:
    """Draw means as dots with their intervals as whiskers, the numbers on hover."""
    import plotly.graph_objects as go

    colours = colour if isinstance(colour, list) else [colour] * len(rows)
    cells = {} if row is None else {"row": row, "col": col}
    figure.add_trace(
        go.Scatter(
            x=rows["mean"],
            y=places,
            mode="markers",
            name=name,
            showlegend=bool(name),
            marker={"size": 10, "color": colour},
            customdata=rows[["low", "high"]].to_numpy(),
            meta={"hover": ["low", "high"]},
            hovertemplate="%{x:.4f} (%{customdata[0]:.4f} to %{customdata[1]:.4f})<extra>" + name + "</extra>",
        ),
        **cells,
    )
    for low, high, place, one in zip(rows["low"], rows["high"], places, colours, strict=True):
        line = go.Scatter(
            x=[low, high],
            y=[place, place],
            mode="lines",
            line={"color": one, "width": 3},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_trace(line, **cells)
