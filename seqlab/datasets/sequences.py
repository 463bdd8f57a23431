"""Histories as flat tensors, queries about them, and padded batches of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import islice, pairwise

import torch
from torch import Tensor

from seqlab.datasets.events import Events, Ragged


@dataclass(frozen=True)
class Batch:
    """The input of a system: `B` histories of at most `T` events, right-padded with 0.

    events: (B, T). lengths: (B,) int64 events per history, without padding. user: (B,) int64.
    target_events: (B, T) the next event after each position, item 0 = none; None for a batch without targets.
    context: what else a query holds, by name, with B rows: "candidates" (B, M) item ids to score, "given" (B, G) items
        of the unfinished basket, both 0 = none.
    """

    events: Events
    lengths: Tensor
    user: Tensor
    target_events: Events | None = None
    context: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def items(self) -> Tensor:
        """(B, T) int64 item ids, 0 = padding."""
        return self.events.items

    @property
    def times(self) -> Tensor:
        """(B, T) float64 unix seconds, NaN = unknown, 0 at padding."""
        return self.events.times

    @property
    def extra(self) -> Mapping[str, Tensor]:
        """The further columns (B, T) that the system declares in `needs`."""
        return self.events.extra

    @property
    def targets(self) -> Tensor | None:
        """(B, T) int64 the next item after each position, 0 = none; None for a batch without targets."""
        return None if self.target_events is None else self.target_events.items

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with one function of the rows applied to every tensor."""
        targets = None if self.target_events is None else self.target_events.map(function)
        context = {name: function(values) for name, values in self.context.items()}
        return Batch(self.events.map(function), function(self.lengths), function(self.user), targets, context)

    def to(self, device: torch.device | str) -> Batch:
        return self.map(lambda x: x.to(device))

    def select(self, rows: Tensor) -> Batch:
        """Some of the histories, by index or boolean mask."""
        return self.map(lambda x: x[rows])

    def last(self, x: Tensor) -> Tensor:
        """`x` (B, T, ...) at the last event of each history: (B, ...); at position 0 for an empty history."""
        return x[torch.arange(len(x), device=x.device), (self.lengths - 1).clamp(min=0)]

    def cut(self, cuts: int) -> Batch:
        """Random prefixes of the histories, `cuts` per row on average, each with a target at its last position only.

        For bidirectional systems, which can learn from one position of a history at a time.
        """
        row, end = (self.targets > 0).nonzero(as_tuple=True)
        drawn = torch.randperm(len(row), device=row.device)[: cuts * len(self)]
        row, end = row[drawn], end[drawn]
        width = int(end.max()) + 1
        positions = torch.arange(width, device=row.device)
        valid, last = positions <= end[:, None], positions == end[:, None]  # (M, T)
        rows = self.select(row)
        events, targets = (part[:, :width] for part in (rows.events, rows.target_events))
        return Batch(events.mask(valid), end + 1, rows.user, targets.mask(last), rows.context)

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Sequences:
    """All histories concatenated: user `u` (from 1) has the events `offsets[u-1]` to `offsets[u]`, oldest first.

    events: (E,); offsets: (U + 1,) int64.
    """

    events: Events
    offsets: Tensor

    @property
    def items(self) -> Tensor:
        """(E,) int64 item ids."""
        return self.events.items

    @property
    def times(self) -> Tensor:
        """(E,) float64 unix seconds, NaN = unknown."""
        return self.events.times

    @property
    def extra(self) -> Mapping[str, Tensor]:
        """The further columns (E,) that were gathered."""
        return self.events.extra

    @property
    def lengths(self) -> Tensor:
        """The number of events of each user: (U,)."""
        return self.offsets.diff()

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def users(self) -> Tensor:
        """The user of each event: (E,)."""
        return torch.repeat_interleave(torch.arange(1, self.n_users + 1, device=self.items.device), self.lengths)

    def to(self, device: torch.device | str) -> Sequences:
        return Sequences(self.events.to(device), self.offsets.to(device))

    def history(self, user: int) -> Tensor:
        """The items of one user, oldest first."""
        return self.items[self.offsets[user - 1] : self.offsets[user]]

    def groups(self, column: str) -> tuple[Tensor, Tensor]:
        """The boundaries (G + 1,) of each user's consecutive events with equal values of a column, and users (G,).

        They are the baskets or sessions of a log. Raises `KeyError` for a column that was not gathered.
        """
        offsets = torch.cat([self.events.groups(column), self.offsets]).unique()
        return offsets, torch.searchsorted(self.offsets, offsets[:-1], right=True)

    def item_counts(self, n_items: int) -> Tensor:
        """The number of events of each item: (N + 1,)."""
        return torch.bincount(self.items, minlength=n_items + 1)

    def targets_per_epoch(self, max_length: int | None) -> int:
        """The number of targets of `training_batches` in an epoch."""
        return int((self.lengths - 1).clamp(min=0, max=max_length).sum())

    def gather(self, start: Tensor, lengths: Tensor, user: Tensor) -> Batch:
        """A padded Batch of the events [start, start + lengths) of each row; start, lengths, user: (B,)."""
        width = int(lengths.max()) if len(lengths) else 0
        positions = torch.arange(max(width, 1), device=self.items.device)
        valid = positions < lengths[:, None]  # (B, T)
        if not len(self.items):
            return Batch(self.events.map(lambda x: x.new_zeros(valid.shape)), lengths, user)
        at = (start[:, None] + positions).clamp(max=len(self.items) - 1)
        return Batch(self.events[at].mask(valid), lengths, user)

    def training_batches(
        self, max_length: int | None, tokens: int, seed: int, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """One epoch: a random crop of every history, in batches of similar lengths, in random order.

        A crop has up to `max_length` inputs (None: all), each with the next item as target. A batch has as many rows as
        fit into `tokens` padded positions (at least one row). shard (i, n): only the rows i, i + n, .. of every batch
        (possibly none), for process i of n.
        """
        generator = torch.Generator().manual_seed(seed)
        lengths = self.lengths.cpu()
        rows = (lengths > 1).nonzero()[:, 0]
        crop = lengths[rows] - 1  # inputs of each row; one more event is the last target
        if max_length is not None:
            crop = crop.clamp(max=max_length)
        slack = lengths[rows] - 1 - crop
        shift = (torch.rand(len(rows), generator=generator) * (slack + 1)).long().clamp(max=slack)
        start = self.offsets.cpu()[rows] + shift
        order = torch.argsort(crop + torch.rand(len(rows), generator=generator))  # by length, random for equal ones
        cuts = _token_budget(crop[order], tokens)
        for which in torch.randperm(len(cuts) - 1, generator=generator).tolist():
            chosen = order[cuts[which] : cuts[which + 1]][shard[0] :: shard[1]]
            first, lengths, user = (tensor[chosen].to(self.items.device) for tensor in (start, crop, rows + 1))
            events = self.gather(first, lengths + 1, user).events  # (B, T + 1)
            targets = events[:, 1:]  # (B, T)
            valid = torch.arange(targets.items.shape[1], device=lengths.device) < lengths[:, None]
            yield Batch(events[:, :-1].mask(valid), lengths, user, targets)


@dataclass(frozen=True)
class Queries:
    """Queries about what comes after a history, one per row.

    user: (Q,) int64. answer: (Q,) the event that comes next; its item is 0 where there are only several answers.
    start, end: (Q,) int64, the history `[start, end)` in `sequences`. id: (Q,) int64, a number of each query that
    stays when queries are selected; None: the row.
    answers: the items of several answers. candidates: (Q, M) items to choose from, 0 = none; labels: (Q, M) float64
    their labels, NaN = none. given: the items that are known of the unfinished basket.
    The history ends before the answer and, if the order of ties has no meaning, before the time of the answer.
    """

    sequences: Sequences
    user: Tensor
    answer: Events
    start: Tensor
    end: Tensor
    id: Tensor | None = None
    answers: Ragged | None = None
    candidates: Tensor | None = None
    labels: Tensor | None = None
    given: Ragged | None = None

    def __post_init__(self) -> None:
        if self.id is None:
            object.__setattr__(self, "id", torch.arange(len(self.user), device=self.user.device))

    @property
    def item(self) -> Tensor:
        """(Q,) int64 the item of the answer."""
        return self.answer.items

    def __len__(self) -> int:
        return len(self.user)

    def to(self, device: torch.device | str) -> Queries:
        parts = ((one.name, getattr(self, one.name)) for one in fields(self))
        return Queries(**{name: None if part is None else part.to(device) for name, part in parts})

    def select(self, rows: Tensor) -> Queries:
        """Some of the queries, by index or boolean mask."""
        several = {name: getattr(self, name) for name in ("answers", "given")}
        single = {
            name: getattr(self, name) for name in ("user", "answer", "start", "end", "id", "candidates", "labels")
        }
        return replace(
            self,
            **{name: None if part is None else part[rows] for name, part in single.items()},
            **{name: None if part is None else part.select(rows) for name, part in several.items()},
        )

    def batch(self, rows: Tensor, max_length: int | None = None) -> Batch:
        """The histories of these rows, each cut to the `max_length` most recent events (None: all)."""
        end = self.end[rows]
        lengths = end - self.start[rows]
        if max_length is not None:
            lengths = lengths.clamp(max=max_length)
        batch = self.sequences.gather(end - lengths, lengths, self.user[rows])
        final = torch.arange(batch.items.shape[1], device=end.device) == (lengths - 1).clamp(min=0)[:, None]
        targets = self.answer[rows].map(lambda x: x[:, None].expand(final.shape)).mask(final)  # (B, T)
        context = {} if self.candidates is None else {"candidates": self.candidates[rows]}
        context |= {} if self.given is None else {"given": self.given.padded(rows)}
        return replace(batch, target_events=targets, context=context)

    def batches(
        self, max_length: int | None, tokens: int, rows_at_most: int, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[Tensor, Batch]]:
        """All queries as (rows, Batch), in batches of similar lengths, of up to `tokens` positions and `rows_at_most`.

        shard (i, n): only the batches i, i + n, .., for process i of n.
        """
        lengths = self.end - self.start
        if max_length is not None:
            lengths = lengths.clamp(max=max_length)
        order = torch.argsort(lengths, stable=True)
        cuts = _token_budget(lengths[order].cpu(), tokens, rows_at_most)
        for first, after in islice(pairwise(cuts), shard[0], None, shard[1]):
            rows = order[first:after]
            yield rows, self.batch(rows, max_length)


def _token_budget(lengths: Tensor, tokens: int, rows_at_most: int | None = None) -> list[int]:
    """Boundaries of batches of ascending `lengths`, with rows x longest length of at most `tokens`."""
    cuts, total = [0], len(lengths)
    widths = lengths.clamp(min=1)
    while cuts[-1] < total:
        first = cuts[-1]
        most = tokens // int(widths[first])  # rows that fit if none were longer
        most = min(max(most, 1), rows_at_most or total, total - first)
        rows = torch.arange(1, most + 1)
        fits = int((rows * widths[first : first + most] <= tokens).sum())
        cuts.append(first + max(fits, 1))
    return cuts
