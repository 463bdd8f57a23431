"""Ranks, metrics, slices, intervals, comparisons; and what one user's recommendations hang on."""

from seqlab.evaluation.edits import smallest_edit
from seqlab.evaluation.influence import surprise, typed_history
from seqlab.evaluation.metrics import INTERVALS, METRIC_NAMES, compare, intervals, metrics, per_user, slices
from seqlab.evaluation.patching import patched, tracing_grid
from seqlab.evaluation.ranking import Ranks, rank, ranks_of
from seqlab.evaluation.standings import Standings

__all__ = [
    "INTERVALS",
    "METRIC_NAMES",
    "Ranks",
    "Standings",
    "compare",
    "intervals",
    "metrics",
    "patched",
    "per_user",
    "rank",
    "ranks_of",
    "slices",
    "smallest_edit",
    "surprise",
    "tracing_grid",
    "typed_history",
]
