"""Event time: when the next event of a user comes, and which item it is; in nats per event, days and quantiles.

A model is read once per user: the distributions after all events of a history come out of one pass.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.contracts import PredictsTime, name_of, supports
from seqlab.datasets.gaps import unfit_times
from seqlab.datasets.sequences import Queries
from seqlab.datasets.waits import SHORTEST, observed_until, waits_of
from seqlab.evaluation.outcome import Metric, Outcome, Slice
from seqlab.runtime import processes
from seqlab.runtime.modules import device_of, evaluating
from seqlab.runtime.text import DataError, MissingDataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from seqlab.datasets.splits import Split

METRICS = (
    Metric("time_nats", True, -math.inf, math.inf),
    Metric("mark_nats", True, -math.inf, 0.0),
    Metric("nats", True, -math.inf, math.inf),
    Metric("absolute_error", False, 0.0, math.inf),
    Metric("rmse", False, 0.0, math.inf),
    Metric("mark_accuracy"),
    Metric("pit_error", False, -1.0, 1.0),
)
"""Per event: log-density of the wait (in days), log-probability of the item, their sum; days between the median and the
wait; root mean squared error of the mean; share of items that were the most probable one; mean distance of the PIT's
distribution from the uniform one (0: every quantile is exceeded as often as it says)."""

PRIMARY, HEADLINE = "time_nats", ("time_nats", "mark_nats", "absolute_error", "rmse", "pit_error")
SLICES = {
    "history_length": Slice("history length", "events"),
    "wait": Slice("wait until the answer", "days"),
    "wait_before": Slice("wait before", "days"),
    "mark": Slice("item of the answer"),
}

MAX_TIES = 0.01
"""Share of waits of zero above which a log has no event times."""

MAX_MARKS = 50
"""Items of a log up to which each one is a slice."""

MAX_TOKENS = 1 << 13
"""History positions per batch."""

LEVELS = tuple(level / 20 for level in range(1, 20))
"""Levels at which the PIT is compared with the uniform distribution."""

DAY = 86_400.0


def check(model: nn.Module, split: Split) -> None:
    """Raise `DataError` for a system without times, and for a log or queries whose times cannot carry them."""
    if not supports(model, PredictsTime):
        raise DataError(f"{name_of(model)} does not predict when the next event comes (it has no next_time).")
    if why := unfit_times(split.log):
        raise MissingDataError(f"event_time cannot measure this log. {why}")
    gaps = split.log.events.groupby("user")["timestamp"].diff()
    if bool((gaps < 0).any()):
        raise DataError(f"{split.log.name}: times are out of order; read the log with order='time' for event_time.")
    ties = float((gaps == 0).mean())
    if ties > MAX_TIES:
        raise MissingDataError(
            f"event_time cannot measure this log. {split.log.name}: {ties:.0%} of the events have the time of the one "
            "before, so they are no events in time; if they are parts of baskets, use datasets.trips(log)."
        )
    if any(len(part) and not bool(part.item.all()) for part in (split.valid, split.test)):
        raise DataError(f"the queries of {split.name} have several answers; event_time measures single ones.")


@torch.no_grad()
def measure(model: nn.Module, split: Split, part: str = "test", seen_filter: bool | None = None) -> Outcome:
    """The wait and the item of the answer of every query of `part` ("valid" or "test").

    The whole history of a user is read, whatever the model's `max_length`. Means are those of the wait cut off at the
    longest wait of training. The summary has coverages of intervals, the log-survival up to the end of observation
    after the last event of each user (`tail_nats`, apart), and what the mean, the median and the most frequent item of
    training give, of all users and of each. seen_filter: not used; all items are candidates.

    Several processes must all call it; they share the users, and each returns the complete result.
    """
    check(model, split)
    queries = {"valid": split.valid, "test": split.test}[part]
    order = torch.argsort(queries.user * (len(queries.sequences.items) + 1) + queries.end)
    limit = _longest(split)
    with processes.propagate_errors(), evaluating(model):
        found, tail = _read(model, queries.select(order).to(device_of(model)), observed_until(split), limit)
    found, tail = processes.all_reduce_sum(found)[order.argsort()], processes.all_reduce_sum(tail)
    frame, summary = _frame(split, queries, found.cpu()), _coverage(found[:, 4].cpu())
    _must_be_finite(model, frame)
    summary |= _references(split, frame)
    if float(tail[1]):
        summary |= {"tail_nats": float(tail[0] / tail[1]), "tails": float(tail[1])}
    users = frame["user"].nunique()
    return Outcome(
        "event_time", frame, METRICS, PRIMARY, HEADLINE,
        f"nats per event with the unit day, {len(frame):,} waits of {users:,} users, each after the whole history; "
        f"means of waits cut off at {limit:,.0f} days",
        {"unit": "day", "limit": round(limit, 6), "n_items": split.n_items},
        {column: SLICES[column] for column in SLICES if column in frame}, summary,
    )  # fmt: skip


def _read(model, queries: Queries, until: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Per query (Q, 6): time_nats, mark_nats, median, mean, PIT, hit; and the sum and the number of tails (2,).

    queries: sorted by user and end. Rows of other processes stay 0.
    """
    device, events = queries.user.device, queries.sequences
    found = torch.zeros(len(queries), 6, dtype=torch.float64, device=device)
    tail = torch.zeros(2, dtype=torch.float64, device=device)
    last = torch.ones(len(queries), dtype=torch.bool, device=device)
    last[:-1] = queries.user[1:] != queries.user[:-1]
    after = last.nonzero()[:, 0] + 1  # the queries of user row r end here
    before = torch.cat([after.new_zeros(1), after[:-1]])
    ends = events.offsets[queries.user[last]]
    users = queries.select(last)
    users = replace(users, end=torch.minimum(users.end + 1, ends))  # with the last answer, for the tail
    shard = processes.index(), processes.count()
    for rows, batch in users.batches(None, MAX_TOKENS, 1 << 10, shard):
        counts = after[rows] - before[rows]
        row = torch.repeat_interleave(torch.arange(len(rows), device=device), counts)
        query = before[rows][row] + torch.arange(len(row), device=device) - (counts.cumsum(0) - counts)[row]
        at = queries.end[query] - users.start[rows][row] - 1
        known = batch.times[row, at]
        days = ((queries.answer.times[query] - known).clamp(min=SHORTEST) / DAY).float()
        waits = model.next_time(batch)
        wait, marks = waits[row, at], model.mark_log_probs(batch)[row, at]  # (q,), (q, N + 1)
        item = queries.item[query]
        mark_nats = marks.gather(1, item[:, None])[:, 0]
        columns = [
            wait.log_prob(days),
            mark_nats,
            wait.quantile(0.5),
            wait.mean(limit),
            -wait.log_survival(days).expm1(),
        ]
        found[query] = torch.stack([*columns, (marks.argmax(1) == item).float()], 1).double()
        reached = batch.lengths == (ends - users.start)[rows]  # the last event of the user is in the batch
        left = (until.to(device)[batch.user] - batch.last(batch.times)) / DAY
        some = (reached & (left >= 0)).nonzero()[:, 0]
        if len(some):
            survival = waits[some, batch.lengths[some] - 1].log_survival(left[some].float())
            tail += torch.stack([survival.double().sum(), survival.new_tensor(len(some)).double()])
    return found, tail


