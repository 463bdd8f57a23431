"""Comparison of several systems on the same queries: means, paired differences, groups of users, single users."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from seqlab.evaluation.bootstrap import bounds, resampled
from seqlab.evaluation.metrics import check_comparable, groups_of, metric_bounds
from seqlab.evaluation.ranking_metrics import cutoffs_of
from seqlab.ranking import check_k, top_unseen
from seqlab.runtime.modules import device_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from torch import nn

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.outcome import Outcome

Order = Literal["system", "reference", "most"]
"""Order of users: those for whom the system is better first, or the reference, or the largest absolute difference."""

EVERYBODY = ("everybody", "all users")
"""The slice and the group that contain all users."""


class Standings:
    """Several systems on the same queries; several runs of a system (its seeds) are averaged per query first.

    systems: by label, the outcome of one run or of each seed. metrics: names of metrics, () = the headline of the task.
    frame: one row per query, by ascending id, with the columns of `Outcome.frame` that are no metric. ranks: the mean
    rank of each system, a column per label (infinite: not in a list); None for a task without
    ranks. task, primary, about, seen_filter: as in `Outcome`.
    Raises `ValueError` for an unknown metric, and as `check_comparable` does.
    """

    def __init__(
        self,
        systems: Mapping[str, Outcome | list[Outcome]],
        metrics: tuple[str, ...] = (),
        samples: int = 1000,
        seed: int = 0,
    ) -> None:
        import pandas as pd

        seeds = {label: some if isinstance(some, list) else [some] for label, some in systems.items()}
        check_comparable(seeds)
        seeds = {label: [one.by_query() for one in some] for label, some in seeds.items()}
        first = next(iter(seeds.values()))[0]
        self._samples, self._seed = samples, seed
        self.task, self.about, self.primary = first.task, first.about, first.primary
        self.seen_filter = first.seen_filter
        self._cutoffs = {label: min(map(_largest_cutoff, some)) for label, some in seeds.items()}
        self.slices_of, self.seeds = first.slices, {label: len(some) for label, some in seeds.items()}
        measured_by_all = set.intersection(*({*one.values()} for some in seeds.values() for one in some))
        shown = [name for name in first.headline if name in measured_by_all and name != first.primary]
        self.metrics = tuple(metrics) or (*shown, first.primary)
        self.bounds = {name: first.metric(name) for name in self.metrics}
        self._least, self._most = metric_bounds(list(self.bounds.values()))
        measured = {one.name for one in first.metrics} | {"rank"}
        self.frame = first.frame[[column for column in first.frame if column not in measured]]
        self._users = self.frame["user"].to_numpy()
        self._each = {
            label: np.stack([one.frame["rank"] for one in some])
            for label, some in seeds.items()
            if "rank" in first.frame
        }  # (seeds, Q)
        self.ranks = pd.DataFrame({label: ranks.mean(0) for label, ranks in self._each.items()}) if self._each else None
        names = list(self.metrics)
        self._values = {
            label: (sum(one.values(names) for one in some) / len(some)).to_numpy() for label, some in seeds.items()
        }
        self._stacked = np.hstack(list(self._values.values()))  # (Q, systems * metrics)
        self._column = {label: place * len(self.metrics) for place, label in enumerate(self._values)}
        self._drawn: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}

    def table(self, reference: str) -> pd.DataFrame:
        """The mean of each system, and its paired difference to `reference`, with 95 % intervals.

        Columns system, metric, mean, low, high, difference, difference low, difference high.
        """
        import pandas as pd

        (drawn, extra), parts, count = self._means(EVERYBODY), [], len(self.metrics)
        of_reference = drawn[:, self._column[reference] :][:, :count]
        for label, values in self._values.items():
            of_system = drawn[:, self._column[label] :][:, :count]
            low, high = bounds(of_system, extra, self._least, self._most)
            least, most = bounds(of_system - of_reference, extra, self._least - self._most, self._most - self._least)
            gain = (values - self._values[reference]).mean(0)
            columns = {"mean": values.mean(0), "low": low, "high": high, "difference": gain}
            columns |= {"difference low": least, "difference high": most}
            parts.append(pd.DataFrame({"system": label, "metric": self.metrics, **columns}))
        return pd.concat(parts, ignore_index=True)

    def groups(self) -> dict[str, pd.Series]:
        """The group of each row of `frame`, by the name of a slice; all users are the first slice."""
        import pandas as pd

        slice_, group = EVERYBODY
        return {slice_: pd.Series([group] * len(self.frame), dtype="category"), **groups_of(self.frame, self.slices_of)}

    def slices(
        self, system: str, reference: str, metric: str, also: dict[str, pd.Series] | None = None
    ) -> pd.DataFrame:
        """One metric of two systems for groups of users, and the paired difference, with 95 % intervals.

        also: further slices, in the form of `groups()`; rows with NaN are in no group. Columns slice, group, users, a
        (of `system`), a low, a high, b (of `reference`), b low, b high, difference, low, high; empty groups are left
        out. The first call resamples every group (about a second per 10,000 users); later calls reuse the samples.
        """
        import pandas as pd

        at = [self._column[label] + self.metrics.index(metric) for label in (system, reference)]
        rows = []
        for name, group in (self.groups() | (also or {})).items():
            for label in group.cat.categories:
                chosen = (group == label).to_numpy()
                if not chosen.any():
                    continue
                drawn, extra = self._means(
                    (name, label), None if name == EVERYBODY[0] else chosen, keep=name not in (also or {})
                )
                a, b = drawn.T[at]
                of_a, of_b = self._stacked[chosen][:, at].T
                row = {"slice": name, "group": label, "users": len(np.unique(self._users[chosen]))}
                one = self.bounds[metric]
                for what, values, means in (("a", of_a, a), ("b", of_b, b), ("difference", of_a - of_b, a - b)):
                    before, width = ("", one.high - one.low) if what == "difference" else (f"{what} ", None)
                    least, most = (one.low, one.high) if width is None else (-width, width)
                    low, high = bounds(means, extra, least, most)
                    row |= {what: values.mean(), f"{before}low": low, f"{before}high": high}
                rows.append(row)
        return pd.DataFrame(rows)

    def _means(
        self, group: tuple[str, str], rows: np.ndarray | None = None, keep: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """`resampled` for the users of a group: (samples, systems * metrics) and (samples,), cached.

        All systems share the weights, so the difference of two columns is a paired difference.
        """
        if keep and group in self._drawn:
            return self._drawn[group]
        rows = slice(None) if rows is None else rows
        means = resampled(self._stacked[rows], self._samples, self._seed, self._users[rows])
        if keep:
            self._drawn[group] = means
        return means

    def users(
        self, system: str, reference: str, metric: str, group: pd.Series | None = None, order: Order = "system"
    ) -> pd.DataFrame:
        """The queries of a group, sorted by how much better the metric is in `system` than in `reference` (`Order`).

        group: a boolean mask over the rows of `frame` (None: all). Queries with equal differences are sorted by the
        ratio of the two ranks, where there are ranks. Columns user, item and history_length where the task has them, a
        and b (the ranks in `system` and `reference`, else the metric), difference.
        """
        at, sign = self.metrics.index(metric), 1 if self.bounds[metric].higher else -1
        of_a, of_b = self._values[system][:, at], self._values[reference][:, at]
        about = [column for column in ("user", "item", "history_length") if column in self.frame]
        shown = (of_a, of_b) if self.ranks is None else (self.ranks[system], self.ranks[reference])
        ratio = 0.0 if self.ranks is None else _log_ratio(*shown)
        rows = self.frame[about].assign(a=shown[0], b=shown[1], difference=of_a - of_b, ratio=ratio)
        rows = rows if group is None else rows[group.to_numpy()]
        if order == "most":
            keys = [rows["difference"].abs(), rows["ratio"].abs()]
        else:
            side = 1 if order == "system" else -1
            keys = [side * sign * rows["difference"], side * rows["ratio"]]
        sorted_rows = np.lexsort([rows["user"], -keys[1], -keys[0]])
        return rows.iloc[sorted_rows].drop(columns="ratio").reset_index(drop=True)

    def users_with_hit(self, system: str, k: int = 10) -> np.ndarray:
        """The users whose answer is in the top k for at least half of the seeds, ascending; needs ranks."""
        return self.frame["user"].to_numpy()[(self._each[system] <= check_k(k)).mean(0) >= 0.5]

    def curves(self, most: int = 20) -> pd.DataFrame:
        """recall@k of every system for every k up to `most`: columns system, k, recall; empty without ranks.

        Larger k are not meaningful: the items that a system without `score` did not list share one rank. A system that
        was measured at smaller cutoffs only, such as a table of short lists, has no larger k either.
        """
        import pandas as pd

        parts = []
        for label, ranks in self._each.items():
            cutoffs = range(1, min(most, self._cutoffs[label] or most) + 1)
            recall = [(ranks <= k).mean() for k in cutoffs]
            parts.append(pd.DataFrame({"system": label, "k": cutoffs, "recall": recall}))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["system", "k", "recall"])


def _largest_cutoff(outcome: Outcome) -> int:
    """The largest cutoff of the ranking metrics of an outcome; 0 without any."""
    return max(cutoffs_of(one.name for one in outcome.metrics), default=0)


def _log_ratio(a: pd.Series, b: pd.Series) -> np.ndarray:
    """log(b / a) of ranks; 0 where both are infinite: the answer is in neither list."""
    with np.errstate(divide="ignore"):
        return np.where(a == b, 0.0, np.log(b / a))


@torch.no_grad()
def seconds_per_user(model: nn.Module, split: Split, seen_filter: bool, users: int = 64, k: int = 10) -> float:
    """Seconds per user for the k best items, in a batch of `users` test users: the minimum of two runs after a warm-up.

    Measured on this machine, on the device of the model and with the current number of threads.
    """
    count, seconds = min(users, len(split.test)), []
    rows = torch.arange(count) * len(split.test) // count
    for some in (rows[:8], rows, rows):
        batch = split.test.batch(some, model.config.max_length).to(device_of(model))
        began = time.perf_counter()
        ranking = top_unseen(model, batch, k) if seen_filter else model.recommend(batch, k)
        ranking.items.cpu()  # waits for a GPU
        seconds.append((time.perf_counter() - began) / len(some))
    return min(seconds[1:])
