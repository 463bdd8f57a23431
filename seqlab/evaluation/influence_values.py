"""Influence values: a column whose mean is a number that is no mean over queries, for intervals and paired differences.

The value of a query is the number plus Q times the derivative of the number with respect to the weight of the query, of
Q. The interval over users of their mean is the linearised interval of the number (the infinitesimal jackknife: Efron,
"The Jackknife, the Bootstrap and Other Resampling Plans", 1982).
"""

from __future__ import annotations

import numpy as np


def ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The influence values (Q,) of sum(sums) / sum(counts), both (Q,); NaN where all counts are 0."""
    sums, counts = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    if not counts.sum():
        return np.full(len(sums), np.nan)
    value = sums.sum() / counts.sum()
    return value + (sums - value * counts) / counts.mean()
