"""Clicks: every query has candidates with labels, and a system says how likely each label is, or only orders them.

A pooled number is no mean over queries: its column holds influence values (see `evaluation.influence_values`). The mean
over some of the queries is what they make of the number, not the number among them; the two are equal for log-loss
where every query has as many candidates, and for GAUC if also every user has one query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import PredictsLabels, Scores, ScoresPairs, name_of, supports
from seqlab.datasets.sequences import Queries
from seqlab.evaluation import calibration
from seqlab.evaluation.calibration import BINS
from seqlab.evaluation.influence_values import ratio
from seqlab.evaluation.outcome import Metric, Outcome, Slice
from seqlab.runtime import processes
from seqlab.runtime.modules import device_of, evaluating
from seqlab.runtime.text import DataError, MissingDataError
from seqlab.tasks.next_item import rows_per_batch

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

METRICS = (
    Metric("auc", low=-np.inf, high=np.inf),
    Metric("gauc", low=-np.inf, high=np.inf),
    Metric("log_loss", higher=False, high=np.inf),
    Metric("calibration_error", higher=False, low=-np.inf, high=np.inf),
)
"""`auc`: the share of pairs of a positive and a negative, of any users, in which the positive has the higher score,
ties counting half. `gauc`: the AUC within each user who has both labels, weighted by the number of candidates.
`log_loss`: nats per candidate. `calibration_error`: the expected calibration error, see `calibration_error`."""

PRIMARY = "auc"
HEADLINE = ("auc", "gauc", "log_loss")

MAX_TOKENS = 1 << 14
"""History positions per batch."""


def check(model: nn.Module, split: Split) -> None:
    """Raises `DataError` if the queries of the split have no labels, or if the system does not score candidates."""
    if split.test.labels is None:
        raise MissingDataError(
            f"the queries of {split.name} have no candidates with labels. Those of the splits 'candidates 2' (what "
            "came next beside two drawn items) and 'labelled rating 4' (a column, and from which value on) have."
        )
    if split.name.startswith("labelled ") and getattr(model.config, "label_column", split) is None:
        column, least = split.name.split()[1:3]
        raise DataError(
            f"{name_of(model)} would learn from drawn items, but the labels of {split.name!r} are in the data: set "
            f"label_column={column} and label_least={least}."
        )
    if not any(supports(model, one) for one in (PredictsLabels, ScoresPairs, Scores)):
        raise DataError(f"{name_of(model)} has no scores of given candidates, so clicks cannot measure it.")


@torch.no_grad()
def measure(model: nn.Module, split: Split, part: str = "test", seen_filter: bool | None = None) -> Outcome:
    """Score the candidates of every query of `part` ("valid" or "test").

    A system without `label_logits` gives scores, not probabilities, so it has AUC and GAUC only. seen_filter has no
    effect: the candidates are given. Raises `DataError` as `check` does, and `ValueError` if scores are not finite.
    """
    import pandas as pd

    check(model, split)
    queries = getattr(split, part)
    with processes.propagate_errors(), evaluating(model):
        scores = score_candidates(model, queries.to(device_of(model)), split.n_items)
    scores, candidates, labels = processes.all_reduce_sum(scores).cpu(), queries.candidates.cpu(), queries.labels.cpu()
    given = ~labels.isnan()
    if not bool(scores[given].isfinite().all()):
        raise ValueError(f"{name_of(model)} gave scores that are not finite; training may have diverged.")
    query = given.nonzero()[:, 0].numpy()
    score, label = scores[given].double().numpy(), labels[given].numpy() > 0
    user, counts = queries.user.cpu().numpy(), split.train.item_counts(split.n_items).cpu()
    columns = {"auc": auc(score, label, query, len(user))[1], "gauc": gauc(score, label, query, user)[1]}
    if supports(model, PredictsLabels):
        columns["log_loss"] = log_loss(score, label, query, len(user))[1]
        columns["calibration_error"] = calibration_error(score, label, query, len(user))[1]
    frame = pd.DataFrame({
        "query": queries.id.cpu().numpy(), "user": user, "positives": (labels > 0).sum(1).numpy(),
        "history_length": (queries.end - queries.start).cpu().numpy(),
        "item_count": (counts[candidates] * given).sum(1).numpy() / given.sum(1).clamp(min=1).numpy(), **columns,
    })  # fmt: skip
    most = int(given.sum(1).max())
    protocol = (
        f"{len(query):,} candidates ({label.mean():.1%} positive) of {len(frame):,} queries of "
        f"{len(np.unique(user)):,} users, {'ties' if most > 1 else 'one a query; ties'} count half in AUC"
    )
    slices = {
        "history_length": Slice("history length", "events"),
        "item_count": Slice("popularity of the candidates", "training events"),
    }
    return Outcome(
        task="clicks",
        frame=frame,
        metrics=tuple(one for one in METRICS if one.name in columns),
        primary=PRIMARY,
        headline=tuple(name for name in HEADLINE if name in columns),
        protocol=protocol,
        about={"split": split.name},
        slices=slices,
    )


def score_candidates(model: nn.Module, queries: Queries, n_items: int) -> Tensor:
    """The logits or scores of the candidates of all queries: (Q, M), 0 in the rows of other processes.

    Of `label_logits`, `score_pairs` and `score`, the first that the model has is used.
    """
    in_pairs = supports(model, ScoresPairs) and model.score_pairs
    in_pairs = model.label_logits if supports(model, PredictsLabels) else in_pairs
    scores = torch.zeros(queries.candidates.shape, device=queries.candidates.device)
    width = queries.candidates.shape[1] * 256 if in_pairs else n_items + 1
    shard = processes.index(), processes.count()
    for rows, batch in queries.batches(
        model.config.max_length, MAX_TOKENS, rows_per_batch(scores.device, width), shard
    ):
        candidates = queries.candidates[rows]
        found = in_pairs(batch, candidates) if in_pairs else model.score(batch).gather(1, candidates)
        scores[rows] = found.float()
    return scores  # (Q, M)


def auc(score: np.ndarray, label: np.ndarray, query: np.ndarray, n_queries: int) -> tuple[float, np.ndarray]:
    """The pooled AUC and its influence values (Q,); NaN without both labels.

    score: (C,), of the candidates; label: (C,) bool; query: (C,) the row of the query of each, below `n_queries`.
    """
    won = wins(score, label, np.zeros_like(query))  # (C,)
    positives, negatives = int(label.sum()), int((~label).sum())
    if not positives or not negatives:
        return np.nan, np.full(n_queries, np.nan)
    value = won[label].sum() / (positives * negatives)
    # of a positive, the share of the negatives below it; of a negative, the share of the positives above it
    gain = (won / np.where(label, negatives, positives) - value) / np.where(label, positives, negatives)
    return value, value + n_queries * np.bincount(query, gain, n_queries)


def gauc(score: np.ndarray, label: np.ndarray, query: np.ndarray, user: np.ndarray) -> tuple[float, np.ndarray]:
    """The AUC within users, weighted by their candidates, and its influence values (Q,); NaN if no user counts.

    Users without both labels do not count. user: (Q,) of each query; the others as for `auc`.
    """
    n_queries, group = len(user), np.unique(user, return_inverse=True)[1]  # (Q,)
    of, n_users = group[query], int(group.max(initial=-1)) + 1
    positives, negatives = (np.bincount(of, side, n_users) for side in (label, ~label))  # (U,)
    pairs, size = positives * negatives, (positives + negatives) * (positives * negatives > 0)
    if not size.sum():
        return np.nan, np.full(n_queries, np.nan)
    won = wins(score, label, of)
    own = np.bincount(of, won * label, n_users) / np.maximum(pairs, 1)  # (U,) AUC of each user
    value = (size * own).sum() / size.sum()
    counts = size[of] > 0
    other, same = np.where(label, negatives[of], positives[of]), np.where(label, positives[of], negatives[of])
    within = size[of] * (won / np.maximum(other, 1) - own[of]) / np.maximum(same, 1)  # weight of a query in its user
    gain = np.where(counts, own[of] - value + within, 0.0) / size.sum()
    return value, value + n_queries * np.bincount(query, gain, n_queries)


def wins(score: np.ndarray, label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Of each positive, the negatives of its group with a lower score; of a negative, the positives with a higher one.

    All (C,); ties count half.
    """
    order = np.lexsort((score, group))
    score, label, group = score[order], label[order], group[order]
    total = np.arange(len(order))
    new_group = np.r_[True, group[1:] != group[:-1]][: len(order)]
    new_tie = new_group | np.r_[True, score[1:] != score[:-1]][: len(order)]
    tie, part = new_tie.cumsum() - 1, new_group.cumsum() - 1
    tie_from, part_from = total[new_tie], total[new_group]
    tie_to, part_to = np.r_[tie_from[1:], len(order)], np.r_[part_from[1:], len(order)]
    sums = np.r_[0, label.cumsum()]  # positives before each place
    above = sums[part_to[part]] - sums[tie_to[tie]]
    tied = sums[tie_to[tie]] - sums[tie_from[tie]]
    below = (tie_from[tie] - part_from[part]) - (sums[tie_from[tie]] - sums[part_from[part]])
    tied_negatives = (tie_to - tie_from)[tie] - tied
    won = np.empty(len(order))
    won[order] = np.where(label, below + tied_negatives / 2, above + tied / 2)
    return won


def log_loss(logit: np.ndarray, label: np.ndarray, query: np.ndarray, n_queries: int) -> tuple[float, np.ndarray]:
    """The mean negative log-likelihood of the labels in nats, and its influence values (Q,).

    With equally many candidates in each query they are the queries' own means.
    """
    return _mean(np.logaddexp(0, np.where(label, -logit, logit)), query, n_queries)


def calibration_error(
    logit: np.ndarray, label: np.ndarray, query: np.ndarray, n_queries: int, bins: int = BINS
) -> tuple[float, np.ndarray]:
    """The expected calibration error and its influence values (Q,), see `evaluation.calibration`."""
    return _mean(calibration.calibration_error(probabilities(logit), label, bins)[1], query, n_queries)


def probabilities(logit: np.ndarray) -> np.ndarray:
    """The sigmoid of logits."""
    return 0.5 * (1 + np.tanh(0.5 * logit))


def _mean(value: np.ndarray, query: np.ndarray, n_queries: int) -> tuple[float, np.ndarray]:
    """The mean of a value of all candidates (C,), and its influence values (Q,)."""
    return value.mean(), ratio(np.bincount(query, value, n_queries), np.bincount(query, minlength=n_queries))
