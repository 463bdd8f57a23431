"""Distributions of the wait until the next event, and the heads that give their parameters from a state.

A distribution has parameters of some shape (...), such as (B, T). Waits are in days, with that shape or with leading
axes; results have the broadcast shape. `wait[index]` selects among the parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.layers.clock import DAY, WeeklyProfile

MIN_LOG_SCALE, MAX_LOG_SCALE = -5.0, 3.0
"""Bounds of the log of a component's scale, in standard deviations of the log-wait."""

GROUPS = 8192
"""Groups of neighbouring values in EM."""

GRID = 256
"""Points of the integral of a survival function."""


@dataclass(frozen=True)
class LogNormals:
    """A mixture of log-normal distributions: log_weights, locations and scales (..., K) of the log-wait."""

    log_weights: Tensor
    locations: Tensor
    scales: Tensor

    def log_prob(self, days: Tensor) -> Tensor:
        log_days = days.log()
        z = (log_days[..., None] - self.locations) / self.scales  # (..., K)
        log_normal = self.log_weights - self.scales.log() - z**2 / 2
        return log_normal.logsumexp(-1) - log_days - math.log(2 * math.pi) / 2

    def log_survival(self, days: Tensor) -> Tensor:
        return self._log_survival_at(days.log())

    def intensity(self, days: Tensor) -> Tensor:
        """The rate of the next event per day, after these days without one."""
        return (self.log_prob(days) - self.log_survival(days)).exp()

    def quantile(self, share: Tensor | float) -> Tensor:
        """By bisection of the log-wait, which lies between the smallest and largest quantile of a component."""
        target = torch.as_tensor(share, dtype=self.scales.dtype, device=self.scales.device)
        of_components = self.locations + self.scales * torch.special.ndtri(target)[..., None]  # (..., K)
        low, high = of_components.amin(-1), of_components.amax(-1)
        target = torch.log1p(-target)
        for _ in range(30):
            middle = (low + high) / 2
            before = self._log_survival_at(middle) > target
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        return ((low + high) / 2).exp()

    def mean(self, limit: float = math.inf) -> Tensor:
        """The expectation of the smaller one of the wait and `limit`, in closed form."""
        means = self.locations + self.scales**2 / 2  # log of a component's mean
        weights = self.log_weights.exp()
        if limit == math.inf:
            return (weights * means.exp()).sum(-1)
        z = (math.log(limit) - self.locations) / self.scales
        below = (means + torch.special.log_ndtr(z - self.scales)).exp()
        return (weights * (below + limit * torch.special.ndtr(-z))).sum(-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(..., count) independent waits."""
        weights = self.log_weights.exp().flatten(0, -2)
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)  # (rows, count)
        chosen = chosen.view(*self.log_weights.shape[:-1], count)
        noise = torch.randn(chosen.shape, generator=generator, dtype=self.scales.dtype, device=chosen.device)
        return (self.locations.gather(-1, chosen) + self.scales.gather(-1, chosen) * noise).exp()

    def _log_survival_at(self, log_days: Tensor) -> Tensor:
        z = (log_days[..., None] - self.locations) / self.scales  # (..., K)
        return (self.log_weights + torch.special.log_ndtr(-z)).logsumexp(-1)

    def __getitem__(self, index) -> LogNormals:
        return LogNormals(self.log_weights[index], self.locations[index], self.scales[index])


@dataclass(frozen=True)
class Gompertz:
    """The wait with intensity `exp(log_rate + slope * days)`; log_rate and slope (...). Slope 0: exponential.

    With a negative slope the distribution is defective: with probability `defect` no event ever comes.
    """

    log_rate: Tensor
    slope: Tensor

    @property
    def defect(self) -> Tensor:
        """The probability (...) that no event ever comes."""
        falling = self.slope < 0
        return torch.where(falling, (self.log_rate.exp() / torch.where(falling, self.slope, -1.0)).exp(), 0.0)

    def log_prob(self, days: Tensor) -> Tensor:
        return self.log_rate + self.slope * days + self.log_survival(days)

    def log_survival(self, days: Tensor) -> Tensor:
        """Minus the integral of the intensity; where slope * days is small, by its series."""
        x = (self.slope * days).clamp(max=60.0)  # exp(60) days are enough
        small = x.abs() < 1e-3
        growth = torch.where(small, 1 + x / 2 + x**2 / 6, torch.expm1(x) / torch.where(small, 1.0, x))
        return -self.log_rate.exp() * days * growth

    def intensity(self, days: Tensor) -> Tensor:
        """The rate of the next event per day, after these days without one."""
        return (self.log_rate + self.slope * days).exp()

    def quantile(self, share: Tensor | float) -> Tensor:
        """inf where the event comes with a smaller probability."""
        share = torch.as_tensor(share, dtype=self.log_rate.dtype, device=self.log_rate.device)
        return self._at(-torch.log1p(-share))

    def mean(self, limit: float = math.inf) -> Tensor:
        """The expectation of the smaller one of the wait and `limit`; without a limit, inf where it is defective."""
        if limit == math.inf:
            far = self.quantile(1 - 1e-7)
            return torch.where(self.slope < 0, torch.inf, _integral(self.log_survival, far))
        return _integral(self.log_survival, torch.full_like(self.log_rate, limit))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(..., count) independent waits, inf where no event comes."""
        uniform = torch.rand(
            count, *self.log_rate.shape, generator=generator, dtype=self.log_rate.dtype, device=self.log_rate.device
        )
        return self._at(-torch.log1p(-uniform)).movedim(0, -1)  # (..., count)

    def _at(self, integral: Tensor) -> Tensor:
        """The wait after which the intensity has this integral."""
        plain = integral * (-self.log_rate).exp()
        x = self.slope * plain
        small = x.abs() < 1e-3
        growth = torch.where(small, 1 - x / 2 + x**2 / 3, torch.log1p(x.clamp(min=-1)) / torch.where(small, 1.0, x))
        return torch.where(x <= -1, torch.inf, plain * growth)

    def __getitem__(self, index) -> Gompertz:
        return Gompertz(self.log_rate[index], self.slope[index])


@dataclass(frozen=True)
class OperationalWait:
    """A wait whose operational time, multiplied by `scale`, has the distribution `base`.

    `u = scale * (operational time at the event - at the start)`, `log p(wait) = log p_base(u) + log scale + log of the
    profile's rate at the event`. start: (...) unix seconds, float64; scale: (...), such as the rate of a user.
    """

    base: LogNormals | Gompertz
    profile: WeeklyProfile
    start: Tensor
    scale: Tensor

    def log_prob(self, days: Tensor) -> Tensor:
        log_rate = self.profile.log_rate(self.start + days * DAY).to(self.scale.dtype)
        return self.base.log_prob(self._operational(days)) + self.scale.log() + log_rate

    def log_survival(self, days: Tensor) -> Tensor:
        return self.base.log_survival(self._operational(days))

    def intensity(self, days: Tensor) -> Tensor:
        """The rate of the next event per day, after these days without one."""
        rate = self.profile.log_rate(self.start + days * DAY).exp().to(self.scale.dtype)
        return self.base.intensity(self._operational(days)) * self.scale * rate

    def quantile(self, share: Tensor | float) -> Tensor:
        return self._days(self.base.quantile(share), self.start, self.scale)

    def mean(self, limit: float) -> Tensor:
        """The expectation of the smaller one of the wait and `limit`, as the integral of the survival function."""
        return _integral(self.log_survival, torch.full_like(self.scale, limit))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(..., count) independent waits, inf where no event comes."""
        return self._days(self.base.sample(count, generator), self.start[..., None], self.scale[..., None])

    def _operational(self, days: Tensor) -> Tensor:
        passed = self.profile.operational(self.start + days * DAY) - self.profile.operational(self.start)
        return passed.to(self.scale.dtype) * self.scale

    def _days(self, operational: Tensor, start: Tensor, scale: Tensor) -> Tensor:
        end = self.profile.operational(start) + operational.double() / scale
        return ((self.profile.inverse(end) - start) / DAY).to(scale.dtype)

    def __getitem__(self, index) -> OperationalWait:
        return OperationalWait(self.base[index], self.profile, self.start[index], self.scale[index])


def _integral(log_survival, limit: Tensor) -> Tensor:
    """The integral of a survival function from 0 to limit (...): trapezoids, more of them after short waits."""
    share = torch.linspace(0, 1, GRID + 1, dtype=limit.dtype, device=limit.device) ** 3
    total, before, at = torch.zeros_like(limit), torch.ones_like(limit), torch.zeros_like(limit)
    for part in share[1:].split(16):
        days = part.view(-1, *[1] * limit.dim()) * limit  # (16, ...)
        survival = torch.cat([before[None], log_survival(days).exp()])
        total = total + torch.trapezoid(survival, torch.cat([at[None], days]), dim=0)
        before, at = survival[-1], days[-1]
    return total


class LogNormalHead(nn.Module):
    """State (..., D) -> `LogNormals` with K components: weights, locations and scales are linear in the state.

    Locations and scales are those of the standardised log-wait; `fit` sets its mean and standard deviation. Shchur et
    al., "Intensity-Free Learning of Temporal Point Processes", ICLR 2020.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int, components: int = 16) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 3 * components)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    @torch.no_grad()
    def fit(self, days: Tensor) -> None:
        """Standardise by the waits `days` (E,), and start at the mixture that EM finds, by the biases."""
        x = days.double().log()
        self.mean.copy_(x.mean())
        self.deviation.copy_(x.std(correction=0).clamp(min=1e-3))
        found = log_normal_mixture((x - x.mean()) / self.deviation, self.linear.out_features // 3, 50)
        self.linear.bias.copy_(torch.cat([found[0].log(), found[1], found[2].log()]))
        nn.init.normal_(self.linear.weight, std=0.02)

    def forward(self, state: Tensor) -> LogNormals:
        log_weights, locations, log_scales = self.linear(state).chunk(3, -1)  # (..., K) each
        bounded = log_scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)
        log_scales = log_scales + (bounded - log_scales).detach()  # a bound does not stop the gradient
        scales = log_scales.exp() * self.deviation
        return LogNormals(log_weights.log_softmax(-1), locations * self.deviation + self.mean, scales)


