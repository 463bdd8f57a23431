"""Ask a system every query and note at which rank the answer came: full catalogue, ties at their mean rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.datasets.sequences import Queries
from seqlab.evaluation.outcome import Ranks
from seqlab.ranking import Pairs, ranks_in_lists, ranks_of, top_with_ties, topk
from seqlab.runtime import processes
from seqlab.runtime.modules import device_of, evaluating

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

MAX_SCORES = 1 << 22
"""Scores held at a time on a CPU: rows x items, whatever the number of users. 16 MB in float32: more leaves the caches,
fewer pay for every operation too often. 16 times as many elsewhere."""

LARGE_CATALOGUE = 1 << 17
"""A catalogue from which on the rows held at a time grow no fewer, since each product reads all of its items."""

MAX_TOKENS = 1 << 15
"""History positions encoded at a time."""

MAX_EVENTS = 1 << 20
"""Events of whole histories looked at at a time: 16 MB, however long one user's history is."""

LARGEST_BLOCK = (1 << 25) - (1 << 14)
"""Bytes of the largest block that glibc keeps when it is freed; larger ones always go back to the system."""

LIST_LENGTH = 20
"""How long a list is wanted of a system that only recommends: as the longest metric reads (a longer one costs a wider
beam). An answer beyond it and the items that tie with its last one shares the mean rank of all the rest."""


@torch.no_grad()
def rank(model: nn.Module, split: Split, part: str = "test", seen_filter: bool | None = None) -> Ranks:
    """Rank the answer of every query of `part` ("valid" or "test") among all items.

    `seen_filter` keeps items of the whole history, not only of the part the model reads, out of the ranking; by
    default it is on unless the log has repeats. Memory does not grow with the number of users.

    Several processes (see `training.fit`) must all call it: they share the batches, and each returns the whole, bit for
    bit what one process returns. The other rows of a batch change a user's scores by rounding alone, and so perhaps the
    order of items whose scores differ in the last bits.
    """
    import pandas as pd

    queries = {"valid": split.valid, "test": split.test}[part]
    if seen_filter is None:
        seen_filter = not split.log.repeats
    queries = queries.to(device_of(model))
    score = _rank_by_scores if hasattr(model, "score") else _rank_by_lists
    if queries.item.device.type == "cpu" and len(queries) * (split.n_items + 1) > MAX_SCORES:
        # glibc keeps freed blocks up to the size of the largest it has seen freed, and twice that in all; without
        # this one, blocks of scores and states mostly go back to the system, which clears each anew
        torch.empty(LARGEST_BLOCK, dtype=torch.uint8)
    with processes.propagate_errors(), evaluating(model):
        found = score(model, queries, split.n_items, seen_filter)
    ranks, exposure, seen = (processes.all_reduce_sum(part) for part in found)  # zeros for the rows of another process
    counts = split.train.item_counts(split.n_items).cpu()
    item = queries.item.cpu()
    frame = pd.DataFrame(
        {
            "user": queries.user.cpu().numpy(),
            "item": item.numpy(),
            "rank": ranks.cpu().numpy(),
            "history_length": (queries.end - queries.start).cpu().numpy(),
            "seen": seen.bool().cpu().numpy(),
            "item_count": counts[item].numpy(),
        }
    )
    return Ranks(frame, exposure.cpu(), counts, seen_filter, split.n_items)


