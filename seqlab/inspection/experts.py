"""Several systems on the same queries: a mixture of their probabilities, and routing each query to one of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from seqlab.evaluation import compare
from seqlab.evaluation.ranking_metrics import per_user
from seqlab.evaluation.routing import fit_thresholds, route
from seqlab.inspection.confidence import scored
from seqlab.ranking import ranks_of
from seqlab.runtime.modules import evaluating
from seqlab.tasks import next_item

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.sequences import Queries
    from seqlab.inspection.answer_probability import Judge
    from seqlab.inspection.confidence import Confidence

GRID = 4
"""Weights of a mixture are multiples of 1 / GRID."""

MIXED_QUERIES = 2048
"""Validation queries on which the weights of a mixture are chosen, at most."""


def simplex(count: int, steps: int = GRID) -> np.ndarray:
    """All weights (W, count) that are multiples of 1 / steps and sum to 1."""
    grid = [one for one in itertools.product(range(steps + 1), repeat=count) if sum(one) == steps]
    return np.array(grid, float) / steps


@torch.no_grad()
def mixture_ranks(judges: Sequence[Judge], queries: Queries, weights: np.ndarray) -> np.ndarray:
    """The rank of the answer (Q, W) under each weighted sum (W, E) of the scaled probabilities of several systems."""
    n_items, seen_filter = judges[0].valid.n_items, judges[0].valid.seen_filter
    ranks = np.empty((len(queries), len(weights)))
    for rows in torch.arange(len(queries)).split(next_item.rows_per_batch(queries.user.device, n_items + 1)):
        part, mixed = queries.select(rows), None
        for at, judge in enumerate(judges):
            with evaluating(judge.model):
                for some, _, scores, _ in scored(judge.model, part, n_items, seen_filter):
                    p = (scores / judge.temperature).softmax(1)
                    allowed = scores > -torch.inf
                    mixed = p.new_full((len(judges), len(rows), p.shape[1]), -torch.inf) if mixed is None else mixed
                    mixed[at, some] = p.masked_fill(~allowed, -torch.inf)  # (E, B, N + 1)
        allowed = mixed[0] > -torch.inf
        for at, weight in enumerate(torch.from_numpy(weights).float()):
            total = torch.einsum("e,ebn->bn", weight, mixed.clamp(min=0)).masked_fill(~allowed, -torch.inf)
            ranks[rows.numpy(), at] = ranks_of(total, part.item).numpy()
    return ranks


def routed_ranks(
    judges: Mapping[str, Judge], test: Mapping[str, Confidence], queries: tuple[Queries, Queries]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The ranks (Q,) of the test answers by every way of combining experts, and the expert (Q,) that routers chose.

    judges, test: by expert, in the order in which they are tried, on the same queries. queries: of the half of the
    validation users that chooses, and of test. Thresholds, weights and the best single expert are chosen on that half
    by NDCG@10. Names: "routing by P(IK)", "routing by history length", "mixture", "oracle (uses the answer)", and
    "<expert> alone"; the first of these is the best one on validation.
    """
    chosen = {name: one.chosen for name, one in judges.items()}
    value = np.stack([_ndcg(one.frame["rank"].to_numpy()) for one in chosen.values()], 1)  # (Q', E)
    ranks = np.stack([one.frame["rank"].to_numpy() for one in test.values()], 1)  # (Q, E)
    rows, order = np.arange(len(ranks)), np.argsort(-value.mean(0), kind="stable")
    names = [*judges]
    found = {f"{names[at]} alone": ranks[:, at] for at in order}
    routed = {}
    for router in ("P(IK)", "history length"):

        def probability(of: Mapping[str, Confidence], router: str = router) -> np.ndarray:
            forecast = {name: "length" if router == "history length" else judges[name].best for name in judges}
            return np.stack([judges[name].forecast(one, forecast[name]) for name, one in of.items()], 1)  # (Q, E)

        expert = route(probability(test), fit_thresholds(probability(chosen), value))
        found[f"routing by {router}"], routed[f"routing by {router}"] = ranks[rows, expert], expert
    weights = simplex(len(judges))
    some = queries[0].select(torch.arange(min(len(queries[0]), MIXED_QUERIES)))
    best = np.argmax(_ndcg(mixture_ranks([*judges.values()], some, weights)).mean(0))
    found["mixture"] = mixture_ranks([*judges.values()], queries[1], weights[[best]])[:, 0]
    found["oracle (uses the answer)"] = ranks.min(1)
    return found, routed


def routing_table(
    frame: pd.DataFrame, ranks: Mapping[str, np.ndarray], routed: Mapping[str, np.ndarray], experts: Sequence[str],
    n_items: int, seen_filter: bool,
) -> pd.DataFrame:  # fmt: skip
    """Every way of combining experts against the first one, by NDCG@10 of the same queries.

    frame: of `Confidence`. ranks, routed: of `routed_ranks`. Columns way, recall@10, ndcg@10, value, low and high (its
    difference to the first way, with the 95 % interval), helped and harmed (shares of queries), and for routers the
    share of queries for which each expert was chosen.
    """
    import pandas as pd

    frame = frame[["query", "user", "item", "history_length", "seen"]].assign(item_count=0)
    outcomes = {
        name: next_item.outcome(frame.assign(rank=one), n_items, seen_filter, {}) for name, one in ranks.items()
    }
    first, *_ = outcomes.values()
    rows = []
    for name, one in outcomes.items():
        gain = compare(one, first).loc["ndcg@10"]
        moved = (one.values(["ndcg@10"]) - first.values(["ndcg@10"])).to_numpy()
        shares = (
            np.bincount(routed[name], minlength=len(experts)) / len(frame)
            if name in routed
            else [np.nan] * len(experts)
        )
        rows.append({
            "way": name, "recall@10": one.means()["recall@10"], "ndcg@10": gain["a"], "value": gain["difference"],
            "low": gain["low"], "high": gain["high"], "helped": (moved > 0).mean(), "harmed": (moved < 0).mean(),
            **{f"routed to {expert}": share for expert, share in zip(experts, shares, strict=True)},
        })  # fmt: skip
    return pd.DataFrame(rows)


def _ndcg(ranks: np.ndarray) -> np.ndarray:
    return per_user(ranks.ravel(), (10,))["ndcg@10"].to_numpy().reshape(ranks.shape)
