"""Histories of single users, edits of them, and histories of typed items."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqlab.datasets.events import Events
from seqlab.datasets.sequences import Batch
from seqlab.datasets.typed_in import typed_items

if TYPE_CHECKING:
    from seqlab.datasets.sequences import Queries
    from seqlab.datasets.splits import Split


@dataclass(frozen=True)
class History:
    """The history of one user: items and times (T,), oldest first, and the `earlier` items that are not read.

    An edit returns a new History. Times keep their positions: `move` and `reversed` reorder the items only.
    """

    user: int
    items: Tensor
    times: Tensor
    earlier: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def last(self, count: int) -> History:
        """The `count` most recent events; the items before them are added to `earlier`."""
        first = max(0, len(self) - count)
        earlier = torch.cat([self.earlier, self.items[:first]])
        return replace(self, items=self.items[first:], times=self.times[first:], earlier=earlier)

    def drop(self, *at: int) -> History:
        """Without the events at these positions (from 0). Raises `ValueError` if none would be left."""
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[[self._position(one) for one in at]] = False
        if not bool(kept.any()):
            raise ValueError(
                f"{'this is the only event' if len(self) == 1 else 'these are all events'}; a model needs at least one"
            )
        return replace(self, items=self.items[kept], times=self.times[kept])

    def move(self, at: int, to: int) -> History:
        """Move the item at position `at` to position `to`."""
        order = list(range(len(self)))
        order.insert(self._position(to), order.pop(self._position(at)))
        return replace(self, items=self.items[torch.tensor(order)])

    def add(self, item: int) -> History:
        """Append an event with the time of the last one."""
        return replace(
            self, items=torch.cat([self.items, torch.tensor([item])]), times=torch.cat([self.times, self.times[-1:]])
        )

    def reversed(self) -> History:
        """The items in reverse order."""
        return replace(self, items=self.items.flip(0))

    def _position(self, at: int) -> int:
        if not 0 <= at < len(self):
            raise ValueError(f"there is no event {at}; the history has {len(self)}")
        return at


def history_of(split: Split, user: int, part: str = "test", longest: int | None = None) -> History:
    """The history of a user's query in `part` ("valid" or "test"), cut to the `longest` most recent events (None: all).

    Raises `ValueError` for a user without a query.
    """
    queries = {"valid": split.valid, "test": split.test}[part]
    rows = (queries.user == user).nonzero()[:, 0]
    if not len(rows):
        raise ValueError(f"user {user} has no {part} query")
    return history_at(queries, int(rows[0]), longest)


def history_at(queries: Queries, row: int, longest: int | None = None) -> History:
    """The history of one query, by its row, cut to the `longest` most recent events (None: all)."""
    batch = queries.batch(torch.tensor([row], device=queries.user.device))
    length = int(batch.lengths[0])
    items, times = batch.items[0, :length].cpu(), batch.times[0, :length].cpu()
    return History(int(batch.user[0]), items, times, items[:0]).last(length if longest is None else longest)


def typed_history(split: Split, typed: str | list[str | int], longest: int | None = None) -> History:
    """A history of user 0 (not in the log) from typed ids or titles: see `datasets.typed_items`.

    The last event has the time of the last training event; the gaps are the median gap in training (NaN for a log
    without times). Cut to the `longest` most recent events (None: all). Raises `DataError` for an entry that is unknown
    or ambiguous.
    """
    items = torch.tensor(typed_items(split.log, typed))
    times, users = split.train.times.cpu(), split.train.users.cpu()
    times, order = times.sort(stable=True)
    users, order = users[order].sort(stable=True)  # every user's events oldest first, whatever the order of the log
    gaps = times[order].diff()[users.diff() == 0]
    gaps, known = gaps[~gaps.isnan()], times[~times.isnan()]
    end, gap = known.max() if len(known) else torch.nan, gaps.median() if len(gaps) else 0.0
    times = end - gap * torch.arange(len(items) - 1, -1, -1, dtype=torch.float64)
    return History(0, items, times, items[:0]).last(len(items) if longest is None else longest)


def batch_of(histories: list[History], longest: int | None = None) -> Batch:
    """Histories as one Batch, each cut to its `longest` most recent events (None: all)."""
    first = 0 if longest is None else -longest
    items, times = (
        [part[first:] for part in parts] for parts in zip(*((h.items, h.times) for h in histories), strict=True)
    )
    pad = torch.nn.utils.rnn.pad_sequence
    lengths = torch.tensor([len(row) for row in items])
    user = torch.tensor([history.user for history in histories])
    return Batch(Events(pad(items, batch_first=True), pad(times, batch_first=True)), lengths, user)
