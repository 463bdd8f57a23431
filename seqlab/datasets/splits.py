"""Splits a log into training histories and queries of validation and test, without leakage."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqlab.datasets.event_order import out_of_order
from seqlab.datasets.log import InteractionLog
from seqlab.datasets.sequences import Queries, Sequences
from seqlab.datasets.timestamps import unix_seconds
from seqlab.runtime.text import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Split:
    """Training histories, and the queries of validation and test.

    train: the only data that tokenizers, graphs, item vectors, counts and models may read. valid, test: at most one
    query per user. name: of the rule, such as "leave-one-out". notes: which users have no query, and other remarks.
    """

    log: InteractionLog
    train: Sequences
    valid: Queries
    test: Queries
    name: str
    notes: tuple[str, ...] = ()

    @property
    def n_items(self) -> int:
        return self.log.n_items

    @property
    def n_users(self) -> int:
        return self.log.n_users

    def __repr__(self) -> str:
        parts = f"train {len(self.train.items):,} events, valid {len(self.valid):,} and test {len(self.test):,} users"
        return f"Split({self.log.name}, {self.name}: {parts})" + "".join(f"\n  {note}" for note in self.notes)


def leave_one_out(log: InteractionLog) -> Split:
    """The last event of each user is the test answer, the one before it the validation answer, the rest is training.

    Users with fewer than three events have no query; all their events are training. If the order of ties has no meaning
    (`log.ties == "shuffle"`), the history of a query ends strictly before the time of its answer. Events are in the
    order of the log; if times are out of order there, a note counts the users.
    """
    whole, lengths = _whole(log)
    has_query = lengths >= 3
    test_at = (whole.offsets[1:] - 1)[has_query]
    users = torch.arange(1, log.n_users + 1)[has_query]
    kept = lengths.clone()
    kept[has_query] -= 2
    train = _prefix(whole, kept)
    notes = _backwards(log)
    if left := int((~has_query).sum()):
        none = "" if left < log.n_users else " These are all users: there are no queries."
        notes.append(f"{left:,} users have fewer than 3 events: they are trained on and have no query.{none}")
    valid = _queries(log, whole, users, test_at - 1, notes, "validation")
    test = _queries(log, whole, users, test_at, notes, "test")
    return Split(log, train, valid, test, "leave-one-out", tuple(notes))


def by_time(
    log: InteractionLog, valid: float | str | date | np.datetime64, test: float | str | date | np.datetime64
) -> Split:
    """Split at two points in time: train before `valid`, validate from `valid` to `test`, test from `test` on.

    A bound is a number (unix seconds; milliseconds and finer are detected), a date or a datetime, or the text of one
    ("2017-10-01", "2017-10-01 12:00+02:00"); without a time zone it is UTC. The answer of a user's query is the first
    event in the window, its history all events before. A log with times out of order is sorted by time. Raises
    `DataError` if events have no time, a bound is not a time, or a window has no query.
    """
    if log.events["timestamp"].isna().any():
        raise DataError(f"{log.name}: a log with missing timestamps cannot be split by time. Use leave_one_out.")
    log, notes = _sorted_by_time(log)
    whole, _ = _whole(log)
    (starts, of_starts), (ends, of_ends) = _parse_bound(valid, whole.times), _parse_bound(test, whole.times)
    notes += of_starts + of_ends
    if not starts < ends:
        raise DataError(f"by_time: validation must start before test (got {valid!r} and {test!r}).")
    users = whole.users
    before = torch.bincount(users[whole.times < starts], minlength=log.n_users + 1)[1:]
    before_test = torch.bincount(users[whole.times < ends], minlength=log.n_users + 1)[1:]
    train = _prefix(whole, before)
    notes.append(f"training stops at {_date(starts)}, testing starts at {_date(ends)} (UTC).")
    valid_users = (before_test > before) & (before > 0)
    test_users = (whole.lengths > before_test) & (before_test > 0)
    windows = {"validation": (valid_users, before), "test": (test_users, before_test)}
    parts = {}
    for part, (has_query, first) in windows.items():
        who = has_query.nonzero()[:, 0]
        if not len(who):
            raise DataError(f"by_time: no user has events both before and in the {part} window. Move the bounds.")
        if left := log.n_users - len(who):
            notes.append(f"{left:,} users have no {part} query (no event in the window, or none before it).")
        parts[part] = _queries(log, whole, who + 1, whole.offsets[who] + first[who], notes, part)
    name = f"by time {_date(starts)} | {_date(ends)}"
    return Split(log, train, parts["validation"], parts["test"], name, tuple(notes))


def cold_items(log: InteractionLog, share: float = 0.1, seed: int = 0) -> Split:
    """Cold-start split: a random `share` of the items is held out of training; each user's first one is a test answer.

    Histories contain warm items only. The validation answer is the last warm event, so nothing is tuned on cold items.
    Training keeps the warm events after a test query: items are held out, not time (see `by_time`). Events are in the
    order of the log; if times are out of order there, a note counts the users. Raises `DataError` unless 0 < share < 1
    and there are cold and warm events.
    """
    if not 0 < share < 1:
        raise DataError(f"cold_items: share must be between 0 and 1 (got {share}).")
    whole, _ = _whole(log)
    generator = torch.Generator().manual_seed(seed)
    cold = torch.zeros(log.n_items + 1, dtype=torch.bool)
    cold[1 + torch.randperm(log.n_items, generator=generator)[: round(share * log.n_items)]] = True
    is_cold, users = cold[whole.items], whole.users
    if not bool(is_cold.any()) or bool(is_cold.all()):
        raise DataError(f"cold_items: a share of {share} of {log.n_items} items leaves no test or no training events.")
    warm = ~is_cold
    per_user = torch.bincount(users[warm], minlength=log.n_users + 1)[1:]
    warm_only = Sequences(whole.items[warm], whole.times[warm], _offsets(per_user))
    at = torch.arange(len(is_cold))[is_cold]
    first = torch.full((log.n_users + 1,), len(is_cold)).scatter_reduce(0, users[is_cold], at, "amin")[1:]
    warm_before = _offsets(warm)  # number of warm events before each event
    who = (first < len(is_cold)).nonzero()[:, 0]
    end = warm_before[first[who]]
    start = warm_only.offsets[who]
    if log.ties == "shuffle":
        end = _before(warm_only, start, end, whole.times[first[who]])
    kept = end > start
    test = Queries(warm_only, who[kept] + 1, whole.items[first[who][kept]], start[kept], end[kept])
    valid_users = (per_user >= 2).nonzero()[:, 0]
    valid_at = warm_only.offsets[valid_users + 1] - 1
    notes = _backwards(log)
    notes.append(f"{int(cold.sum()):,} of {log.n_items:,} items are cold: {int(is_cold.sum()):,} events are held out.")
    if left := log.n_users - len(test):
        notes.append(f"{left:,} users have no cold item after a warm one: they have no test query.")
    kept = per_user.clone()
    kept[valid_users] -= 1
    train = _prefix(warm_only, kept)
    valid = _queries(log, warm_only, valid_users + 1, valid_at, notes, "validation")
    name = f"cold items {100 * share:.10g}%" + (f", seed {seed}" if seed else "")
    return Split(log, train, valid, test, name, tuple(notes))


def k_core(log: InteractionLog, users: int = 5, items: int = 5) -> InteractionLog:
    """The k-core of a log: iteratively drop users with fewer than `users` events and items with fewer than `items`.

    A note counts what was dropped. Raises `DataError` if nothing is left.
    """
    user, item = log.events["user"].to_numpy(), log.events["item"].to_numpy()
    kept = np.ones(len(user), dtype=bool)
    while True:
        active = np.bincount(user[kept], minlength=log.n_users + 1) >= users
        popular = np.bincount(item[kept], minlength=log.n_items + 1) >= items
        smaller = kept & active[user] & popular[item]
        if smaller.sum() == kept.sum():
            break
        kept = smaller
    if not kept.any():
        raise DataError(f"{log.name}: no event is left after the {users}/{items}-core filter. Lower the limits.")
    note = (
        f"k-core (users >= {users}, items >= {items} events) dropped {int((~kept).sum()):,} events, "
        f"{log.n_users - len(np.unique(user[kept])):,} users and {log.n_items - len(np.unique(item[kept])):,} items."
    )
    return log.select(kept, note)


def _whole(log: InteractionLog) -> tuple[Sequences, Tensor]:
    """The whole log as Sequences, and the number of events per user."""
    counts = np.bincount(log.events["user"].to_numpy(), minlength=log.n_users + 1)[1:]
    lengths = torch.from_numpy(counts)
    items = torch.from_numpy(log.events["item"].to_numpy(dtype=np.int64, copy=True))
    times = torch.from_numpy(log.events["timestamp"].to_numpy(dtype=np.float64, copy=True))
    return Sequences(items, times, _offsets(lengths)), lengths


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])


def _prefix(whole: Sequences, kept: Tensor) -> Sequences:
    """The first `kept[u]` events of each user."""
    position = torch.arange(len(whole.items)) - torch.repeat_interleave(whole.offsets[:-1], whole.lengths)
    inside = position < torch.repeat_interleave(kept, whole.lengths)
    return Sequences(whole.items[inside], whole.times[inside], _offsets(kept))


def _queries(log: InteractionLog, whole: Sequences, users: Tensor, at: Tensor, notes: list[str], part: str) -> Queries:
    """Queries whose answers are the events `at`; if ties are shuffled, histories end before the time of the answer."""
    start, end = whole.offsets[users - 1], at.clone()
    if log.ties == "shuffle":
        end = _before(whole, start, end, whole.times[at])
        kept = end > start
        if left := int((~kept).sum()):
            notes.append(f"{left:,} users have no event strictly before their {part} answer: they have no query.")
        users, at, start, end = users[kept], at[kept], start[kept], end[kept]
    return Queries(whole, users, whole.items[at], start, end)


def _before(sequences: Sequences, start: Tensor, end: Tensor, time: Tensor) -> Tensor:
    """The largest end (Q,) of each history `[start, end)` such that all events are known to be before `time` (Q,)."""
    lengths = end - start
    row = torch.repeat_interleave(torch.arange(len(start)), lengths)
    at = start[row] + torch.arange(len(row)) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    late = ~(sequences.times[at] < time[row])
    return end.scatter_reduce(0, row[late], at[late], "amin")


def _backwards(log: InteractionLog) -> list[str]:
    """A note if times are out of order in the log, because first, last and next are then not by time."""
    user, times = log.events["user"].to_numpy(), log.events["timestamp"].to_numpy()
    back = out_of_order(user, times)
    if not back.any():
        return []
    times = log.events.groupby("user").agg(latest=("timestamp", "max"), last=("timestamp", "last"))
    return [
        f"{int(back.sum()):,} events of {len(np.unique(user[back])):,} users are earlier than the previous event, and "
        f"the order of the source is kept: the last event of {int((times['last'] < times['latest']).sum()):,} users is "
        "not their latest. Read the log with order='time' to sort it."
    ]


def _sorted_by_time(log: InteractionLog) -> tuple[InteractionLog, list[str]]:
    """The log with every user's events sorted by time, and a note if that changed the order."""
    user, times = log.events["user"].to_numpy(), log.events["timestamp"].to_numpy()
    back = out_of_order(user, times)
    if not back.any():
        return log, []
    drawn = np.random.default_rng(0).random(len(user)) if log.ties == "shuffle" else np.arange(len(user))
    events = log.events.iloc[np.lexsort((drawn, times, user))].reset_index(drop=True)
    note = (
        f"{int(back.sum()):,} events of {len(np.unique(user[back])):,} users are earlier than the previous event in "
        "the source: they are sorted by time for this split."
    )
    return replace(log, events=events, notes=(*log.notes, note)), [note]


