"""Histories as flat tensors, queries about them, and padded batches of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The input of a system: `B` histories of at most `T` events, right-padded with 0.

    items: (B, T) int64 item ids, 0 = padding.
    times: (B, T) float64 unix seconds, NaN = unknown, 0 at padding.
    lengths: (B,) int64 events per history, without padding.
    user: (B,) int64.
    targets: (B, T) int64 the next item after each position, 0 = none; None for a batch without targets.
    """

    items: Tensor
    times: Tensor
    lengths: Tensor
    user: Tensor
    targets: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        targets = None if self.targets is None else self.targets.to(device)
        return Batch(*(part.to(device) for part in (self.items, self.times, self.lengths, self.user)), targets)

    def last(self, x: Tensor) -> Tensor:
        """`x` (B, T, ...) at the last event of each history: (B, ...); at position 0 for an empty history."""
        return x[torch.arange(len(x), device=x.device), (self.lengths - 1).clamp(min=0)]

    def select(self, rows: Tensor) -> Batch:
        """Some of the histories, by index or boolean mask."""
        targets = None if self.targets is None else self.targets[rows]
        return Batch(self.items[rows], self.times[rows], self.lengths[rows], self.user[rows], targets)

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
        items, targets = self.items[row, :width] * valid, self.targets[row, :width] * last
        times = self.times[row, :width].masked_fill(~valid, 0.0)
        return Batch(items, times, end + 1, self.user[row], targets)

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Sequences:
    """All histories concatenated: user `u` (from 1) has the events `offsets[u-1]` to `offsets[u]`, oldest first.

    items: (E,) int64; times: (E,) float64 unix seconds, NaN = unknown; offsets: (U + 1,) int64.
    """

    items: Tensor
    times: Tensor
    offsets: Tensor

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
        return Sequences(self.items.to(device), self.times.to(device), self.offsets.to(device))

    def history(self, user: int) -> Tensor:
        """The items of one user, oldest first."""
        return self.items[self.offsets[user - 1] : self.offsets[user]]

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
        at = (start[:, None] + positions).clamp(max=max(len(self.items) - 1, 0))
        if not len(self.items):
            return Batch(torch.zeros_like(at), torch.zeros_like(at, dtype=torch.float64), lengths, user)
        return Batch(self.items[at].masked_fill(~valid, 0), self.times[at].masked_fill(~valid, 0.0), lengths, user)

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
            columns = [tensor[chosen].to(self.items.device) for tensor in (start, crop, rows + 1)]
            inputs = self.gather(*columns)
            targets = self.gather(columns[0] + 1, columns[1], columns[2])
            yield replace(inputs, targets=targets.items)


@dataclass(frozen=True)
class Queries:
    """Next-item queries: the history of a user and the item that comes next, one query per row.

    user: (Q,) int64. item: (Q,) int64, the answer. start, end: (Q,) int64, the history `[start, end)` in `sequences`.
    The history ends before the answer and, if the order of ties has no meaning, before the time of the answer.
    """

    sequences: Sequences
    user: Tensor
    item: Tensor
    start: Tensor
    end: Tensor

    def __len__(self) -> int:
        return len(self.user)

    def to(self, device: torch.device | str) -> Queries:
        return Queries(self.sequences.to(device), *(t.to(device) for t in (self.user, self.item, self.start, self.end)))

    def select(self, rows: Tensor) -> Queries:
        """Some of the queries, by index or boolean mask."""
        return Queries(self.sequences, self.user[rows], self.item[rows], self.start[rows], self.end[rows])

    def batch(self, rows: Tensor, max_length: int | None = None) -> Batch:
        """The histories of these rows, each cut to the `max_length` most recent events (None: all)."""
        end = self.end[rows]
        lengths = end - self.start[rows]
        if max_length is not None:
            lengths = lengths.clamp(max=max_length)
        batch = self.sequences.gather(end - lengths, lengths, self.user[rows])
        final = torch.arange(batch.items.shape[1], device=end.device) == (lengths - 1).clamp(min=0)[:, None]
        return replace(batch, targets=final * self.item[rows, None])

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
