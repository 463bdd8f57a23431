"""Stopping a reasoning system early: quality against the steps that were taken, and what steps gain for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.evaluation.metrics import bootstrap, by_group, per_user, quartiles
from seqlab.inspection.reasoning_steps import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.inspection.reasoning_steps import StepRanks

THRESHOLDS = 40
"""Stop thresholds tried unless others are asked for."""


def thresholds(found: StepRanks, count: int = THRESHOLDS) -> list[float]:
    """Stop thresholds between which something changes, ascending: 0 (never stop) and quantiles of the KL seen."""
    values = found.wide("kl")[:, 1:]
    if not values.size:
        return [0.0]
    spread = np.quantile(values, np.linspace(0.005, 0.995, count - 2))
    rounded = {float(f"{value:.2g}") for value in [*spread, 1.01 * values.max()]}
    return [0.0, *sorted(rounded - {0.0})]


def tradeoff(
    found: StepRanks, epsilons: list[float] | None = None, least: int = 1, most: int | None = None
) -> pd.DataFrame:
    """Quality against mean steps for each stop threshold, without asking the model again.

    Columns epsilon, steps (mean taken), early (share of users who stop before the last step), recall@10, ndcg@10,
    and recall@10 high, ndcg@10 high: the upper end of the 95 % interval of "stopped minus never stopped", by the
    normal approximation of the paired mean.
    """
    import pandas as pd

    users = np.arange(len(found.top))
    last = found.steps if most is None else min(most, found.steps)
    rows = []
    for epsilon in thresholds(found) if epsilons is None else epsilons:
        stops = found.stops(epsilon, least, most)
        quality = found.quality[users, stops]  # (Q, 2)
        change = quality - found.quality[:, last]
        high = change.mean(0) + 1.96 * change.std(0) / len(users) ** 0.5
        row = {"epsilon": epsilon, "steps": stops.mean(), "early": (stops < last).mean()}
        row |= dict(zip(METRICS, quality.mean(0), strict=True))
        rows.append(row | {f"{name} high": each for name, each in zip(METRICS, high, strict=True)})
    return pd.DataFrame(rows)


def choose_threshold(valid: StepRanks, metric: str = "ndcg@10", least: int = 1, lost: float = 0.01) -> float:
    """The largest threshold at no loss that one can see: `metric` is at most the share `lost` below that of never
    stopping, and the 95 % interval of the difference does not lie below 0.

    To be asked of the validation part: a threshold chosen on test says nothing about the next user.
    """
    table = tradeoff(valid, least=least)
    never = table[metric].iloc[0]  # ascending from 0
    allowed = (table[metric] >= (1 - lost) * never) & (table[f"{metric} high"] >= 0)
    return float(table.loc[allowed, "epsilon"].max())


def outcomes(
    found: StepRanks, epsilon: float | None = None, least: int = 1, samples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Every user at the same step, each at their own stop, and at the best step there was, with 95 % intervals.

    Columns way, kind ("fixed", "stop", "best", "worst"), steps (mean taken), metric, mean, low, high. "best" and
    "worst" look at the answer to choose the step, so they bound what any rule of stopping can reach and are no result.
    The best of several states is better than one of them even where they differ by chance alone.
    """
    import pandas as pd

    ranks = found.wide("rank")
    every = np.arange(len(ranks))
    ways = [(f"step {step}", "fixed", np.full(len(ranks), step)) for step in range(found.steps + 1)]
    if epsilon is not None:
        ways.append((f"stop below {epsilon:.2g}", "stop", found.stops(epsilon, least)))
    ways.append(("best step of each user (uses the answer)", "best", ranks.argmin(1)))
    ways.append(("worst step of each user (uses the answer)", "worst", ranks.argmax(1)))
    rows = []
    for way, kind, chosen in ways:
        values = found.quality[every, chosen]  # (Q, 2)
        low, high = bootstrap(values, samples, seed)
        for place, metric in enumerate(METRICS):
            rows.append({
                "way": way, "kind": kind, "steps": chosen.mean(), "metric": metric,
                "mean": values[:, place].mean(), "low": low[place], "high": high[place],
            })  # fmt: skip
    return pd.DataFrame(rows)


def gains(
    found: StepRanks, step: int | np.ndarray | None = None, metric: str = "ndcg@10", samples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """What a step (None: the last; or each user's own, (Q,)) gains over the plain encoder, for groups of users.

    The groups are quarters by history length and by popularity of the answer. Columns slice, group, users, mean, low,
    high: the mean of `metric` at the step minus that at step 0, with the paired 95 % interval.
    """
    ranks = found.wide("rank")
    chosen = np.broadcast_to(np.asarray(found.steps if step is None else step), len(ranks))
    first, then = ranks[:, 0], ranks[np.arange(len(ranks)), chosen]
    gain = (per_user(then)[[metric]] - per_user(first)[[metric]]).to_numpy()
    about = found.frame.iloc[:: found.steps + 1]
    groups = {
        "history length": quartiles(about["history_length"], "events"),
        "popularity of the answer": quartiles(about["item_count"], "training events"),
    }
    return by_group(gain, groups, samples, seed, least=-1.0)
