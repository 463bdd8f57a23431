"""Draws the lists of several decodings side by side, what they share, and their measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.figures.beams import percent
from seqlab.figures.theme import FAINT, INK, PALETTE, finish, heading, label, least_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import plotly.graph_objects as go

ORANGE, GREEN = PALETTE[4], PALETTE[2]
PALE = "rgba(0, 114, 178, 0.24)"
ROW, BAND = 38, 30  # pixels per item of a list, and per decoding below
GAP, BELOW = 92, 100  # pixels between the lists and what is below, and under that
BOX = 0.94  # of the column of a decoding
MEASURES = {
    "held": "<b>probability held</b><br>by the list",
    "distance": "<b>distance</b> to the law<br>of all it found",
    "codes": "<b>first codes</b><br>in the list",
    "categories": "<b>categories</b><br>in the list",
}
DOMAINS = ((0.085, 0.335), (0.4, 0.53), (0.565, 0.695), (0.73, 0.845), (0.88, 0.995))
"""The parts of the width of the matrix and of each measure."""


def decodings(
    lists: pd.DataFrame,
    measures: pd.DataFrame,
    overlap: pd.DataFrame,
    words: Mapping[str, str] | None = None,
    caption: str = "",
    definition: str = "",
) -> go.Figure:
    """The list of each decoding as a column; below, how many items two lists share, and a panel per measure.

    lists: columns decoding, rank, title, probability, exact_rank (the place if all items are scored), answer (whether
    the item came next). measures: a row per decoding with columns held, distance, noise (drawn as a mark; NaN: none),
    codes, categories. overlap: items that two lists share. words: the settings of each decoding. caption, definition:
    escaped text above and below. The kinds and number of traces do not depend on the data.
    """
    from plotly.subplots import make_subplots

    names, k = list(overlap.columns), int(lists["rank"].max())
    above, below = (k + 0.8) * ROW, len(names) * BAND
    whole = above + GAP + below
    figure = make_subplots(
        2, 5, specs=[[{"colspan": 5}, None, None, None, None], [{}] * 5],
        row_heights=[above / (whole - GAP), below / (whole - GAP)], vertical_spacing=GAP / whole,
    )  # fmt: skip
    _columns(figure, lists, names, words or {}, k)
    _matrix(figure, overlap, names)
    for place, measure in enumerate(MEASURES, 2):
        _bars(figure, measures, measure, names, place)
    finish(figure, "", int(whole + 168 + BELOW), name="decodings")
    figure.update_layout(barmode="overlay", hovermode="closest", dragmode=False, margin={"l": 8, "r": 8, "b": BELOW})
    figure.update_xaxes(range=[-0.01, len(names)], visible=False, fixedrange=True, row=1, col=1)
    figure.update_yaxes(range=[k - 0.45, -1.25], visible=False, fixedrange=True, row=1, col=1)
    for place, domain in enumerate(DOMAINS, 1):
        figure.update_xaxes(domain=domain, row=2, col=place)
    key = (
        f"filled: how probable beside the most probable item   "
        f"<span style='color:{GREEN}'><b>✓</b></span> what came next<br>"
        f"<span style='color:{ORANGE}'>■</span> not among the {k} best if all are scored, with its place there"
    )
    figure.add_annotation(
        text="<br>".join(_lines(definition, 130)), x=0, xref="paper", xanchor="left", y=0, yref="paper",
        yanchor="top", yshift=-34, showarrow=False, align="left", font={"size": 11.5},
    )  # fmt: skip
    return least_width(heading(figure, f"{caption}<br>{key}" if caption else key, up=6), 900)


def _columns(figure: go.Figure, lists: pd.DataFrame, names: list[str], words: Mapping[str, str], k: int) -> None:
    """Draw a box per item, filled by its probability, with its title, probability and place on it."""
    column = lists["decoding"].map({name: at for at, name in enumerate(names)}).to_numpy()
    chance = lists["probability"].to_numpy(dtype=float)
    new = lists["exact_rank"].to_numpy() > k
    at = {"y": lists["rank"].to_numpy() - 1, "width": [0.88] * len(lists), "base": column, "orientation": "h"}
    most = max(float(chance.max(initial=0)), 1e-300)
    figure.add_bar(
        x=[BOX] * len(lists), **at, row=1, col=1, textposition="none", hovertemplate="%{text}<extra></extra>",
        marker={"color": "rgba(128, 134, 144, 0.07)",
                "line": {"width": 1.2, "color": [ORANGE if one else FAINT for one in new]}},
        text=[_hover(row) for row in lists.itertuples()],
    )  # fmt: skip
    figure.add_bar(
        x=BOX * chance / most, **at, row=1, col=1, hoverinfo="skip",
        marker={"color": ["rgba(213, 94, 0, 0.22)" if one else PALE for one in new], "line": {"width": 0}},
    )  # fmt: skip
    room = 110 // max(len(names), 4)
    texts = []
    for x, row, one, far in zip(column, lists.itertuples(), chance, new, strict=True):
        sign = f" <span style='color:{GREEN}'><b>✓</b></span>" if row.answer else ""
        place = f", place <b>{row.exact_rank:,}</b>" if far else ""
        texts.append((x + 0.012, row.rank - 1.19, f"{row.rank}. {label(row.title, room)}{sign}", INK))
        texts.append((x + 0.012, row.rank - 0.78, f"{percent(one)}{place}", ORANGE if far else INK))
    for x, name in enumerate(names):
        texts.append((x + 0.005, -1.02, f"<b>{name}</b>", INK))
        texts.append((x + 0.005, -0.62, f"<i>{words.get(name, '')}</i>", INK))
        found = int((column == x).sum())
        short = f"no more than {found} found" if found < k else ""
        texts.append((x + 0.012, found - 0.25, f"<i>{short}</i>", INK))
    figure.add_scatter(
        x=[x for x, *_ in texts], y=[y for _, y, *_ in texts], text=[text for _, _, text, _ in texts], mode="text",
        textposition="middle right", textfont={"size": 11.5, "color": [colour for *_, colour in texts]},
        hoverinfo="skip", row=1, col=1,
    )  # fmt: skip


def _matrix(figure: go.Figure, overlap: pd.DataFrame, names: list[str]) -> None:
    """Draw how many items the lists of two decodings share."""
    shared = overlap.to_numpy(dtype=float)
    share = shared / np.maximum(np.diag(shared), 1)[:, None]
    figure.add_heatmap(
        z=share, x=names, y=names, zmin=0, zmax=1, colorscale=[[0, "#eef4f9"], [1, "#7fb6dc"]],
        showscale=False, xgap=2, ygap=2, customdata=shared, row=2, col=1,
        hovertemplate="%{customdata:.0f} items of %{y} are in %{x}<extra></extra>",
    )  # fmt: skip
    pairs = [(a, b) for a in range(len(names)) for b in range(len(names))]
    figure.add_scatter(
        x=[names[b] for _, b in pairs], y=[names[a] for a, _ in pairs], mode="text", hoverinfo="skip", row=2, col=1,
        text=[f"{shared[pair]:.0f}" for pair in pairs],
        textfont={"size": 12, "color": "#12344d"},
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", row=2, col=1)
    figure.update_xaxes(side="bottom", showgrid=False, row=2, col=1)
    _panel_title(figure, "<b>items in common</b><br>of two lists", DOMAINS[0][0])


def _bars(figure: go.Figure, measures: pd.DataFrame, measure: str, names: list[str], place: int) -> None:
    """Draw one measure of every decoding as bars with their values, and a mark for the distance by chance alone."""
    values = measures[measure].reindex(names).to_numpy(dtype=float)
    share = measure in ("held", "distance")
    known = np.nan_to_num(values)
    most = 1.0 if measure == "distance" else max(float(known.max(initial=0)), 1e-9)
    figure.add_bar(
        x=known, y=names, orientation="h", width=0.62, marker={"color": PALE if share else "rgba(0, 158, 115, 0.28)"},
        hovertemplate="%{y}: %{x:.3g}<extra></extra>", row=2, col=place,
    )  # fmt: skip
    noise = measures["noise"].reindex(names).to_numpy(dtype=float)
    noise = noise if measure == "distance" else np.full_like(noise, np.nan)
    written = ["none" if value != value else percent(value) if share else f"{value:.0f}" for value in values]
    figure.add_scatter(
        x=np.fmax(known, noise) + 0.04 * most, y=names, mode="text", text=written, textposition="middle right",
        textfont={"size": 11.5, "color": INK}, hoverinfo="skip", row=2, col=place,
    )  # fmt: skip
    figure.add_scatter(
        x=noise, y=names, mode="markers", row=2, col=place,
        marker={"symbol": "line-ns", "size": 17, "line": {"width": 2.5, "color": ORANGE}},
        hovertemplate="%{x:.3f}: that of as many draws from the law itself, by chance<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(
        autorange="reversed", showticklabels=False, showgrid=False, categoryorder="array", categoryarray=names,
        row=2, col=place,
    )  # fmt: skip
    figure.update_xaxes(range=[0, 1.42 * most], visible=False, fixedrange=True, row=2, col=place)
    _panel_title(figure, MEASURES[measure], DOMAINS[place - 1][0])


def _panel_title(figure: go.Figure, text: str, x: float) -> None:
    top = figure.get_subplot(2, 1).yaxis.domain[1]
    figure.add_annotation(
        text=text, x=x, xref="paper", xanchor="left", y=top, yref="paper", yanchor="bottom", yshift=6,
        showarrow=False, align="left", font={"size": 11.5},
    )  # fmt: skip


def _hover(row: object) -> str:
    lines = [
        f"<b>{label(row.title, 70)}</b>", f"rank {row.rank} by {row.decoding}, probability {percent(row.probability)}",
        f"place {row.exact_rank:,} if all items are scored",
    ]  # fmt: skip
    return "<br>".join([*lines, *(["what really came next"] if row.answer else [])])


def _lines(text: str, most: int) -> list[str]:
    """A text broken into lines of at most so many characters."""
    import textwrap

    return textwrap.wrap(text, most, break_long_words=False)
