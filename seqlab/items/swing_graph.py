"""The Swing graph: two items are similar if pairs of users with little else in common have both.

Yang et al., "Large Scale Product Graph Construction for Recommendation in E-commerce", 2020; the weights are those
of ManCAR (arXiv 2602.20093). Only training histories are read. Nothing is sampled unless `users` is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqlab.runtime.cache import cached
from seqlab.runtime.text import DataError

if TYPE_CHECKING:
    from scipy import sparse

    from seqlab.datasets.splits import Split

VERSION = 1  # of what is computed below; a new one ignores older caches
CACHED_EVENTS = 200_000
"""Events from which a graph is cached; smaller ones take about a second."""

DENSE_LIMIT = 8192
"""Largest number of users and of items for a dense table of pairs of users (256 MB) and matrix products."""

CHUNK = 1 << 22
"""Numbers per chunk of an array (16 MB in float32; larger ones leave the CPU's cache)."""

MAX_PAIRS = 4_000_000_000
"""Pairs of common users of items above which the exact sum would take hours: it raises `DataError`."""


@dataclass(frozen=True)
class SwingGraph:
    """The nearest items of every item.

    neighbours: (N + 1, m) int64, nearest first, 0 = none; weights: (N + 1, m) float32, 0 where there is none. Row 0,
    padding, has none.
    """

    neighbours: Tensor
    weights: Tensor


def swing(
    split: Split,
    keep: int = 100,
    active: float = 5.0,
    common: float = 1.0,
    power: float = 0.3,
    users: int | None = None,
    seed: int = 0,
) -> SwingGraph:
    """The `keep` most similar items of each item, by the histories of its training users.

    `sim(i, j) = |U_j|**-0.5 * sum over u != v in both U_i and U_j of w_u w_v / (|I_u & I_v| + common)`, both orders of
    a pair, with `w_u = (|I_u| + active)**-power`; U_i are the users of item i, I_u the items of user u. So an item has
    two users in common with each of its neighbours, or more. Of equal weights the smaller id comes first.

    `users`: read the pairs of at most so many users per item i, sampled with `seed` (None: of all, exact); sums are
    scaled to what all would be expected to give. (The paper draws 10 common users of each pair of items instead.)
    Raises `DataError` where the exact sum would take hours, and for settings that mean nothing.
    """
    if keep < 1 or (users is not None and users < 2) or active < 0 or common < 0 or active + common == 0:
        raise DataError(
            f"swing: keep must be 1 or more, users 2 or more, active and common not below 0 and not both 0 "
            f"(got keep={keep}, users={users}, active={active}, common={common})."
        )
    train, keep = split.train, min(keep, split.n_items)
    items, owners = train.items.cpu().numpy(), train.users.cpu().numpy()

    def make() -> dict[str, np.ndarray]:
        shape = (split.n_users + 1, split.n_items + 1)
        near, weights = _build(items, owners, shape, keep, (active, common, power), users, seed)
        return {"neighbours": near, "weights": weights}

    settings = (VERSION, split.n_users, split.n_items, keep, active, common, power, users, seed)
    made = cached("graphs", settings, [items, owners], make) if len(items) >= CACHED_EVENTS else make()
    return SwingGraph(torch.from_numpy(made["neighbours"]), torch.from_numpy(made["weights"]))


def _build(items, owners, shape, keep, smooth, users, seed) -> tuple[np.ndarray, np.ndarray]:
    from scipy import sparse

    active, common, power = smooth
    interactions = sparse.coo_array((np.ones(len(items), np.float32), (owners, items)), shape).tocsr()
    interactions.data[:] = 1.0  # who, not how often
    size = np.diff(interactions.indptr)  # |I_u|
    count = np.bincount(interactions.indices, minlength=shape[1])  # |U_i|
    weight = np.where(size > 0, (size + active) ** -power, 0.0).astype(np.float32)
    prior = 1 / np.sqrt(np.maximum(count, 1))  # |U_j|**-0.5
    found = np.zeros((shape[1], keep), np.int64), np.zeros((shape[1], keep), np.float32)
    if users is None and max(shape) <= DENSE_LIMIT:
        _by_table(interactions, count, weight, common, prior, found)
    else:
        _by_pairs(interactions, _sample_users(interactions, users, seed), weight, common, prior, found)
    return found


def _by_table(interactions, count, weight, common, prior, found) -> None:
    """Sums as matrix products: for item i and its users, `x_j' W x_j` for every j that is at least as popular.

    W (U, U) holds a pair's weight. Items are sorted by popularity, so that the many users of a popular
    item are looked at for few others; items of like popularity are worked on together.
    """
    n_items = interactions.shape[1]
    order = np.argsort(-count, kind="stable")
    x = torch.from_numpy(interactions[:, order].toarray())  # (U, N + 1), user 0 is padding
    pairs = torch.empty(len(x), len(x))
    w = torch.from_numpy(weight)
    rows = max(1, CHUNK // len(x))
    for first in range(0, len(x), rows):
        block = pairs[first : first + rows]
        torch.mm(x[first : first + rows], x.T, out=block).add_(common)  # |I_u & I_v| + common
        block.copy_(w[first : first + rows, None] * w / block)
    pairs.fill_diagonal_(0).nan_to_num_(0, 0, 0)  # 0 / 0 where two have nothing in common, and common = 0
    by_item = interactions[:, order].tocsc()
    by_item.sort_indices()
    ranked, start = count[order], by_item.indptr
    sums = torch.zeros(n_items, n_items)
    first, last = 0, int((ranked >= 2).sum())
    while first < last:
        most = int(ranked[first])
        after = min(first + max(1, CHUNK // (most * max(most, first + 1))), last)
        place = np.arange(most)
        valid = place < ranked[first:after, None]
        who = np.where(valid, by_item.indices[np.minimum(start[first:after, None] + place, interactions.nnz - 1)], 0)
        who = torch.from_numpy(who.astype(np.int64))  # (n, c), user 0 where there are fewer
        theirs = x[:, :after][who]  # (n, c, j)
        own = pairs[who[:, :, None], who[:, None, :]] if after - first > 1 else pairs[who[0]][:, who[0]][None]
        sums[first:after, :after] = (torch.bmm(own, theirs) * theirs).sum(1)  # (n, j)
        first = after
    sums = torch.maximum(sums, sums.T).fill_diagonal_(0)
    back = torch.from_numpy(np.argsort(order))
    rows = max(1, CHUNK // n_items)
    scale = torch.from_numpy(prior.astype(np.float32))
    for low in range(0, n_items, rows):
        block = sums[back[low : low + rows]][:, back] * scale
        best, near = block.sort(dim=1, descending=True, stable=True)
        best, near = best[:, : found[0].shape[1]], near[:, : found[0].shape[1]]
        found[0][low : low + rows] = near.masked_fill(best <= 0, 0).numpy()
        found[1][low : low + rows] = best.clamp(min=0).numpy()


def _by_pairs(interactions, sampled, weight, common, prior, found) -> None:
    """Sums over the pairs of users that have two items in common: few in sparse logs with many users.

    `sampled` is `interactions` with the users that count for each item. Items are taken in strips that fit into memory.
    """
    from scipy import sparse

    n_items = interactions.shape[1]
    count = np.diff(sampled.tocsc().indptr).astype(np.float64)
    if (total := (count * (count - 1)).sum() / 2) > MAX_PAIRS:
        raise DataError(
            f"swing: the items' users make {total:,.0f} pairs, which would take hours. Read a sample: users="
            f"{int(np.sqrt(MAX_PAIRS / n_items))} or so takes that many of each item at most."
        )
    all_users = np.asarray(interactions.sum(0)).ravel()
    scale = all_users * (all_users - 1) / np.maximum(count * (count - 1), 1)
    size = np.diff(interactions.indptr)
    columns, partners = interactions.T.tocsr(), sampled.T.tocsr()
    # how many entries the sums of an item may have, and the products of a user with all others
    width = np.minimum(columns @ size.astype(np.float64), n_items)
    reach = sampled @ count
    for low, high in _chunks(width, 4 * CHUNK):
        sums = sparse.csr_array((high - low, n_items), dtype=np.float32)
        for first, after in _chunks(reach, CHUNK):
            shared = sparse.triu(sampled[first:after] @ partners, k=first + 1).tocoo()
            one, other = shared.row + first, shared.col
            if sampled is interactions:
                both = shared.data >= 2
                one, other = one[both], other[both]
            for begin, end in _chunks((size[one] + size[other]).astype(np.float64), CHUNK):
                u, v = one[begin:end], other[begin:end]
                all_common = interactions[u].multiply(interactions[v]).tocsr()  # (pairs, N + 1)
                overlap = np.diff(all_common.indptr)
                value = (2 * weight[u] * weight[v] / np.maximum(overlap + common, 1e-12)).astype(np.float32)
                left = all_common if sampled is interactions else sampled[u].multiply(sampled[v]).tocsr()
                left = left[:, low:high].multiply(value[:, None]).tocsr()
                sums = sums + left.T.tocsr() @ all_common
        _nearest(sums, low, scale, prior, found)


def _nearest(sums: sparse.csr_array, low: int, scale: np.ndarray, prior: np.ndarray, found) -> None:
    """Keep the best of every row of the sums, whose first row is item `low`."""
    sums = sums.tocoo()
    row, column = sums.row + low, sums.col
    value = (sums.data * scale[row] * prior[column]).astype(np.float32)
    some = (row != column) & (value > 0)
    row, column, value = row[some], column[some], value[some]
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < found[0].shape[1]
    found[0][row[kept], place[kept]] = column[kept]
    found[1][row[kept], place[kept]] = value[kept]


def _sample_users(interactions: sparse.csr_array, users: int | None, seed: int) -> sparse.csr_array:
    """All entries, or for each item those of `users` of its users, sampled without replacement."""
    from scipy import sparse

    if users is None:
        return interactions
    entries = interactions.tocoo()
    order = np.lexsort((np.random.default_rng(seed).random(interactions.nnz), entries.col))
    row, column = entries.row[order], entries.col[order]
    kept = np.arange(interactions.nnz) - np.searchsorted(column, column) < users
    return sparse.coo_array((np.ones(kept.sum(), np.float32), (row[kept], column[kept])), interactions.shape).tocsr()


def _chunks(cost: np.ndarray, limit: float) -> list[tuple[int, int]]:
    """Cut 0 .. len(cost) into runs that cost about `limit`, one entry at least."""
    run = np.floor(np.cumsum(cost) / limit)
    cuts = np.flatnonzero(np.diff(run)) + 1
    edges = [0, *cuts.tolist(), len(cost)]
    return [(low, high) for low, high in pairwise(edges) if high > low]
