"""Household rate: the wait until the next event by counting: a rate per user, a weekly profile, a mixture by EM.

Paper: no paper; an inhomogeneous renewal process. Its parts are the baselines that a neural temporal point process must
beat: a Poisson process, one with a rate for each user, the same on a weekly clock, and log-normal mixtures.

Confirmed: nothing was read in code.
Reconstructed: the rate of a user is shrunk by pseudo-events at the rate of all; the profile counts the events of each
hour of the week; waits are mapped to operational time, multiplied by the rate, and a mixture of log-normals is fitted
there by EM. The item is the most frequent one of the history so far, smoothed by the shares of all in training.
Held against: our own calibration on complete-journey-trips, split within-user 0.2 0, nats per event of the time: one
rate -2.713, a rate per household -2.503, on the weekly clock -2.130, with a mixture of 3 there -2.082.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Measurement, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.datasets.waits import open_waits, user_rates, waits_of
from seqlab.layers.clock import WeeklyProfile
from seqlab.layers.event_heads import Gompertz, LogNormals, OperationalWait, log_normal_mixture
from seqlab.ranking import top
from seqlab.runtime.settings import Count, NonNegativeFloat, NonNegativeInt, settings

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

CARD = Card(
    claim="A floor.",
    task="event_time",
    homes=("complete-journey-trips",),
    split="within-user 0.2 0.1",
    measured=(
        Measurement(
            arms=("household_rate", "household_rate:running=true", "household_rate:mixture=0",
                  "household_rate:weekly=false:mixture=0", "household_rate:household=none:weekly=false:mixture=0",
                  "household_rate:household=location:weekly=false:mixture=1:shrinkage=10"),
        ),
    ),
)  # fmt: skip
TINY = {"mixture": 2, "iterations": 5}


@settings
class Config:
    """Settings; `household=none:weekly=false:mixture=0` is a Poisson process with one rate."""

    max_length: Count | None = None  # the whole history is read
    household: Literal["rate", "location", "none"] = "rate"  # what each user has: a rate, or a mean of the log-wait
    weekly: bool = True  # waits in operational time of the hours of the week
    mixture: NonNegativeInt = 3  # log-normals of the wait; 0: it is exponential
    shrinkage: NonNegativeFloat = 20.0  # pseudo-events at the rate, or the mean, of all users
    running: bool = False  # the rate of a user is that of the history so far instead of that in training
    tail: bool = True  # waits that the end of observation cuts off count in the rates
    iterations: Count = 200  # of EM


class HouseholdRate(nn.Module):
    """`p(wait) = scale_u psi(t) f(scale_u (Psi(t) - Psi(start)))`: psi the profile, f the mixture, Psi its integral."""

    scale: Tensor
    mixture: Tensor
    log_rate: Tensor
    popularity: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        if config.running and config.household != "rate":
            raise ValueError("household_rate: running needs household=rate")
        self.profile = WeeklyProfile()
        self.register_buffer("scale", torch.ones(1))  # (U + 1,), row 0 for a user of no number
        self.register_buffer("mixture", torch.zeros(3, max(config.mixture, 1)))  # log-weights, locations, scales
        self.register_buffer("log_rate", torch.zeros(()))  # of the exponential
        self.register_buffer("popularity", torch.ones(n_items + 1) / n_items)  # shares of the items, in training

    def prepare(self, split: Split) -> None:
        config, size, device = self.config, split.n_users + 1, self.scale.device
        if config.weekly:
            self.profile.fit(split.train.times.cpu())
        user, start, end = waits_of(split.train)
        user, days = user.cpu(), self._passed(start.cpu(), end.cpu())
        open_user, open_start, open_end = open_waits(split)
        tail = (open_user, self._passed(open_start, open_end) * config.tail)
        scale = user_rates(user, days, split.n_users, config.shrinkage, tail)  # (U + 1,)
        if config.household == "location":
            mean = days.log().mean()
            sums = torch.bincount(user, days.log(), size) + config.shrinkage * mean
            counts = torch.bincount(user, minlength=size) + config.shrinkage
            scale = torch.where(counts > 0, -sums / counts.clamp(min=1e-9), -mean).exp()
        elif config.household == "none":
            scale = torch.ones_like(scale)
        self.scale = scale.float().to(device)
        scales = scale[user]
        if config.running:
            first = split.train.times.cpu()[split.train.offsets.cpu()[user - 1]]
            before = torch.arange(len(user)) - torch.searchsorted(user, user)  # waits of the user before this one
            scales = self._running(before, self._passed(first, start.cpu()), scale[0])
        scaled = days * scales
        if config.mixture:
            weight, mean, deviation = log_normal_mixture(scaled.log(), config.mixture, config.iterations)
            self.mixture = torch.stack([weight.log(), mean, deviation]).float().to(device)  # (3, K)
        else:
            exposure = scaled.sum() + (tail[1] * scale[open_user]).sum()
            self.log_rate = (len(scaled) / exposure).log().float().to(device)
        counts = split.train.item_counts(split.n_items).float() + 1  # (N + 1,)
        self.popularity = (counts / counts[1:].sum()).to(device)

    def next_time(self, batch: Batch) -> OperationalWait:
        """The distribution of the wait after each event (B, T)."""
        scale = self.scale[batch.user][:, None].expand(batch.times.shape)  # (B, T)
        if self.config.running:
            passed = self._passed(batch.times[:, :1], batch.times).clamp(min=0).float()  # (B, T), 0 at padding
            scale = self._running(torch.arange(passed.shape[1], device=passed.device), passed, self.scale[0])
        if not self.config.mixture:
            log_rate = self.log_rate.expand(scale.shape)
            return OperationalWait(Gompertz(log_rate, torch.zeros_like(scale)), self.profile, batch.times, scale)
        parts = self.mixture.expand(*scale.shape, *self.mixture.shape)  # (B, T, 3, K)
        return OperationalWait(LogNormals(*parts.unbind(-2)), self.profile, batch.times, scale)

    def mark_log_probs(self, batch: Batch) -> Tensor:
        counts = nn.functional.one_hot(batch.items, len(self.popularity)).cumsum(1)  # (B, T, N + 1)
        return self._log_shares(counts)

    def score(self, batch: Batch) -> Tensor:
        counts = torch.zeros(len(batch), len(self.popularity), device=batch.items.device)
        return self._log_shares(counts.scatter_add_(1, batch.items, torch.ones_like(batch.items, dtype=counts.dtype)))

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)

    def _log_shares(self, counts: Tensor) -> Tensor:
        """The log of the shares of the items (..., N + 1), with pseudo-events at the popularity of each item."""
        counts = counts[..., 1:] + max(self.config.shrinkage, 1e-6) * self.popularity[1:]
        return nn.functional.pad(counts.log() - counts.sum(-1, keepdim=True).log(), (1, 0), value=-torch.inf)

    def _running(self, waits: Tensor, days: Tensor, rate: Tensor) -> Tensor:
        """The rate after some waits (...) that took these days (...), shrunk to the rate of all."""
        return (waits + self.config.shrinkage) / (days + self.config.shrinkage / rate).clamp(min=1e-9)

    def _passed(self, start: Tensor, end: Tensor) -> Tensor:
        """The operational time between two times (...), unix seconds, in days: (...) float64."""
        return self.profile.operational(end) - self.profile.operational(start)