def _parse_bound(bound, times: Tensor) -> tuple[float, list[str]]:
    """A bound as unix seconds, and a note if it is a number in another unit; times: those of the log."""
    import pandas as pd

    try:
        if isinstance(bound, str):
            number = pd.to_numeric(bound.strip(), errors="coerce")
            day = pd.to_datetime(bound.strip(), format="ISO8601", utc=True, errors="coerce")
            if not pd.isna(day) and not times.min() <= number <= times.max():
                return day.timestamp(), []
            if pd.isna(number):
                return _finite(unix_seconds(pd.Series([bound.strip()]), "by_time")[0][0]), []
            bound = number
        if isinstance(bound, date | np.datetime64):  # datetimes and pandas' timestamps are dates
            stamp = pd.Timestamp(bound)
            return _finite((stamp if stamp.tzinfo else stamp.tz_localize("UTC")).timestamp()), []
        if isinstance(bound, numbers.Real) and not isinstance(bound, bool):
            number = _finite(float(bound))
            if times.min() <= number <= times.max():  # in the unit of the log, which may be a counter
                return number, []
            converted = _finite(unix_seconds(pd.Series([bound]), "by_time")[0][0])
            return converted, [f"{bound} is read as {_date(converted)} (UTC)."] if converted != number else []
    except (ValueError, OverflowError, TypeError) as error:
        raise DataError(_not_a_bound(bound)) from error
    raise DataError(_not_a_bound(bound))


def _not_a_bound(bound) -> str:
    return f"by_time: {bound!r} is neither unix seconds nor a date like 2017-10-01."


def _finite(time: float) -> float:
    if not np.isfinite(time):
        raise ValueError("not finite")
    return float(time)


def _date(unix: ArrayLike) -> str:
    """A time (unix seconds) as a date at midnight, else as a datetime."""
    import pandas as pd

    time = pd.Timestamp(float(unix), unit="s").round("us")  # the resolution of float64
    return f"{time:%Y-%m-%d}" if time == time.normalize() else time.isoformat()
