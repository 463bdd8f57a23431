"""Outcomes -> metrics, intervals, slices, paired comparisons."""

from seqlab.evaluation.bootstrap import INTERVALS
from seqlab.evaluation.comparison import Standings
from seqlab.evaluation.metrics import compare, intervals, metrics, slices
from seqlab.evaluation.outcome import Metric, Outcome, Slice
from seqlab.evaluation.ranking_metrics import METRIC_NAMES, per_user

__all__ = [
    "INTERVALS", "METRIC_NAMES", "Metric", "Outcome", "Slice", "Standings", "compare", "intervals", "metrics",
    "per_user", "slices",
]  # fmt: skip
