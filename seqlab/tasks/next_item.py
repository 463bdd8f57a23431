"""Next-item prediction: the rank of the answer of every query among all items, ties at their mean rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.contracts import Recommends, Scores, name_of, supports
from seqlab.datasets.sequences import Queries
from seqlab.evaluation.outcome import Metric, Outcome, Slice
from seqlab.evaluation.ranking_metrics import METRIC_NAMES, list_statistics
from seqlab.ranking import Pairs, catalogue_scorer, ranks_in_lists, ranks_of, top_with_ties, topk
from seqlab.runtime import processes
from seqlab.runtime.modules import device_of, evaluating
from seqlab.runtime.text import DataError

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split

METRICS = tuple(Metric(name) for name in METRIC_NAMES)
PRIMARY, HEADLINE = "ndcg@10", ("recall@10", "ndcg@10")
SLICES = {
    "history_length": Slice("history length", "events"),
    "item_count": Slice("popularity of the answer", "training events"),
    "seen": Slice("repeat or new", yes="seen before", no="new to the user"),
}

MAX_SCORES = 1 << 22
"""Scores (rows x items) per batch on a CPU: 16 MB in float32, which fits into the caches. 16 times as many on a GPU."""

LARGE_CATALOGUE = 1 << 17
"""Number of items from which on the rows per batch stay constant, because each matrix product reads all items."""

MAX_TOKENS = 1 << 15
"""History positions per batch."""

MAX_EVENTS = 1 << 20
"""Events of complete histories per chunk: 16 MB."""

LARGEST_BLOCK = (1 << 25) - (1 << 14)
"""Bytes of the largest block that glibc keeps when it is freed; larger ones always go back to the system."""

LIST_LENGTH = 20
"""Length of the lists of a system without `score`: the largest cutoff of the metrics (a longer list needs a wider
beam). An answer that is neither listed nor tied with the last item gets the mean rank of all unlisted items."""


@torch.no_grad()
def measure(model: nn.Module, split: Split, part: str = "test", seen_filter: bool | None = None) -> Outcome:
    """Rank the answer of every query of `part` ("valid" or "test") among all items.

    seen_filter: whether the items of the complete history (not only of the part that the model reads) are removed from
    the ranking; None: yes unless the log has repeats. Memory does not grow with the number of users. Raises
    `ValueError` if the scores are not finite.

    Several processes (see `training.fit`) must all call it. They share the batches, and each returns the complete
    result, bit-identical to that of one process. The other rows of a batch change the scores of a user by rounding
    errors only, which may swap items whose scores differ in the last bits.
    """
    check(model, split)
    queries = {"valid": split.valid, "test": split.test}[part]
    if seen_filter is None:
        seen_filter = not split.log.repeats
    queries = queries.to(device_of(model))
    score = _rank_by_scores if catalogue_scorer(model) else _rank_by_lists
    ranks = queries.item.new_zeros(len(queries), dtype=torch.float64)  # zeros remain in the rows of other processes
    seen = queries.item.new_zeros(len(queries), dtype=torch.uint8)
    exposure = queries.item.new_zeros(split.n_items + 1)
    if queries.item.device.type == "cpu" and len(queries) * (split.n_items + 1) > MAX_SCORES:
        # glibc raises its mmap and trim thresholds to the size of the largest freed block; without this, every buffer
        # of scores would be returned to the system and be zeroed again
        torch.empty(LARGEST_BLOCK, dtype=torch.uint8)
    with processes.propagate_errors(), evaluating(model):
        score(model, queries, split.n_items, seen_filter, ranks, exposure, seen)
    ranks, exposure, seen = map(processes.all_reduce_sum, (ranks, exposure, seen))
    return from_ranks(split, queries, ranks, seen, exposure, seen_filter)


def from_ranks(
    split: Split, queries: Queries, ranks: Tensor, seen: Tensor, exposure: Tensor, seen_filter: bool
) -> Outcome:
    """The outcome of the ranks (Q,) of the answers of queries.

    seen: (Q,) whether the answer is in the history. exposure: as in `list_statistics`.
    """
    import pandas as pd

    counts = split.train.item_counts(split.n_items).cpu()
    item = queries.item.cpu()
    frame = pd.DataFrame(
        {
            "query": queries.id.cpu().numpy(),
            "user": queries.user.cpu().numpy(),
            "item": item.numpy(),
            "rank": ranks.cpu().numpy(),
            "history_length": (queries.end - queries.start).cpu().numpy(),
            "seen": seen.bool().cpu().numpy(),
            "item_count": counts[item].numpy(),
        }
    )
    return outcome(frame, split.n_items, seen_filter, list_statistics(exposure.cpu(), counts))


def outcome(frame: pd.DataFrame, n_items: int, seen_filter: bool, summary: Mapping[str, float]) -> Outcome:
    """The outcome of ranks.

    frame: query, user, item (the answer), rank, history_length, seen (whether the answer is in the user's history),
    item_count (training events of the answer). seen_filter: whether items of the user's history were removed from the
    ranking (the answer never is).
    """
    candidates = f"{n_items:,} items, seen items {'filtered' if seen_filter else 'kept'}"
    users = frame["user"].nunique()
    count = f"{users:,} users" if users == len(frame) else f"{len(frame):,} queries of {users:,} users"
    return Outcome(
        "next_item", frame, METRICS, PRIMARY, HEADLINE,
        f"full ranking of {candidates}, ties at mean rank, {count}",
        {"seen_filter": bool(seen_filter), "n_items": int(n_items)}, SLICES, summary,
    )  # fmt: skip


def check(model: nn.Module, split: Split) -> None:
    """Raise `DataError` for a system that ranks no items, and for queries without a single answer."""
    if not (supports(model, Scores) or supports(model, Recommends)):
        raise DataError(f"{name_of(model)} recommends no items, so next_item cannot measure it.")
    if any(len(part) and not bool(part.item.all()) for part in (split.valid, split.test)):
        raise DataError(f"the queries of {split.name} have several answers; next_item measures single ones.")


def rows_per_batch(device: torch.device, width: int) -> int:
    """The rows of `width` scores per batch (see `MAX_SCORES`)."""
    return max(1, MAX_SCORES // min(width, LARGE_CATALOGUE) if device.type == "cpu" else (MAX_SCORES << 4) // width)


def _rank_by_scores(
    model, queries: Queries, n_items: int, seen_filter: bool, ranks: Tensor, exposure: Tensor, seen: Tensor
) -> None:
    score_all, shard = catalogue_scorer(model), (processes.index(), processes.count())
    rows_at_most = rows_per_batch(ranks.device, n_items + 1)
    for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, rows_at_most, shard):
        answers = queries.item[rows]
        scores = score_all(batch)  # (B, N + 1)
        scores[:, 0] = -torch.inf
        of_answer = scores.gather(1, answers[:, None])
        for row, item in history_pairs(queries, rows):
            seen[rows[row[item == answers[row]]]] = 1
            if seen_filter:
                scores[row, item] = -torch.inf
        scores.scatter_(1, answers[:, None], of_answer)
        best, items = topk(scores, min(10, n_items))
        ranks[rows] = ranks_of(scores, answers, out=scores)
        if not bool((ranks[rows].isfinite() & best[:, 0].isfinite()).all()):
            raise _not_finite(model)
        exposure += torch.bincount(items[best > -torch.inf], minlength=n_items + 1)
        del scores  # frees the buffer before the next scores are computed


def _rank_by_lists(
    model, queries: Queries, n_items: int, seen_filter: bool, ranks: Tensor, exposure: Tensor, seen: Tensor
) -> None:
    shard = processes.index(), processes.count()
    for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, 256, shard):
        answers = queries.item[rows]
        history = distinct_items(queries, rows, n_items)
        is_answer = history[1] == answers[history[0]]
        seen[rows[history[0][is_answer]]] = 1
        if seen_filter:
            history = history[0][~is_answer], history[1][~is_answer]
            eligible = n_items - torch.bincount(history[0], minlength=len(rows))
        else:
            eligible = n_items
        ranking = top_with_ties(model, batch, min(LIST_LENGTH, n_items), history if seen_filter else None, n_items)
        if bool((ranking.scores.isnan() | (ranking.scores == torch.inf)).any()):
            raise _not_finite(model)
        listed = (ranking.items > 0).sum(1) + (ranking.tied > 0).sum(1)
        unlisted = (listed + 1 + eligible).double() / 2  # the mean rank of all unlisted items
        in_list = ranks_in_lists(ranking, answers)
        ranks[rows] = torch.where(in_list.isinf(), unlisted, in_list)
        first = ranking.items[:, :10]
        exposure += torch.bincount(first[first > 0], minlength=n_items + 1)


def _not_finite(model: nn.Module) -> ValueError:
    return ValueError(f"{type(model).__name__} gave scores that are not finite; training may have diverged.")


def history_pairs(queries: Queries, rows: Tensor) -> Iterator[Pairs]:
    """All items of the complete histories of these rows, as unpadded (row, item) pairs, `MAX_EVENTS` at a time."""
    start = queries.start[rows]
    ends = (queries.end[rows] - start).cumsum(0)  # end of each history in their concatenation
    shift = start - ends + (queries.end[rows] - start)
    total = int(ends[-1]) if len(rows) else 0
    for first in range(0, total, MAX_EVENTS):
        place = torch.arange(first, min(first + MAX_EVENTS, total), device=rows.device)
        row = torch.searchsorted(ends, place, right=True)
        yield row, queries.sequences.items[place + shift[row]]


def full_history(queries: Queries, rows: Tensor, read: Tensor) -> Tensor:
    """All items of the complete histories of a few rows, padded (B, T).

    read: (B, T') what the model reads; it is returned if it is complete.
    """
    longest = int((queries.end[rows] - queries.start[rows]).max())
    return read if longest <= read.shape[1] else queries.batch(rows).items


def distinct_items(queries: Queries, rows: Tensor, n_items: int) -> Pairs:
    """The distinct (row, item) pairs of the complete histories of these rows."""
    keys = rows.new_zeros(0)
    for row, item in history_pairs(queries, rows):
        keys = torch.cat([keys, row * (n_items + 1) + item]).unique()
    return keys // (n_items + 1), keys % (n_items + 1)
