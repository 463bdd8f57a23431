"""Calibration of probabilities: reliability diagrams with a consistency band, calibration error, risk by coverage.

A probability of an event is calibrated if the event happens as often as it says. Bins hold equal numbers of rows, since
most probabilities of a hit are small. The consistency band (Broecker and Smith, "Increasing the Reliability of
Reliability Diagrams", Weather and Forecasting 2007) is what calibrated probabilities would show on so many rows: events
are drawn with these probabilities. A point outside of it is miscalibrated; a point inside of it may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BINS = 15
"""Bins of equal numbers of rows."""

DRAWN_AT_ONCE = 1 << 22
"""Random events that are drawn at a time: 32 MB."""


def equal_mass_bins(value: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin (from 0) of each value (C,): equal numbers in ascending order; equal values are in one bin."""
    below = np.searchsorted(np.sort(value), value)  # values that are smaller
    return below * bins // max(len(value), 1)


def calibration_error(probability: np.ndarray, label: np.ndarray, bins: int = BINS) -> tuple[float, np.ndarray]:
    """The expected calibration error, and a value (C,) of each row whose mean it is, for bins taken as fixed.

    It is the mean over rows of |mean label - mean probability| of their bin (Naeini et al., AAAI 2015, with bins of
    equal mass). It is above 0 by chance even for calibrated probabilities, see `chance_error`. label: (C,) bool, or
    shares in [0, 1].
    """
    bin_of = equal_mass_bins(probability, bins)
    sign = np.sign(np.bincount(bin_of, label - probability, bins))  # (bins,)
    value = sign[bin_of] * (label - probability)
    return float(value.mean()), value


def reliability(
    probability: np.ndarray, label: np.ndarray, bins: int = BINS, samples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """The reliability diagram of probabilities (C,) of labels (C,).

    Columns bin (from 0), count, predicted (the mean probability), observed (the mean label), low and high (the 95 %
    consistency band of `observed`). Ties may leave bins without a row, which are left out.
    """
    import pandas as pd

    bin_of = equal_mass_bins(probability, bins)
    counts = np.bincount(bin_of, minlength=bins)
    predicted, observed = (np.bincount(bin_of, x, bins) / np.maximum(counts, 1) for x in (probability, label))
    drawn = _drawn(probability, bin_of, counts, samples, seed)  # (samples, bins)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    frame = pd.DataFrame(
        {"bin": range(bins), "count": counts, "predicted": predicted, "observed": observed, "low": low, "high": high}
    )
    return frame[frame["count"] > 0].reset_index(drop=True)


def chance_error(
    probability: np.ndarray, bins: int = BINS, samples: int = 1000, seed: int = 0, share: float = 0.95
) -> float:
    """The calibration error that calibrated probabilities (C,) exceed by chance in 1 - `share` of all draws."""
    bin_of = equal_mass_bins(probability, bins)
    counts = np.bincount(bin_of, minlength=bins)
    predicted = np.bincount(bin_of, probability, bins) / np.maximum(counts, 1)
    drawn = _drawn(probability, bin_of, counts, samples, seed)
    return float(np.quantile(np.abs(drawn - predicted) @ counts / max(counts.sum(), 1), share))


def _drawn(probability: np.ndarray, bin_of: np.ndarray, counts: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """The share of events in each bin, (samples, bins), where events are drawn with these probabilities."""
    generator = np.random.default_rng(seed)
    order = np.argsort(bin_of, kind="stable")
    sorted_probability, some = probability[order].astype(np.float32), counts > 0
    starts = (np.cumsum(counts) - counts)[some]
    shares = np.zeros((samples, len(counts)))
    chunk = max(1, DRAWN_AT_ONCE // max(len(order), 1))
    for first in range(0, samples, chunk):
        rows = slice(first, min(first + chunk, samples))
        events = generator.random((rows.stop - first, len(order)), dtype=np.float32) < sorted_probability
        shares[rows, some] = np.add.reduceat(events, starts, axis=1, dtype=np.int64) / counts[some]
    return shares


def risk_coverage(score: np.ndarray, loss: np.ndarray) -> pd.DataFrame:
    """The risk of answering only the rows of the highest scores, from the highest threshold to the lowest.

    score: (Q,), higher is surer. loss: (Q,), such as 1 for a miss. Columns threshold (the lowest score that is
    answered), coverage (the share of rows that are), risk (the mean loss of these rows).
    """
    import pandas as pd

    order = np.argsort(-score, kind="stable")
    score, loss = score[order], loss[order].astype(np.float64)
    last = np.r_[score[1:] != score[:-1], True][: len(score)]  # rows of one score are answered together
    answered = np.flatnonzero(last) + 1
    return pd.DataFrame({
        "threshold": score[last], "coverage": answered / max(len(score), 1), "risk": loss.cumsum()[last] / answered,
    })  # fmt: skip


def risk_area(score: np.ndarray, loss: np.ndarray) -> tuple[float, np.ndarray]:
    """The area under the risk-coverage curve (AURC), and its influence values (Q,); see `influence_values`.

    It is the mean over n = 1 .. Q of the mean loss of the n rows of the highest scores; rows of equal scores are in
    random order, so a constant score has the mean loss.
    """
    order = np.argsort(-score, kind="stable")
    sorted_score, sorted_loss = score[order], loss[order].astype(np.float64)
    new = np.r_[True, sorted_score[1:] != sorted_score[:-1]][: len(order)]
    tie = new.cumsum() - 1
    size = np.bincount(tie)

    def tied_mean(values: np.ndarray) -> np.ndarray:
        return (np.bincount(tie, values) / size)[tie]

    place = np.arange(1, len(order) + 1)
    risk = tied_mean(sorted_loss).cumsum() / place  # (Q,) of the first n rows
    after = (1 / place)[::-1].cumsum()[::-1]  # sum over n >= place of 1 / n
    drop = (risk / place)[::-1].cumsum()[::-1]
    influence = np.empty(len(order))
    influence[order] = tied_mean(risk) + sorted_loss * tied_mean(after) - tied_mean(drop)
    return float(risk.mean()), influence
