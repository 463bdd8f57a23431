"""How often 95 % intervals hold the truth: `python tests/benchmarks/interval_coverage.py` (three minutes).

Users hit with a known chance, at a rank from 1 to 10; the share of intervals that hold the true mean is printed beside
that of resampled users' quantiles (the percentile bootstrap) and how wide each is. Then the same of paired differences,
where a share of the users differs and `better` of those are better served by the first system. A share of 1,000 trials
is known to .014 or better (95 %).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd

from seqlab.evaluation import per_user
from seqlab.evaluation.bootstrap import bootstrap

NAMES = ["recall@10", "ndcg@10"]
TRIALS, SAMPLES = 1000, 400
MEANS = [(20, 0.05), (39, 0.01), (50, 0.02), (200, 0.01), (200, 0.05), (1000, 0.03), (1000, 0.2), (300, 0.6)]
GAINS = [(20, 0.05), (39, 0.02), (200, 0.01), (200, 0.05), (1000, 0.02), (1000, 0.1)]


def resampled(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The percentile bootstrap."""
    users = len(values)
    means = np.random.default_rng(seed).multinomial(users, np.full(users, 1 / users), SAMPLES) @ values / users
    return np.quantile(means, 0.025, axis=0), np.quantile(means, 0.975, axis=0)


def coverage(draw: Callable[[], np.ndarray], truth: np.ndarray, least: float) -> dict[str, float]:
    """Of each metric how often it holds its truth, and its mean width, for both kinds of intervals."""
    found = {}
    kinds = {"here": lambda values, seed: bootstrap(values, SAMPLES, seed, least), "resampled": resampled}
    values = [draw() for _ in range(TRIALS)]
    for kind, interval in kinds.items():
        low, high = np.array([interval(one, seed) for seed, one in enumerate(values)]).transpose(1, 0, 2)
        for place, name in enumerate(NAMES):
            held = (low[:, place] <= truth[place]) & (truth[place] <= high[:, place])
            found[f"{name} {kind}"] = held.mean()
            found[f"{name} {kind}, width"] = (high - low)[:, place].mean()
    return found


def main() -> None:
    random, each = np.random.default_rng(0), per_user(np.arange(1, 11))[NAMES].mean().to_numpy()

    def values(ranks: np.ndarray) -> np.ndarray:
        return per_user(ranks, (10,))[NAMES].to_numpy()

    rows = []
    for users, share in MEANS:

        def draw(users: int = users, share: float = share) -> np.ndarray:
            return values(np.where(random.random(users) < share, random.integers(1, 11, users), 100))

        rows.append({"users": users, "hits": share, **coverage(draw, share * each, 0.0)})
    print(pd.DataFrame(rows).round(3).T.to_string(header=False))
    rows = []
    for (users, share), better in product(GAINS, (0.5, 0.8, 1.0)):

        def draw(users: int = users, share: float = share, better: float = better) -> np.ndarray:
            found, sign = random.integers(1, 11, users), np.where(random.random(users) < better, 1, -1)
            gain = sign[:, None] * values(found) * (random.random(users) < share)[:, None]
            moved = random.random(users) < 2 * share  # both hit, at different ranks
            both = values(random.integers(1, 11, users)) - values(random.integers(1, 11, users))
            return np.where((gain == 0) & moved[:, None], both, gain)

        truth = share * (2 * better - 1) * each
        rows.append({"users": users, "differ": share, "better": better, **coverage(draw, truth, -1.0)})
    print("\npaired differences")
    print(pd.DataFrame(rows).round(3).T.to_string(header=False))


if __name__ == "__main__":
    main()
