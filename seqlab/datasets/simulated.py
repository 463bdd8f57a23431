"""Simulated logs whose truth is known: what a model can learn at best is a number, not a guess.

Each simulator returns `(log, truth)`, equal for equal arguments: an `InteractionLog` that holds what a system may see,
and a dataclass of what it may not, from which the best possible result follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqlab.datasets.exposures import Exposures
from seqlab.datasets.log import InteractionLog

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

START = 1_700_006_400.0
"""The first day of a simulated log, in unix seconds: 2023-11-15."""

DAY = 86_400.0
CHUNK = 1 << 22
"""Random numbers drawn at once."""


@dataclass(frozen=True, eq=False)
class SlateTruth:
    """What generated a log of slates.

    log_probs: (S, A + 1) the log-probabilities of no click (column 0) and of a click on each slot, by slate in the
    order of the log's exposures. times: (S,) unix seconds; no two slates have one time.
    interest: (U, T, D) what each user looked for at each slate, S = U x T. items: (N + 1, D) the vectors of the items.
    quality: (N + 1,) the utility of an item for everybody. group: (N + 1,) int64 from 0. Row 0 is padding.
    position: (A,) the effect of a slot. sharpness, drift, memory, no_click: those of `slates`.
    """

    log_probs: NDArray
    times: NDArray
    interest: NDArray
    items: NDArray
    quality: NDArray
    group: NDArray
    position: NDArray
    sharpness: float
    drift: float
    memory: float
    no_click: float

    @property
    def nats(self) -> NDArray:
        """The expected log-likelihood of each slate under the truth, its negative entropy: (S,)."""
        return (np.exp(self.log_probs) * self.log_probs).sum(1)

    def at(self, times: ArrayLike) -> NDArray:
        """The row of the slate that was shown at each time, which identifies it."""
        order = np.argsort(self.times)
        return order[np.searchsorted(self.times, np.asarray(times), sorter=order)]

    def given_history(self, exposures: Exposures, draws: int = 256, seed: int = 0) -> NDArray:
        """The log-probabilities (S, A + 1) for an observer who knows all but the interests, from earlier slates only.

        What a system can reach from histories, where `log_probs` needs the interest itself. exposures: those of the
        log. The belief about a user's taste and moving interest is Gaussian: moved on from slate to slate, and updated
        by Laplace's approximation at the outcome; predictions are means over `draws` from it. The exact posterior
        would have a slightly larger likelihood.
        """
        users, steps, dim = self.interest.shape
        random = np.random.default_rng(seed)
        chosen = exposures.padded().reshape(users, steps, -1)
        clicked = exposures.clicked.reshape(users, steps)
        of_interest = np.hstack([np.sqrt(1 - self.drift) * np.eye(dim), np.sqrt(self.drift) * np.eye(dim)])  # (D, 2D)
        kept = np.repeat([1.0, self.memory], dim)
        mean, cov = np.zeros((users, 2 * dim)), np.tile(np.eye(2 * dim), (users, 1, 1))
        found = np.empty((users, steps, chosen.shape[2] + 1))
        for step in range(steps):
            vectors = self.sharpness * self.items[chosen[:, step]]  # (U, A, D)
            vectors = np.concatenate([np.zeros((users, 1, dim)), vectors], 1)  # (U, A + 1, D)
            base = np.insert(self.quality[chosen[:, step]] + self.position, 0, self.no_click, axis=1)
            prior, spread = mean @ of_interest.T, of_interest @ cov @ of_interest.T  # (U, D), (U, D, D)
            noise = random.standard_normal((users, draws, dim)) @ np.linalg.cholesky(spread).transpose(0, 2, 1)
            drawn = _log_softmax(base[:, None] + (prior[:, None] + noise) @ vectors.transpose(0, 2, 1))
            found[:, step] = np.log(np.exp(drawn).mean(1))
            mode, precision = prior, np.linalg.inv(spread)
            for _ in range(8):
                p = np.exp(_log_softmax(base + np.einsum("uad,ud->ua", vectors, mode)))
                expected = np.einsum("ua,uad->ud", p, vectors)
                curved = np.einsum("ua,uad,uae->ude", p, vectors, vectors) - expected[:, :, None] * expected[:, None]
                slope = vectors[np.arange(users), clicked[:, step]] - expected
                slope -= np.einsum("ude,ue->ud", precision, mode - prior)
                left = np.linalg.inv(precision + curved)  # (U, D, D): the covariance after the outcome
                mode = mode + np.einsum("ude,ue->ud", left, slope)
            gain = cov @ of_interest.T @ precision  # (U, 2D, D)
            mean = kept * (mean + np.einsum("ude,ue->ud", gain, mode - prior))
            cov = kept[:, None] * (cov - gain @ (spread - left) @ gain.transpose(0, 2, 1)) * kept + np.diag(1 - kept**2)
        return found.reshape(users * steps, -1)


def slates(
    seed: int = 0,
    users: int = 500,
    items: int = 200,
    slates: int = 40,
    shown: int = 8,
    *,
    groups: int = 10,
    dim: int = 4,
    sharpness: float = 2.0,
    drift: float = 0.5,
    memory: float = 0.9,
    skew: float = 1.0,
    position: float = 0.1,
    no_click: float = 2.0,
) -> tuple[InteractionLog, SlateTruth]:
    """Users with a hidden, drifting interest see a slate of `shown` items a day and click one of them, or none.

    The utility of an item in slot k is `sharpness z.v + quality - position (k - 1)`, that of no click is `no_click`;
    the choice is softmax. Item vectors v have length 1 and lie around the direction of their group; quality is
    N(0, 0.25). The interest z is N(0, I) in `dim` dimensions: a constant taste and, with the share `drift` of the
    variance, a part that persists by `memory` from one slate to the next. It does not depend on slates or clicks.
    Slates are drawn without replacement, the same way for every user, by weights proportional to rank^-skew in a random
    order of the items (skew 0: uniform), so propensities are known. The events of the log are the clicks; it has all
    users and items, also those without a click. Time grows with users x slates x items: a second for 40 million.
    Raises `ValueError` for sizes and shares outside their bounds.
    """
    if not 0 < shown <= items or min(users, slates, groups, dim) < 1:
        raise ValueError("slates: users, slates, groups and dim are at least 1, and shown is from 1 to items.")
    if not (0 <= drift <= 1 and 0 <= memory < 1):
        raise ValueError(f"slates: drift is from 0 to 1 and memory from 0 to below 1 (got {drift} and {memory}).")
    random = np.random.default_rng(seed)
    group = random.integers(groups, size=items)
    vectors = _directions(random, groups, dim)[group] + 0.4 * random.standard_normal((items, dim)) / np.sqrt(dim)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quality = 0.5 * random.standard_normal(items)
    weights = np.arange(1, items + 1, dtype=np.float64) ** -skew
    weights = random.permutation(weights / weights.sum())

    interest = _interest(random, users, slates, dim, drift, memory)  # (U, T, D)
    chosen = _without_replacement(random, weights, users * slates, shown)  # (S, A), from 0
    slot_effect = -position * np.arange(shown)
    liking = np.einsum("sd,sad->sa", interest.reshape(-1, dim), vectors[chosen])
    utility = sharpness * liking + quality[chosen] + slot_effect
    log_probs = _log_softmax(np.insert(utility, 0, no_click, axis=1))  # (S, A + 1)
    clicked = _draw(random, log_probs)

    hour = random.permutation(users) / users  # users take turns within a day, so that no two slates have one time
    times = (START + DAY * (np.arange(slates) + hour[:, None])).ravel()  # (S,)
    user = np.repeat(np.arange(1, users + 1), slates)
    share = weights[chosen]
    propensity = share / (1 - share.cumsum(1) + share)  # of an item given those above it
    exposures = Exposures(
        user, times, chosen.ravel() + 1, np.arange(0, chosen.size + 1, shown), clicked, propensity.clip(max=1).ravel()
    )
    of_items = (np.concatenate([part[:1] * 0, part]) for part in (vectors, quality, group))
    truth = SlateTruth(log_probs, times, interest, *of_items, slot_effect, sharpness, drift, memory, no_click)
    return _log_of_clicks(exposures, users, group, f"simulated slates, seed {seed}"), truth


def _log_softmax(x: NDArray) -> NDArray:
    """Over the last axis."""
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _directions(random: np.random.Generator, count: int, dim: int) -> NDArray:
    drawn = random.standard_normal((count, dim))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _interest(random, users: int, steps: int, dim: int, drift: float, memory: float) -> NDArray:
    """A constant taste plus a stationary AR(1) process, together of variance 1: (users, steps, dim)."""
    moving = random.standard_normal((users, steps, dim))
    for step in range(1, steps):
        moving[:, step] = memory * moving[:, step - 1] + np.sqrt(1 - memory**2) * moving[:, step]
    return np.sqrt(1 - drift) * random.standard_normal((users, 1, dim)) + np.sqrt(drift) * moving


def _without_replacement(random: np.random.Generator, weights: NDArray, rows: int, count: int) -> NDArray:
    """Rows of `count` different indices, drawn one after another with probability proportional to the weights left.

    The order of exponential waiting times at these rates has that law (Efraimidis and Spirakis, 2006).
    """
    found = np.empty((rows, count), np.int64)
    each = max(1, CHUNK // len(weights))
    for first in range(0, rows, each):
        waits = random.standard_exponential((min(each, rows - first), len(weights))) / weights
        best = np.argpartition(waits, count - 1, axis=1)[:, :count]
        order = np.take_along_axis(waits, best, axis=1).argsort(axis=1)
        found[first : first + each] = np.take_along_axis(best, order, axis=1)
    return found


def _draw(random: np.random.Generator, log_probs: NDArray) -> NDArray:
    """One outcome of each row: (S,)."""
    below = np.exp(log_probs).cumsum(1)
    return (random.random((len(below), 1)) * below[:, -1:] >= below).sum(1).clip(max=below.shape[1] - 1)


def _log_of_clicks(exposures: Exposures, users: int, group: NDArray, name: str) -> InteractionLog:
    """A log whose events are the clicks; items are described by their group."""
    clicked = exposures.clicked > 0
    events = pd.DataFrame({"user": exposures.user, "item": exposures.item, "timestamp": exposures.times})[clicked]
    number = np.arange(1, len(group) + 1)
    names = pd.Series(number).astype(str)
    groups = "group " + pd.Series(group + 1).astype(str)
    table = pd.DataFrame({"item_id": number, "title": "Item " + names + ", " + groups, "group": groups})
    table.index = pd.RangeIndex(1, len(table) + 1, name="item")
    people = pd.DataFrame({"user_id": np.arange(1, users + 1)}, pd.RangeIndex(1, users + 1, name="user"))
    note = f"{len(exposures):,} slates were shown; the events are the {len(events):,} clicks on them."
    log = InteractionLog(events.reset_index(drop=True), people, table, name, repeats=True, notes=(note,))
    return exposures.attach(log)