def _frame(split: Split, queries: Queries, found: Tensor) -> pd.DataFrame:
    """One row per query, in their order."""
    import numpy as np
    import pandas as pd

    queries = queries.to("cpu")
    times, last = queries.sequences.times, queries.end - 1
    days = (queries.answer.times - times[last]).clamp(min=SHORTEST) / DAY
    before = torch.where(last > queries.start, times[last] - times[(last - 1).clamp(min=0)], torch.nan) / DAY
    time_nats, mark_nats, median, mean, pit, hit = found.numpy().T
    error = (mean - days.numpy()) ** 2
    root = max(float(np.sqrt(error.mean())), 1e-12)
    frame = pd.DataFrame(
        {
            "query": queries.id.numpy(),
            "user": queries.user.numpy(),
            "item": queries.item.numpy(),
            "time": queries.answer.times.numpy(),
            "wait": days.numpy(),
            "median": median,
            "mean": mean,
            "pit": pit,
            "history_length": (queries.end - queries.start).numpy(),
            "wait_before": before.numpy(),
            "time_nats": time_nats,
            "mark_nats": mark_nats,
            "nats": time_nats + mark_nats,
            "absolute_error": np.abs(median - days.numpy()),
            "rmse": root + (error - error.mean()) / (2 * root),
            "mark_accuracy": hit,
            "pit_error": pit_influence(pit),
        }
    )
    if split.n_items <= MAX_MARKS:
        frame["mark"] = split.log.items["title"].to_numpy()[frame["item"] - 1]
    return frame


