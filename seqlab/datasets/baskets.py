"""Baskets: splits whose queries are a user's next basket, or the rest of an unfinished one; the items of baskets.

A basket is the events of one user with one value of the column "basket"; an event without a value is a basket of its
own. Within a basket, items are a set: their order and how often they occur have no meaning.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from seqlab.datasets.events import Events, Ragged, offsets_of
from seqlab.datasets.log import InteractionLog
from seqlab.datasets.sequences import Batch, Queries, Sequences
from seqlab.datasets.splits import Split, ends_before, order_note, prefix, whole_log
from seqlab.runtime.text import DataError


def last_basket(log: InteractionLog, columns: tuple[str, ...] = ()) -> Split:
    """The items of each user's last basket are the test answers, those of the basket before it the validation answers.

    Training are the events before the validation basket; the history of a query are all events before its basket,
    strictly before its time if the order of ties has no meaning. Users with fewer than three baskets have no query; all
    their events are training. This is next-basket recommendation (Rendle et al., WWW 2010). columns: further columns to
    gather. Raises `DataError` for a log without a column of baskets.
    """
    whole, train, parts, notes = _last_two(log, columns)
    queries = {}
    for part, users, at, row, event in parts:
        start = whole.offsets[users - 1]
        end = _history_end(log, whole, start, at)
        kept = end > start
        if left := int((~kept).sum()):
            notes.append(f"{left:,} users have no event strictly before their {part} basket: they have no query.")
        row, event = _select(kept, row, event)
        counts = torch.bincount(row, minlength=int(kept.sum()))
        answer = _answer(whole, at[kept], event, counts)
        answers = Ragged(whole.items[event], offsets_of(counts))
        queries[part] = Queries(whole, users[kept], answer, start[kept], end[kept], answers=answers)
    return Split(log, train, queries["validation"], queries["test"], "last-basket", tuple(notes), "baskets")


def basket_completion(log: InteractionLog, hidden: str = "one", seed: int = 0, columns: tuple[str, ...] = ()) -> Split:
    """The rest of each user's last basket: some of its items, drawn at random, are the answers, the others are given.

    hidden: "one" item, as in the field (within-basket recommendation: Wan et al., CIKM 2018; Gartrell et al., AAAI
    2017), or a share of the basket such as 0.5, of which at least one item is hidden and one is given. The basket
    before the last is completed in validation; training are the events before it. The history of a query are all events
    before its basket and, as its last events, the given items (also in `Queries.given`), so that a system that reads
    histories only knows them too. Users with fewer than three baskets, and baskets of one item, have no query. columns:
    further columns to gather. Raises `DataError` for a log without a column of baskets and for another `hidden`.
    """
    share = _share(hidden)
    whole, train, parts, notes = _last_two(log, columns)
    generator = torch.Generator().manual_seed(seed)
    queries = {}
    for part, users, at, row, event in parts:
        counts = torch.bincount(row, minlength=len(users))
        end = _history_end(log, whole, whole.offsets[users - 1], at)
        kept = (counts >= 2) & (end > whole.offsets[users - 1])
        if left := int((~kept).sum()):
            notes.append(
                f"{left:,} users have no {part} query: their basket has a single item, or no event is strictly before."
            )
        row, event = _select(kept, row, event)
        users, at, end, counts = users[kept], at[kept], end[kept], counts[kept]
        rank = _random_order(row, counts, generator)
        fewest = torch.ones_like(counts)
        n_hidden = fewest if share is None else torch.minimum((share * counts).round().long().clamp(min=1), counts - 1)
        is_hidden = rank < n_hidden[row]
        answers = Ragged(whole.items[event[is_hidden]], offsets_of(n_hidden))
        given = Ragged(whole.items[event[~is_hidden]], offsets_of(counts - n_hidden))
        sequences = _with_given(whole, users, end, row[~is_hidden], event[~is_hidden])
        answer = _answer(whole, at, event[is_hidden], n_hidden)
        start, after = sequences.offsets[users - 1], sequences.offsets[users]
        queries[part] = Queries(sequences, users, answer, start, after, answers=answers, given=given)
    name = "basket-completion" + (f" {hidden}" if hidden != "one" or seed else "") + (f" {seed}" if seed else "")
    return Split(log, train, queries["validation"], queries["test"], name, tuple(notes), "baskets")


def unfinished_basket(batch: Batch) -> Tensor:
    """The items of the basket that is to be completed, without padding between them: (B, G), 0 = none.

    They are the given items of a query; where none are given, the items of the last basket of the history. In a batch
    without the column "basket", such as a history that was typed in, every event is a basket of its own.
    """
    code = batch.extra["basket"] if "basket" in batch.extra else torch.zeros_like(batch.items)
    positions = torch.arange(code.shape[1], device=code.device)
    is_last = positions == batch.lengths[:, None] - 1
    own = is_last | ((code == batch.last(code)[:, None]) & (code > 0) & (positions < batch.lengths[:, None]))
    width = max(int(own.sum(1).max()) if len(own) else 0, 1)
    order = own.byte().argsort(dim=1, descending=True, stable=True)[:, :width]
    items = (batch.items * own).gather(1, order)  # (B, G)
    if (given := batch.context.get("given")) is None:
        return items
    width = max(width, given.shape[1])
    items, given = (torch.nn.functional.pad(one, (0, width - one.shape[1])) for one in (items, given))
    return torch.where((given > 0).any(1, keepdim=True), given, items)


def basket_items(sequences: Sequences) -> Ragged:
    """The distinct items of every basket, ascending. Raises `KeyError` if the column "basket" was not gathered."""
    number = number_baskets(sequences.users, sequences.extra["basket"])
    width = int(sequences.items.max()) + 1 if len(number) else 1
    pairs = (number * width + sequences.items).unique()
    counts = torch.bincount(pairs // width, minlength=int(number.max()) + 1 if len(number) else 0)
    return Ragged(pairs % width, offsets_of(counts))


def number_baskets(users: Tensor, codes: Tensor) -> Tensor:
    """The number of each event's basket, from 0: (E,). users: (E,); codes: (E,), 0 = an event without a basket."""
    width = int(codes.max()) + 1 if len(codes) else 1
    alone = -1 - torch.arange(len(codes), device=codes.device)
    return torch.where(codes > 0, users * width + codes, alone).unique(return_inverse=True)[1]


