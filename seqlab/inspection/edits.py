"""Counterfactual explanations: the fewest events to drop from a history to bring an item into or out of the top k."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb

import torch
from torch import Tensor, nn

from seqlab.contracts import Scores, supports
from seqlab.datasets.history import History
from seqlab.inspection.influence import lists_of, mask_seen, rows_per_pass, scores_of
from seqlab.ranking import check_k, ranks_in_lists, ranks_of
from seqlab.tasks.next_item import rows_per_batch

EXACT_UP_TO = 12
"""The longest history (in events) that is searched exhaustively: at most 4,094 shortened histories."""

LISTS_PER_PASS = 64
"""Histories per forward pass of a system that returns lists only."""

Positions = tuple[int, ...]


@dataclass(frozen=True)
class Edit:
    """The events to drop so that an item is in, or out of, the top k, and the cost of the search.

    dropped: positions in the history (from 0), empty if nothing has to change or nothing helps; history: the remaining
    events. rank_before, rank_after: of the item, infinite if it is filtered or beyond a system's list. passes: forward
    passes, over `scored` histories. found: whether the edit works. exact: whether no smaller edit works (if not found:
    whether no edit works at all). message: the result of the search in a sentence.
    """

    item: int
    into: bool
    k: int
    dropped: Positions
    history: History
    rank_before: float
    rank_after: float
    passes: int
    scored: int
    exact: bool
    found: bool
    message: str


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

    Up to `exact_up_to` events, all edits of one event are tried, then all of two, and so on, until one works; among
    those of that size, the one that moves the rank most is returned. Longer histories are searched greedily: the event
    whose removal helps most is dropped until the edit works, then dropped events that are not needed are restored.
    Later events move up in place of a dropped one, and with `seen_filter` a dropped event is no longer seen. Ties
    count at their mean rank. At most `limit` histories are scored. A system without `score` is searched by its lists;
    an item beyond the list has no rank, so nothing guides a greedy search for it.
    Raises `ValueError` for an item that is not in the catalogue or that the filter removes whatever is dropped.
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
    """`smallest_edit` one forward pass at a time: the best edit so far after each pass; the last one is the result.

    Edits before the last are not `exact`. The caller may stop at any time.
    """
    check_k(k)
    if item < 1:
        raise ValueError(f"items count from 1 (got {item})")
    if into and seen_filter and bool((history.earlier == item).any()):
        raise ValueError(f"item {item} occurs before the events that can be dropped, so the seen filter removes it")
    search = _Search(model, history, item, into, k, seen_filter, limit)

    def edit(best: _Candidate | None, exact: bool, message: str) -> Edit:
        after = best or before
        return Edit(
            item, into, k, tuple(sorted(after.dropped)), history.drop(*after.dropped), before.rank, after.rank,
            search.passes, search.scored, exact, best is not None and best.works, message,
        )  # fmt: skip

    (before,) = search.best([()])
    if before.works:
        yield edit(before, True, f"the item is already {'in' if into else 'out of'} the top {k}")
        return
    strategy = _exhaustive if len(history) <= exact_up_to else _greedy
    for best, exact, message in strategy(search, len(history)):
        yield edit(best, exact, message)


@dataclass(frozen=True)
class _Candidate:
    """One edit: the item's rank after it, whether the edit works, and its margin over the border of the top k."""

    dropped: Positions
    rank: float
    works: bool
    margin: float


