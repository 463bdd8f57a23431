"""The metrics of outcomes with their intervals, paired comparisons, and slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.evaluation.bootstrap import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from seqlab.evaluation.outcome import Metric, Outcome, Slice


def metrics(outcome: Outcome) -> dict[str, float]:
    """The mean of every metric over all queries, and the numbers of the whole, by name."""
    return outcome.means()


def intervals(outcome: Outcome, samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The mean of each metric with its 95 % interval over users: index metric, columns mean, low, high.

    `attrs` of the table: headline and primary, as in `Outcome`; lower: the metrics of which less is better; unbounded:
    those whose scale does not begin at 0 (see `Metric.from_zero`).
    """
    import pandas as pd

    values, least, most = outcome.values(), *metric_bounds(outcome.metrics)
    low, high = bootstrap(values.to_numpy(), samples, seed, least, most, outcome.frame["user"].to_numpy())
    table = pd.DataFrame({"mean": values.mean().to_numpy(), "low": low, "high": high}, index=values.columns)
    return _with_attributes(table, outcome)


def compare(a: Outcome | list[Outcome], b: Outcome | list[Outcome], samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The metrics of `a` minus those of `b` on the same queries, with the paired 95 % interval over users.

    Several runs (the seeds) of a side are averaged per query first, so the interval is over users, for these seeds. It
    has a positive width even if no user differs. Metrics that a side does not have are left out. Index metric, columns
    a, b, difference, low, high; `attrs` as in `intervals`. Raises `ValueError` as `check_comparable` does.
    """
    import pandas as pd

    sides = {label: side if isinstance(side, list) else [side] for label, side in (("a", a), ("b", b))}
    check_comparable(sides)
    first = sides["a"][0].by_query()
    shared = [one for one in first.metrics if all(one in run.metrics for side in sides.values() for run in side)]
    names = [one.name for one in shared]
    of_a, of_b = (sum(one.by_query().values(names) for one in side) / len(side) for side in sides.values())
    gain = (of_a - of_b).to_numpy()
    least, most = metric_bounds(shared)
    users = first.frame["user"].to_numpy()
    low, high = bootstrap(gain, samples, seed, least - most, most - least, users)
    means = {"a": of_a.mean().to_numpy(), "b": of_b.mean().to_numpy(), "difference": gain.mean(0)}
    return _with_attributes(pd.DataFrame({**means, "low": low, "high": high}, index=of_a.columns), first)


def _with_attributes(table: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    table.attrs = {
        "headline": [name for name in outcome.headline if name in table.index],
        "primary": outcome.primary,
        **_directions(outcome.metrics),
    }
    return table


def _directions(metrics: Iterable[Metric]) -> dict[str, list[str]]:
    """The names of the metrics of which less is better, and of those whose scale does not begin at 0."""
    metrics = list(metrics)
    return {
        "lower": [one.name for one in metrics if not one.higher],
        "unbounded": [one.name for one in metrics if not one.from_zero],
    }


def metric_bounds(metrics: Sequence[Metric]) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper bounds of metrics, (M,) each."""
    return np.array([one.low for one in metrics], float), np.array([one.high for one in metrics], float)


def check_comparable(systems: Mapping[str, list[Outcome]]) -> None:
    """Raise `ValueError`, naming two systems, unless all are results of one task, protocol and set of queries."""
    if not systems:
        raise ValueError("There is nothing to compare: pass the outcome of at least one system.")
    reference, first = next((label, runs[0]) for label, runs in systems.items())
    queries = _queries_of(first)
    for label, runs in systems.items():
        for one in runs:
            if one.task != first.task or dict(one.about) != dict(first.about):
                raise ValueError(
                    f"{label!r} and {reference!r} cannot be compared: the protocols differ ({one.task}, "
                    f"{one.protocol}; {first.task}, {first.protocol}). Evaluate one of them again."
                )
            if not np.array_equal(_queries_of(one), queries):
                raise ValueError(
                    f"{label!r} and {reference!r} cannot be compared: their queries differ, as those of two splits or "
                    "datasets do. Evaluate both on one split."
                )


def _queries_of(outcome: Outcome) -> np.ndarray:
    """What identifies the queries of an outcome: id, user and, where there is one, the item."""
    frame = outcome.by_query().frame
    return frame[[column for column in ("query", "user", "item") if column in frame]].to_numpy()


def slices(outcome: Outcome, metric: str | None = None, samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """One metric (None: the primary one) by the slices of the task, with 95 % intervals over users.

    Columns slice, group, users, mean, low, high. Numbers are grouped by quartile; empty groups are left out. `attrs` of
    the table: metric, its name; lower and unbounded, as in `intervals`.
    """
    chosen = outcome.metric(metric or outcome.primary)
    value, users = outcome.values([chosen.name]).to_numpy(), outcome.frame["user"].to_numpy()
    table = by_group(value, groups_of(outcome.frame, outcome.slices), samples, seed, chosen.low, chosen.high, users)
    table.attrs = {"metric": chosen.name, **_directions([chosen])}
    return table


def groups_of(frame: pd.DataFrame, slices: Mapping[str, Slice]) -> dict[str, pd.Series]:
    """The group of each row of `Outcome.frame`: by the name of a slice, a categorical of Q rows; NaN is in no group."""
    import pandas as pd

    groups = {}
    for column, one in slices.items():
        values = frame[column]
        if values.dtype == bool:
            groups[one.name] = pd.Series(np.where(values, one.yes, one.no), dtype="category")
        elif pd.api.types.is_numeric_dtype(values):
            groups[one.name] = quartiles(values, one.unit)
        else:
            groups[one.name] = values.reset_index(drop=True).astype("category")
    return groups


def by_group(
    value: np.ndarray,
    groups: dict[str, pd.Series],
    samples: int,
    seed: int,
    least: float = 0.0,
    most: float = 1.0,
    users: np.ndarray | None = None,
) -> pd.DataFrame:
    """The mean of a value (Q, 1) in every group of each categorical of Q rows, with its 95 % interval.

    least, most, users: as in `bootstrap`. Columns slice, group, users, mean, low, high; empty groups are left out.
    """
    import pandas as pd

    rows = []
    for name, group in groups.items():
        for label in group.cat.categories:
            chosen = (group == label).to_numpy()
            if chosen.any():
                who = None if users is None else users[chosen]
                low, high = bootstrap(value[chosen], samples, seed, least, most, who)
                count = int(chosen.sum()) if who is None else len(np.unique(who))
                row = {"slice": name, "group": label, "users": count, "mean": value[chosen].mean()}
                rows.append({**row, "low": low[0], "high": high[0]})
    return pd.DataFrame(rows, columns=["slice", "group", "users", "mean", "low", "high"])


def quartiles(values: pd.Series, unit: str) -> pd.Series:
    """The quartile of each value: a categorical with labels such as "3-10 events", "0.5 to 2 days"; NaN stays NaN."""
    import pandas as pd

    known = values.notna().to_numpy()
    quarters = np.quantile(values[known], [0, 0.25, 0.5, 0.75, 1]) if known.any() else np.zeros(1)
    whole = bool((values[known] == values[known].round()).all())
    edges = np.unique(quarters.round() if whole else [float(f"{edge:.3g}") for edge in quarters])
    texts = [f"{edge:.0f}" if whole else f"{edge:g}" for edge in edges]
    if len(edges) == 1:
        labels, cut = [f"{texts[0]} {unit}".strip()], np.zeros(len(values), int)
    else:
        lows = [texts[0], *(f"{edge + 1:.0f}" if whole else f"{edge:g}" for edge in edges[1:-1])]
        dash = "-" if whole else " to "
        labels = [f"{low}{dash}{high} {unit}".strip() if low != high else f"{high} {unit}".strip()
                  for low, high in zip(lows, texts[1:], strict=True)]  # fmt: skip
        cut = np.searchsorted(edges[1:-1], values.to_numpy(), side="left")
    return pd.Series(pd.Categorical.from_codes(np.where(known, cut, -1), labels, ordered=True))
