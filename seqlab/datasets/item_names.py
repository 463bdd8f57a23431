"""Names of items for people: the title, and where it says too little its category; a title that is cut ends in "…"."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from seqlab.datasets import named
from seqlab.datasets.guessing import guess_name

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog

MOST_WORDS = 2
"""Words of a title up to which it is completed by its category."""

MIN_CUT = 20
"""Titles of the greatest length from which on, where there are also twice as many as of the lengths just below, the
source is taken to cut its titles there."""

_WORD = re.compile(r"[^\W\d_]{2,}")
_LAST_PIECE = re.compile(r"[\s/,;:&(-]+[^\s/,;:&(-]*$")
_known: WeakKeyDictionary[InteractionLog, list[str]] = WeakKeyDictionary()


def item_names(log: InteractionLog) -> list[str]:
    """A name for each item, (N,), for figures, tables and controls; what systems read stays `log.items["title"]`.

    A title of at most `MOST_WORDS` words is completed by its category, "Mainstream (pasta sauce)", unless they share a
    word. The category is the item column that the dataset's card names, in your own data a column that is called like
    one. Titles cut by the source at a fixed width lose the part of a word at their end: "Dairy case 100% pure juice…".
    Both hold for what stands before a comma: "Premium (ice cream), 48 oz". Computed once for each log.
    """
    if log not in _known:
        _known[log] = _names(log)
    return [*_known[log]]


def _names(log: InteractionLog) -> list[str]:
    titles = list(map(str, log.items["title"]))
    if titles == list(map(str, log.items["item_id"])):  # a log without titles
        return titles
    heads = [title.partition(",")[0] for title in titles]
    names, column = _without_cut_words(heads), category_column(log)
    if column is not None:
        for at, category in enumerate(map(str, log.items[column])):
            if "(" not in heads[at] and len(words := _WORD.findall(heads[at])) <= MOST_WORDS:
                names[at] += _completion(words, category)
    return [name + title[len(head) :] for name, title, head in zip(names, titles, heads, strict=True)]


def category_column(log: InteractionLog) -> str | None:
    """The item column with the category of an item; None without one."""
    column = named.card(log.card).category if log.card in named.cards() else guess_name(log.items.columns, "category")
    return column if column in log.items.columns and column not in ("item_id", "title") else None


def _completion(words: list[str], category: str) -> str:
    """What follows a title of these words: its category, unless that is missing or repeats one of them."""
    plain = " ".join(category.split())
    known = _WORD.findall(plain.lower())
    if not known or any(_alike(one.lower(), other) for one in words for other in known):
        return ""
    return f" ({plain.lower() if plain.isupper() else plain})"


def _alike(one: str, other: str) -> bool:
    """Whether two words are the same but for their end, or one is part of the other ("berries" in "strawberries")."""
    if min(len(one), len(other)) < 4:
        return one == other
    return one[:4] == other[:4] or one in other or other in one


def _without_cut_words(titles: list[str]) -> list[str]:
    """Titles that the source cut at a fixed width, without the last piece of a word; any two that differ stay apart."""
    counts = Counter(map(len, titles))
    width = max(counts)
    if len(counts) == 1 or counts[width] < max(MIN_CUT, 2 * max(counts[width - less] for less in (1, 2, 3))):
        return titles[:]
    trimmed = {title: _LAST_PIECE.sub("", title) or title for title in titles if len(title) == width}
    taken = Counter(trimmed.values())
    names = {title: f"{title if taken[short] > 1 else short}…" for title, short in trimmed.items()}
    return [names.get(title, title) for title in titles]
