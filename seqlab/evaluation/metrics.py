"""From ranks to numbers with intervals: metrics, slices, and comparisons of two runs on the same users.

Intervals are Gaffke's (2005; see Learned-Miller and Thomas, arXiv 1905.06208): a Bayesian bootstrap over users, with
one more user at the bound of the metric, 0 for the lower end and 1 for the upper one (-1 and 1 for a difference). For
recall they are Clopper and Pearson's. They hold their 95 % where hits are few, and no hit at all still says how many
there may be; of many users the one more is too little to be seen. `tests/benchmarks/interval_coverage.py` measures it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.ranking import check_k

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.evaluation.outcome import Ranks

CUTOFFS = (1, 5, 10, 20)
INTERVALS = "95 % intervals over users: Bayesian bootstrap with one more user at the bound (Gaffke 2005)"
"""What the intervals are, in a line to print beside them."""

METRIC_NAMES = tuple(f"{name}@{k}" for k in CUTOFFS for name in ("recall", "ndcg", "mrr"))


def per_user(ranks: np.ndarray, cutoffs: tuple[int, ...] = CUTOFFS) -> pd.DataFrame:
    """Recall, NDCG and MRR at each cutoff for every query: one row each, columns like "ndcg@10".

    With one right answer Recall@k equals the hit rate HR@k, NDCG@k is 1 / log2(rank + 1), MRR@k is 1 / rank, each 0
    when the rank is beyond k. `ranks` (Q,) start at 1 and may be halves (ties). Raises `ValueError` for a cutoff
    below 1.
    """
    import pandas as pd

    ranks = np.asarray(ranks, dtype=np.float64)
    columns = {}
    for k in map(check_k, cutoffs):
        within = ranks <= k
        columns[f"recall@{k}"] = within.astype(np.float64)
        columns[f"ndcg@{k}"] = within / np.log2(ranks + 1)
        columns[f"mrr@{k}"] = within / ranks
    return pd.DataFrame(columns)


def metrics(ranks: Ranks) -> dict[str, float]:
    """Means over all queries, and what the top-10 lists hold.

    coverage@10: share of the catalogue in some top-10 list; popularity_bias@10: mean training count of a recommended
    item over that of a training event's item (1 = recommends what people consume); novelty@10: mean -log2 of the
    recommended items' share of training events, in bits (items never seen in training count as seen half a time).
    """
    numbers = per_user(ranks.frame["rank"].to_numpy()).mean().to_dict()
    shown = ranks.exposure.numpy().astype(np.float64)
    counts = ranks.train_counts.numpy().astype(np.float64)
    total, lists = counts.sum(), shown.sum()
    numbers["coverage@10"] = float((shown[1:] > 0).mean())
    if lists and total:
        numbers["popularity_bias@10"] = float((shown * counts).sum() / lists / ((counts**2).sum() / total))
        numbers["novelty@10"] = float((shown * -np.log2(np.maximum(counts, 0.5) / total)).sum() / lists)
    return {name: float(value) for name, value in numbers.items()}


def intervals(ranks: Ranks, samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Each metric's mean with its 95 % interval over users: index metric, columns mean, low, high."""
    import pandas as pd

    values = per_user(ranks.frame["rank"].to_numpy())
    low, high = bootstrap(values.to_numpy(), samples, seed)
    return pd.DataFrame({"mean": values.mean().to_numpy(), "low": low, "high": high}, index=values.columns)


