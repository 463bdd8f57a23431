"""Draws the beam width from which on each of the best items of a user is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqlab.figures.theme import INK, PALETTE, finish, label

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

BLUE, ORANGE = PALETTE[0], PALETTE[4]
PALE, GREY, NOTHING = "rgba(0, 114, 178, 0.28)", "rgba(128, 134, 144, 0.5)", "rgba(0, 0, 0, 0)"


def beam_widths(frame: pd.DataFrame, chosen: int = 0) -> go.Figure:
    """The best items by exact score, and the beam width from which on each is found.

    frame: columns item, title, exact_rank, width, place (in the list that a beam of this width returns; NaN: not in it)
    and answer; a row per item and width. chosen: a width to mark.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 1)
    draw_widths(figure, frame, 1, chosen)
    finish(figure, "", 128 + 27 * max(frame["item"].nunique(), 1), name="beam-widths")
    figure.update_layout(margin={"t": 88, "l": 8, "r": 8, "b": 10})
    name_widths(figure, frame, 1)
    return figure


def draw_widths(figure: go.Figure, frame: pd.DataFrame, row: int, chosen: int) -> None:
    """Draw a dot where a beam of this width (column) finds this item (row), with its rank in the list."""
    widths = sorted(frame["width"].unique())
    column = {width: at for at, width in enumerate(widths)}
    order = _order(frame)
    found = frame["place"].notna()
    for part, marker, text in (
        (frame[found], {"size": 19, "color": BLUE}, True),
        (frame[~found], {"size": 9, "color": NOTHING, "line": {"color": GREY, "width": 1.5}}, False),
    ):
        figure.add_scatter(
            x=[column[width] for width in part["width"]],
            y=order.reindex(part["item"]).to_numpy(),
            mode="markers+text",
            marker=marker,
            text=[f"{place:.0f}" for place in part["place"]] if text else [" "] * len(part),
            textfont={"color": "#ffffff", "size": 11},
            customdata=[label(title, 80) for title in part["title"]],
            hovertemplate="<b>%{customdata}</b><br>"
            + ("place %{text} in the list" if text else "not in the list")
            + "<extra></extra>",
            row=row,
            col=1,
        )
    # a wider beam can miss an item that a narrower one finds: the least width from which on none misses it
    missing = frame[~found].groupby("item")["width"].max()
    later = frame["width"] > frame["item"].map(missing).fillna(0)
    least = frame[later].groupby("item")["width"].min()
    figure.add_scatter(
        x=[len(widths) - 0.35] * len(order),
        y=order.to_numpy(),
        mode="text",
        text=[f"W ≥ {least[item]}" if item in least.index else "at none" for item in order.index],
        textposition="middle right",
        textfont={"color": [INK if least.get(item, 0) == min(widths) else ORANGE for item in order.index]},
        hoverinfo="skip",
        row=row,
        col=1,
    )
    figure.add_scatter(
        x=[column[chosen]] * 2 if chosen in column else [],
        y=[-0.5, len(order) - 0.5] if chosen in column else [],
        mode="lines",
        line={"color": PALE, "width": 30},
        opacity=0.5,
        hoverinfo="skip",
        row=row,
        col=1,
    )
    figure.data = (*figure.data[:-4], figure.data[-1], *figure.data[-4:-1])  # the mark is drawn behind the dots


def _order(frame: pd.DataFrame) -> pd.Series:
    """Item -> its row, the best by exact score on top."""
    items = frame.drop_duplicates("item").sort_values(["exact_rank", "item"])["item"]
    return items.reset_index(drop=True).reset_index().set_index("item")["index"]


def name_widths(figure: go.Figure, frame: pd.DataFrame, row: int) -> None:
    """Label the axes of `draw_widths`: titles with their rank by exact score, and the widths above."""
    widths, order = sorted(frame["width"].unique()), _order(frame)
    one = frame.drop_duplicates("item").set_index("item").loc[order.index]
    names = [
        f"{label(title, 28)}{' ✓' if answer else ''}  {rank:.0f}"
        for title, answer, rank in zip(one["title"], one["answer"], one["exact_rank"], strict=True)
    ]
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=names,
        range=[len(names) - 0.4, -0.6],
        showgrid=False,
        automargin=False,
        row=row,
        col=1,
    )
    figure.update_xaxes(
        tickvals=list(range(len(widths))),
        ticktext=[f"W = {width}" for width in widths],
        range=[-0.6, len(widths) + 0.5],
        side="top",
        showgrid=False,
        domain=[0.27, 1],
        row=row,
        col=1,
    )
    figure.add_annotation(  # not the title of the axis: that would be centred, and cut on a narrow page
        text="<b>The best items if all are scored:<br>from which width W on does a beam find them?</b>",
        x=0,
        xref="paper",
        xanchor="left",
        y=1,
        yref=f"y{row if row > 1 else ''} domain",
        yanchor="bottom",
        yshift=30,
        align="left",
        showarrow=False,
    )