class GompertzHead(nn.Module):
    """State (..., D) -> `Gompertz`: the log-rate is linear in the state, the slope is one parameter.

    Du et al., "Recurrent Marked Temporal Point Processes", KDD 2016.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)
        self.slope = nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def fit(self, days: Tensor) -> None:
        """Start at the rate of the waits `days` (E,), with a constant intensity."""
        self.linear.bias.fill_(-float(days.double().mean().log()))
        self.slope.zero_()
        nn.init.normal_(self.linear.weight, std=0.02)

    def forward(self, state: Tensor) -> Gompertz:
        log_rate = self.linear(state)[..., 0]
        return Gompertz(log_rate, self.slope.expand_as(log_rate))


def log_normal_mixture(x: Tensor, components: int, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """A mixture of `components` normals fitted to x (E,) by EM: weights, means and standard deviations (K,).

    It starts at the quantiles of x, with the deviation of x for each component. More than `GROUPS` values are sorted
    into so many groups of neighbours, whose values share their responsibilities; sums and squares are exact.
    """
    x = x.sort().values
    levels = (torch.arange(components, dtype=x.dtype, device=x.device) + 0.5) / components
    mean, deviation = x[(levels * len(x)).long()], x.std(correction=0).clamp(min=1e-3).expand(components)
    weight, group = torch.full_like(mean, 1 / components), -(-len(x) // GROUPS)
    moments = torch.stack([torch.ones_like(x), x, x**2])  # (3, E)
    moments = F.pad(moments, (0, -len(x) % group)).unflatten(1, (-1, group)).sum(-1)  # (3, groups)
    middle = moments[1] / moments[0]
    for _ in range(iterations if components > 1 else 1):
        z = (middle[:, None] - mean) / deviation
        share = F.softmax(weight.log() - deviation.log() - z**2 / 2, dim=1)  # (groups, K)
        count, first, second = (moments @ share).unbind()  # (K,) each
        count = count.clamp(min=1e-12)
        weight, mean = count / count.sum(), first / count
        deviation = (second / count - mean**2).clamp(min=1e-6).sqrt()
    return weight, mean, deviation