def _last_two(log: InteractionLog, columns: tuple[str, ...]):
    """The last basket of each user and the one before it.

    Returns the whole log, the training part, (part, users (Q,), first event of the basket (Q,), row, event) for
    validation and test, where row and event (A,) are the distinct items of the baskets, and notes.
    """
    codes = torch.from_numpy(log.column("basket")[0].copy())
    whole, lengths = whole_log(log, columns)
    basket, place = number_baskets(whole.users, codes), torch.arange(len(codes))
    first = torch.full_like(place, len(place)).scatter_reduce(0, basket, place, "amin")[basket]  # (E,)
    start, stop = whole.offsets[:-1], whole.offsets[1:]
    test_at = first[(stop - 1).clamp(min=0)]
    valid_at = first[(test_at - 1).clamp(min=0)]
    has_query = (lengths > 0) & (test_at > start) & (valid_at > start)
    users = has_query.nonzero()[:, 0] + 1
    test_at, valid_at, stop = test_at[has_query], valid_at[has_query], stop[has_query]
    kept = lengths.clone()
    kept[has_query] = valid_at - start[has_query]
    notes = order_note(log)
    if left := int((~has_query).sum()):
        none = "" if left < log.n_users else " These are all users: there are no queries."
        notes.append(f"{left:,} users have fewer than 3 baskets: they are trained on and have no query.{none}")
    parts = [
        (part, users, at, *_distinct_items(whole, basket, at, until))
        for part, at, until in (("validation", valid_at, test_at), ("test", test_at, stop))
    ]
    return whole, prefix(whole, kept), parts, notes


def _distinct_items(whole: Sequences, basket: Tensor, at: Tensor, until: Tensor) -> tuple[Tensor, Tensor]:
    """The first event (A,) of every item of the baskets that begin at events `at` (Q,), with its row (A,)."""
    row, event = _ranges(at, until - at)
    own = basket[event] == basket[at][row]
    row, event = row[own], event[own]
    key = row * (int(whole.items.max()) + 1 if len(row) else 1) + whole.items[event]
    order = key.argsort(stable=True)
    is_first = torch.ones(len(order), dtype=torch.bool)
    is_first[1:] = key[order][1:] != key[order][:-1]
    chosen = order[is_first].sort().values
    return row[chosen], event[chosen]


def _ranges(start: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The members (A,) of the ranges [start, start + lengths), with the row (A,) of each."""
    row = torch.repeat_interleave(torch.arange(len(start)), lengths)
    return row, torch.arange(len(row)) + (start - lengths.cumsum(0) + lengths)[row]


def _history_end(log: InteractionLog, whole: Sequences, start: Tensor, at: Tensor) -> Tensor:
    return ends_before(whole, start, at, whole.times[at]) if log.ties == "shuffle" else at


def _select(kept: Tensor, row: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
    """The (row, event) pairs of the rows that are kept, with the rows numbered anew."""
    inside = kept[row]
    return (kept.cumsum(0) - 1)[row[inside]], event[inside]


def _answer(whole: Sequences, at: Tensor, event: Tensor, counts: Tensor) -> Events:
    """The event of a single answer; the first event of the basket, without an item, where there are several."""
    single = counts == 1
    first = offsets_of(counts)[:-1]
    events = whole.events[torch.where(single, event[first], at)]
    return dataclasses.replace(events, items=events.items * single)


def _random_order(row: Tensor, counts: Tensor, generator: torch.Generator) -> Tensor:
    """The rank (A,), from 0, of each member within its row in a random order. row: ascending."""
    drawn = torch.rand(len(row), generator=generator).argsort()
    order = drawn[row[drawn].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - offsets_of(counts)[:-1][row]
    return rank


def _with_given(whole: Sequences, users: Tensor, end: Tensor, row: Tensor, event: Tensor) -> Sequences:
    """The histories of `users` up to `end`, followed by the given events; other users as they are."""
    kept = whole.lengths.clone()
    kept[users - 1] = end - whole.offsets[users - 1]
    owner, before = _ranges(whole.offsets[:-1], kept)
    owner, index = torch.cat([owner, users[row] - 1]), torch.cat([before, event])
    order = owner.argsort(stable=True)
    return Sequences(whole.events[index[order]], offsets_of(torch.bincount(owner, minlength=len(kept))))


def _share(hidden: str) -> float | None:
    """The share of a basket that is hidden; None for one item."""
    if hidden == "one":
        return None
    try:
        share = float(hidden)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise DataError(f"basket-completion: hidden is one, or a share between 0 and 1 such as 0.5 (got {hidden!r}).")
    return share
