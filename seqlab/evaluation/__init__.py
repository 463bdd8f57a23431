"""Ranks, metrics, slices, intervals, comparisons."""

from seqlab.evaluation.metrics import compare, intervals, metrics, per_user, slices
from seqlab.evaluation.ranking import Ranks, rank, ranks_of

__all__ = ["Ranks", "compare", "intervals", "metrics", "per_user", "rank", "ranks_of", "slices"]
