"""The result of an evaluation: one row per query, its metrics, and the protocol."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seqlab.evaluation.ranking_metrics import cutoffs_of, per_user

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Metric:
    """A metric of a task. higher: whether more is better. low, high: the bounds of its value, inf = unbounded."""

    name: str
    higher: bool = True
    low: float = 0.0
    high: float = 1.0

    def better(self, value: float, other: float) -> bool:
        """Whether `value` is better than `other`."""
        return value > other if self.higher else value < other

    @property
    def from_zero(self) -> bool:
        """Whether its scale begins at 0: its values lie between 0 and a finite bound."""
        return self.low == 0 and math.isfinite(self.high)

    @property
    def worst(self) -> float:
        """A value that every measured one is better than."""
        return -math.inf if self.higher else math.inf


@dataclass(frozen=True)
class Slice:
    """How a column groups queries: a number by quartile with its unit, a bool by two words, a category as it is."""

    name: str
    unit: str = ""
    yes: str = "yes"
    no: str = "no"


@dataclass(frozen=True)
class Outcome:
    """The result of a task on the queries of a split.

    frame: one row per query: query (its id), user, what the task knows of it, and a column per metric, whose mean is
        the metric. For a number that is no mean over queries the column holds influence values: the number plus Q times
        its derivative by the weight of the query. Recall, NDCG and MRR of queries with one answer are computed from the
        column rank (1 = best, ties at their mean).
    metrics: those of the task; primary: the name of the one that validation, tuning and tables go by; headline: the
        names of those that a table shows, the primary one among them.
    protocol: one sentence. about: the parts of the protocol that must be equal in a comparison ("seen_filter").
    slices: by column, how it groups queries. summary: numbers of the whole, by name.
    """

    task: str
    frame: pd.DataFrame
    metrics: tuple[Metric, ...]
    primary: str
    headline: tuple[str, ...]
    protocol: str
    about: Mapping[str, Any] = field(default_factory=dict)
    slices: Mapping[str, Slice] = field(default_factory=dict)
    summary: Mapping[str, float] = field(default_factory=dict)

    @property
    def seen_filter(self) -> bool:
        """Whether items of the history were removed from rankings; False for a task without rankings."""
        return bool(self.about.get("seen_filter", False))

    def metric(self, name: str) -> Metric:
        """A metric by name. Raises `ValueError` for one that the task does not have."""
        known = {one.name: one for one in self.metrics}
        if name in known:
            return known[name]
        if self.frame is not None and "rank" in self.frame and cutoffs_of([name]):
            return Metric(name)
        raise ValueError(f"there is no metric {name!r}. {self.task} has: {', '.join(known)}.")

    def values(self, names: Iterable[str] | None = None) -> pd.DataFrame:
        """A column per metric (None: all of the task) with its value for every query, in the order of `frame`.

        Raises `ValueError` for an unknown metric.
        """
        names = [self.metric(name).name for name in ([one.name for one in self.metrics] if names is None else names)]
        derived = [name for name in names if name not in self.frame]
        if not derived:
            return self.frame[names]
        ranked = per_user(self.frame["rank"].to_numpy(), cutoffs_of(derived)).set_index(self.frame.index)
        return self.frame.join(ranked[derived])[names]

    def means(self) -> dict[str, float]:
        """The mean of every metric, and the summary."""
        means = {name: float(value) for name, value in self.values().mean().items()}
        return means | {name: float(value) for name, value in self.summary.items()}

    def by_query(self) -> Outcome:
        """The outcome with its rows in the order of the ids of queries."""
        return dataclasses.replace(self, frame=self.frame.sort_values("query", kind="stable", ignore_index=True))

    def description(self) -> dict[str, Any]:
        """All but the frame, as JSON values; `described` makes an outcome of it again."""
        parts = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "frame"}
        parts["metrics"] = [_json(dataclasses.asdict(one)) for one in self.metrics]
        parts["slices"] = {column: dataclasses.asdict(one) for column, one in self.slices.items()}
        return parts | {"headline": list(self.headline), "about": dict(self.about), "summary": dict(self.summary)}


def described(frame: pd.DataFrame | None, description: Mapping[str, Any]) -> Outcome:
    """The outcome with this frame (None: not read) and a stored `Outcome.description`."""
    parts = dict(description)
    parts["metrics"] = tuple(Metric(**{**one, **_numbers(one)}) for one in parts["metrics"])
    parts["slices"] = {column: Slice(**one) for column, one in parts["slices"].items()}
    return Outcome(frame=frame, **(parts | {"headline": tuple(parts["headline"])}))


def _json(metric: dict[str, Any]) -> dict[str, Any]:
    """A metric with None for infinite bounds, which JSON does not have."""
    return {key: None if isinstance(one, float) and math.isinf(one) else one for key, one in metric.items()}


def _numbers(metric: Mapping[str, Any]) -> dict[str, float]:
    """The bounds of a metric, infinite where `_json` wrote None."""
    return {
        "low": -math.inf if metric["low"] is None else metric["low"],
        "high": math.inf if metric["high"] is None else metric["high"],
    }
