"""Routing: for every query the first of several experts that is sure enough of itself."""

from __future__ import annotations

import itertools

import numpy as np

STEPS = 24
"""Thresholds that are tried for an expert: quantiles of its probabilities."""


def route(probability: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The expert (Q,) of each query: the first whose probability exceeds its threshold, else the last.

    probability: (Q, E). thresholds: (E - 1,), as the last expert has none.
    """
    sure = probability[:, :-1] > thresholds
    return np.where(sure.any(1), sure.argmax(1), probability.shape[1] - 1)


def fit_thresholds(probability: np.ndarray, value: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """The thresholds (E - 1,) with the highest mean value of the experts that are routed to.

    probability, value: (Q, E). Every combination of the quantiles of the experts' probabilities is tried, with
    "always" and "never".
    """
    tried = [
        np.unique(np.r_[-np.inf, np.quantile(one, np.linspace(0, 1, steps)), np.inf]) for one in probability.T[:-1]
    ]
    rows = np.arange(len(probability))
    scored = ((value[rows, route(probability, np.array(some))].mean(), some) for some in itertools.product(*tried))
    return np.array(max(scored, key=lambda pair: pair[0])[1])