class _Search:
    """Ranks one item after many edits of one history, and counts the passes."""

    def __init__(
        self, model: nn.Module, history: History, item: int, into: bool, k: int, seen_filter: bool, limit: int
    ) -> None:
        self.model, self.history, self.item, self.into = model, history, item, into
        self.k, self.seen_filter, self.limit = k, seen_filter, limit
        self.passes = self.scored = 0
        self.evaluate = self._by_scores if supports(model, Scores) else self._by_lists
        self.rows = 1  # per pass; the first pass shows how large the catalogue is

    def within_limit(self, histories: int) -> bool:
        return self.scored + histories <= self.limit

    def best(self, edits: Iterable[Positions]) -> Iterator[_Candidate]:
        """After every pass, the working edit that moves the rank most; while none works, the one of largest margin."""
        edits, tried, sign = iter(edits), [], -1 if self.into else 1
        while some := list(islice(edits, self.rows)):
            ranks, margins = self.evaluate([self.history.drop(*dropped) for dropped in some])
            self.passes, self.scored = self.passes + 1, self.scored + len(some)
            for dropped, rank, margin in zip(some, ranks.tolist(), margins.tolist(), strict=True):
                tried.append(_Candidate(dropped, rank, (rank <= self.k) == self.into, margin))
            tried = [max(tried, key=lambda one: (one.works, sign * one.rank if one.works else one.margin, one.margin))]
            yield tried[0]

    def _by_scores(self, histories: list[History]) -> tuple[Tensor, Tensor]:
        """Ranks (n,) of the item, and the margins (n,) of its score over the k-th best other score."""
        scores = scores_of(self.model, histories)  # (n, N + 1)
        if self.item >= scores.shape[1]:
            raise ValueError(f"there is no item {self.item}; the catalogue ends at {scores.shape[1] - 1}")
        self.rows = min(rows_per_pass(self.model, len(self.history)), rows_per_batch(scores.device, scores.shape[1]))
        scores = mask_seen(scores, histories, self.seen_filter)
        own = scores[:, self.item].clone()
        ranks = ranks_of(scores, torch.full((len(scores),), self.item)).masked_fill(own == -torch.inf, torch.inf)
        scores[:, self.item] = -torch.inf
        border = scores.topk(min(self.k, scores.shape[1] - 1), dim=1).values[:, -1]
        margins = (own - border).nan_to_num(0.0)
        return ranks, margins if self.into else -margins

    def _by_lists(self, histories: list[History]) -> tuple[Tensor, Tensor]:
        """Ranks (n,), infinite beyond the list and the items that tie with its last; the margins are the ranks."""
        self.rows = LISTS_PER_PASS
        ranking = lists_of(self.model, histories, self.k, self.seen_filter, ties=True)
        ranks = ranks_in_lists(ranking, torch.full((len(histories),), self.item))
        return ranks, -ranks if self.into else ranks


def _exhaustive(search: _Search, events: int) -> Iterator[tuple[_Candidate | None, bool, str]]:
    """All edits of one event, then of two, ...: yields after every pass the best of this size, whether it is exact, and
    a message. Ends at the first size at which an edit works."""
    for size in range(1, events):
        if not search.within_limit(comb(events, size)):
            yield (
                None,
                False,
                _over_limit(search, f"no edit of fewer than {size} events works, and trying all of these"),
            )
            return
        for best in search.best(combinations(range(events), size)):
            yield best, False, f"trying all {comb(events, size):,} edits of {_events(size)}"
        if best.works:
            yield best, True, f"the smallest there is: all edits of up to {_events(size)} were tried"
            return
    yield None, True, "no edit works: all were tried"


def _greedy(search: _Search, events: int) -> Iterator[tuple[_Candidate | None, bool, str]]:
    """Drops the best event of every round until the edit works, then restores events that are not needed."""
    best = _Candidate((), 0.0, False, 0.0)
    while not best.works:
        gone = best.dropped
        rest = [at for at in range(events) if at not in gone]
        if len(rest) == 1:
            yield None, False, "greedily dropping events, down to the last one, does not work"
            return
        if not search.within_limit(len(rest)):
            yield None, False, _over_limit(search, f"dropping {_events(len(gone))} does not work, and one more")
            return
        for best in search.best([(*gone, at) for at in rest]):
            yield best, False, f"looking for the best event to drop, after {len(gone)} others"
        if best.margin == -torch.inf:
            yield None, False, "no single event brings the item into the list, and a list shows no ranks beyond it"
            return
    while len(best.dropped) > 2 and search.within_limit(len(best.dropped)):  # one event alone has been tried
        message = f"checking which of the {len(best.dropped)} dropped events can be restored"
        for fewer in search.best([tuple(kept for kept in best.dropped if kept != back) for back in best.dropped]):
            yield fewer if fewer.works else best, False, message
        if not fewer.works:
            break
        best = fewer
    if len(best.dropped) <= 2:
        yield best, True, "the smallest there is: all edits of one event were tried"
    else:
        yield best, False, "found by greedily dropping events; a smaller edit may exist"


def _over_limit(search: _Search, what: str) -> str:
    return f"{what} would take more than the limit of {search.limit:,} histories; {search.scored:,} were scored"


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
