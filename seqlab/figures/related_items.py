"""Draws which items go together: lists of related items, scores of pairs, and what the neighbours of items are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from seqlab.figures.html import Html, downloadable, render
from seqlab.figures.theme import INK, PALETTE, finish, label, labels, padded, panel_text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

KINDS = {"another category": ("rgba(128, 134, 144, 0.55)", 5), "the same category": (PALETTE[4], 9)}
"""How pairs of items are drawn: colour and size."""

WORDS = {
    "same_kind": "of the same kind",
    "switching": "found of those switched to",
    "lift": "lift of other groups",
    "pooled_lift": "lift, pooled",
    "popularity": "popularity",
}
"""The measures of `inspection.complements.relatedness`, in a few words."""


def related_items(title: str, chip: str, lists: Mapping[str, Sequence[tuple[str, float, str, bool]]]) -> Html:
    """Lists of items that are related to the item `title` in several ways, side by side.

    chip: the category of the item. lists: by caption, the related items, best first: title, score, category, and
    whether it is that of the item.
    """
    return downloadable(render("related_items.html.j2", title=title, chip=chip, lists=lists), "related-items")


def pair_scores(frame: pd.DataFrame, x: str, y: str, caption: str = "") -> go.Figure:
    """Two scores of pairs of items against each other, coloured by whether both are of one category.

    frame: columns same (bool), one and other (the titles of the pair), and those named `x` and `y`. caption: escaped.
    """
    figure = _scatter(frame, x, y)
    finish(figure, "", 460, legend=True, name="pair-scores")
    below = {"x": 0, "xanchor": "left", "y": 1 - 24 / 460, "yanchor": "top", "yref": "container"}
    figure.update_layout(margin_t=76, legend=below)
    figure.add_annotation(
        text=caption, x=0, xref="paper", xanchor="left", y=1, yref="paper", yanchor="bottom", yshift=52,
        showarrow=False, font={"size": 13},
    )  # fmt: skip
    return figure


def _scatter(frame: pd.DataFrame, x: str, y: str) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, (colour, size) in KINDS.items():
        rows = frame[frame["same"] == (name == "the same category")]
        figure.add_scatter(
            x=rows[x], y=rows[y], mode="markers", name=name, customdata=_pairs(rows),
            marker={"color": colour, "size": size, "line": {"width": 0}},
            hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>%{x:.2f}, %{y:.2f}<extra></extra>",
        )  # fmt: skip
    for axis, name, update in (("x", x, figure.update_xaxes), ("y", y, figure.update_yaxes)):
        spread = frame[name]
        update(title=label(name), range=padded(spread.min(), spread.max(), zero=True) if len(frame) else None)
        figure.add_shape(
            type="line", line={"color": INK, "width": 1, "dash": "dot"},
            **({"x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper"} if axis == "x"
               else {"y0": 0, "y1": 0, "x0": 0, "x1": 1, "xref": "paper"}),
        )  # fmt: skip
    return figure


def relatedness(frame: pd.DataFrame, measures: Sequence[str] = (), methods: Mapping[str, str] | None = None):
    """The measures of neighbours by method, with 95 % intervals, one panel per measure.

    frame: of `inspection.complements.relatedness`. measures: () = all; methods: those that are drawn, with their words;
    None: all of the frame.
    """
    from plotly.subplots import make_subplots

    measures = tuple(measures) or tuple(dict.fromkeys(frame["measure"]))
    names = dict(methods or {name: name for name in dict.fromkeys(frame["method"])})
    order = list(names)[::-1]
    columns = min(2, len(measures))
    rows = -(-len(measures) // columns)
    height = 30 * len(order) + 30
    figure = make_subplots(
        rows, columns, shared_yaxes=True, horizontal_spacing=0.05,
        vertical_spacing=0 if rows == 1 else 62 / (rows * height + 62 * (rows - 1)),
    )  # fmt: skip
    for at, measure in enumerate(measures):
        row, column = 1 + at // columns, 1 + at % columns
        part = frame[frame["measure"] == measure].set_index("method").loc[order]
        for place, (name, one) in enumerate(part.iterrows()):
            colour = PALETTE[0] if name.startswith("in_") else INK
            figure.add_scatter(
                x=[one["low"], one["high"]], y=[place, place], mode="lines", line={"color": colour, "width": 3},
                hoverinfo="skip", showlegend=False, row=row, col=column,
            )  # fmt: skip
            figure.add_scatter(
                x=[one["value"]], y=[place], mode="markers", marker={"size": 9, "color": colour}, showlegend=False,
                hovertemplate=f"{label(names[name])}: %{{x:.3f}} ({one['low']:.3f} to {one['high']:.3f})"
                "<extra></extra>", row=row, col=column,
            )  # fmt: skip
        high = part["high"].max()
        figure.update_xaxes(range=padded(0, high if high == high else 1, zero=True), row=row, col=column)
        figure.update_yaxes(
            tickvals=list(range(len(order))), ticktext=labels([names[name] for name in order], 30),
            range=[-0.6, len(order) - 0.4], row=row, col=column,
        )  # fmt: skip
        panel_text(figure, f"<b>{label(WORDS.get(measure, measure))}</b>", row, column)
    finish(figure, "", rows * height + 62 * (rows - 1) + 78, name="relatedness")
    figure.update_layout(margin={"t": 34, "r": 16, "b": 44})
    return figure


def relatedness_verdict(
    frame: pd.DataFrame, methods: Mapping[str, str] | None = None, in_in: str = "in_in", in_out: str = "in_out"
) -> Html:
    """Whether IN.IN finds more substitutes and IN.OUT more complements, measure by measure, in words.

    frame: of `inspection.complements.relatedness` with `against=in_out`, so that the differences of `in_in` are to it.
    methods: the words for both methods, by name. Measures that are 0 or unknown for both are left out.
    """
    rows = frame[frame["method"] == in_in].set_index("measure")
    verdicts = []
    for measure, (better, what) in {
        "same_kind": (in_in, "more of the same kind"),
        "switching": (in_in, "more of what people switch to"),
        "lift": (in_out, "more complements, by lift"),
        "pooled_lift": (in_out, "more complements, by pooled lift"),
    }.items():
        if measure not in rows.index or not _known(rows.loc[measure]):
            continue
        one = rows.loc[measure]
        low, high = one["difference_low"], one["difference_high"]
        winner = in_in if low > 0 else in_out if high < 0 else ""
        verdict = "no difference shown" if not winner else "as claimed" if winner == better else "the other way round"
        verdicts.append({
            "what": what, "verdict": verdict, "kind": _kind(verdict), "value": one["value"],
            "other": one["value"] - one["difference"], "difference": one["difference"], "low": low, "high": high,
        })  # fmt: skip
    heads = [(methods or {}).get(name, name) for name in (in_in, in_out)]
    return downloadable(render("relatedness_verdict.html.j2", rows=verdicts, heads=heads), "relatedness")


def _known(row: pd.Series) -> bool:
    """Whether a measure was measured, and was not always 0."""
    values = row[["difference", "difference_low", "difference_high"]]
    return bool(values.notna().all() and (values != 0).any())


def _kind(verdict: str) -> str:
    return {"as claimed": "good", "the other way round": "bad"}.get(verdict, "look")


def _pairs(rows: pd.DataFrame) -> list[list[str]]:
    return [[label(one, 60), label(other, 60)] for one, other in zip(rows["one"], rows["other"], strict=True)]
