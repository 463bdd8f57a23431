"""Rules that split a log by user, time or item: the answers of their queries are single next events."""

from __future__ import annotations

import numbers
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqlab.datasets.event_order import out_of_order
from seqlab.datasets.events import offsets_of
from seqlab.datasets.log import InteractionLog
from seqlab.datasets.sequences import Queries, Sequences
from seqlab.datasets.splits import Split, between, ends_before, order_note, prefix, queries_at, whole_log
from seqlab.datasets.timestamps import unix_seconds
from seqlab.runtime.text import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def leave_one_out(log: InteractionLog, columns: tuple[str, ...] = ()) -> Split:
    """The last event of each user is the test answer, the one before it the validation answer, the rest is training.

    Users with fewer than three events have no query; all their events are training. If the order of ties has no meaning
    (`log.ties == "shuffle"`), the history of a query ends strictly before the time of its answer. Events are in the
    order of the log; if times are out of order there, a note counts the users. columns: further columns to gather.
    """
    whole, lengths = whole_log(log, columns)
    has_query = lengths >= 3
    test_at = (whole.offsets[1:] - 1)[has_query]
    users = torch.arange(1, log.n_users + 1)[has_query]
    kept = lengths.clone()
    kept[has_query] -= 2
    train = prefix(whole, kept)
    notes = order_note(log)
    if left := int((~has_query).sum()):
        none = "" if left < log.n_users else " These are all users: there are no queries."
        notes.append(f"{left:,} users have fewer than 3 events: they are trained on and have no query.{none}")
    valid = queries_at(log, whole, users, test_at - 1, notes, "validation")
    test = queries_at(log, whole, users, test_at, notes, "test")
    return Split(log, train, valid, test, "leave-one-out", tuple(notes))


def by_time(
    log: InteractionLog,
    valid: float | str | date | np.datetime64,
    test: float | str | date | np.datetime64,
    start: float | str | date | np.datetime64 | None = None,
    columns: tuple[str, ...] = (),
) -> Split:
    """Split at two points in time: train before `valid`, validate from `valid` to `test`, test from `test` on.

    start: train only from there, for a further part of the log (`fit(..., start=run)`); the histories of queries are
    complete all the same.

    A bound is a number (unix seconds; milliseconds and finer are detected), a date or a datetime, or the text of one
    ("2017-10-01", "2017-10-01 12:00+02:00"); without a time zone it is UTC. The answer of a user's query is the first
    event in the window, its history all events before. A log with times out of order is sorted by time. Raises
    `DataError` if events have no time, a bound is not a time, or a window has no query.
    """
    if log.events["timestamp"].isna().any():
        raise DataError(f"{log.name}: a log with missing timestamps cannot be split by time. Use leave_one_out.")
    log, notes = _sorted_by_time(log)
    whole, _ = whole_log(log, columns)
    (starts, of_starts), (ends, of_ends) = _parse_bound(valid, whole.times), _parse_bound(test, whole.times)
    since, of_since = (-np.inf, []) if start is None else _parse_bound(start, whole.times)
    notes += of_since + of_starts + of_ends
    if not starts < ends:
        raise DataError(f"by_time: validation must start before test (got {valid!r} and {test!r}).")
    if not since < starts:
        raise DataError(f"by_time: training must start before validation (got {start!r} and {valid!r}).")
    users = whole.users
    before = torch.bincount(users[whole.times < starts], minlength=log.n_users + 1)[1:]
    before_test = torch.bincount(users[whole.times < ends], minlength=log.n_users + 1)[1:]
    train = between(whole, torch.bincount(users[whole.times < since], minlength=log.n_users + 1)[1:], before)
    if start is not None and not len(train.items):
        raise DataError(f"by_time: there is no event from {start} to {valid}, so nothing to train on. Move the bounds.")
    begins = "" if start is None else f"training starts at {_date(since)}, "
    notes.append(f"{begins}training stops at {_date(starts)}, testing starts at {_date(ends)} (UTC).")
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
        parts[part] = queries_at(log, whole, who + 1, whole.offsets[who] + first[who], notes, part)
    name = f"by-time {_date(starts)} {_date(ends)}" + ("" if start is None else f" {_date(since)}")
    return Split(log, train, parts["validation"], parts["test"], name, tuple(notes))


def cold_items(log: InteractionLog, share: float = 0.1, seed: int = 0, columns: tuple[str, ...] = ()) -> Split:
    """Cold-start split: a random `share` of the items is held out of training; each user's first one is a test answer.

    Histories contain warm items only. The validation answer is the last warm event, so nothing is tuned on cold items.
    Training keeps the warm events after a test query: items are held out, not time (see `by_time`). Events are in the
    order of the log; if times are out of order there, a note counts the users. Raises `DataError` unless 0 < share < 1
    and there are cold and warm events.
    """
    if not 0 < share < 1:
        raise DataError(f"cold_items: share must be between 0 and 1 (got {share}).")
    whole, _ = whole_log(log, columns)
    generator = torch.Generator().manual_seed(seed)
    cold = torch.zeros(log.n_items + 1, dtype=torch.bool)
    cold[1 + torch.randperm(log.n_items, generator=generator)[: round(share * log.n_items)]] = True
    is_cold, users = cold[whole.items], whole.users
    if not bool(is_cold.any()) or bool(is_cold.all()):
        raise DataError(f"cold_items: a share of {share} of {log.n_items} items leaves no test or no training events.")
    warm = ~is_cold
    per_user = torch.bincount(users[warm], minlength=log.n_users + 1)[1:]
    warm_only = Sequences(whole.events[warm], offsets_of(per_user))
    at = torch.arange(len(is_cold))[is_cold]
    first = torch.full((log.n_users + 1,), len(is_cold)).scatter_reduce(0, users[is_cold], at, "amin")[1:]
    warm_before = offsets_of(warm)  # number of warm events before each event
    who = (first < len(is_cold)).nonzero()[:, 0]
    end = warm_before[first[who]]
    start = warm_only.offsets[who]
    if log.ties == "shuffle":
        end = ends_before(warm_only, start, end, whole.times[first[who]])
    kept = end > start
    test = Queries(warm_only, who[kept] + 1, whole.events[first[who][kept]], start[kept], end[kept])
    valid_users = (per_user >= 2).nonzero()[:, 0]
    valid_at = warm_only.offsets[valid_users + 1] - 1
    notes = order_note(log)
    notes.append(f"{int(cold.sum()):,} of {log.n_items:,} items are cold: {int(is_cold.sum()):,} events are held out.")
    if left := log.n_users - len(test):
        notes.append(f"{left:,} users have no cold item after a warm one: they have no test query.")
    kept = per_user.clone()
    kept[valid_users] -= 1
    train = prefix(warm_only, kept)
    valid = queries_at(log, warm_only, valid_users + 1, valid_at, notes, "validation")
    name = f"cold-items {share:.10g}" + (f" {seed}" if seed else "")
    return Split(log, train, valid, test, name, tuple(notes))


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
