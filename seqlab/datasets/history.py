"""One user's history as a model reads it, and how an edit changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqlab.datasets.sequences import Batch
from seqlab.datasets.typed_in import typed_items

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split


@dataclass(frozen=True)
class History:
    """What a model reads of one user: items and times (T,), oldest first, and the ids `earlier` than it reads.

    An edit gives a new History. Moments stay where they are: moving an event changes which item came when.
    """

    user: int
    items: Tensor
    times: Tensor
    earlier: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def last(self, count: int) -> History:
        """Its `count` most recent events; those before join the `earlier` ones."""
        first = max(0, len(self) - count)
        earlier = torch.cat([self.earlier, self.items[:first]])
        return replace(self, items=self.items[first:], times=self.times[first:], earlier=earlier)

    def drop(self, *at: int) -> History:
        """Without the events `at` (from 0). Raises `ValueError` if none would be left."""
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[[self._place(one) for one in at]] = False
        if not bool(kept.any()):
            raise ValueError(
                f"{'this is the only event' if len(self) == 1 else 'these are all events'}; a model needs one to go on"
            )
        return replace(self, items=self.items[kept], times=self.times[kept])

    def move(self, at: int, to: int) -> History:
        """Event `at` comes to stand at `to`; those between make room."""
        order = list(range(len(self)))
        order.insert(self._place(to), order.pop(self._place(at)))
        return replace(self, items=self.items[torch.tensor(order)])

    def add(self, item: int) -> History:
        """One more event at the end, at the moment of the last."""
        return replace(
            self, items=torch.cat([self.items, torch.tensor([item])]), times=torch.cat([self.times, self.times[-1:]])
        )

    def reversed(self) -> History:
        """The same items, the last one first."""
        return replace(self, items=self.items.flip(0))

    def _place(self, at: int) -> int:
        if not 0 <= at < len(self):
            raise ValueError(f"there is no event {at}; the history has {len(self)}")
        return at


def history_of(split: Split, user: int, part: str = "test", longest: int | None = None) -> History:
    """The history that `part` asks this user about, cut to its `longest` most recent events (None: all of them).

    Raises `ValueError` for a user who is not asked.
    """
    queries = {"valid": split.valid, "test": split.test}[part]
    rows = (queries.user == user).nonzero()[:, 0]
    if not len(rows):
        raise ValueError(f"user {user} has no {part} query")
    batch = queries.batch(rows[:1])
    length = int(batch.lengths[0])
    items, times = batch.items[0, :length].cpu(), batch.times[0, :length].cpu()
    return History(int(user), items, times, items[:0]).last(length if longest is None else longest)


def typed_history(split: Split, typed: str | list[str | int], longest: int | None = None) -> History:
    """The history of somebody who is not in the log, user 0, from what a person typed: `datasets.typed_items`.

    Its events lie one typical gap of the log apart (the median of all gaps in training) and end when training does,
    for models that look at times; a log without times gives unknown ones (NaN). Cut to its `longest` most recent
    events (None: all of them). Raises `DataError` for an entry that is unknown or could be several items.
    """

    items = torch.tensor(typed_items(split.log, typed))
    times, users = split.train.times.cpu(), split.train.users.cpu()
    times, order = times.sort(stable=True)
    users, order = users[order].sort(stable=True)  # then every user's events are oldest first, whatever the log's order
    gaps = times[order].diff()[users.diff() == 0]
    gaps, known = gaps[~gaps.isnan()], times[~times.isnan()]
    end, gap = known.max() if len(known) else torch.nan, gaps.median() if len(gaps) else 0.0
    moments = end - gap * torch.arange(len(items) - 1, -1, -1, dtype=torch.float64)
    return History(0, items, moments, items[:0]).last(len(items) if longest is None else longest)


def batch_of(histories: list[History], longest: int | None = None) -> Batch:
    """Histories as one Batch, each cut to its `longest` most recent events."""
    cut = [history.items if longest is None else history.items[-longest:] for history in histories]
    moments = [history.times if longest is None else history.times[-longest:] for history in histories]
    pad = torch.nn.utils.rnn.pad_sequence
    lengths = torch.tensor([len(items) for items in cut])
    user = torch.tensor([history.user for history in histories])
    return Batch(pad(cut, batch_first=True), pad(moments, batch_first=True), lengths, user)
