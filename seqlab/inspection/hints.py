"""Hints: one more event that other users' histories connect with the answer, and one that only is as popular."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqlab.datasets.events import offsets_of
from seqlab.datasets.sequences import Queries, Sequences
from seqlab.items.swing_graph import swing
from seqlab.tasks.next_item import history_pairs

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

RADIUS = 25
"""Places by which the popularity rank of a control may differ from that of its hint, in a large catalogue."""

DRAWS = 16
NEIGHBOURS = 20


def hints(split: Split, queries: Queries, seed: int = 0) -> tuple[Queries, Tensor, Tensor]:
    """For queries on the CPU: those that have a hint, the hints (Q,) and their controls (Q,), item ids.

    The hint is the nearest neighbour of the answer in the Swing graph of the training histories that is not in the
    history; the control has about the same number of training events (see `RADIUS`), and is neither the answer nor in
    the history.
    """
    near = swing(split, keep=min(NEIGHBOURS, split.n_items)).neighbours[queries.item]  # (Q, m)
    hint, found = _first_allowed(near, queries, split.n_items)
    queries, hint = queries.select(found), hint[found]
    order = split.train.item_counts(split.n_items)[1:].argsort(stable=True) + 1  # by popularity
    place = torch.empty(split.n_items + 1, dtype=torch.long)
    place[order] = torch.arange(split.n_items)
    radius = max(2, min(RADIUS, split.n_items // 10))
    step = torch.randint(1, radius + 1, (len(hint), DRAWS), generator=torch.Generator().manual_seed(seed))
    sign = torch.randint(0, 2, step.shape, generator=torch.Generator().manual_seed(seed + 1)) * 2 - 1
    drawn = order[(place[hint][:, None] + sign * step).clamp(0, split.n_items - 1)]  # (Q, DRAWS)
    control, found = _first_allowed(drawn.masked_fill(drawn == hint[:, None], 0), queries, split.n_items)
    return queries.select(found), hint[found], control[found]


def _first_allowed(items: Tensor, queries: Queries, n_items: int) -> tuple[Tensor, Tensor]:
    """The first item (Q,) of each row (Q, M) that is neither 0, the answer nor in the history, and if there is one."""
    rows = torch.arange(len(queries))
    history = torch.cat([row * (n_items + 1) + item for row, item in history_pairs(queries, rows)] or [rows[:0]])
    known = torch.isin(rows[:, None] * (n_items + 1) + items, history)
    allowed = (items > 0) & (items != queries.item[:, None]) & ~known
    return items.gather(1, allowed.int().argmax(1, keepdim=True))[:, 0], allowed.any(1)


def with_event(queries: Queries, item: Tensor) -> Queries:
    """The queries with one more event before the last one of each history: an item (Q,), at the time of the last event.

    Its further columns are those of the last event too.
    """
    lengths = queries.end - queries.start
    offsets = offsets_of(lengths + 1)
    row = torch.repeat_interleave(torch.arange(len(queries)), lengths + 1)
    at = torch.arange(len(row)) - offsets[row]
    events = queries.sequences.events[queries.start[row] + torch.minimum(at, lengths[row] - 1)]
    items = torch.where(at == lengths[row] - 1, item[row], events.items)
    longer = Sequences(replace(events, items=items), offsets)
    return replace(queries, sequences=longer, start=offsets[:-1], end=offsets[1:])
