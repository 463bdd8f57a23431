"""Waits between a user's consecutive events, and those that the end of observation cuts off."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from seqlab.datasets.sequences import Sequences
    from seqlab.datasets.splits import Split

SHORTEST = 1.0
"""Seconds: a shorter wait counts as one of this length, so that no density is taken at zero."""


class Waits(NamedTuple):
    """Waits of users: user (W,) int64, start and end (W,) float64 unix seconds."""

    user: Tensor
    start: Tensor
    end: Tensor


def waits_of(sequences: Sequences) -> Waits:
    """The waits between consecutive events of each user."""
    user, times = sequences.users, sequences.times
    same = user[1:] == user[:-1]
    start = times[:-1][same]
    return Waits(user[1:][same], start, torch.maximum(times[1:][same], start + SHORTEST))


def observed_until(split: Split) -> Tensor:
    """The end of observation of each user, unix seconds: (U + 1,) float64, NaN where the log does not have it."""
    until = torch.full((split.n_users + 1,), torch.nan, dtype=torch.float64)
    if "observed_until" in split.log.users:
        until[1:] = torch.from_numpy(split.log.users["observed_until"].to_numpy(dtype="float64", copy=True))
    return until


def open_waits(split: Split) -> Waits:
    """The waits from the last event to the end of observation, of users all of whose events are in training.

    The training part of any other user ends because of the split: what follows it belongs to validation or test.
    """
    counts = torch.from_numpy(np.bincount(split.log.events["user"], minlength=split.n_users + 1)[1:])
    train, until = split.train, observed_until(split)[1:]
    whole = (train.lengths.cpu() == counts) & (counts > 0) & ~until.isnan()
    user = whole.nonzero()[:, 0]
    start = train.times.cpu()[train.offsets.cpu()[1:][user] - 1]
    return Waits(user + 1, start, torch.maximum(until[user], start))


def user_rates(user: Tensor, days: Tensor, n_users: int, pseudo_events: float, open_: tuple[Tensor, Tensor]) -> Tensor:
    """Events per day of each user, shrunk to the rate of all: (U + 1,) float64; row 0 is the rate of all.

    user, days: (W,) waits that ended; open_: the same of waits that did not. pseudo_events: how many events, and the
    waits that go with them at the rate of all, are added to each user. A wait that has not ended adds time only.
    """
    size = n_users + 1
    events = torch.bincount(user, minlength=size).double()
    exposure = torch.bincount(user, days.double(), size) + torch.bincount(open_[0], open_[1].double(), size)
    rate = events.sum() / exposure.sum().clamp(min=1e-9)
    if not bool(rate > 0):
        return torch.ones(size, dtype=torch.float64)
    return (events + pseudo_events) / (exposure + pseudo_events / rate).clamp(min=1e-9)
