"""Intervals of means over users: a Bayesian bootstrap, with one more user at the bound of the metric.

The intervals are those of Gaffke (2005; see Learned-Miller and Thomas, arXiv 1905.06208): a Bayesian bootstrap over
users with one additional user at the bound of the metric (lower end 0, upper end 1; for a difference -1 and 1). For
recall they equal Clopper-Pearson intervals. They keep their coverage where hits are few or absent; with many users the
additional user has no visible effect. A metric without a bound has no additional user. A user's queries are resampled
together. `tests/benchmarks/interval_coverage.py` measures the coverage.
"""

from __future__ import annotations

import numpy as np

INTERVALS = "95 % intervals over users: Bayesian bootstrap with one more user at the bound (Gaffke 2005)"
"""The method of the intervals, as a line to print beside them."""

Bound = float | np.ndarray
"""A bound of the values, or one per column; infinite = none."""


def bootstrap(
    values: np.ndarray,
    samples: int,
    seed: int,
    least: Bound = 0.0,
    most: Bound = 1.0,
    users: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval (low, high), (M,) each, of the column means of values (Q, M) between `least` and `most`.

    users: (Q,) the user of each row; None: each row is a user.
    """
    return bounds(*resampled(values, samples, seed, users), least, most)


def bounds(
    means: np.ndarray, extra: np.ndarray, least: Bound = 0.0, most: Bound = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval (low, high), (M,) each, from the output of `resampled`: means (samples, M), extra (samples,).

    The additional user has the value `least` for the lower end and `most` for the upper end.
    """
    extra = extra.reshape(-1, *[1] * (means.ndim - 1))
    low, high = (
        np.where(np.isfinite(bound), means + np.where(np.isfinite(bound), bound, 0.0) * extra, means / (1 - extra))
        for bound in (least, most)
    )
    return np.quantile(low, 0.025, axis=0), np.quantile(high, 0.975, axis=0)


def resampled(
    values: np.ndarray, samples: int, seed: int, users: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Randomly weighted means of values (Q, M): (samples, M), and the weight (samples,) of one additional query.

    The weights of the U + 1 users are Dirichlet(1, .., 1), and the queries of a user share one; `bounds` adds the value
    of the additional user, who has one query. They depend on the seed and U only. Samples are drawn in chunks, so that
    memory stays a few times that of the values. users: as in `bootstrap`.
    """
    generator = np.random.default_rng(seed)
    sums, counts = _per_user(values, users)
    means, extra = np.empty((samples, values.shape[1])), np.empty(samples)
    chunk = max(1, (1 << 22) // len(sums))
    for first in range(0, samples, chunk):
        drawn = slice(first, min(first + chunk, samples))
        weights = generator.standard_exponential((drawn.stop - first, len(sums) + 1))
        total = weights.sum(1) if counts is None else weights[:, :-1] @ counts + weights[:, -1]
        means[drawn] = weights[:, :-1] @ sums / total[:, None]
        extra[drawn] = weights[:, -1] / total
    return means, extra


def _per_user(values: np.ndarray, users: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The sum of each user's values (U, M), and their number (U,): None where each user has one."""
    if users is None:
        return values, None
    _, at, counts = np.unique(users, return_inverse=True, return_counts=True)
    if len(counts) == len(values):
        return values, None
    order = np.argsort(at, kind="stable")
    return np.add.reduceat(values[order], np.cumsum(counts) - counts, axis=0), counts.astype(np.float64)
