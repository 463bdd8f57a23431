"""Early stopping of reasoning steps: quality against the number of steps, and the gain per group of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.evaluation.bootstrap import bootstrap
from seqlab.evaluation.metrics import by_group, quartiles
from seqlab.evaluation.ranking_metrics import per_user
from seqlab.inspection.reasoning_steps import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.inspection.reasoning_steps import StepRanks

THRESHOLDS = 40
"""The default number of stop thresholds."""


def thresholds(measured: StepRanks, count: int = THRESHOLDS) -> list[float]:
    """Stop thresholds, ascending: 0 (never stop) and quantiles of the measured KL."""
    values = measured.wide("kl")[:, 1:]
    if not values.size:
        return [0.0]
    spread = np.quantile(values, np.linspace(0.005, 0.995, count - 2))
    rounded = {float(f"{value:.2g}") for value in [*spread, 1.01 * values.max()]}
    return [0.0, *sorted(rounded - {0.0})]


def tradeoff(
    measured: StepRanks, epsilons: list[float] | None = None, least: int = 1, most: int | None = None
) -> pd.DataFrame:
    """Quality against mean steps for each stop threshold, from the stored measures (no forward pass).

    Columns epsilon, steps (mean), early (share of users who stop before the last step), recall@10, ndcg@10, and
    recall@10 high, ndcg@10 high: the upper end of the 95 % interval of "stopped minus never stopped" (normal
    approximation of the paired mean).
    """
    import pandas as pd

    users = np.arange(len(measured.top))
    last = measured.steps if most is None else min(most, measured.steps)
    rows = []
    for epsilon in thresholds(measured) if epsilons is None else epsilons:
        stops = measured.stops(epsilon, least, most)
        quality = measured.quality[users, stops]  # (Q, 2)
        change = quality - measured.quality[:, last]
        high = change.mean(0) + 1.96 * change.std(0) / len(users) ** 0.5
        row = {"epsilon": epsilon, "steps": stops.mean(), "early": (stops < last).mean()}
        row |= dict(zip(METRICS, quality.mean(0), strict=True))
        rows.append(row | {f"{name} high": each for name, each in zip(METRICS, high, strict=True)})
    return pd.DataFrame(rows)


def choose_threshold(valid: StepRanks, metric: str = "ndcg@10", least: int = 1, lost: float = 0.01) -> float:
    """The largest threshold without a measurable loss: `metric` is at most the share `lost` below that of never
    stopping, and the 95 % interval of the difference reaches 0.

    Use the validation part: a threshold chosen on the test part overfits it.
    """
    table = tradeoff(valid, least=least)
    never = table[metric].iloc[0]  # ascending from 0
    allowed = (table[metric] >= (1 - lost) * never) & (table[f"{metric} high"] >= 0)
    return float(table.loc[allowed, "epsilon"].max())


def outcomes(
    measured: StepRanks, epsilon: float | None = None, least: int = 1, samples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Quality at a fixed step, at each user's stop, and at each user's best and worst step, with 95 % intervals.

    Columns way, kind ("fixed", "stop", "best", "worst"), steps (mean), metric, mean, low, high. "best" and "worst"
    choose the step by the answer: they bound what a stopping rule can reach and are not results. The best of several
    states beats a single one even where they differ by chance alone.
    """
    import pandas as pd

    ranks = measured.wide("rank")
    every = np.arange(len(ranks))
    ways = [(f"step {step}", "fixed", np.full(len(ranks), step)) for step in range(measured.steps + 1)]
    if epsilon is not None:
        ways.append((f"stop below {epsilon:.2g}", "stop", measured.stops(epsilon, least)))
    ways.append(("best step of each user (uses the answer)", "best", ranks.argmin(1)))
    ways.append(("worst step of each user (uses the answer)", "worst", ranks.argmax(1)))
    rows = []
    for way, kind, chosen in ways:
        values = measured.quality[every, chosen]  # (Q, 2)
        low, high = bootstrap(values, samples, seed)
        for place, metric in enumerate(METRICS):
            rows.append({
                "way": way, "kind": kind, "steps": chosen.mean(), "metric": metric,
                "mean": values[:, place].mean(), "low": low[place], "high": high[place],
            })  # fmt: skip
    return pd.DataFrame(rows)


def gains(
    measured: StepRanks,
    step: int | np.ndarray | None = None,
    metric: str = "ndcg@10",
    samples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The gain of a step (None: the last; or one per user, (Q,)) over the plain encoder, for groups of users.

    The groups are quartiles of history length and of the answer's popularity. Columns slice, group, users, mean, low,
    high: the mean of `metric` at the step minus that at step 0, with the paired 95 % interval.
    """
    ranks = measured.wide("rank")
    chosen = np.broadcast_to(np.asarray(measured.steps if step is None else step), len(ranks))
    first, then = ranks[:, 0], ranks[np.arange(len(ranks)), chosen]
    gain = (per_user(then)[[metric]] - per_user(first)[[metric]]).to_numpy()
    about = measured.frame.iloc[:: measured.steps + 1]
    groups = {
        "history length": quartiles(about["history_length"], "events"),
        "popularity of the answer": quartiles(about["item_count"], "training events"),
    }
    table = by_group(gain, groups, samples, seed, least=-1.0)
    table.attrs = {"metric": metric}
    return table