def rows_per_batch(device: torch.device, width: int) -> int:
    """How many rows of so many scores are held at a time."""
    return max(1, MAX_SCORES // min(width, LARGE_CATALOGUE) if device.type == "cpu" else (MAX_SCORES << 4) // width)


def _rank_by_scores(model: nn.Module, queries: Queries, n_items: int, seen_filter: bool):
    device = queries.item.device
    ranks = torch.zeros(len(queries), dtype=torch.float64, device=device)
    seen = torch.zeros(len(queries), dtype=torch.uint8, device=device)
    exposure = torch.zeros(n_items + 1, dtype=torch.long, device=device)
    rows_at_most, share = rows_per_batch(device, n_items + 1), (processes.index(), processes.count())
    for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, rows_at_most, share):
        answers = queries.item[rows]
        scores = model.score(batch)  # (B, N + 1)
        scores[:, 0] = -torch.inf
        own = scores.gather(1, answers[:, None])
        for row, item in history_pairs(queries, rows):
            seen[rows[row[item == answers[row]]]] = 1
            if seen_filter:
                scores[row, item] = -torch.inf
        scores.scatter_(1, answers[:, None], own)
        best, items = topk(scores, min(10, n_items))
        ranks[rows] = ranks_of(scores, answers, out=scores)
        if not bool((ranks[rows].isfinite() & best[:, 0].isfinite()).all()):
            raise ValueError(f"{type(model).__name__} gave scores that are not finite; training may have diverged.")
        exposure += torch.bincount(items[best > -torch.inf], minlength=n_items + 1)
        del scores  # held until the next ones are there, they would take turns in two blocks of memory
    return ranks, exposure, seen


def _rank_by_lists(model: nn.Module, queries: Queries, n_items: int, seen_filter: bool):
    device = queries.item.device
    ranks = torch.zeros(len(queries), dtype=torch.float64, device=device)
    seen = torch.zeros(len(queries), dtype=torch.uint8, device=device)
    exposure = torch.zeros(n_items + 1, dtype=torch.long, device=device)
    share = processes.index(), processes.count()
    for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, 256, share):
        answers = queries.item[rows]
        history = _distinct_items(queries, rows, n_items)
        is_answer = history[1] == answers[history[0]]
        seen[rows[history[0][is_answer]]] = 1
        if seen_filter:
            history = history[0][~is_answer], history[1][~is_answer]
            eligible = n_items - torch.bincount(history[0], minlength=len(rows))
        else:
            eligible = n_items
        ranking = top_with_ties(model, batch, min(LIST_LENGTH, n_items), history if seen_filter else None, n_items)
        if bool((ranking.scores.isnan() | (ranking.scores == torch.inf)).any()):
            raise ValueError(f"{type(model).__name__} gave scores that are not finite; training may have diverged.")
        listed = (ranking.items > 0).sum(1) + (ranking.tied > 0).sum(1)
        beyond = (listed + 1 + eligible).double() / 2  # the mean rank of all that was not listed
        found = ranks_in_lists(ranking, answers)
        ranks[rows] = torch.where(found.isinf(), beyond, found)
        first = ranking.items[:, :10]
        exposure += torch.bincount(first[first > 0], minlength=n_items + 1)
    return ranks, exposure, seen


def history_pairs(queries: Queries, rows: Tensor) -> Iterator[Pairs]:
    """All items of the histories of these rows, of up to `MAX_EVENTS` events at a time.

    They are not padded, so that one long history costs its own length, not that times the rows beside it.
    """
    start = queries.start[rows]
    ends = (queries.end[rows] - start).cumsum(0)  # of each history, where all lie end to end
    shift = start - ends + (queries.end[rows] - start)
    total = int(ends[-1]) if len(rows) else 0
    for first in range(0, total, MAX_EVENTS):
        place = torch.arange(first, min(first + MAX_EVENTS, total), device=rows.device)
        row = torch.searchsorted(ends, place, right=True)
        yield row, queries.sequences.items[place + shift[row]]


def full_history(queries: Queries, rows: Tensor, read: Tensor) -> Tensor:
    """All items of the histories of a few rows, padded (B, T): what the model read, unless it read less than all."""
    longest = int((queries.end[rows] - queries.start[rows]).max())
    return read if longest <= read.shape[1] else queries.batch(rows).items


def _distinct_items(queries: Queries, rows: Tensor, n_items: int) -> Pairs:
    """The different items of the histories of these rows."""
    known = rows.new_zeros(0)
    for row, item in history_pairs(queries, rows):
        known = torch.cat([known, row * (n_items + 1) + item]).unique()
    return known // (n_items + 1), known % (n_items + 1)
