"""Distinctive words for the branches of a code tree and for a selection, from the texts of their items."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.items import vectors as item_text
from seqlab.runtime.text import DataError

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog
    from seqlab.tokenizers import CodeBook

    Prefix = tuple[int, ...]

MAX_WORDS = 3
"""The number of words per branch."""
WORD = r"[^\W\d_]{2,}"
"""Two letters or more."""
STOP_WORDS = ("and", "or", "of", "the", "in", "on", "for", "with", "by", "to", "an", "at", "from")
"""Words that tell nothing about an item."""


def word_table(log: InteractionLog) -> tuple[np.ndarray, Any]:
    """The words (V,) of the items' texts, sorted, and a sparse table with a one for each word of an item (N, V).

    Both are empty for items without words.
    """
    from scipy.sparse import csr_matrix

    try:
        return _words(item_text.texts(log))
    except DataError:
        return np.empty(0, dtype=object), csr_matrix((log.n_items, 0))


def distinctive_words(book: CodeBook, log: InteractionLog) -> dict[Prefix, str]:
    """For every branch with several items, the words that distinguish it from the other branches of its parent.

    A word counts once per item. Its weight is the number of items in the branch with it, times the logarithm of its
    frequency relative to the parent (plus a tenth of that relative to all items).
    """
    (vocabulary, has), found = word_table(log), {}
    if not len(vocabulary):
        return found
    trie, codes = book.trie, book.codes[1:].to(book.trie.device)
    parent_counts = total = _sums(has, np.zeros(log.n_items, dtype=int))
    parent = np.zeros(log.n_items, dtype=int)  # per item, a row of `parent_counts`
    for length in range(1, book.levels + 1):
        nodes, row = np.unique(trie.find(codes[:, :length]).cpu().numpy(), return_inverse=True)
        if len(nodes) == log.n_items:
            break
        counts, one = _sums(has, row), np.zeros(len(nodes), dtype=int)
        one[row] = parent
        best = _most_distinctive(counts, parent_counts, one, total)
        prefixes = trie.path(trie.find(codes[:, :length]).unique())[:, :length].tolist()
        words_of = {tuple(prefixes[at]): ", ".join(vocabulary[words]) for at, words in best.items()}
        found |= {prefix: words for prefix, words in words_of.items() if words}
        parent_counts, parent = counts, row
    return found


def words_of_items(table: tuple[np.ndarray, Any], inside: np.ndarray, most: int = MAX_WORDS) -> list[str]:
    """The words that distinguish some items from all, the most distinctive first, at most `most`.

    table: of `word_table`; inside: (N,) bool.
    """
    vocabulary, has = table
    if not len(vocabulary) or not inside.any() or inside.all():
        return []
    total = _sums(has, np.zeros(len(inside), dtype=int))
    counts = _sums(has[inside], np.zeros(int(inside.sum()), dtype=int))
    return list(vocabulary[_most_distinctive(counts, total, np.zeros(1, dtype=int), total, most)[0]])


def _words(texts: list[str]) -> tuple[np.ndarray, Any]:
    """All words (V,), sorted, and a sparse table with a one for each word of a text (N, V).

    Without scikit-learn, whose import takes longer than everything else that a code tree does.
    """
    import pandas as pd
    from scipy.sparse import csr_matrix

    words = pd.Series(texts).str.lower().str.findall(WORD).explode().dropna()
    words = words[~words.isin(STOP_WORDS)]
    column, vocabulary = pd.factorize(words, sort=True)
    has = csr_matrix((np.ones(len(words)), (words.index, column)), shape=(len(texts), len(vocabulary)))  # adds repeats
    has.data[:] = 1
    return np.asarray(vocabulary, dtype=object), has


def _sums(has: Any, row: np.ndarray) -> tuple[Any, np.ndarray]:
    """Per group of items: the number with each word (P, V), and the number of items (P,)."""
    from scipy.sparse import csr_matrix

    groups = csr_matrix((np.ones(len(row)), (row, np.arange(len(row)))), shape=(int(row.max()) + 1, len(row)))
    return (groups @ has).tocsr(), np.bincount(row).astype(float)


def _most_distinctive(
    counts: tuple, parent_counts: tuple, parent: np.ndarray, total: tuple, most: int = MAX_WORDS
) -> dict[int, np.ndarray]:
    """Row of each branch -> the columns of its most distinctive words, best first."""
    table = counts[0].tocoo()
    share = table.data / counts[1][table.row]
    before = np.asarray(parent_counts[0][parent[table.row], table.col]).ravel() / parent_counts[1][parent[table.row]]
    overall = np.asarray(total[0][0].todense()).ravel()[table.col] / total[1][0]
    weight = table.data * (np.log(share / before) + 0.1 * np.log(share / overall))
    kept = (weight > 1e-9) & ((table.data > 1) | (counts[1][table.row] < 3))
    row, column, weight = table.row[kept], table.col[kept], weight[kept]
    order = np.lexsort((column, -weight, row))
    starts = np.searchsorted(row[order], np.arange(len(counts[1]) + 1))
    return {at: column[order[first:last]][:most] for at, (first, last) in enumerate(pairwise(starts))}
