"""Whether the probabilities of a system hold: reliability tables of systems of any task, and forecasts as outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from seqlab import tasks
from seqlab.contracts import PredictsLabels, PredictsTime, Scores, name_of, supports
from seqlab.evaluation import calibration
from seqlab.evaluation.calibration import BINS, calibration_error, risk_area
from seqlab.evaluation.outcome import Metric, Outcome
from seqlab.inspection.confidence import confidence, drawn
from seqlab.ranking import top_with_ties
from seqlab.runtime.modules import device_of, evaluating
from seqlab.tasks import clicks, next_item
from seqlab.tasks.event_time import LEVELS

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.sequences import Queries
    from seqlab.datasets.splits import Split
    from seqlab.inspection.confidence import Confidence

METRICS = (
    Metric("ece", False, -np.inf, np.inf),
    Metric("brier", False),
    Metric("log_loss", False, 0.0, np.inf),
    Metric("auroc", True, -np.inf, np.inf),
    Metric("aurc", False, -np.inf, np.inf),
)
"""Of a forecast of hits: calibration error, mean squared error, nats, the share of pairs of a hit and a miss in which
the hit has the higher probability, and the area under the risk-coverage curve (the risk is the share of misses)."""

EVENTS = {"hit": "the answer is in the top {k}", "label": "label 1", "wait": "the wait is below its quantile"}
"""What a reliability table is about; `attrs["event"]`."""

EXACT_USERS = 512
"""Queries that are read by default of a system whose scores cost a pass over the catalogue each."""


def reliability(
    model: nn.Module,
    split: Split,
    part: str = "test",
    k: int = 10,
    temperature: float = 1.0,
    seen_filter: bool | None = None,
    users: int | None = None,
    beam: bool = False,
    bins: int = BINS,
    samples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The reliability table of any system that gives probabilities, see `evaluation.calibration.reliability`.

    On queries with labels, of a system with `label_logits`: how often label 1 comes, of candidates. Of a system that
    predicts times: how often the wait is below its quantile, by level. Else: how often the answer is among the first k,
    by the mass of the list under a softmax of the scores at this temperature; of a system that writes codes, exact, or
    with `beam` the mass that the beam found, whose total over the catalogue may be below 1.

    users: how many queries are read, drawn with `seed`; None: all, or `EXACT_USERS`. seen_filter: as in
    `tasks.measure`. Columns bin, count, predicted, observed, low, high; `attrs["event"]` says of what. Raises
    `ValueError` for a system without probabilities.
    """
    if getattr(split, part).labels is not None:
        p, label = _of_labels(model, split, part)
        return _named(calibration.reliability(p, label, bins, samples, seed), EVENTS["label"])
    if supports(model, PredictsTime):
        return _named(levels(tasks.measure(model, split, part).frame["pit"].to_numpy()), EVENTS["wait"])
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    users = EXACT_USERS if users is None and not supports(model, Scores) else users
    queries = drawn(getattr(split, part), users, seed).to(device_of(model))
    if beam and not supports(model, Scores):
        p, hit = list_mass(model, queries, split.n_items, seen_filter, k)
    else:
        frame = confidence(model, queries, split.n_items, seen_filter, k, temperature).frame
        p, hit = frame["mass"].to_numpy(), frame["hit"].to_numpy()
    return _named(calibration.reliability(p, hit, bins, samples, seed), EVENTS["hit"].format(k=k))


def levels(pit: np.ndarray) -> pd.DataFrame:
    """The reliability table of quantiles: at each level, the share of waits below the quantile of that level.

    pit: (Q,) the probability that the model gave to a wait of at most the one that came. The band is binomial.
    """
    import pandas as pd
    from scipy.stats import binom

    level, count = np.array(LEVELS), len(pit)
    low, high = (binom.ppf(share, count, level) / max(count, 1) for share in (0.025, 0.975))
    observed = (pit[:, None] <= level).mean(0)
    return pd.DataFrame(
        {"bin": range(len(level)), "count": count, "predicted": level, "observed": observed, "low": low, "high": high}
    )


@torch.no_grad()
def list_mass(
    model: nn.Module, queries: Queries, n_items: int, seen_filter: bool, k: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """The probability (Q,) of the k best items that a search finds, and whether the answer is among them (Q,) bool.

    For systems that write codes, whose scores of lists are log-probabilities of tuples; items of one tuple share its
    probability.
    """
    mass, hit = np.zeros(len(queries)), np.zeros(len(queries), bool)
    codes = model.ids.codes[1:]
    _, at, counts = codes.unique(dim=0, return_inverse=True, return_counts=True)
    sharing = torch.cat([counts.new_ones(1), counts[at]])  # (N + 1,) items with the tuple of an item
    with evaluating(model):
        for rows, batch in queries.batches(model.config.max_length, next_item.MAX_TOKENS, 256):
            pairs = list(next_item.history_pairs(queries, rows)) if seen_filter else []
            seen = tuple(torch.cat(part) for part in zip(*pairs, strict=True)) if pairs else None
            ranking = top_with_ties(model, batch, min(k, n_items), seen, n_items)
            p = (ranking.scores.exp() / sharing[ranking.items]) * (ranking.items > 0)
            place = rows.cpu().numpy()
            mass[place] = p.sum(1).clamp(max=1).double().cpu().numpy()
            hit[place] = (ranking.items == queries.item[rows, None]).any(1).cpu().numpy()
    return mass, hit


def forecast_outcome(of: Confidence, probability: np.ndarray) -> Outcome:
    """The outcome of forecasting hits with these probabilities (Q,), one per query of `of`; see `METRICS`."""
    frame, hit = of.frame, of.frame["hit"].to_numpy()
    row, eps = np.arange(len(frame)), 1e-7
    clipped = np.clip(probability, eps, 1 - eps)
    columns = {
        "probability": probability,
        "ece": calibration_error(probability, hit)[1],
        "brier": (probability - hit) ** 2,
        "log_loss": -np.log(np.where(hit, clipped, 1 - clipped)),
        "auroc": clicks.auc(probability, hit, row, len(row))[1],
        "aurc": risk_area(probability, 1.0 - hit)[1],
    }
    kept = frame[["query", "user", "item", "hit", "history_length", "seen"]]
    return Outcome(
        "calibration", kept.assign(**columns), METRICS, "auroc", ("ece", "aurc", "auroc"),
        f"forecasts of a hit among the first {of.k} of {of.n_items:,} items, seen items "
        f"{'filtered' if of.seen_filter else 'kept'}, {len(frame):,} queries",
        {"seen_filter": of.seen_filter, "n_items": of.n_items, "k": of.k},
        {name: next_item.SLICES[name] for name in ("history_length", "seen")},
    )  # fmt: skip


def _of_labels(model: nn.Module, split: Split, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities and the labels of all candidates of a part, (C,) each."""
    if not supports(model, PredictsLabels):
        raise ValueError(f"{name_of(model)} orders candidates without probabilities; choose a system such as dare.")
    queries = getattr(split, part)
    with torch.no_grad(), evaluating(model):
        logits = clicks.score_candidates(model, queries.to(device_of(model)), split.n_items).cpu()
    labels = queries.labels.cpu()
    given = ~labels.isnan()
    return clicks.probabilities(logits[given].double().numpy()), labels[given].numpy() > 0


def _named(frame: pd.DataFrame, event: str) -> pd.DataFrame:
    frame.attrs["event"] = event
    return frame