def pit_influence(pit: np.ndarray) -> np.ndarray:
    """(Q,) values whose mean is the mean over `LEVELS` of |share of pit <= level - level|; pit: (Q,) in [0, 1].

    The value of a query is its part of the signed differences, so the mean is exact, not only to first order.
    """
    import numpy as np

    below = (pit[:, None] <= np.array(LEVELS)) - np.array(LEVELS)  # (Q, levels)
    sign = np.sign(below.mean(0).round(12))  # a level that is reached exactly has no sign but that of rounding
    return (below * sign).mean(1)


def _coverage(pit: Tensor) -> dict[str, float]:
    """The share of waits in the central interval of 50 and of 90 %."""
    outside = (2 * pit - 1).abs()
    return {f"coverage_{share}": float((outside <= share / 100).double().mean()) for share in (50, 90)}


def _references(split: Split, frame: pd.DataFrame) -> dict[str, float]:
    """Errors of constants of training, for all users and for each: the mean, the median and the most frequent item."""
    import numpy as np
    import pandas as pd

    user, start, end = (part.cpu().numpy() for part in waits_of(split.train))
    days = pd.Series((end - start) / DAY)
    by_user = days.groupby(user)
    wait, mean, median = frame["wait"], days.mean(), days.median()
    own_mean = frame["user"].map(by_user.mean()).fillna(mean)
    own_median = frame["user"].map(by_user.median()).fillna(median)
    events = pd.DataFrame({"user": split.train.users.cpu().numpy(), "item": split.train.items.cpu().numpy()})
    popular = events["item"].value_counts()
    counts = events.value_counts(["user", "item"]).reset_index(name="n")
    counts["popularity"] = counts["item"].map(popular)
    mode = counts.sort_values(["n", "popularity"]).drop_duplicates("user", keep="last").set_index("user")["item"]
    return {
        "rmse_of_mean": float(np.sqrt(((wait - mean) ** 2).mean())),
        "rmse_of_user_mean": float(np.sqrt(((wait - own_mean) ** 2).mean())),
        "absolute_error_of_median": float((wait - median).abs().mean()),
        "absolute_error_of_user_median": float((wait - own_median).abs().mean()),
        "accuracy_of_most_frequent": float((frame["item"] == popular.index[0]).mean()),
        "accuracy_of_user_most_frequent": float((frame["item"] == frame["user"].map(mode)).mean()),
    }


def _longest(split: Split) -> float:
    """The longest wait of training, in days."""
    _, start, end = waits_of(split.train)
    return float((end - start).max() / DAY) if len(start) else 1.0


def _must_be_finite(model: nn.Module, frame: pd.DataFrame) -> None:
    columns = ["time_nats", "mark_nats", "mean", "pit"]
    if bool(frame[columns].isna().to_numpy().any()) or bool((frame["time_nats"] == math.inf).any()):
        raise ValueError(f"{type(model).__name__} gave waits that are not finite; training may have diverged.")
