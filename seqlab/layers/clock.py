"""The calendar: features of the hour of the week, and the weekly profile of a rate with its operational time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

HOURS = 168
"""Hours of a week."""

DAY = 86_400.0
"""Seconds of a day."""

MONDAY = 4 * DAY
"""Unix seconds of the first Monday, 1970-01-05 00:00."""

CYCLES = (1, 2, 3, 7, 14, 21)
"""Cycles per week of the clock features: a week, its halves and thirds, a day, its halves and thirds."""


def clock_features(times: Tensor) -> Tensor:
    """Sine and cosine of the position in the week for each of `CYCLES`: times (...) unix seconds -> (..., 12) float32.

    The clock is that of the times: unix seconds of a local time give local hours.
    """
    week = ((times - MONDAY) / (7 * DAY)).remainder(1)  # in float64: seconds of a year do not fit into float32
    angle = week[..., None] * (2 * math.pi * torch.tensor(CYCLES, dtype=times.dtype, device=times.device))  # (..., 6)
    return torch.cat([angle.sin(), angle.cos()], -1).float()  # (..., 12)


class WeeklyProfile(nn.Module):
    """The relative rate of events in each hour of the week, of mean 1, and the operational time that it defines.

    Operational time runs at the profile's rate: a Poisson process with rate `c * profile` is one with the constant rate
    c in operational time. A density of the operational wait becomes one of the wait by adding `log_rate` at its end.
    rate: (168,) float64, from Monday 00:00; all 1 before `fit`, so that operational time is time.
    """

    rate: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rate", torch.ones(HOURS, dtype=torch.float64))

    def fit(self, times: Tensor, pseudo_events: float = 1.0) -> WeeklyProfile:
        """Count the events at `times` (E,), unix seconds, by hour of the week.

        pseudo_events: added to each hour, so that no rate is 0.
        """
        counts = torch.bincount(self._hour(times)[1], minlength=HOURS).double() + pseudo_events
        self.rate = (counts / counts.mean()).to(self.rate.device)
        return self

    def log_rate(self, times: Tensor) -> Tensor:
        """The log of the rate at times (...), unix seconds: (...) float64."""
        return self.rate.log()[self._hour(times)[1]]

    def operational(self, times: Tensor) -> Tensor:
        """The integral of the rate, in days, from the first Monday to times (...), unix seconds: (...) float64."""
        hours, hour = self._hour(times)
        within = self._cumulative()[hour] + (hours.remainder(HOURS) - hour) * self.rate[hour] / 24
        return (hours / HOURS).floor() * 7 + within

    def inverse(self, days: Tensor) -> Tensor:
        """The times (...), unix seconds, at which `operational` is `days` (...), in float64; inf at inf."""
        finite = days.double().masked_fill(days.isinf(), 0.0)
        week = (finite / 7).floor()
        within, starts = finite - 7 * week, self._cumulative()
        hour = (torch.searchsorted(starts, within, right=True) - 1).clamp(0, HOURS - 1)
        hours = week * HOURS + hour + (within - starts[hour]) * 24 / self.rate[hour]
        return torch.where(days.isinf(), torch.inf, hours * 3600 + MONDAY)

    def _cumulative(self) -> Tensor:
        """The integral from Monday 00:00 to the start of each hour, in days: (168,)."""
        return (self.rate.cumsum(0) - self.rate) / 24

    @staticmethod
    def _hour(times: Tensor) -> tuple[Tensor, Tensor]:
        """The hours since the first Monday (...) float64, and which hour of the week each one is in, 0 to 167."""
        hours = (times.double() - MONDAY) / 3600
        return hours, hours.remainder(HOURS).floor().long().clamp(0, HOURS - 1)
