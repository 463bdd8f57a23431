"""Words that tell the branches of a code tree from one another, out of the texts of their items."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.items import vectors as item_text

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog
    from seqlab.tokenizers import CodeBook

    Prefix = tuple[int, ...]

WORDS = 3
"""Words written on a branch."""


def distinctive_words(book: CodeBook, log: InteractionLog) -> dict[Prefix, str]:
    """Of every branch of more than one item the words that tell it from the other branches of its parent.

    A word counts once per item. Its weight is how many items of the branch have it, times the logarithm of how much
    more often they do than the items of the parent (and, a tenth of that, than all items).
    """
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        texts = item_text.texts(log)
        counter = CountVectorizer(binary=True, token_pattern=r"(?u)[^\W\d_]{2,}", dtype=np.float64)
        has = counter.fit_transform(texts)  # (N, V)
    except ValueError:  # items without words: a DataError of `texts`, or an empty vocabulary
        return {}
    vocabulary, found = counter.get_feature_names_out(), {}
    trie, codes = book.trie, book.codes[1:].to(book.trie.device)
    above = whole = _sums(has, np.zeros(len(texts), dtype=int))
    parent = np.zeros(len(texts), dtype=int)  # of every item, a row of `above`
    for length in range(1, book.levels + 1):
        nodes, row = np.unique(trie.find(codes[:, :length]).cpu().numpy(), return_inverse=True)
        if len(nodes) == len(texts):
            break
        here, one = _sums(has, row), np.zeros(len(nodes), dtype=int)
        one[row] = parent
        best = _telling(here, above, one, whole)
        prefixes = trie.path(trie.find(codes[:, :length]).unique())[:, :length].tolist()
        said = {tuple(prefixes[at]): ", ".join(vocabulary[words]) for at, words in best.items()}
        found |= {prefix: words for prefix, words in said.items() if words}
        above, parent = here, row
    return found


def _sums(has: Any, row: np.ndarray) -> tuple[Any, np.ndarray]:
    """Per group of items: how many have each word (P, V), and how many there are (P,)."""
    from scipy.sparse import csr_matrix

    groups = csr_matrix((np.ones(len(row)), (row, np.arange(len(row)))), shape=(int(row.max()) + 1, len(row)))
    return (groups @ has).tocsr(), np.bincount(row).astype(float)


def _telling(here: tuple, above: tuple, parent: np.ndarray, whole: tuple) -> dict[int, np.ndarray]:
    """Row of each branch -> the columns of its most telling words, the best first."""
    table = here[0].tocoo()
    share = table.data / here[1][table.row]
    before = np.asarray(above[0][parent[table.row], table.col]).ravel() / above[1][parent[table.row]]
    usual = np.asarray(whole[0][0].todense()).ravel()[table.col] / whole[1][0]
    weight = table.data * (np.log(share / before) + 0.1 * np.log(share / usual))
    kept = (weight > 1e-9) & ((table.data > 1) | (here[1][table.row] < 3))
    row, column, weight = table.row[kept], table.col[kept], weight[kept]
    order = np.lexsort((column, -weight, row))
    starts = np.searchsorted(row[order], np.arange(len(here[1]) + 1))
    return {at: column[order[first:last]][:WORDS] for at, (first, last) in enumerate(pairwise(starts))}
