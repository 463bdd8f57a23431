"""Scores to best items, and the rank of an answer among them."""

from __future__ import annotations

import dataclasses
import math
import operator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.contracts import Ranking

if TYPE_CHECKING:
    from seqlab.datasets.sequences import Batch


BLOCK = 16
"""Columns of scores that are searched together or not at all."""

OVERSAMPLING = 4
"""How many times the items that are needed a list first has, when those of the history are left out."""


def check_k(k: int) -> int:
    """The length of a list that is wanted, as an int. Raises `ValueError` for what is no whole number from 1 on."""
    try:
        number = operator.index(k)
    except TypeError:
        number = 0
    if number < 1 or isinstance(k, bool):
        raise ValueError(f"k counts from 1 (got {k})")
    return number


def top(scores: Tensor, k: int) -> Ranking:
    """The k best columns of (B, N + 1) scores, or all N; padding is never among them."""
    k, scores = check_k(k), scores.clone()
    scores[:, 0] = -torch.inf
    best, items = topk(scores, min(k, scores.shape[1] - 1))
    return Ranking(items.masked_fill(best == -torch.inf, 0), best)


def topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(k, dim=1)`: values and columns (B, k), in a fraction of its time for a few of many on a CPU.

    Every `columns // BLOCK`-th column is of one block. The k best lie in the k blocks of highest maxima, which are
    found likewise: only those are searched, and the rest of the columns that fills no block.
    """
    rows, columns = scores.shape
    if scores.device.type != "cpu" or columns < 8 * BLOCK * k:
        return tuple(scores.topk(k, dim=1))
    n = columns // BLOCK
    maxima = scores[:, : n * BLOCK].unflatten(1, (BLOCK, n)).amax(1)  # (B, n)
    chosen = topk(maxima, k)[1][:, :, None]  # (B, k, 1)
    places = (chosen + n * torch.arange(BLOCK)).flatten(1)
    places = torch.cat([places, torch.arange(n * BLOCK, columns).expand(rows, -1)], 1)  # (B, k BLOCK + rest)
    best, at = scores.gather(1, places).topk(k, dim=1)
    return best, places.gather(1, at)


Pairs = tuple[Tensor, Tensor]
"""Items of some rows of a batch: (E,) the row of each, from 0, and (E,) the item."""


def pairs(items: Tensor) -> Pairs:
    """The items of padded rows (B, T) as pairs; 0 is nothing."""
    row, place = items.nonzero(as_tuple=True)
    return row, items[row, place]


def top_unseen(model: nn.Module, batch: Batch, k: int, seen: Tensor | Pairs | None = None) -> Ranking:
    """The k best items a user has not seen, or all N: `seen` is what each row has seen (None: the batch's own items).

    seen: (B, X) item ids, 0 = nothing, or pairs, which need no padding to the longest history.
    A system without `score` makes a list `OVERSAMPLING` times as long, and one twice as long again only for those who have
    seen too many of its items: a longer list costs a wider beam.
    """
    k, seen = check_k(k), batch.items if seen is None else seen
    seen = pairs(seen) if isinstance(seen, Tensor) else seen
    if hasattr(model, "score"):
        scores = model.score(batch)
        scores[seen] = -torch.inf
        return top(scores, k)
    return _listed(model, batch, k, OVERSAMPLING * k, seen)


def top_with_ties(
    model: nn.Module, batch: Batch, k: int, seen: Pairs | None = None, n_items: float = math.inf
) -> Ranking:
    """The k best items of a system that only lists, with all `more` that tie with the last: of those not `seen`.

    Where the system does not give `more`, it makes a list twice as long until the tie has ended, and never for
    one longer than the `n_items` of the catalogue. Without `seen` nothing is left out.
    """
    k, nothing = check_k(k), batch.user.new_zeros(0)
    return _listed(model, batch, k, k if seen is None else OVERSAMPLING * k, seen or (nothing, nothing), True, n_items)


def _listed(
    model: nn.Module, batch: Batch, k: int, length: int, seen: Pairs, ties: bool = False, n_items: float = math.inf
) -> Ranking:
    """The k best items not `seen`, from a list of `length` and, for those for whom that is too few, of ever more.

    ties: find `more` too.
    """
    device, known = seen[0].device, _key(*seen)
    rows, most = torch.arange(len(batch), device=device), k + torch.bincount(seen[0], minlength=len(batch))
    best = Ranking(most.new_zeros(len(batch), k), torch.full((len(batch), k), -torch.inf, device=device))
    parts = []
    while len(rows):
        length = min(length, n_items)
        longer = model.recommend(batch.select(rows), length)
        is_seen = torch.isin(_key(rows[:, None], longer.items), known)  # (B', length)
        scores, order = longer.scores.masked_fill(is_seen, -torch.inf).sort(dim=1, descending=True, stable=True)
        items = longer.items.gather(1, order).masked_fill(scores == -torch.inf, 0)
        k = min(k, items.shape[1])
        best = Ranking(best.items[:, :k], best.scores[:, :k])
        best.items[rows], best.scores[rows] = items[:, :k], scores[:, :k]
        last = scores[:, k - 1]
        again = (last == -torch.inf) & (length < most[rows])
        if ties:
            lowest, tied = longer.scores[:, -1], items[:, k:] * (scores[:, k:] == last[:, None])
            if longer.tied is None:
                again |= (last > -torch.inf) & (last == lowest)
            else:
                unmet = longer.tied * ~torch.isin(_key(rows[:, None], longer.tied), known)
                tied = torch.cat([tied, unmet * (last == lowest)[:, None]], 1)
            parts.append((rows, tied))
        again &= length < n_items and length <= longer.items.shape[1]  # else there is no longer list
        rows, length = rows[again], 2 * length
    if not ties:
        return best
    more = best.items.new_zeros(len(batch), max((tied.shape[1] for _, tied in parts), default=0))
    for rows, tied in parts:
        more[rows] = torch.nn.functional.pad(tied, (0, more.shape[1] - tied.shape[1]))
    return dataclasses.replace(best, tied=more)


def _key(row: Tensor, item: Tensor) -> Tensor:
    """One number for a row and an item."""
    return (row << 40) | item


def ranks_of(scores: Tensor, answers: Tensor, out: Tensor | None = None) -> Tensor:
    """The mean rank of each answer among the finite scores of its row: `1 + #better + (#equal - 1) / 2`.

    scores (B, N + 1) with -inf for what takes no part, answers (B,). Returns (B,) float64, NaN for a row with NaN.
    out: written over instead of memory of its own, which takes time to get; `scores` where they have served.
    """
    own = scores.gather(1, answers[:, None])
    # #better - #worse in one sum, where worse are those of -inf too; floats are exact up to 2**24 items
    ahead = torch.sub(scores, own, out=out).sign_().sum(1).double()
    return (1 + scores.shape[1] + ahead) / 2


def ranks_in_lists(ranking: Ranking, answers: Tensor) -> Tensor:
    """The mean rank of each answer (B,) among listed items by their scores, and the `more` that tie with the last.

    Returns (B,) float64, infinite for an answer that is neither listed nor among those.
    """
    there = ranking.items > 0
    listed = there & (ranking.items == answers[:, None])  # (B, k)
    last = ranking.scores[:, -1:]
    own = torch.where(listed, ranking.scores, -torch.inf).amax(1, keepdim=True)
    if ranking.tied is not None:
        own = torch.where((ranking.tied == answers[:, None]).any(1, keepdim=True), last, own)
    better = (ranking.scores > own).sum(1)
    equal = (there & (ranking.scores == own)).sum(1)
    if ranking.tied is not None:
        equal += (ranking.tied > 0).sum(1) * (own == last)[:, 0]
    return (better + (equal + 1) / 2).double().masked_fill(own[:, 0] == -torch.inf, torch.inf)
