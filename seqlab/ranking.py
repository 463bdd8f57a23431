"""From scores to the best items, and the rank of a target among them."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Ranking, Scores, supports

if TYPE_CHECKING:
    from seqlab.datasets.sequences import Batch


BLOCK = 16
"""Columns per block of `topk`."""

OVERSAMPLING = 4
"""Length of the first list over the number of items needed, where seen items are removed from it."""


def check_k(k: int) -> int:
    """`k` as an int. Raises `ValueError` unless it is a whole number of at least 1."""
    try:
        number = operator.index(k)
    except TypeError:
        number = 0
    if number < 1 or isinstance(k, bool):
        raise ValueError(f"k must be a whole number of at least 1 (got {k})")
    return number


def top(scores: Tensor, k: int) -> Ranking:
    """The k best items of scores (B, N + 1), or all N if k is larger; column 0 is padding and never returned."""
    k, scores = check_k(k), scores.clone()
    scores[:, 0] = -torch.inf
    best, items = topk(scores, min(k, scores.shape[1] - 1))
    return Ranking(items.masked_fill(best == -torch.inf, 0), best)


def topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(k, dim=1)`: values and columns (B, k); several times faster for small k on a CPU.

    The columns form n = columns // BLOCK blocks of every n-th column. The k best values lie in the k blocks with the
    highest maxima (found recursively) and the remaining columns, so only those are searched.
    """
    rows, columns = scores.shape
    if scores.device.type != "cpu" or columns < 8 * BLOCK * k:
        return tuple(scores.topk(k, dim=1))
    n = columns // BLOCK
    maxima = scores[:, : n * BLOCK].unflatten(1, (BLOCK, n)).amax(1)  # (B, n)
    blocks = topk(maxima, k)[1][:, :, None]  # (B, k, 1)
    candidates = (blocks + n * torch.arange(BLOCK)).flatten(1)
    candidates = torch.cat([candidates, torch.arange(n * BLOCK, columns).expand(rows, -1)], 1)  # (B, k BLOCK + rest)
    best, at = scores.gather(1, candidates).topk(k, dim=1)
    return best, candidates.gather(1, at)


Pairs = tuple[Tensor, Tensor]
"""(row, item) pairs: two (E,) int64 tensors, the row of the batch (from 0) and the item."""


def pairs(items: Tensor) -> Pairs:
    """The items of padded rows (B, T) as (row, item) pairs, without the padding 0."""
    row, place = items.nonzero(as_tuple=True)
    return row, items[row, place]


def catalogue_scorer(model: nn.Module) -> Callable[[Batch], Tensor] | None:
    """The function that scores all items (B, N + 1) as a system ranks them; None for one that is ranked by its lists.

    A system with `score` is ranked by that, and one that is set to another decoding by what that makes: all scores
    (`exact`), or lists.
    """
    method = getattr(getattr(model, "decoding", None), "method", "")
    if method in ("", "exact") and supports(model, Scores):
        return model.score
    return model.exact_score if method == "exact" else None


def top_unseen(model: nn.Module, batch: Batch, k: int, seen: Tensor | Pairs | None = None) -> Ranking:
    """The k best items, or all N if k is larger, without the items that each user has seen.

    seen: (B, X) item ids, 0 = none, or pairs; None: the items of the batch. A system without `score` makes a list of
    `OVERSAMPLING * k` items, doubled for users who have seen too many of them, because a longer list needs a wider
    beam.
    """
    k, seen = check_k(k), batch.items if seen is None else seen
    seen = pairs(seen) if isinstance(seen, Tensor) else seen
    if score := catalogue_scorer(model):
        scores = score(batch)
        scores[seen] = -torch.inf
        return top(scores, k)
    return _from_lists(model, batch, k, OVERSAMPLING * k, seen)


def top_with_ties(
    model: nn.Module, batch: Batch, k: int, seen: Pairs | None = None, n_items: float = math.inf
) -> Ranking:
    """The k best items of a system without `score`, with all items that tie with the last one in `Ranking.tied`.

    Items in `seen` are removed (None: no item is). For a system that does not fill in `tied`, the list is doubled until
    the tie has ended, up to the `n_items` of the catalogue.
    """
    k, empty = check_k(k), batch.user.new_zeros(0)
    return _from_lists(model, batch, k, k if seen is None else OVERSAMPLING * k, seen or (empty, empty), True, n_items)


