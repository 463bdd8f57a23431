"""Which items are bought together: the number of baskets of each pair of items, and what is derived from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from seqlab.datasets.baskets import basket_items

if TYPE_CHECKING:
    from scipy import sparse

    from seqlab.datasets.events import Ragged
    from seqlab.datasets.sequences import Sequences

Weight = Literal["pmi", "lift", "count", "confidence", "cosine"]

PAIRS_AT_ONCE = 1 << 24
"""Entries of the sparse product that are computed at a time (about 200 MB)."""


@dataclass(frozen=True)
class CoPurchases:
    """Counts of baskets.

    pairs: (N + 1, N + 1) sparse and symmetric, the baskets with both items, without a diagonal. items: (N + 1,) the
    baskets with each item. baskets: their number, those of a single item included.
    """

    pairs: sparse.csr_array
    items: np.ndarray
    baskets: int

    def weights(self, weight: Weight) -> sparse.csr_array:
        """A weight of every pair that occurs, of row i and column j, from the baskets n of each and the number G.

        "pmi": log(n_ij G / (n_i n_j)), only where it is above 0 (Church & Hanks 1990); "lift": the same without the
        logarithm; "count": n_ij; "confidence": n_ij / n_i, the share of the baskets with i that have j; "cosine":
        n_ij / sqrt(n_i n_j).
        """
        found = self.pairs.tocoo()
        one, other = self.items[found.row], self.items[found.col]
        lift = found.data * self.baskets / (one * other)
        values = {
            "pmi": lambda: np.maximum(np.log(lift), 0),
            "lift": lambda: lift,
            "count": lambda: found.data,
            "confidence": lambda: found.data / one,
            "cosine": lambda: found.data / np.sqrt(one * other),
        }[weight]()
        found.data = values
        result = found.tocsr()
        result.eliminate_zeros()
        return result


def co_purchases(sequences: Sequences, n_items: int, support: int = 1) -> CoPurchases:
    """Count the baskets of every item and of every pair of items that at least `support` baskets have."""
    return count_pairs(basket_items(sequences), n_items, support)


def count_pairs(baskets: Ragged, n_items: int, support: int = 1) -> CoPurchases:
    """`co_purchases` of baskets that are given as the distinct items of each."""
    from scipy import sparse

    items, offsets = baskets.values.cpu().numpy(), baskets.offsets.cpu().numpy()
    shape = (len(offsets) - 1, n_items + 1)
    has = sparse.csr_array((np.ones(len(items), np.int32), items, offsets), shape)
    by_item, sizes = has.T.tocsr(), np.diff(offsets)
    cost = np.cumsum(np.minimum(by_item @ sizes.astype(np.float64), n_items))  # entries of the rows, at most
    cuts = np.unique(np.searchsorted(cost, np.arange(0, cost[-1], PAIRS_AT_ONCE), side="right"))
    parts = []
    for first, after in zip(cuts, [*cuts[1:], n_items + 1], strict=True):
        both = (by_item[first:after] @ has).tocoo()
        kept = (both.data >= support) & (both.row + first != both.col)
        parts.append((both.data[kept], both.row[kept] + first, both.col[kept]))
    data, row, column = (np.concatenate(part) for part in zip(*parts, strict=True))
    pairs = sparse.coo_array((data.astype(np.float64), (row, column)), (n_items + 1, n_items + 1)).tocsr()
    return CoPurchases(pairs, np.bincount(items, minlength=n_items + 1).astype(np.float64), len(sizes))
