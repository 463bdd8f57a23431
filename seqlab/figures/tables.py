"""Tables as HTML: smells, top tens, users, neighbours, and any small frame."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from seqlab.figures.html import Html, downloadable, render, text
from seqlab.figures.theme import column_words

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = {"fine": ("good", "✓ fine"), "look": ("look", "● look"), "trap": ("bad", "▲ trap")}
"""Verdict -> the class of its mark, and its sign and word."""

WHOLE_WORD = 24
"""Characters of the longest word up to which the first column of a table is never broken inside a word."""


def table(frame: pd.DataFrame, digits: int = 4, name: str = "") -> Html:
    """Any small frame as a table; floats with `digits` decimals, whole numbers with separators.

    name: of the file it is saved as in the browser ("": that of the heading above it).
    """
    import pandas as pd

    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame.columns]
    words = [] if not numeric or numeric[0] else [word for value in frame.iloc[:, 0] for word in str(value).split()]
    whole_words = bool(words) and max(map(len, words)) <= WHOLE_WORD
    rows = [[_cell(value, digits) for value in row] for row in frame.itertuples(index=False)]
    made = render(
        "table.html.j2",
        names=[text(column_words(one)).replace(":", Html(":<wbr>")) for one in frame.columns],  # arms are long
        numeric=numeric,
        rows=rows,
        whole_words=whole_words,
    )
    return downloadable(made, name)


def smells(frame: pd.DataFrame) -> Html:
    """The table of `datasets.smells`, each verdict with its colour, its sign and its word."""
    made = render("smells.html.j2", rows=frame.itertuples(index=False), verdicts=VERDICTS)
    return downloadable(made, "smells")


def top_tens(rankings: Mapping[str, pd.DataFrame]) -> Html:
    """Top tens side by side, one under each caption.

    A frame has columns rank, title and, for a changed list, moved (places gained), status ("same", "up", "down",
    "new", "left", "filtered") and was (the rank before): see `inspection.influence.rerank`.
    """
    lists = [(caption, frame.to_dict("records")) for caption, frame in rankings.items()]
    return downloadable(render("top_tens.html.j2", lists=lists), "top-tens")


def neighbours(title: str, lists: Mapping[str, Sequence[tuple[str, float, bool]]]) -> Html:
    """The neighbours of the item `title` in several spaces; a neighbour is a title, a cosine and whether it is bold."""
    return downloadable(render("neighbours.html.j2", title=title, lists=lists), "neighbours")


def user_cards(cards: Sequence[Mapping]) -> Html:
    """One card per user: the last events, the recommendations, and the event that followed.

    A card has user (label), history (titles, oldest first), earlier (events before those), recommended (titles), hit
    (which of these came next, from 1; 0 none), answer (title), rank (of the answer, 1 is best; halves are ties), of
    (items ranked), seen (whether the answer was in the history).
    """
    return render("user_cards.html.j2", cards=cards)


def _cell(value: object, digits: int) -> str:
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return text(value)
    return f"{value:,}" if isinstance(value, numbers.Integral) else f"{value:,.{digits}f}"
