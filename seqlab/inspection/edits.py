"""What would have to change: the fewest events to drop that bring an item into or out of the top k."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb

import torch
from torch import Tensor, nn

from seqlab.datasets.history import History
from seqlab.inspection.influence import free_of, lists_of, rows_at_once, scores_of
from seqlab.ranking import check_k, ranks_in_lists, ranks_of
from seqlab.tasks.next_item import rows_per_batch

EXACT_UP_TO = 12
"""Events up to which all edits are tried: at most 4,094 shortened histories."""

LISTS_AT_ONCE = 64
"""Histories a system that only makes lists is asked about at a time."""

Places = tuple[int, ...]


@dataclass(frozen=True)
class Edit:
    """The events to drop so that an item is in, or out of, the top k; and what finding them cost.

    dropped: their places in the history (from 0), none where nothing has to change or nothing helps; history: what is
    left. rank_before, rank_after: the item's, infinite where it is filtered or beyond a system's list. passes: forward
    passes, which asked about `scored` histories. found: the item is where it was wanted. exact: it is certain that no
    smaller edit does it (not found: that none does). told: all this in a sentence.
    """

    item: int
    into: bool
    k: int
    dropped: Places
    history: History
    rank_before: float
    rank_after: float
    passes: int
    scored: int
    exact: bool
    found: bool
    told: str


def smallest_edit(
    model: nn.Module,
    history: History,
    item: int,
    into: bool,
    k: int = 10,
    seen_filter: bool = False,
    limit: int = 5_000,
    exact_up_to: int = EXACT_UP_TO,
) -> Edit:
    """The fewest events to drop that bring `item` into (or out of) the `k` first recommendations.

    Up to `exact_up_to` events, all edits of one event are tried, then all of two, and so on, until some do it: of
    these, the one that moves the rank most. Longer histories are searched greedily: the event whose loss helps most
    goes, again and again, until the item is where it is wanted; then whatever can come back does. Dropped events are
    as if they had never happened: those after them move up, and with `seen_filter` they are seen no more. A tie counts
    at its mean rank. At most `limit` histories are asked about. A system without `score` is asked for its lists;
    an item beyond them has no rank, so nothing guides a greedy search into them.
    Raises `ValueError` for an item that is not in the catalogue, or that the filter keeps out whatever is dropped.
    """
    *_, edit = edit_search(model, history, item, into, k, seen_filter, limit, exact_up_to)
    return edit


def edit_search(
    model: nn.Module,
    history: History,
    item: int,
    into: bool,
    k: int = 10,
    seen_filter: bool = False,
    limit: int = 5_000,
    exact_up_to: int = EXACT_UP_TO,
) -> Iterator[Edit]:
    """`smallest_edit` one forward pass at a time: what is known after each pass; the last one is the answer.

    Those before it are not `exact`, and have the edit that came nearest so far; whoever has seen enough may stop.
    """
    check_k(k)
    if item < 1:
        raise ValueError(f"items count from 1 (got {item})")
    if into and seen_filter and bool((history.earlier == item).any()):
        raise ValueError(f"item {item} was met before the events that can be dropped, so the filter keeps it out")
    query = _Question(model, history, item, into, k, seen_filter, limit)

    def edit(best: _Try | None, exact: bool, told: str) -> Edit:
        after = best or before
        return Edit(
            item, into, k, tuple(sorted(after.dropped)), history.drop(*after.dropped), before.rank, after.rank,
            query.passes, query.scored, exact, best is not None and best.works, told,
        )  # fmt: skip

    (before,) = query.best([()])
    if before.works:
        yield edit(before, True, f"the item is {'in' if into else 'out of'} the top {k} as it is")
        return
    search = _all_edits if len(history) <= exact_up_to else _greedily
    for best, exact, told in search(query, len(history)):
        yield edit(best, exact, told)


@dataclass(frozen=True)
class _Try:
    """What dropping does: the item's rank, whether that is where it is wanted, and how far it has come (a margin)."""

    dropped: Places
    rank: float
    works: bool
    margin: float


