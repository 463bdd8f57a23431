"""P(True): is this listed item the answer? The system's own probability, and logistic regressions on it and on samples.

Kadavath et al., 2022: a model judges a proposal better with many of its own samples in view. Here a sample is a pass
with dropout on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.evaluation.outcome import Outcome
from seqlab.inspection.confidence import dropping, scored
from seqlab.ranking import topk
from seqlab.runtime.modules import device_of, evaluating
from seqlab.tasks import clicks

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.sequences import Queries

OWN = ("logit", "log_rank", "gap")
SAMPLED = (*OWN, "votes", "vote_entropy")
"""The features of a listed item without and with samples in view."""


def listed_items(
    model: nn.Module, queries: Queries, n_items: int, seen_filter: bool, k: int = 10, temperature: float = 1.0,
    passes: int = 8, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """The k best items of every query, one row each.

    Columns query (its row), user, item, label (whether it is the answer), p (at this temperature), logit (of p),
    log_rank, gap (log p minus that of the next item), votes (the share of `passes` with dropout whose k best items
    contain it), vote_entropy (of the items listed by all passes, in nats). attrs["sampled"]: whether the system has
    dropout; without it, all passes agree.
    """
    import pandas as pd

    queries, k = queries.to(device_of(model)), min(k, n_items - 1)
    with evaluating(model):
        items, log_p = _lists(model, queries, n_items, seen_filter, k + 1, temperature)
    votes = []
    for one in range(passes):
        with dropping(model, seed + one) as sampled:
            votes.append(_lists(model, queries, n_items, seen_filter, k, temperature)[0])
            if not sampled:
                votes *= passes
                break
    voted = torch.cat(votes, 1)  # (Q, passes k)
    share = torch.stack([(voted == items[:, at, None]).sum(1) / passes for at in range(k)], 1)  # (Q, k)
    of = {
        "item": items[:, :k], "label": items[:, :k] == queries.item[:, None], "p": log_p[:, :k].exp(),
        "logit": log_p[:, :k] - torch.log1p(-log_p[:, :k].exp().clamp(max=1 - 1e-9)),
        "log_rank": torch.arange(1, k + 1, device=items.device).log().expand(len(items), -1),
        "gap": (log_p[:, :k] - log_p[:, 1:]).clamp(max=50), "votes": share,
        "vote_entropy": _entropy(voted)[:, None].expand(-1, k),
    }  # fmt: skip
    frame = pd.DataFrame({
        "query": np.repeat(np.arange(len(queries)), k), "user": np.repeat(queries.user.cpu().numpy(), k),
        **{name: value.flatten().cpu().numpy() for name, value in of.items()},
    })  # fmt: skip
    frame = frame[np.isfinite(frame["logit"])].reset_index(drop=True)  # lists that are shorter than k
    frame.attrs["sampled"] = bool(sampled)
    return frame


def p_true(fit: pd.DataFrame, test: pd.DataFrame) -> dict[str, Outcome]:
    """The outcomes of P(True) on the listed items `test`: the system's own p, and logistic regressions fitted on `fit`.

    Names: "own words", "logistic regression", and "with samples in view" for a system with dropout. {} where no listed
    item is an answer.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not (fit["label"].any() and test["label"].any()):
        return {}
    found = {"own words": p_true_outcome(test, test["p"].to_numpy())}
    ways = {"logistic regression": OWN} | ({"with samples in view": SAMPLED} if fit.attrs["sampled"] else {})
    for name, features in ways.items():
        fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(fit[[*features]], fit["label"])
        found[name] = p_true_outcome(test, fitted.predict_proba(test[[*features]])[:, 1])
    return found


def p_true_outcome(frame: pd.DataFrame, probability: np.ndarray) -> Outcome:
    """The outcome of probabilities (C,) of the listed items in `frame`: a row per query, metrics of `tasks.clicks`."""
    import pandas as pd

    query, label = frame["query"].to_numpy(), frame["label"].to_numpy()
    clipped = np.clip(probability, 1e-7, 1 - 1e-7)
    logit, count = np.log(clipped / (1 - clipped)), int(query.max()) + 1
    columns = {
        "auc": clicks.auc(logit, label, query, count)[1],
        "log_loss": clicks.log_loss(logit, label, query, count)[1],
        "calibration_error": clicks.calibration_error(logit, label, query, count)[1],
    }
    rows = pd.DataFrame({"query": np.arange(count), **columns})
    rows.insert(1, "user", frame.groupby("query")["user"].first().reindex(rows["query"]).to_numpy())
    return Outcome(
        "p_true", rows, tuple(one for one in clicks.METRICS if one.name in columns), "auc",
        ("auc", "log_loss", "calibration_error"), f"{len(frame):,} listed items of {count:,} queries",
    )  # fmt: skip


def _lists(
    model: nn.Module, queries: Queries, n_items: int, seen_filter: bool, k: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """The k best items of every query and their log-probabilities, (Q, k) each."""
    items = torch.zeros(len(queries), k, dtype=torch.long, device=queries.user.device)
    log_p = torch.zeros(len(queries), k, dtype=torch.float64, device=queries.user.device)
    for rows, _, scores, _ in scored(model, queries, n_items, seen_filter):
        best, items[rows] = topk(scores / temperature, k)
        log_p[rows] = (best - (scores / temperature).logsumexp(1, keepdim=True)).double()
    return items, log_p


def _entropy(voted: Tensor) -> Tensor:
    """The entropy (Q,) of the items in rows (Q, V), each of which counts 1 / V."""
    _, count = voted.shape
    same = torch.stack([(voted == voted[:, at, None]).sum(1) for at in range(count)], 1)  # (Q, V)
    return -(same / count).log().mean(1)
