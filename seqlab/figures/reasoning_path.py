"""Draws the latent reasoning of one user: its path over the item map, the output and the quality of each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures import theme
from seqlab.figures.theme import FAINT, INK, PALETTE, finish, label, labels

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

BLUE, YELLOW, GREEN, PINK, ORANGE = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[3], PALETTE[4]
DOT = "rgba(128, 134, 144, 0.35)"
SPOKE = "rgba(0, 114, 178, 0.25)"
LATER = "#8FB8D3"
"""The colour of steps after the stop: a pale form of that of the steps taken."""

MEASURES = {
    "rank": "rank of what came next",
    "entropy": "entropy (nats)",
    "margin": "lead of the first item",
    "kl": "KL from step before",
}
QUALITY = {"ndcg@10": "ndcg@10, all users", "recall@10": "recall@10, all users"}
WIDTH = 720
"""The least width in pixels."""

LEAST_KL = 1e-6
"""Smaller KL divergences are drawn at this value, because the axis is logarithmic."""


def reasoning_steps(
    items: pd.DataFrame,
    path: pd.DataFrame,
    near: pd.DataFrame,
    measures: pd.DataFrame,
    curve: pd.DataFrame,
    fixed: pd.DataFrame,
    marks: dict[str, int],
    stop: int,
    chosen: dict[str, float],
    prior: pd.DataFrame | None = None,
    other: pd.DataFrame | None = None,
    caption: str = "",
) -> go.Figure:
    """One user's steps over the item map; below, measures of each step, and its quality over all test users.

    items: index item; columns x, y, title. path: step, x, y. near: step, rank, item, probability (the items
    that determine the position of a step). measures: step and the columns of `MEASURES`, each also as "typical <name>"
    (the median user). curve: of `inspection.stopping.tradeoff`. fixed: of `inspection.stopping.outcomes` the rows of a
    fixed number of steps. marks: items to mark, "answer" and "last" (the last one of the history). stop: the step at
    which this user stops; steps after it are pale. chosen: epsilon, steps, ndcg@10, recall@10 of the threshold that is
    set. prior: item, weight: of the system's prior over reasoning states. other: the path after a state was patched.
    caption: escaped text above. The kinds and number of traces do not depend on the data.
    """
    from plotly.subplots import make_subplots

    panel, gap, tall = 150, 62, 430
    whole = tall + 3 * (panel + gap)
    figure = make_subplots(
        4,
        2,
        specs=[[{"colspan": 2}, None], [{}, {}], [{}, {}], [{}, {}]],
        row_heights=[tall, panel, panel, panel],
        vertical_spacing=gap / whole,
        horizontal_spacing=0.13,
    )
    _map(figure, items, path, near, marks, stop, prior, other)
    for place, name in enumerate(MEASURES):
        _measure(figure, measures, name, 2 + place // 2, 1 + place % 2, stop, chosen["epsilon"])
    for column, name in enumerate(QUALITY, 1):
        _quality(figure, curve, fixed, name, chosen, 4, column)
    finish(figure, "", whole + 130, name="reasoning-steps")
    _zoom(figure, items, path, near, marks, prior, other)
    _annotate(figure, items, near, marks, stop)
    for place, words in enumerate([*MEASURES.values(), *QUALITY.values()]):
        theme.panel_text(figure, f"<b>{words}</b>", 2 + place // 2, 1 + place % 2)
    figure.update_layout(hovermode="closest", dragmode="pan", margin={"l": 48, "r": 14, "b": 44})
    theme.heading(figure, _legend(caption, prior, other), up=4)
    figure.update_annotations(xshift=-40, selector={"x": 0, "xanchor": "left", "y": 1})
    return theme.least_width(figure, WIDTH)


def _legend(caption: str, prior: pd.DataFrame | None, other: pd.DataFrame | None) -> str:
    """The caption and the legend, in lines of at most `WIDTH` pixels."""
    lines = [
        "A step stands at the mean place of its ten best items, weighed by probability (thin lines); states are not "
        "projected.",
        f"<span style='color:{BLUE}'>●</span> step (0: before any reasoning; pale: past the stop)   "
        f"<span style='color:{ORANGE}'>○</span> best items at the stop   "
        f"<span style='color:{GREEN}'>★</span> came next   <span style='color:{INK}'>◇</span> last read",
        "Lines below: this user; dotted: the median user.",
    ]
    if prior is not None:
        lines.append(f"<span style='color:{PINK}'>□</span> neighbours of the last item: the prior pulls to them")
    if other is not None:
        lines.append(f"<span style='color:{YELLOW}'>●</span> the way after the patch")
    return "<br>".join([*([caption] if caption else []), f"<span style='font-size:11.5px'>{'<br>'.join(lines)}</span>"])


def _map(
    figure: go.Figure,
    items: pd.DataFrame,
    path: pd.DataFrame,
    near: pd.DataFrame,
    marks: dict[str, int],
    stop: int,
    prior: pd.DataFrame | None,
    other: pd.DataFrame | None,
) -> None:
    """Nine traces, the background first; all use WebGL, for large catalogues."""

    def dots(x, y, marker: dict, words=None, mode: str = "markers", **more) -> None:
        hover = {"hoverinfo": "skip"} if words is None else {"hovertemplate": "%{hovertext}<extra></extra>"}
        figure.add_scattergl(
            x=np.asarray(x, dtype=np.float32), y=np.asarray(y, dtype=np.float32), mode=mode, marker=marker,
            hovertext=words, row=1, col=1, **{**hover, **more},
        )  # fmt: skip

    size = float(np.clip(200 / np.sqrt(max(len(items), 1)), 3, 7))
    dots(items["x"], items["y"], {"size": size, "color": DOT}, labels(items["title"], 80))
    steps = path.set_index("step")
    xs, ys = [], []
    for row in near[near["step"] <= stop].itertuples():
        spot = items.loc[row.item]
        xs += [steps.at[row.step, "x"], spot["x"], np.nan]
        ys += [steps.at[row.step, "y"], spot["y"], np.nan]
    dots(xs, ys, {"size": 1}, mode="lines", line={"color": SPOKE, "width": 1})
    expected = items.loc[[] if prior is None else prior["item"].tolist()]
    weight = np.array([] if prior is None else prior["weight"], dtype=float)
    words = [
        f"<b>{title}</b><br>the prior gives it {share:.1%}"
        for title, share in zip(labels(expected["title"], 80), weight, strict=True)
    ]
    sizes = 7 + 20 * np.sqrt(weight / max(weight.max(initial=0), 1e-12))
    hollow = {"symbol": "square-open", "color": PINK, "line": {"width": 2, "color": PINK}}
    dots(expected["x"], expected["y"], {"size": sizes.tolist(), **hollow}, words)
    final = near[near["step"] == stop]
    spots = items.loc[final["item"].tolist()]
    words = [
        f"<b>{title}</b><br>{place}. at step {stop}, {chance:.2%}"
        for title, place, chance in zip(labels(spots["title"], 80), final["rank"], final["probability"], strict=True)
    ]
    ring = {"size": 11, "symbol": "circle-open", "color": ORANGE, "line": {"width": 2, "color": ORANGE}}
    dots(spots["x"], spots["y"], ring, words)
    for name, symbol, colour, width in (("last", "diamond-open", INK, 15), ("answer", "star", GREEN, 17)):
        spot = items.loc[[marks[name]]]
        words = {"last": "the last item read", "answer": "what really came next"}[name]
        marker = {"size": width, "symbol": symbol, "color": colour, "line": {"width": 2, "color": colour}}
        dots(spot["x"], spot["y"], marker, [f"<b>{label(spot['title'].iloc[0], 80)}</b><br>{words}"])
    top = near[near["rank"] == 1].set_index("step")["item"]
    best = [f"step {step}, its best item<br><b>{label(items.at[top[step], 'title'], 80)}</b>" for step in path["step"]]
    for way, colours in ((other, None), (path, [BLUE if step <= stop else LATER for step in path["step"]])):
        shown = way if way is not None else path.iloc[:0]
        dots(
            shown["x"], shown["y"],
            {"size": 17, "color": colours or YELLOW, "line": {"width": 1.5, "color": "#ffffff"}},
            [f"step {step}" for step in shown["step"]] if colours is None else best,
            mode="lines+markers+text", text=[f"{step}" for step in shown["step"]],
            textfont={"color": "#ffffff", "size": 11},
            line={"color": YELLOW if colours is None else BLUE, "width": 2.5},
        )  # fmt: skip


def _annotate(figure: go.Figure, items: pd.DataFrame, near: pd.DataFrame, marks: dict[str, int], stop: int) -> None:
    """Write titles beside the best item at the stop, the answer and the last item; WebGL dots cannot show any text."""
    best = near.loc[(near["step"] == stop) & (near["rank"] == 1), "item"].iloc[0]
    spread = items.loc[[*near["item"], *marks.values()], "x"]
    for item, colour, up in ((best, ORANGE, 1), (marks["answer"], GREEN, -1), (marks["last"], INK, -1)):
        x, y, title = items.loc[item, ["x", "y", "title"]]
        right = x > (spread.min() + spread.max()) / 2
        figure.add_annotation(
            x=float(x), y=float(y), text=label(title, 22), font={"size": 11, "color": colour}, showarrow=False,
            xanchor="right" if right else "left", xshift=-6 if right else 6, yanchor="bottom" if up > 0 else "top",
            yshift=4 * up, row=1, col=1,
        )  # fmt: skip


def _zoom(figure: go.Figure, items, path, near, marks, prior, other) -> None:
    """Show only the part of the map that contains the steps and the marked items."""
    involved = [*near["item"], *marks.values(), *([] if prior is None else prior["item"])]
    ways = [path] if other is None else [path, other]
    bare = {"showticklabels": False, "showgrid": False, "showline": False, "ticks": ""}
    for axis, update in (("x", figure.update_xaxes), ("y", figure.update_yaxes)):
        values = np.concatenate([items.loc[involved, axis], *(way[axis] for way in ways)])
        low, high = float(values.min()), float(values.max())
        padding = 0.08 * (high - low or 1.0)
        update(range=[low - padding, high + padding], row=1, col=1, **bare)


def _measure(figure: go.Figure, frame: pd.DataFrame, name: str, row: int, col: int, stop: int, epsilon: float) -> None:
    """Two traces: this user's line and the median user's."""
    rows = frame[frame[name].notna()]
    floor = LEAST_KL if name == "kl" else 0
    for column, colour, dash, who in (
        (f"typical {name}", INK, "dot", "median of all users"), (name, BLUE, "solid", "this user"),
    ):  # fmt: skip
        figure.add_scatter(
            x=rows["step"], y=np.maximum(rows[column], floor), mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"size": 7, "color": [colour if step <= stop or column != name else LATER for step in rows["step"]]},
            customdata=rows[column],
            hovertemplate=f"step %{{x}}, {who}: %{{customdata:,.4g}}<extra></extra>", row=row, col=col,
        )  # fmt: skip
    last = int(frame["step"].max())
    figure.add_scatter(
        x=[-1, last + 1] if name == "kl" else [], y=[max(epsilon, LEAST_KL)] * 2 if name == "kl" else [],
        mode="lines", line={"color": ORANGE, "width": 1.5, "dash": "dash"},
        hovertemplate="stops below %{y:.2g}<extra></extra>", row=row, col=col,
    )  # fmt: skip
    figure.update_xaxes(range=[-0.3, last + 0.3], dtick=1, title="step", title_standoff=4, row=row, col=col)
    axis: dict = {"rangemode": "tozero"}
    if name == "rank":
        values = np.concatenate([rows[name], rows[f"typical {name}"]])
        axis = {"type": "log", "range": [np.log10(max(values.max(), 9)) + 0.12, -0.12], "dtick": 1}
    elif name == "kl":
        values = np.maximum(np.concatenate([rows[name], rows[f"typical {name}"], [epsilon]]), LEAST_KL)
        axis = theme.logarithmic(values.min() / 2, values.max() * 2)
    figure.update_yaxes(row=row, col=col, **axis)


def _quality(
    figure: go.Figure, curve: pd.DataFrame, fixed: pd.DataFrame, name: str, chosen: dict[str, float], row: int, col: int
) -> None:
    """Three traces: every threshold as a line, everybody at the same step as dots, the chosen threshold."""
    line, same = curve.sort_values("steps"), fixed[fixed["metric"] == name]
    figure.add_scatter(
        x=line["steps"], y=line[name], mode="lines", line={"color": ORANGE, "width": 2}, customdata=line["epsilon"],
        hovertemplate="stop below %{customdata:.2g}: %{x:.2f} steps, %{y:.4f}<extra></extra>", row=row, col=col,
    )  # fmt: skip
    figure.add_scatter(
        x=same["steps"], y=same["mean"], mode="markers", marker={"size": 8, "color": BLUE},
        error_y=theme.whiskers(same, BLUE),
        hovertemplate="everybody at step %{x}: %{y:.4f}<extra></extra>", row=row, col=col,
    )  # fmt: skip
    figure.add_scatter(
        x=[chosen["steps"]], y=[chosen[name]], mode="markers",
        marker={"size": 15, "symbol": "diamond-open", "color": ORANGE, "line": {"width": 3, "color": ORANGE}},
        hovertemplate="the threshold that is set: %{x:.2f} steps, %{y:.4f}<extra></extra>", row=row, col=col,
    )  # fmt: skip
    most = fixed["steps"].max()
    figure.update_xaxes(title="mean steps", title_standoff=4, range=[-0.15, most + 0.15], row=row, col=col)
    figure.update_yaxes(tickformat=".3~f", nticks=5, row=row, col=col)


def reasoning_masses(frame: pd.DataFrame) -> go.Figure:
    """The distribution of probability at each step, as a bar per step.

    frame: columns step, part, share; the parts of a step add up to 1, the last part is the remainder.
    """
    import plotly.graph_objects as go

    parts = list(dict.fromkeys(frame["part"]))
    figure = go.Figure()
    for place, part in enumerate(parts):
        colour = FAINT if place == len(parts) - 1 else (GREEN, BLUE, PINK, YELLOW)[place]
        rows = frame[frame["part"] == part]
        figure.add_bar(
            y=[f"step {step}" for step in rows["step"]], x=rows["share"], orientation="h", name=label(part, 60),
            marker={"color": colour, "line": {"width": 0}},
            text=[f"{share:.1%}" if share > 0.06 else "" for share in rows["share"]], insidetextanchor="middle",
            textangle=0, hovertemplate=f"{label(part, 60)}: %{{x:.2%}}<extra></extra>",
        )  # fmt: skip
    finish(figure, "", 150 + 38 * frame["step"].nunique(), legend=True, name="reasoning-masses")
    figure.update_layout(barmode="stack", legend={"x": 0, "xanchor": "left", "traceorder": "normal"}, margin_t=70)
    figure.update_xaxes(tickformat=".0%", range=[0, 1], title="share of all probability")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