def compare(a: Ranks | list[Ranks], b: Ranks | list[Ranks], samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Metric of `a` minus metric of `b` on the same users, with the paired 95 % interval.

    Of several runs of a side (its seeds) each user's mean is taken first: the interval is that of the users, for these
    seeds. It has a width even where no user differs: another one might. Index metric, columns a, b, difference, low,
    high. Raises `ValueError` where two runs did not answer the same queries or not under the same seen filter.
    """
    import pandas as pd

    sides = [side if isinstance(side, list) else [side] for side in (a, b)]
    frames = [one.frame.sort_values("user") for side in sides for one in side]
    queries = [frame[["user", "item"]].to_numpy() for frame in frames]
    same = all(np.array_equal(one, queries[0]) for one in queries[1:])
    if not same or len({one.seen_filter for side in sides for one in side}) > 1:
        raise ValueError("These runs cannot be compared: they answered other queries, or under another seen filter.")
    found = [per_user(frame["rank"].to_numpy()) for frame in frames]
    of_a, of_b = (sum(some) / len(some) for some in (found[: len(sides[0])], found[len(sides[0]) :]))
    gain = (of_a - of_b).to_numpy()
    low, high = bootstrap(gain, samples, seed, least=-1.0)
    means = {"a": of_a.mean().to_numpy(), "b": of_b.mean().to_numpy(), "difference": gain.mean(0)}
    return pd.DataFrame({**means, "low": low, "high": high}, index=of_a.columns)


def slices(ranks: Ranks, metric: str = "ndcg@10", samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """One metric by history length, by popularity of the answer, and by repeat or exploration, with intervals.

    Columns slice, group, users, mean, low, high; groups without users are left out. Lengths and counts are cut at
    their quartiles.
    """
    value = per_user(ranks.frame["rank"].to_numpy())[[metric]].to_numpy()
    return by_group(value, groups_of(ranks.frame), samples, seed)


def groups_of(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The groups that each row of a frame of ranks falls into: by the name of a slice, a categorical of Q rows."""
    import pandas as pd

    return {
        "history length": quartiles(frame["history_length"], "events"),
        "popularity of the answer": quartiles(frame["item_count"], "training events"),
        "repeat or new": pd.Series(np.where(frame["seen"], "met before", "new to the user"), dtype="category"),
    }


def by_group(
    value: np.ndarray, groups: dict[str, pd.Series], samples: int, seed: int, least: float = 0.0
) -> pd.DataFrame:
    """The mean of a value (Q, 1) in every group of each categorical of Q rows, with its 95 % interval.

    least: what a value may be at least, as in `bootstrap`. Columns slice, group, users, mean, low, high; groups without
    users are left out.
    """
    import pandas as pd

    rows = []
    for name, group in groups.items():
        for label in group.cat.categories:
            chosen = value[(group == label).to_numpy()]
            if len(chosen):
                low, high = bootstrap(chosen, samples, seed, least)
                row = {"slice": name, "group": label, "users": len(chosen), "mean": chosen.mean()}
                rows.append({**row, "low": low[0], "high": high[0]})
    return pd.DataFrame(rows)


def quartiles(values: pd.Series, unit: str) -> pd.Series:
    """Which quarter of the users each value falls into, labelled with its bounds."""
    import pandas as pd

    edges = np.unique(np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).round().astype(int))
    if len(edges) == 1:
        return pd.Series([f"{edges[0]} {unit}"] * len(values), dtype="category")
    lows = [edges[0], *(edges[1:-1] + 1)]
    bounds = zip(lows, edges[1:], strict=True)
    labels = [f"{low}-{high} {unit}" if low < high else f"{high} {unit}" for low, high in bounds]
    cut = np.searchsorted(edges[1:-1], values.to_numpy(), side="left")
    return pd.Series(pd.Categorical.from_codes(cut, labels, ordered=True))


def bootstrap(values: np.ndarray, samples: int, seed: int, least: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the mean of each column: values (Q, M), between `least` and 1, give low and high, (M,) each.

    least: 0 for a metric, -1 for the difference of two.
    """
    return bounds(*resampled(values, samples, seed), least)


def bounds(means: np.ndarray, extra: np.ndarray, least: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The ends of 95 % intervals, (M,) each, of what `resampled` gives: means (samples, M) and extra (samples,).

    The extra user has the `least` value for the lower end, the most, 1, for the upper one.
    """
    extra = extra.reshape(-1, *[1] * (means.ndim - 1))
    return np.quantile(means + least * extra, 0.025, axis=0), np.quantile(means + extra, 0.975, axis=0)


def resampled(values: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The means of users with random weights: values (Q, M) give (samples, M), and the weight of one user more.

    Weights are uniform over all that sum to 1 (Dirichlet's); that of the extra user, (samples,), has no value yet: see
    `bounds`. One seed draws the same weights for any values. Those of a few samples at a time keep the memory at a few
    times that of the values.
    """
    generator = np.random.default_rng(seed)
    count = len(values)
    means, extra = np.empty((samples, values.shape[1])), np.empty(samples)
    at_once = max(1, (1 << 22) // count)
    for first in range(0, samples, at_once):
        drawn = slice(first, min(first + at_once, samples))
        weights = generator.standard_exponential((drawn.stop - first, count + 1))
        total = weights.sum(1)
        means[drawn] = weights[:, :count] @ values / total[:, None]
        extra[drawn] = weights[:, count] / total
    return means, extra
