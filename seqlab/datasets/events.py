"""Events of any shape with their further columns, and rows of several values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Events:
    """Events in tensors of one shape (..., T).

    items: int64 item ids, 0 = padding. times: float64 unix seconds, NaN = unknown, 0 at padding. extra: further columns
    of the log by name: int64 codes (0 = missing, and padding) or float64 (NaN = missing, 0 at padding).
    """

    items: Tensor
    times: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def map(self, function: Callable[[Tensor], Tensor]) -> Events:
        """The events with one function applied to every tensor."""
        extra = {name: function(column) for name, column in self.extra.items()}
        return Events(function(self.items), function(self.times), extra)

    def to(self, device: torch.device | str) -> Events:
        return self.map(lambda x: x.to(device))

    def mask(self, valid: Tensor) -> Events:
        """The events with 0 where `valid`, of their shape, is False."""
        return self.map(lambda x: x.masked_fill(~valid, 0))

    def groups(self, column: str) -> Tensor:
        """The boundaries (G + 1,) of runs of equal values of an extra column, in flat events (E,).

        Raises `KeyError` for a column that was not gathered.
        """
        values = self.extra[column]
        starts = torch.ones(len(values) + 1, dtype=torch.bool, device=values.device)
        starts[1:-1] = values[1:] != values[:-1]
        return starts.nonzero()[:, 0]

    def __getitem__(self, index) -> Events:
        return self.map(lambda x: x[index])

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Ragged:
    """Several values per row: row q has `values[offsets[q] : offsets[q + 1]]`.

    values: (A,). offsets: (Q + 1,) int64.
    """

    values: Tensor
    offsets: Tensor

    @property
    def lengths(self) -> Tensor:
        """The number of values of each row: (Q,)."""
        return self.offsets.diff()

    def to(self, device: torch.device | str) -> Ragged:
        return Ragged(self.values.to(device), self.offsets.to(device))

    def select(self, rows: Tensor) -> Ragged:
        """Some of the rows, by index or boolean mask."""
        start, lengths = self.offsets[:-1][rows], self.lengths[rows]
        offsets = offsets_of(lengths)
        place = torch.arange(int(offsets[-1]), device=offsets.device)
        row = torch.searchsorted(offsets[1:], place, right=True)
        return Ragged(self.values[place + (start - offsets[:-1])[row]], offsets)

    def padded(self, rows: Tensor) -> Tensor:
        """The values of some rows, right-padded with 0: (B, M)."""
        start, lengths = self.offsets[:-1][rows], self.lengths[rows]
        positions = torch.arange(int(lengths.max()) if len(lengths) else 0, device=lengths.device)
        valid = positions < lengths[:, None]  # (B, M)
        if not len(self.values):
            return torch.zeros_like(valid, dtype=self.values.dtype)
        return self.values[(start[:, None] + positions).clamp(max=len(self.values) - 1)].masked_fill(~valid, 0)

    def __len__(self) -> int:
        return len(self.offsets) - 1


def offsets_of(lengths: Tensor) -> Tensor:
    """The boundaries (Q + 1,) of consecutive rows of these lengths (Q,)."""
    return torch.cat([lengths.new_zeros(1, dtype=torch.long), lengths.cumsum(0)])
