"""Histories as flat tensors, and batches gathered from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What a Recommender reads: `B` histories of at most `T` events, padded on the right with 0.

    items: (B, T) int64 item ids, 0 = padding.
    times: (B, T) float64 unix seconds, NaN = unknown, 0 at padding.
    lengths: (B,) int64 real events per history.
    user: (B,) int64.
    targets: (B, T) int64 the item that came next after each position, 0 = none; None when nothing is asked.
    """

    items: Tensor
    times: Tensor
    lengths: Tensor
    user: Tensor
    targets: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            *(
                None if tensor is None else tensor.to(device)
                for tensor in (self.items, self.times, self.lengths, self.user, self.targets)
            )
        )

    def last(self, x: Tensor) -> Tensor:
        """`x` (B, T, ...) at the last real position of each history: (B, ...); position 0 where there is none."""
        return x[torch.arange(len(x), device=x.device), (self.lengths - 1).clamp(min=0)]

    def select(self, rows: Tensor) -> Batch:
        """Some of the histories, by index or mask."""
        targets = None if self.targets is None else self.targets[rows]
        return Batch(self.items[rows], self.times[rows], self.lengths[rows], self.user[rows], targets)

    def cut(self, cuts: int) -> Batch:
        """Histories cut at random right before an answer, `cuts` per row on average: each a row, asked at its end.

        For systems that read a history both ways, and so can learn from one position of it at a time.
        """
        row, place = (self.targets > 0).nonzero(as_tuple=True)
        drawn = torch.randperm(len(row), device=row.device)[: cuts * len(self)]
        row, place = row[drawn], place[drawn]
        width = int(place.max()) + 1
        steps = torch.arange(width, device=row.device)
        real, end = steps <= place[:, None], steps == place[:, None]  # (M, T)
        items, targets = self.items[row, :width] * real, self.targets[row, :width] * end
        times = self.times[row, :width].masked_fill(~real, 0.0)
        return Batch(items, times, place + 1, self.user[row], targets)

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Sequences:
    """All histories end to end: user `u` (1-based) owns events `offsets[u-1]` to `offsets[u]`, oldest first.

    items: (E,) int64; times: (E,) float64 unix seconds, NaN = unknown; offsets: (U + 1,) int64.
    """

    items: Tensor
    times: Tensor
    offsets: Tensor

    @property
    def lengths(self) -> Tensor:
        """Events of each user: (U,)."""
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
        """How often each item occurs: (N + 1,)."""
        return torch.bincount(self.items, minlength=n_items + 1)

    def targets_per_epoch(self, max_length: int | None) -> int:
        """How many targets `training_batches` has in an epoch."""
        targets = (self.lengths - 1).clamp(min=0, max=max_length)
        return int(targets.sum())

    def gather(self, start: Tensor, lengths: Tensor, user: Tensor) -> Batch:
        """Read the events `start .. start + lengths` of each row into a padded Batch."""
        width = int(lengths.max()) if len(lengths) else 0
        steps = torch.arange(max(width, 1), device=self.items.device)
        real = steps < lengths[:, None]  # (B, T)
        at = (start[:, None] + steps).clamp(max=max(len(self.items) - 1, 0))
        items = self.items[at].masked_fill(~real, 0) if len(self.items) else torch.zeros_like(at)
        times = self.times[at].masked_fill(~real, 0.0) if len(self.items) else torch.zeros_like(at, dtype=torch.float64)
        return Batch(items, times, lengths, user)

    def training_batches(
        self, max_length: int | None, tokens: int, seed: int, share: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """One epoch: a random crop of every history, in batches of like lengths, in random order.

        A crop has up to `max_length` inputs (None: all) and the item after each of them as target. A batch holds as
        many rows as fit into `tokens` positions (one row at least), so little of it is padding. `share` (i, n): of
        every batch the rows i, i + n, .. alone, which may be none; the n shares together are the batches of (0, 1).
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
        order = torch.argsort(crop + torch.rand(len(rows), generator=generator))  # like lengths, random within
        cuts = _token_budget(crop[order], tokens)
        for which in torch.randperm(len(cuts) - 1, generator=generator).tolist():
            chosen = order[cuts[which] : cuts[which + 1]][share[0] :: share[1]]
            columns = [tensor[chosen].to(self.items.device) for tensor in (start, crop, rows + 1)]
            inputs = self.gather(*columns)
            following = self.gather(columns[0] + 1, columns[1], columns[2])
            yield replace(inputs, targets=following.items)


@dataclass(frozen=True)
class Queries:
    """ "These events of this user happened: which item came next?", once per row.

    user, item: (Q,) int64 who is asked about and the answer; start, end: (Q,) int64 the history in `sequences`,
    `[start, end)`, which never reaches the answer nor, where times are known and ties mean nothing, its own moment.
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
        """Some of the queries, by index or mask."""
        return Queries(self.sequences, self.user[rows], self.item[rows], self.start[rows], self.end[rows])

    def batch(self, rows: Tensor, max_length: int | None = None) -> Batch:
        """The histories of these rows, each cut to its `max_length` most recent events (None: all of them)."""
        end = self.end[rows]
        lengths = end - self.start[rows]
        if max_length is not None:
            lengths = lengths.clamp(max=max_length)
        batch = self.sequences.gather(end - lengths, lengths, self.user[rows])
        final = torch.arange(batch.items.shape[1], device=end.device) == (lengths - 1).clamp(min=0)[:, None]
        return replace(batch, targets=final * self.item[rows, None])

    def batches(
        self, max_length: int | None, tokens: int, rows_at_most: int, share: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[Tensor, Batch]]:
        """Every query once, as (rows, Batch), in batches of like lengths under both limits.

        `share` (i, n): the batches i, i + n, .. alone, each with the company it has anyhow.
        """
        lengths = self.end - self.start
        if max_length is not None:
            lengths = lengths.clamp(max=max_length)
        order = torch.argsort(lengths, stable=True)
        cuts = _token_budget(lengths[order].cpu(), tokens, rows_at_most)
        for first, after in islice(pairwise(cuts), share[0], None, share[1]):
            rows = order[first:after]
            yield rows, self.batch(rows, max_length)


def _token_budget(lengths: Tensor, tokens: int, rows_at_most: int | None = None) -> list[int]:
    """Cut ascending `lengths` into runs whose size times longest member stays within `tokens`: the cuts."""
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
