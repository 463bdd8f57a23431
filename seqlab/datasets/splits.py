"""A split: training histories, and queries of validation and test; and the parts that rules make splits of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqlab.datasets.event_order import out_of_order
from seqlab.datasets.events import Events, offsets_of
from seqlab.datasets.log import InteractionLog
from seqlab.datasets.sequences import Queries, Sequences


@dataclass(frozen=True)
class Split:
    """Training histories, and the queries of validation and test.

    train: the only data that tokenizers, graphs, item vectors, counts and models may read. name: the text by which
    `datasets.split` makes it, such as "leave-one-out". notes: which users have no query, and other remarks. task: the
    task that its queries are for, a module of `seqlab.tasks`; "": the system's own.
    """

    log: InteractionLog
    train: Sequences
    valid: Queries
    test: Queries
    name: str
    notes: tuple[str, ...] = ()
    task: str = ""

    @property
    def n_items(self) -> int:
        return self.log.n_items

    @property
    def n_users(self) -> int:
        return self.log.n_users

    def __repr__(self) -> str:
        parts = f"train {len(self.train.items):,} events, valid {len(self.valid):,} and test {len(self.test):,} queries"
        return f"Split({self.log.name}, {self.name}: {parts})" + "".join(f"\n  {note}" for note in self.notes)


def whole_log(log: InteractionLog, columns: tuple[str, ...] = ()) -> tuple[Sequences, Tensor]:
    """The whole log as Sequences with some further columns, and the number of events per user."""
    counts = np.bincount(log.events["user"].to_numpy(), minlength=log.n_users + 1)[1:]
    lengths = torch.from_numpy(counts)
    items = torch.from_numpy(log.events["item"].to_numpy(dtype=np.int64, copy=True))
    times = torch.from_numpy(log.events["timestamp"].to_numpy(dtype=np.float64, copy=True))
    extra = {name: torch.from_numpy(np.array(log.column(name)[0])) for name in columns}
    return Sequences(Events(items, times, extra), offsets_of(lengths)), lengths


def prefix(whole: Sequences, kept: Tensor) -> Sequences:
    """The first `kept[u]` events of each user."""
    return between(whole, torch.zeros_like(kept), kept)


def between(whole: Sequences, first: Tensor, end: Tensor) -> Sequences:
    """The events `first[u]` to `end[u]` of each user, counted from 0."""
    position = torch.arange(len(whole.items)) - torch.repeat_interleave(whole.offsets[:-1], whole.lengths)
    low, high = (torch.repeat_interleave(bound, whole.lengths) for bound in (first, end))
    return Sequences(whole.events[(position >= low) & (position < high)], offsets_of(end - first))


def queries_at(
    log: InteractionLog, whole: Sequences, users: Tensor, at: Tensor, notes: list[str], part: str
) -> Queries:
    """Queries whose answers are the events `at`; if ties are shuffled, histories end before the time of the answer."""
    start, end = whole.offsets[users - 1], at.clone()
    if log.ties == "shuffle":
        end = ends_before(whole, start, end, whole.times[at])
        kept = end > start
        if left := int((~kept).sum()):
            notes.append(f"{left:,} users have no event strictly before their {part} answer: they have no query.")
        users, at, start, end = users[kept], at[kept], start[kept], end[kept]
    return Queries(whole, users, whole.events[at], start, end)


def ends_before(sequences: Sequences, start: Tensor, end: Tensor, time: Tensor) -> Tensor:
    """The largest end (Q,) of each history `[start, end)` such that all events are known to be before `time` (Q,)."""
    lengths = end - start
    row = torch.repeat_interleave(torch.arange(len(start)), lengths)
    at = start[row] + torch.arange(len(row)) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    late = ~(sequences.times[at] < time[row])
    return end.scatter_reduce(0, row[late], at[late], "amin")


def order_note(log: InteractionLog) -> list[str]:
    """A note if times are out of order in the log, because first, last and next are then not by time."""
    user, times = log.events["user"].to_numpy(), log.events["timestamp"].to_numpy()
    back = out_of_order(user, times)
    if not back.any():
        return []
    times = log.events.groupby("user").agg(latest=("timestamp", "max"), last=("timestamp", "last"))
    return [
        f"{int(back.sum()):,} events of {len(np.unique(user[back])):,} users are earlier than the previous event, and "
        f"the order of the source is kept: the last event of {int((times['last'] < times['latest']).sum()):,} users is "
        "not their latest. Read the log with order='time' to sort it."
    ]
