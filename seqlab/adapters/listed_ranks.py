"""The ranks of answers in given lists, one list per user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqlab.contracts import Ranking
from seqlab.datasets.events import Ragged, offsets_of
from seqlab.datasets.sequences import Queries
from seqlab.ranking import pairs, ranks_in_lists
from seqlab.tasks.baskets import answers_of
from seqlab.tasks.next_item import MAX_EVENTS, distinct_items

MAX_ROWS = 1024
"""Queries that are ranked at a time."""


@dataclass(frozen=True)
class MeasuredLists:
    """The lists of the users of some queries.

    ranks: (A,) float64 the rank of every answer, in the order of `tasks.baskets.answers_of`, infinite for one that is
    not in the list. seen: (A,) bool whether the answer is in the history. exposure: (N + 1,) the number of top tens
    that contain each item. lengths: (Q,) the number of items of each list. removed: the number of items that were
    removed from all lists. top: (Q, k) the first items, 0 = none, or an item that the log does not have.
    """

    ranks: Tensor
    seen: Tensor
    exposure: Tensor
    lengths: Tensor
    removed: int
    top: Tensor


def measure_lists(
    items: np.ndarray, ranks: np.ndarray, counts: np.ndarray, queries: Queries, n_items: int, seen_filter: bool,
    k: int = 10,
) -> MeasuredLists:  # fmt: skip
    """Rank the answers of queries in the lists of their users.

    items, ranks: (E,) the lists of all users one after another, the best item first; item 0 is an item that the log
    does not have, which keeps its place. counts: (U,) their lengths. seen_filter: whether the items of the complete
    history are removed from the lists (answers never are); items that are given are removed in any case.
    """
    offsets = offsets_of(torch.from_numpy(counts))
    outside, width = n_items + 1, n_items + 2
    listed = Ragged(torch.tensor(np.where(items == 0, outside, items)), offsets)
    placed = Ragged(torch.tensor(ranks, dtype=torch.float64), offsets)
    queries = queries.to("cpu")
    answers = answers_of(queries)
    found = torch.full((len(answers.values),), torch.inf, dtype=torch.float64)
    seen, lengths = torch.zeros(len(found), dtype=torch.bool), torch.zeros(len(queries), dtype=torch.long)
    exposure, top, removed = torch.zeros(width, dtype=torch.long), torch.zeros(len(queries), k, dtype=torch.long), 0
    longest = max(int(counts.max(initial=1)), 1)
    for rows in torch.arange(len(queries)).split(min(MAX_ROWS, max(1, MAX_EVENTS // longest))):
        row, user = torch.arange(len(rows))[:, None], queries.user[rows] - 1
        own = listed.padded(user)  # (B, L)
        at = placed.padded(user)
        answer = answers.padded(rows)  # (B, M)
        is_answer = answer > 0
        wanted = torch.where(is_answer, row * width + answer, -1)
        history = _keys(distinct_items(queries, rows, n_items), width)
        gone = history if seen_filter else history[:0]
        if queries.given is not None:
            gone = torch.cat([gone, _keys(pairs(queries.given.padded(rows)), width)])
        gone = torch.isin(row * width + own, gone[~torch.isin(gone, wanted)]) & (own > 0)
        removed += int(gone.sum())
        kept = (own > 0) & ~gone
        scores = torch.where(kept, -at, -torch.inf)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        own = own.gather(1, order) * (scores > -torch.inf)
        lengths[rows] = kept.sum(1)
        first = F.pad(own, (0, max(k, 10) - own.shape[1])) if own.shape[1] < max(k, 10) else own
        exposure += torch.bincount(first[:, :10].flatten(), minlength=width)
        top[rows] = first[:, :k] * (first[:, :k] < outside)
        place = answers.offsets[:-1][rows][:, None] + torch.arange(answer.shape[1])
        if own.shape[1]:
            ranking = Ranking(own, scores)
            in_list = torch.stack([ranks_in_lists(ranking, one) for one in answer.unbind(1)], 1)  # (B, M)
            found[place[is_answer]] = in_list[is_answer]
        seen[place[is_answer]] = torch.isin(wanted, history)[is_answer]
    exposure[0] = 0
    return MeasuredLists(found, seen, exposure[:outside], lengths, removed, top)


def _keys(pairs: tuple[Tensor, Tensor], width: int) -> Tensor:
    """One integer per (row, item) pair."""
    return pairs[0] * width + pairs[1]