def _from_lists(
    model: nn.Module, batch: Batch, k: int, length: int, seen: Pairs, ties: bool = False, n_items: float = math.inf
) -> Ranking:
    """The k best items not in `seen`, from lists of `length`, doubled for the users with too few.

    ties: fill in `Ranking.tied` too.
    """
    device, seen_keys = seen[0].device, _key(*seen)
    rows, most = torch.arange(len(batch), device=device), k + torch.bincount(seen[0], minlength=len(batch))
    best = Ranking(most.new_zeros(len(batch), k), torch.full((len(batch), k), -torch.inf, device=device))
    parts = []
    while len(rows):
        length = min(length, n_items)
        ranking = model.recommend(batch.select(rows), length)
        is_seen = torch.isin(_key(rows[:, None], ranking.items), seen_keys)  # (B', length)
        scores, order = ranking.scores.masked_fill(is_seen, -torch.inf).sort(dim=1, descending=True, stable=True)
        items = ranking.items.gather(1, order).masked_fill(scores == -torch.inf, 0)
        if len(rows) == len(batch):
            k = min(k, items.shape[1])
            best = Ranking(best.items[:, :k], best.scores[:, :k])
        elif (short := k - items.shape[1]) > 0:  # of the users with few
            items, scores = F.pad(items, (0, short)), F.pad(scores, (0, short), value=-torch.inf)
        best.items[rows], best.scores[rows] = items[:, :k], scores[:, :k]
        last = scores[:, k - 1]
        again = (last == -torch.inf) & (length < most[rows])
        if ties:
            lowest, tied = ranking.scores[:, -1], items[:, k:] * (scores[:, k:] == last[:, None])
            if ranking.tied is None:
                again |= (last > -torch.inf) & (last == lowest)
            else:
                unseen = ranking.tied * ~torch.isin(_key(rows[:, None], ranking.tied), seen_keys)
                tied = torch.cat([tied, unseen * (last == lowest)[:, None]], 1)
            parts.append((rows, tied))
        again &= length < n_items and length <= ranking.items.shape[1]  # a longer list exists
        rows, length = rows[again], 2 * length
    if not ties:
        return best
    padded = best.items.new_zeros(len(batch), max((tied.shape[1] for _, tied in parts), default=0))
    for rows, tied in parts:
        padded[rows] = F.pad(tied, (0, padded.shape[1] - tied.shape[1]))
    return dataclasses.replace(best, tied=padded)


def _key(row: Tensor, item: Tensor) -> Tensor:
    """One integer per (row, item) pair."""
    return (row << 40) | item


def ranks_of(scores: Tensor, answers: Tensor, out: Tensor | None = None) -> Tensor:
    """The mean rank of each answer among the finite scores of its row: `1 + #better + (#equal - 1) / 2`.

    scores: (B, N + 1), -inf for items that are not ranked. answers: (B,). out: a buffer like `scores`, which may be
    `scores` itself. Returns (B,) float64, NaN for a row with NaN.
    """
    score = scores.gather(1, answers[:, None])
    # #better - #worse in one sum, where -inf counts as worse; float32 sums are exact up to 2**24 items
    ahead = torch.sub(scores, score, out=out).sign_().sum(1).double()
    return (1 + scores.shape[1] + ahead) / 2


def ranks_in_lists(ranking: Ranking, answers: Tensor) -> Tensor:
    """The mean rank of each answer (B,) among the items of a ranking, those in `Ranking.tied` included.

    Returns (B,) float64, infinite for an answer that is not among them.
    """
    valid = ranking.items > 0
    listed = valid & (ranking.items == answers[:, None])  # (B, k)
    last = ranking.scores[:, -1:]
    score = torch.where(listed, ranking.scores, -torch.inf).amax(1, keepdim=True)
    if ranking.tied is not None:
        score = torch.where((ranking.tied == answers[:, None]).any(1, keepdim=True), last, score)
    better = (ranking.scores > score).sum(1)
    equal = (valid & (ranking.scores == score)).sum(1)
    if ranking.tied is not None:
        equal += (ranking.tied > 0).sum(1) * (score == last)[:, 0]
    return (better + (equal + 1) / 2).double().masked_fill(score[:, 0] == -torch.inf, torch.inf)
