"""Baskets: the ranks of several answers of every query among all items, ties at their mean rank.

The answers of a query are the items of its next basket, or the hidden items of an unfinished one; the items that are
given are not ranked. A query with one answer has the numbers of `next_item`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import Recommends, name_of, supports
from seqlab.datasets.events import Ragged
from seqlab.datasets.sequences import Queries
from seqlab.evaluation.influence_values import ratio
from seqlab.evaluation.outcome import Metric, Outcome, Slice
from seqlab.evaluation.ranking_metrics import CUTOFFS, list_statistics
from seqlab.ranking import catalogue_scorer, ranks_in_lists, ranks_of, top_with_ties, topk
from seqlab.runtime import processes
from seqlab.runtime.modules import device_of, evaluating
from seqlab.runtime.text import DataError, MissingDataError
from seqlab.tasks.next_item import LIST_LENGTH, MAX_TOKENS, history_pairs, rows_per_batch

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split

APART = {"repeat_recall@10": True, "new_recall@10": False}
"""Recall@10 of the answers that the user has bought before, and of those that are new."""

METRICS = (
    *(Metric(f"{name}@{k}") for k in CUTOFFS for name in ("recall", "ndcg", "precision", "hit")),
    Metric("mrr"),
    *(Metric(name, low=-np.inf, high=np.inf) for name in APART),
)
"""`recall@k`: the share of the answers that are among the first k. `ndcg@k`: DCG over that of the ideal ranking, which
has the answers first. `precision@k`: the share of the first k that are answers. `hit@k`: whether there is one. `mrr`:
1 / rank of the first. `repeat_recall@10`, `new_recall@10`: means over the queries that have such answers."""

PRIMARY, HEADLINE = "ndcg@10", ("recall@10", "ndcg@10", "hit@10", "mrr")
SLICES = {
    "basket_size": Slice("basket size", "items"),
    "history_length": Slice("history length", "events"),
    "repeat_percent": Slice("answers bought before", "%"),
}


def check(model: nn.Module, split: Split) -> None:
    """Raise `DataError` for a system that makes no lists, and for queries that are no sets of items."""
    if not supports(model, Recommends):
        raise DataError(f"{name_of(model)} recommends no items, so baskets cannot measure it.")
    if any(len(part) and part.answers is None and not bool(part.item.all()) for part in (split.valid, split.test)):
        raise MissingDataError(
            f"the queries of {split.name} have no items as answers; baskets measures splits such as last-basket."
        )


@torch.no_grad()
def measure(model: nn.Module, split: Split, part: str = "test", seen_filter: bool | None = None) -> Outcome:
    """Rank the answers of every query of `part` ("valid" or "test") among all items that are not given.

    seen_filter: whether the items of the complete history are removed from the ranking (answers never are); None: yes
    unless the log has repeats. Raises `DataError` as `check` does, and `ValueError` if scores are not finite. Several
    processes share the batches; each returns the complete result.
    """
    check(model, split)
    queries = {"valid": split.valid, "test": split.test}[part].to(device_of(model))
    if seen_filter is None:
        seen_filter = not split.log.repeats
    answers = answers_of(queries)
    ranks = torch.zeros(len(answers.values), dtype=torch.float64, device=answers.values.device)
    repeats, exposure = torch.zeros_like(answers.values), queries.user.new_zeros(split.n_items + 1)
    rank = _ranks_by_scores if catalogue_scorer(model) else _ranks_by_lists
    with processes.propagate_errors(), evaluating(model):
        rank(model, queries, answers, split.n_items, seen_filter, ranks, repeats, exposure)
    ranks, repeats, exposure = map(processes.all_reduce_sum, (ranks, repeats, exposure))
    return from_ranks(split, queries, ranks, repeats, exposure, seen_filter)


def from_ranks(
    split: Split, queries: Queries, ranks: Tensor, repeats: Tensor, exposure: Tensor, seen_filter: bool
) -> Outcome:
    """The outcome of the ranks (A,) of all answers of queries, in the order of `answers_of`.

    repeats: (A,) whether the answer is in the history. exposure: as in `list_statistics`.
    """
    answers = answers_of(queries)
    frame = query_frame(queries, answers, ranks.cpu().numpy(), repeats.bool().cpu().numpy())
    counts = split.train.item_counts(split.n_items).cpu()
    several = "the items of a basket" if queries.given is None else "the hidden items of a basket, given ones removed"
    protocol = (
        f"full ranking of {split.n_items:,} items, seen items {'filtered' if seen_filter else 'kept'}, "
        f"ties at mean rank; {several}: {len(answers.values):,} answers of {len(frame):,} queries"
    )
    metrics = tuple(one for one in METRICS if one.name in frame)
    about = {"seen_filter": bool(seen_filter), "n_items": int(split.n_items), "split": split.name}
    summary = list_statistics(exposure.cpu(), counts)
    return Outcome("baskets", frame, metrics, PRIMARY, HEADLINE, protocol, about, SLICES, summary)


def answers_of(queries: Queries) -> Ragged:
    """The answers of every query: several, or one."""
    if queries.answers is not None:
        return queries.answers
    return Ragged(queries.item, torch.arange(len(queries) + 1, device=queries.item.device))


def query_frame(queries: Queries, answers: Ragged, ranks: np.ndarray, repeats: np.ndarray) -> pd.DataFrame:
    """One row per query: what is known of it, and its metrics.

    ranks, repeats: (A,) the rank of every answer, and whether the user has bought it before.
    """
    import pandas as pd

    lengths = answers.lengths.cpu().numpy()
    given = np.zeros_like(lengths) if queries.given is None else queries.given.lengths.cpu().numpy()
    query = np.repeat(np.arange(len(lengths)), lengths)
    repeated = np.bincount(query, repeats, len(lengths))
    about = {
        "query": queries.id.cpu().numpy(), "user": queries.user.cpu().numpy(), "basket_size": lengths + given,
        "answers": lengths, "history_length": (queries.end - queries.start).cpu().numpy() - given,
        "repeat_percent": 100 * repeated / lengths,
    }  # fmt: skip
    columns = set_metrics(ranks, query, lengths)
    for name, wanted in APART.items():
        chosen = repeats == wanted
        if chosen.any():
            columns[name] = subset_recall(ranks[chosen], query[chosen], len(lengths))
    return pd.DataFrame(about | columns)


def set_metrics(
    ranks: np.ndarray, query: np.ndarray, lengths: np.ndarray, cutoffs: tuple[int, ...] = CUTOFFS
) -> dict[str, np.ndarray]:
    """The metrics (Q,) of queries with several answers, by name.

    ranks: (A,) from 1, with halves for ties. query: (A,) the row of each answer; lengths: (Q,) its number of answers.
    More answers than k that tie within the first k count as k, and NDCG is at most 1.
    """
    total = len(lengths)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, max(cutoffs) + 2)))])
    columns = {}
    for k in cutoffs:
        within = ranks <= k
        hits = np.minimum(np.bincount(query, within, total), k)
        gain = np.bincount(query, within / np.log2(ranks + 1), total)
        columns[f"recall@{k}"] = hits / lengths
        columns[f"ndcg@{k}"] = np.minimum(gain / ideal[np.minimum(lengths, k)], 1.0)
        columns[f"precision@{k}"] = hits / k
        columns[f"hit@{k}"] = (hits > 0).astype(np.float64)
    best = np.full(total, np.inf)
    np.minimum.at(best, query, ranks)
    return columns | {"mrr": 1 / best}


def subset_recall(ranks: np.ndarray, query: np.ndarray, total: int, k: int = 10) -> np.ndarray:
    """Recall@k of some of the answers, as influence values (Q,) of its mean over the queries that have such answers.

    ranks, query: (A',) of these answers; total: Q.
    """
    counts = np.bincount(query, minlength=total)
    recall = np.minimum(np.bincount(query, ranks <= k, total), k) / np.maximum(counts, 1)
    return ratio(recall, counts > 0)


def _ranks_by_scores(model, queries, answers, n_items, seen_filter, ranks, repeats, exposure) -> None:
    score, shard = catalogue_scorer(model), (processes.index(), processes.count())
    rows_at_most = rows_per_batch(ranks.device, n_items + 1)
    for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, rows_at_most, shard):
        scores = score(batch)  # (B, N + 1)
        scores[:, 0] = -torch.inf
        place, row, item = _members(answers, rows)
        of_answers = scores[row, item]
        _mark_repeats(queries, rows, n_items, place, row, item, repeats)
        if seen_filter:
            for one, seen in history_pairs(queries, rows):
                scores[one, seen] = -torch.inf
        if queries.given is not None:
            _, one, known = _members(queries.given, rows)
            scores[one, known] = -torch.inf
        scores[row, item] = of_answers
        best, items = topk(scores, min(10, n_items))
        ranks[place] = ranks_of_several(scores, row, item)
        if not bool(of_answers.isfinite().all() & best[:, 0].isfinite().all()):
            raise _not_finite(model)
        exposure += torch.bincount(items[best > -torch.inf], minlength=n_items + 1)


def ranks_of_several(scores: Tensor, row: Tensor, item: Tensor) -> Tensor:
    """The mean rank (A,) of each answer `item` (A,) among the finite scores of its `row` (A,), ascending.

    scores: (B, N + 1), -inf for items that are not ranked.
    """
    counts = torch.bincount(row, minlength=len(scores))
    start = counts.cumsum(0) - counts
    order = counts.argsort(descending=True)  # rows with many answers first: the m-th answers are those of a prefix
    scores, counts, start = scores[order], counts[order], start[order]
    ranks, buffer = torch.zeros(len(row), dtype=torch.float64, device=scores.device), torch.empty_like(scores)
    for m in range(int(counts[0]) if len(counts) else 0):
        has = int((counts > m).sum())
        at = start[:has] + m
        ranks[at] = ranks_of(scores[:has], item[at], out=buffer[:has])
    return ranks


def _ranks_by_lists(model, queries, answers, n_items, seen_filter, ranks, repeats, exposure) -> None:
    shard = processes.index(), processes.count()
    for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, 256, shard):
        place, row, item = _members(answers, rows)
        _mark_repeats(queries, rows, n_items, place, row, item, repeats)
        removed = [_members(queries.given, rows)[1:]] if queries.given is not None else []
        removed += history_pairs(queries, rows) if seen_filter else []
        seen, eligible = None, rows.new_full((len(rows),), n_items)
        if removed:
            keys = torch.cat([one * (n_items + 1) + known for one, known in removed]).unique()
            keys = keys[~torch.isin(keys, row * (n_items + 1) + item)]
            seen = keys // (n_items + 1), keys % (n_items + 1)
            eligible = eligible - torch.bincount(seen[0], minlength=len(rows))
        ranking = top_with_ties(model, batch, min(LIST_LENGTH, n_items), seen, n_items)
        if bool((ranking.scores.isnan() | (ranking.scores == torch.inf)).any()):
            raise _not_finite(model)
        listed = (ranking.items > 0).sum(1) + (ranking.tied > 0).sum(1)
        unlisted = (listed + 1 + eligible).double() / 2  # the mean rank of all unlisted items
        for column in _padded(row, item, len(rows)).unbind(1):  # (B,)
            in_list = ranks_in_lists(ranking, column)
            found = torch.where(in_list.isinf(), unlisted, in_list)
            own = item == column[row]
            ranks[place[own]] = found[row[own]]
        first = ranking.items[:, :10]
        exposure += torch.bincount(first[first > 0], minlength=n_items + 1)


def _members(values: Ragged, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The places in `values.values`, the rows of the batch and the values of some rows: (A',) each."""
    lengths = values.lengths[rows]
    row = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
    place = torch.arange(len(row), device=rows.device) + (values.offsets[:-1][rows] - lengths.cumsum(0) + lengths)[row]
    return place, row, values.values[place]


def _padded(row: Tensor, item: Tensor, rows: int) -> Tensor:
    """The items of ascending rows, padded with 0: (B, M)."""
    counts = torch.bincount(row, minlength=rows)
    column = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    padded = item.new_zeros(rows, int(counts.max()) if len(counts) else 0)
    padded[row, column] = item
    return padded


def _mark_repeats(queries, rows, n_items, place, row, item, repeats) -> None:
    """Set `repeats` at the places of the answers that are in the history of their query."""
    keys = row * (n_items + 1) + item
    for one, seen in history_pairs(queries, rows):
        repeats[place[torch.isin(keys, one * (n_items + 1) + seen)]] = 1


def _not_finite(model: nn.Module) -> ValueError:
    return ValueError(f"{type(model).__name__} gave scores that are not finite; training may have diverged.")
