"""Draws a beam search: the prefixes kept and dropped at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.found_by_width import GREY, PALE, draw_widths, name_widths
from seqlab.figures.theme import FAINT, INK, PALETTE, finish, heading, label, least_width

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

KEPT, DROPPED = 8, 4
"""Prefixes shown per step; the others are counted."""

BEST = 10
"""A dropped prefix is coloured where its item is among so many best items: the search error."""

BLUE, ORANGE, GREEN, RED = PALETTE[0], PALETTE[4], PALETTE[2], PALETTE[9]
BOX = 0.82  # of a step's column
ROW = 42  # pixels per prefix: two lines


def beam_steps(
    frame: pd.DataFrame,
    mass: pd.DataFrame,
    widths: pd.DataFrame | None = None,
    last: int | None = None,
    caption: str = "",
    chosen: int = 0,
) -> go.Figure:
    """The search of one user from left to right, a column per generated code, the best prefix on top.

    frame: rows of `Beams.frame` of one user with columns title (of the item a prefix leads to), exact_rank (that item's
    place without a search) and answer (whether the target item has this prefix). mass: of `Beams.mass`. widths: the
    frame of `beam_widths`, drawn below, with the width `chosen` marked. last: the last step shown, from 0 (None: all).
    caption: escaped text above. The kinds and number of traces do not depend on the data.
    """
    from plotly.subplots import make_subplots

    levels = int(mass["level"].max()) + 1
    last = levels - 1 if last is None else last
    shown = frame[(frame["level"] <= last) & _within(frame)]
    kept = min(KEPT, int((frame["state"] == "live").groupby(frame["level"]).sum().max()))
    dropped = min(DROPPED, int((frame["state"] == "pruned").groupby(frame["level"]).sum().max()))
    rows = kept + 0.75 + (dropped + 0.55 if dropped else 0) + 1.8  # with the line that divides, and the shares
    tall = (rows + 0.8) * ROW
    below = 0 if widths is None else 112 + 27 * widths["item"].nunique()
    if widths is None:
        figure = make_subplots(1, 1)
    else:
        whole = tall + below
        figure = make_subplots(
            2, 1, row_heights=[tall / whole, (below - 112) / whole], vertical_spacing=112 / whole, shared_xaxes=False
        )
    places = _positions(shown, kept)
    texts = _boxes(figure, shown, places, levels)
    texts += _shares(figure, mass[mass["level"] <= last], rows - 1.25)
    _links(figure, shown, places)
    for level in range(last + 1):
        part = frame[frame["level"] == level]
        live = int((part["state"] == "live").sum())
        texts.append((level, -0.93, f"<b>step {level + 1}</b>: code {level + 1} of {levels}", INK))
        if live > kept:
            texts.append((level, kept - 0.28, f"<i>… and {live - kept:,} more kept</i>", INK))
        if (part["state"] == "pruned").any():
            texts.append((level, kept + 0.27, "<i>dropped, the best first:</i>", INK))
    figure.add_scatter(
        x=[x for x, *_ in texts],
        y=[y for _, y, *_ in texts],
        mode="text",
        text=[text for _, _, text, _ in texts],
        textposition="middle right",
        textfont={"size": 11.5, "color": [colour for *_, colour in texts]},
        hoverinfo="skip",
        row=1,
        col=1,
    )
    if widths is not None:
        draw_widths(figure, widths, 2, chosen)
    finish(figure, "", int(tall + below + 146), name="beam-steps")
    figure.update_layout(barmode="overlay", hovermode="closest", dragmode=False, margin={"l": 8, "r": 8, "b": 20})
    figure.update_xaxes(range=[-0.02, levels], visible=False, fixedrange=True, row=1, col=1)
    figure.update_yaxes(range=[rows, -1.3], visible=False, fixedrange=True, row=1, col=1)
    if widths is not None:
        name_widths(figure, widths, 2)
    key = (
        f"<span style='color:{BLUE}'>▢</span> kept to the end   ▢ kept here, dropped later   "
        f"<span style='color:{GREEN}'><b>✓</b></span> on the way to what came next<br>"
        f"✕ dropped, with the item it would have led to (<span style='color:{RED}'>one of the ten best</span>)<br>"
        f"bars: <span style='color:{BLUE}'>■</span> kept   ■ dropped   "
        f"<span style='color:{ORANGE}'>■</span> lost to codes that no item has"
    )
    return least_width(heading(figure, f"{caption}<br>{key}" if caption else key, up=6), 190 * max(levels, 4))


def _within(frame: pd.DataFrame) -> pd.Series:
    """The rows drawn as boxes: the best kept and the best dropped prefixes of every step."""
    order = frame.groupby(["level", "state"])["rank"].rank(method="first")
    return order <= np.where(frame["state"] == "live", KEPT, DROPPED)


def _positions(shown: pd.DataFrame, kept: int) -> pd.Series:
    """The vertical position of each box: kept ones from 0 down, dropped ones below the dividing line."""
    order = shown.groupby(["level", "state"])["rank"].rank(method="first") - 1
    return order + np.where(shown["state"] == "live", 0, kept + 0.95)


def _boxes(figure: go.Figure, shown: pd.DataFrame, places: pd.Series, levels: int) -> list[tuple]:
    """Draw a box per prefix, filled in proportion to its probability; returns the text on the boxes."""
    live = (shown["state"] == "live").to_numpy()
    chance = np.exp(shown["log_probability"].to_numpy(dtype=float))
    best = shown.assign(chance=chance).groupby("level")["chance"].transform("max").to_numpy()
    ends = shown["final_rank"].notna().to_numpy()
    at = {"y": places.to_numpy(), "width": [0.86] * len(shown), "base": shown["level"].to_numpy(), "orientation": "h"}
    lines = [BLUE if good else GREY for good in live & ends]
    figure.add_bar(
        x=[BOX] * len(shown),
        **at,
        marker={"color": "rgba(128, 134, 144, 0.07)", "line": {"width": 1.2, "color": lines}},
        text=[_hover(row, levels) for row in shown.itertuples()],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_bar(
        x=BOX * chance / np.maximum(best, 1e-300),
        **at,
        marker={"color": [PALE if one else "rgba(128, 134, 144, 0.18)" for one in live], "line": {"width": 0}},
        hoverinfo="skip",
        row=1,
        col=1,
    )
    room = 92 // max(levels, 3)
    texts = []
    for row, y, one in zip(shown.itertuples(), places, chance, strict=True):
        code = "·".join(map(str, row.prefix))
        full, colour = row.level + 1 == levels, INK if row.state == "live" else "rgba(128, 134, 144, 0.85)"
        sign = f"  <span style='color:{GREEN}'><b>✓</b></span>" if row.answer else ""
        head = f"<b>‹{code}›</b>  {percent(one)}{sign}"
        if full:
            line = f"<b>{label(row.title, room - 5)}</b>" if row.state == "live" else label(row.title, room - 2)
            line = f"{row.rank}. {line}" if row.state == "live" else f"✕ {line}"
        else:
            more = f" +{row.items - 1:,}" if row.items > 1 else ""
            more += f", place {row.exact_rank}" if row.state != "live" and row.exact_rank <= BEST else ""
            line = f"{'→' if row.state == 'live' else '✕'} {label(row.title, room - len(more))}{more}"
        if row.state != "live" and row.exact_rank <= BEST:
            colour = RED
        texts += [(row.level + 0.005, y - 0.19, head, colour), (row.level + 0.005, y + 0.2, line, colour)]
    return texts


def _links(figure: go.Figure, shown: pd.DataFrame, places: pd.Series) -> None:
    """Draw a line from every prefix to those that extend it."""
    place = {(row.level, row.rank): y for row, y in zip(shown.itertuples(), places, strict=True)}
    most = shown[shown["state"] == "live"].groupby("level")["rank"].max()
    for state, colour, dash in (("live", BLUE, "solid"), ("pruned", GREY, "dot")):
        xs, ys = [], []
        for row in shown[(shown["state"] == state) & (shown["level"] > 0)].itertuples():
            start = place.get((row.level - 1, row.parent), most.get(row.level - 1, 0) - 0.28)
            bend = np.linspace(0, 1, 9)
            xs += [*(row.level - 1 + BOX + (1 - BOX) * bend), None]
            ys += [*(start + (place[row.level, row.rank] - start) * (3 * bend**2 - 2 * bend**3)), None]
        figure.add_scatter(
            x=xs,
            y=ys,
            mode="lines",
            line={"color": colour, "width": 1.3, "dash": dash},
            opacity=0.75,
            hoverinfo="skip",
            row=1,
            col=1,
        )


def _shares(figure: go.Figure, mass: pd.DataFrame, y: float) -> list[tuple]:
    """Draw a bar per step of the probability mass kept, dropped, illegal, and lost before; returns the text on them."""
    before = 1.0
    parts: dict[str, list] = {name: [] for name in ("kept", "dropped", "illegal", "lost before")}
    texts = []
    for row in mass.sort_values("level").itertuples():
        shared_out = row.live + row.pruned > before * (1 - row.illegal / max(before, 1e-12)) + 1e-4
        illegal = 0.0 if shared_out else row.illegal  # renormalised: the legal codes got it
        sizes = (row.live, row.pruned, illegal, max(0.0, 1 - row.live - row.pruned - illegal))
        for name, size in zip(parts, sizes, strict=True):
            parts[name].append(size)
        lost = f"{percent(row.illegal)} illegal" + (", shared out" if shared_out and row.illegal > 1e-4 else "")
        texts.append((row.level, y + 0.62, f"{percent(row.live)} kept, {percent(row.pruned)} dropped", INK))
        texts.append((row.level, y + 0.98, lost, ORANGE if row.illegal > 1e-4 else INK))
        before = row.live
    if len(mass):
        texts.append((0, y - 0.42, "<b>all probability</b> (pale: lost before)", INK))
    left = np.zeros(len(mass))
    for (name, sizes), colour in zip(parts.items(), (BLUE, GREY, ORANGE, FAINT), strict=True):
        figure.add_bar(
            x=BOX * np.array(sizes),
            base=mass["level"].to_numpy() + BOX * left,
            y=[y] * len(mass),
            width=[0.36] * len(mass),
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            customdata=sizes,
            hovertemplate=f"{name}: %{{customdata:.2%}}<extra></extra>",
            row=1,
            col=1,
        )
        left = left + np.array(sizes)
    return texts


def _hover(row: object, levels: int) -> str:
    what = "leads to" if row.level + 1 < levels else "is"
    lines = [
        f"<b>‹{'·'.join(map(str, row.prefix))}›</b> {what} <b>{label(row.title, 70)}</b>",
        f"probability {percent(np.exp(row.log_probability))}, "
        f"{'kept' if row.state == 'live' else 'dropped'} at rank {row.rank:,}",
        f"{row.items:,} item{'s' * (row.items != 1)}; the best of them has place {row.exact_rank:,} without a search",
    ]
    return "<br>".join([*lines, *(["what really came next is among them"] if row.answer else [])])


def percent(share: float) -> str:
    """A percentage with two significant digits."""
    if share >= 0.0995 or share <= 0:
        return f"{max(share, 0):.0%}"
    return f"{float(f'{100 * share:.2g}'):.6f}".rstrip("0").rstrip(".") + "%" if share >= 1e-6 else "under 0.0001%"
