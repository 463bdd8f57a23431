"""Ranks -> metrics, intervals, slices, paired comparisons."""

from seqlab.evaluation.comparison import Standings
from seqlab.evaluation.metrics import INTERVALS, METRIC_NAMES, compare, intervals, metrics, per_user, slices
from seqlab.evaluation.outcome import Ranks

__all__ = ["INTERVALS", "METRIC_NAMES", "Ranks", "Standings", "compare", "intervals", "metrics", "per_user", "slices"]
