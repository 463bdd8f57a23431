"""Metrics, slices and paired comparisons of ranks, with 95 % intervals over users.

The intervals are those of Gaffke (2005; see Learned-Miller and Thomas, arXiv 1905.06208): a Bayesian bootstrap over
users with one additional user at the bound of the metric (lower end 0, upper end 1; for a difference -1 and 1). For
recall they equal Clopper-Pearson intervals. They keep their coverage where hits are few or absent; with many users the
additional user has no visible effect. `tests/benchmarks/interval_coverage.py` measures the coverage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.ranking import check_k

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from seqlab.evaluation.outcome import Ranks

CUTOFFS = (1, 5, 10, 20)
INTERVALS = "95 % intervals over users: Bayesian bootstrap with one more user at the bound (Gaffke 2005)"
"""The method of the intervals, as a line to print beside them."""

METRIC_NAMES = tuple(f"{name}@{k}" for k in CUTOFFS for name in ("recall", "ndcg", "mrr"))


def per_user(ranks: np.ndarray, cutoffs: tuple[int, ...] = CUTOFFS) -> pd.DataFrame:
    """Recall, NDCG and MRR at each cutoff: one row per query, columns such as "ndcg@10".

    ranks: (Q,), from 1, with halves for ties. With one relevant item, Recall@k is the hit rate HR@k, NDCG@k is
    1 / log2(rank + 1) and MRR@k is 1 / rank, each 0 for a rank beyond k. Raises `ValueError` for a cutoff below 1.
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
    """Means of `per_user` over all queries, and three statistics of the top-10 lists.

    coverage@10: the share of the catalogue that is in at least one top-10 list. popularity_bias@10: the mean training
    count of a recommended item over that of the item of a training event (1 = as popular as consumption). novelty@10:
    the mean self-information -log2(share of training events) of recommended items, in bits; items without training
    events count as half an event.
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
    """The mean of each metric with its 95 % interval over users: index metric, columns mean, low, high."""
    import pandas as pd

    values = per_user(ranks.frame["rank"].to_numpy())
    low, high = bootstrap(values.to_numpy(), samples, seed)
    return pd.DataFrame({"mean": values.mean().to_numpy(), "low": low, "high": high}, index=values.columns)


def compare(a: Ranks | list[Ranks], b: Ranks | list[Ranks], samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The metrics of `a` minus those of `b` on the same users, with the paired 95 % interval.

    Several runs (the seeds) of a side are averaged per user first, so the interval is over users, for these seeds. It
    has a positive width even if no user differs. Index metric, columns a, b, difference, low, high. Raises `ValueError`
    as `check_comparable` does.
    """
    import pandas as pd

    sides = {label: side if isinstance(side, list) else [side] for label, side in (("a", a), ("b", b))}
    check_comparable(sides)
    of_a, of_b = (
        sum(per_user(one.frame.sort_values("user")["rank"].to_numpy()) for one in side) / len(side)
        for side in sides.values()
    )
    gain = (of_a - of_b).to_numpy()
    low, high = bootstrap(gain, samples, seed, least=-1.0)
    means = {"a": of_a.mean().to_numpy(), "b": of_b.mean().to_numpy(), "difference": gain.mean(0)}
    return pd.DataFrame({**means, "low": low, "high": high}, index=of_a.columns)


def check_comparable(systems: Mapping[str, list[Ranks]]) -> None:
    """Raise `ValueError`, naming two systems, unless all ranked the same queries, catalogue size and seen filter."""
    if not systems:
        raise ValueError("There is nothing to compare: pass the ranks of at least one system.")
    reference, first = next((label, runs[0]) for label, runs in systems.items())
    queries = first.frame.sort_values("user")[["user", "item"]].to_numpy()
    for label, runs in systems.items():
        for one in runs:
            if one.seen_filter != first.seen_filter or one.n_items != first.n_items:
                raise ValueError(
                    f"{label!r} and {reference!r} cannot be compared: the protocols differ ({one.candidates}; "
                    f"{first.candidates}). Evaluate one of them again."
                )
            if not np.array_equal(one.frame.sort_values("user")[["user", "item"]].to_numpy(), queries):
                raise ValueError(
                    f"{label!r} and {reference!r} cannot be compared: their queries differ, as those of two splits or "
                    "datasets do. Evaluate both on one split."
                )


def slices(ranks: Ranks, metric: str = "ndcg@10", samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """One metric by history length, popularity of the answer, and repeat or exploration, with 95 % intervals.

    Columns slice, group, users, mean, low, high. Lengths and counts are grouped by quartile; empty groups are left out.
    """
    value = per_user(ranks.frame["rank"].to_numpy())[[metric]].to_numpy()
    return by_group(value, groups_of(ranks.frame), samples, seed)


def groups_of(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The group of each row of `Ranks.frame`: by the name of a slice, a categorical of Q rows."""
    import pandas as pd

    return {
        "history length": quartiles(frame["history_length"], "events"),
        "popularity of the answer": quartiles(frame["item_count"], "training events"),
        "repeat or new": pd.Series(np.where(frame["seen"], "seen before", "new to the user"), dtype="category"),
    }


def by_group(
    value: np.ndarray, groups: dict[str, pd.Series], samples: int, seed: int, least: float = 0.0
) -> pd.DataFrame:
    """The mean of a value (Q, 1) in every group of each categorical of Q rows, with its 95 % interval.

    least: the lower bound of a value, as in `bootstrap`. Columns slice, group, users, mean, low, high; empty groups are
    left out.
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
    """The quartile of each value, as a categorical with labels such as "3-10 events"."""
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
    """The 95 % interval (low, high), (M,) each, of the column means of values (Q, M) between `least` and 1.

    least: 0 for a metric, -1 for a difference of two.
    """
    return bounds(*resampled(values, samples, seed), least)


def bounds(means: np.ndarray, extra: np.ndarray, least: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval (low, high), (M,) each, from the output of `resampled`: means (samples, M), extra (samples,).

    The additional user has the value `least` for the lower end and 1 for the upper end.
    """
    extra = extra.reshape(-1, *[1] * (means.ndim - 1))
    return np.quantile(means + least * extra, 0.025, axis=0), np.quantile(means + extra, 0.975, axis=0)


def resampled(values: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Randomly weighted means of values (Q, M): (samples, M), and the weight (samples,) of one additional user.

    The weights of the Q + 1 users are Dirichlet(1, .., 1); `bounds` adds the additional user's value. They depend on
    the seed and Q only. Samples are drawn in chunks, so that memory stays a few times that of the values.
    """
    generator = np.random.default_rng(seed)
    count = len(values)
    means, extra = np.empty((samples, values.shape[1])), np.empty(samples)
    chunk = max(1, (1 << 22) // count)
    for first in range(0, samples, chunk):
        drawn = slice(first, min(first + chunk, samples))
        weights = generator.standard_exponential((drawn.stop - first, count + 1))
        total = weights.sum(1)
        means[drawn] = weights[:, :count] @ values / total[:, None]
        extra[drawn] = weights[:, count] / total
    return means, extra