class _Question:
    """Where a model ranks one item after many edits of one history, and what asking has cost so far."""

    def __init__(
        self, model: nn.Module, history: History, item: int, into: bool, k: int, seen_filter: bool, limit: int
    ) -> None:
        self.model, self.history, self.item, self.into = model, history, item, into
        self.k, self.seen_filter, self.limit = k, seen_filter, limit
        self.passes = self.scored = 0
        self.ask = self._by_scores if hasattr(model, "score") else self._by_lists
        self.rows = 1  # until the first answer tells how large the catalogue is

    def affords(self, histories: int) -> bool:
        return self.scored + histories <= self.limit

    def best(self, edits: Iterable[Places]) -> Iterator[_Try]:
        """After every pass, of those that work the edit that moves the rank most; while none does, the nearest."""
        edits, tries, sign = iter(edits), [], -1 if self.into else 1
        while some := list(islice(edits, self.rows)):
            ranks, margins = self.ask([self.history.drop(*dropped) for dropped in some])
            self.passes, self.scored = self.passes + 1, self.scored + len(some)
            for dropped, rank, margin in zip(some, ranks.tolist(), margins.tolist(), strict=True):
                tries.append(_Try(dropped, rank, (rank <= self.k) == self.into, margin))
            tries = [max(tries, key=lambda one: (one.works, sign * one.rank if one.works else one.margin, one.margin))]
            yield tries[0]

    def _by_scores(self, histories: list[History]) -> tuple[Tensor, Tensor]:
        """Ranks (n,) of the item, and how far its scores are on the wanted side of the k-th best of the others."""
        scores = scores_of(self.model, histories)  # (n, N + 1)
        if self.item >= scores.shape[1]:
            raise ValueError(f"there is no item {self.item}; the catalogue ends at {scores.shape[1] - 1}")
        self.rows = min(rows_at_once(self.model, len(self.history)), rows_per_batch(scores.device, scores.shape[1]))
        scores = free_of(scores, histories, self.seen_filter)
        own = scores[:, self.item].clone()
        ranks = ranks_of(scores, torch.full((len(scores),), self.item)).masked_fill(own == -torch.inf, torch.inf)
        scores[:, self.item] = -torch.inf
        border = scores.topk(min(self.k, scores.shape[1] - 1), dim=1).values[:, -1]
        margins = (own - border).nan_to_num(0.0)
        return ranks, margins if self.into else -margins

    def _by_lists(self, histories: list[History]) -> tuple[Tensor, Tensor]:
        """Ranks (n,), infinite beyond the list and what ties with its last; they are all there is to go by."""
        self.rows = LISTS_AT_ONCE
        ranking = lists_of(self.model, histories, self.k, self.seen_filter, ties=True)
        ranks = ranks_in_lists(ranking, torch.full((len(histories),), self.item))
        return ranks, -ranks if self.into else ranks


def _all_edits(query: _Question, events: int) -> Iterator[tuple[_Try | None, bool, str]]:
    """All edits of one event, of two, ...: after every pass the best of its size, whether that is certain, and a
    sentence; at last those of the first size at which some work."""
    for size in range(1, events):
        if not query.affords(comb(events, size)):
            sentence = _stopped(query, f"no edit of fewer than {size} events does it, and trying all of these")
            yield None, False, sentence
            return
        for best in query.best(combinations(range(events), size)):
            yield best, False, f"trying all {comb(events, size):,} edits of {_events(size)}"
        if best.works:
            yield best, True, f"the smallest there is: all edits of up to {_events(size)} were tried"
            return
    yield None, True, "no edit does it: all were tried"


def _greedily(query: _Question, events: int) -> Iterator[tuple[_Try | None, bool, str]]:
    """The best event of every round goes until the item is where it is wanted; then what can come back does."""
    best = _Try((), 0.0, False, 0.0)
    while not best.works:
        gone = best.dropped
        rest = [at for at in range(events) if at not in gone]
        if len(rest) == 1:
            yield None, False, "dropping the best event again and again, down to the last, does not do it"
            return
        if not query.affords(len(rest)):
            yield None, False, _stopped(query, f"dropping {_events(len(gone))} does not do it, and one more")
            return
        for best in query.best([(*gone, at) for at in rest]):
            yield best, False, f"looking for the best event to drop, after {len(gone)} others"
        if best.margin == -torch.inf:
            told = "no event alone brings the item into the list, which shows nothing else to go by"
            yield None, False, told
            return
    while len(best.dropped) > 2 and query.affords(len(best.dropped)):  # one event alone has been tried
        for fewer in query.best([tuple(kept for kept in best.dropped if kept != back) for back in best.dropped]):
            yield (
                fewer if fewer.works else best,
                False,
                f"looking which of the {len(best.dropped)} dropped events can come back",
            )
        if not fewer.works:
            break
        best = fewer
    if len(best.dropped) <= 2:
        yield best, True, "the smallest there is: all edits of one event were tried"
    else:
        yield best, False, "found by dropping the best event again and again; a smaller edit may exist"


def _stopped(query: _Question, what: str) -> str:
    return f"{what} would take more than the {query.limit:,} histories allowed; {query.scored:,} were asked about"


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
