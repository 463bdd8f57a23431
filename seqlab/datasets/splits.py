"""Cut a log into training histories and queries: no split leaks."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqlab.datasets.event_order import run_backwards
from seqlab.datasets.log import InteractionLog
from seqlab.datasets.sequences import Queries, Sequences
from seqlab.datasets.timestamps import seconds
from seqlab.runtime.text import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Split:
    """Training histories, and the queries of validation and test.

    train: what tokenizers, graphs, item vectors, counts and models may see, and nothing else.
    valid, test: one query per user that has one. `how` names the rule; `notes` say who was left out.
    """

    log: InteractionLog
    train: Sequences
    valid: Queries
    test: Queries
    how: str
    notes: tuple[str, ...] = ()

    @property
    def n_items(self) -> int:
        return self.log.n_items

    @property
    def n_users(self) -> int:
        return self.log.n_users

    def __repr__(self) -> str:
        parts = f"train {len(self.train.items):,} events, valid {len(self.valid):,} and test {len(self.test):,} users"
        return f"Split({self.log.name}, {self.how}: {parts})" + "".join(f"\n  {note}" for note in self.notes)


def leave_one_out(log: InteractionLog) -> Split:
    """The last event of each user is the test answer, the one before it the validation answer, the rest is training.

    A user needs three events to have queries; shorter histories are all training. Where the order inside a
    timestamp means nothing (`log.ties == "shuffle"`), a query's history ends strictly before its answer's time.
    The order is the log's: where it is the source's and its times run backwards, the notes say for how many users.
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
        nobody = "" if left < log.n_users else " That is everybody: there is no query at all."
        notes.append(f"{left:,} users have fewer than 3 events: they are trained on and have no query.{nobody}")
    valid = _queries(log, whole, users, test_at - 1, notes, "validation")
    test = _queries(log, whole, users, test_at, notes, "test")
    return Split(log, train, valid, test, "leave-one-out", tuple(notes))


def by_time(
    log: InteractionLog, valid: float | str | date | np.datetime64, test: float | str | date | np.datetime64
) -> Split:
    """One clock for everybody: train before `valid`, validate from `valid` to `test`, test from `test` on.

    A bound is a number (unix seconds; milliseconds and finer are recognized by their size), a date or a datetime, or
    the text of either ("2017-10-01", "2017-10-01 12:00+02:00"); without a zone it is UTC. A user's query is the
    first event inside the window, given all that happened before it. Where the log keeps the source's order and times
    run backwards, the split's log is sorted by time. Raises `DataError` where the log has no times, a bound is no
    moment, or a window is empty.
    """
    if log.events["timestamp"].isna().any():
        raise DataError(f"{log.name}: some events have no timestamp, so it cannot be split by time; use leave_one_out.")
    log, notes = _sorted_by_time(log)
    whole, _ = _whole(log)
    (starts, of_starts), (ends, of_ends) = _moment(valid, whole.times), _moment(test, whole.times)
    notes += of_starts + of_ends
    if not starts < ends:
        raise DataError(f"by_time: validation must start before test does (got {valid!r} and {test!r}).")
    users = whole.users
    before = torch.bincount(users[whole.times < starts], minlength=log.n_users + 1)[1:]
    before_test = torch.bincount(users[whole.times < ends], minlength=log.n_users + 1)[1:]
    train = _prefix(whole, before)
    notes.append(f"training stops at {_date(starts)}, testing starts at {_date(ends)} (UTC).")
    valid_users = (before_test > before) & (before > 0)
    asked_test = (whole.lengths > before_test) & (before_test > 0)
    windows = {"validation": (valid_users, before), "test": (asked_test, before_test)}
    parts = {}
    for part, (has_query, first) in windows.items():
        who = has_query.nonzero()[:, 0]
        if not len(who):
            raise DataError(f"by_time: no user has events both before and inside the {part} window; move the bounds.")
        if left := log.n_users - len(who):
            notes.append(f"{left:,} users have no {part} query (no event inside the window, or none before it).")
        parts[part] = _queries(log, whole, who + 1, whole.offsets[who] + first[who], notes, part)
    how = f"by time {_date(starts)} | {_date(ends)}"
    return Split(log, train, parts["validation"], parts["test"], how, tuple(notes))


def cold_items(log: InteractionLog, share: float = 0.1, seed: int = 0) -> Split:
    """Keep a random `share` of the items out of training, and ask about each user's first meeting with one.

    Validation asks for the last event of the remaining (warm) history, so nothing cold is tuned on. Their histories
    hold warm items only. Training keeps the warm events that follow a cold query: what is held out
    is the item, not the time, so a by-time claim needs `by_time`. First and last are by the log's order: where it is
    the source's and its times run backwards, the notes say so. Raises `DataError` unless 0 < share < 1 leaves both
    kinds.
    """
    if not 0 < share < 1:
        raise DataError(f"cold_items: share must lie between 0 and 1 (got {share}).")
    whole, _ = _whole(log)
    generator = torch.Generator().manual_seed(seed)
    cold = torch.zeros(log.n_items + 1, dtype=torch.bool)
    cold[1 + torch.randperm(log.n_items, generator=generator)[: round(share * log.n_items)]] = True
    is_cold, users = cold[whole.items], whole.users
    if not bool(is_cold.any()) or bool(is_cold.all()):
        raise DataError(f"cold_items: a share of {share} of {log.n_items} items leaves nothing to ask or to learn.")
    warm = ~is_cold
    per_user = torch.bincount(users[warm], minlength=log.n_users + 1)[1:]
    warm_only = Sequences(whole.items[warm], whole.times[warm], _offsets(per_user))
    at = torch.arange(len(is_cold))[is_cold]
    first = torch.full((log.n_users + 1,), len(is_cold)).scatter_reduce(0, users[is_cold], at, "amin")[1:]
    warm_before = torch.cat([torch.zeros(1, dtype=torch.long), warm.cumsum(0)])  # warm events ahead of each event
    who = (first < len(is_cold)).nonzero()[:, 0]
    end = warm_before[first[who]]
    start = warm_only.offsets[who]
    if log.ties == "shuffle":
        end = _before(warm_only, start, end, whole.times[first[who]])
    some = end > start
    test = Queries(warm_only, who[some] + 1, whole.items[first[who][some]], start[some], end[some])
    valid_users = (per_user >= 2).nonzero()[:, 0]
    valid_at = warm_only.offsets[valid_users + 1] - 1
    notes = _backwards(log)
    notes.append(f"{int(cold.sum()):,} of {log.n_items:,} items are cold: {int(is_cold.sum()):,} events left training.")
    if left := log.n_users - len(test):
        notes.append(f"{left:,} users never meet a cold item after a warm one: they have no test query.")
    kept = per_user.clone()
    kept[valid_users] -= 1
    train = _prefix(warm_only, kept)
    valid = _queries(log, warm_only, valid_users + 1, valid_at, notes, "validation")
    how = f"cold items {100 * share:.10g}%" + (f", seed {seed}" if seed else "")
    return Split(log, train, valid, test, how, tuple(notes))


def k_core(log: InteractionLog, users: int = 5, items: int = 5) -> InteractionLog:
    """Keep users with at least `users` events and items with at least `items`, again and again until both hold.

    What was dropped is counted in the notes. Raises `DataError` when nothing is left.
    """
    user, item = log.events["user"].to_numpy(), log.events["item"].to_numpy()
    kept = np.ones(len(user), dtype=bool)
    while True:
        busy = np.bincount(user[kept], minlength=log.n_users + 1) >= users
        liked = np.bincount(item[kept], minlength=log.n_items + 1) >= items
        smaller = kept & busy[user] & liked[item]
        if smaller.sum() == kept.sum():
            break
        kept = smaller
    if not kept.any():
        raise DataError(f"{log.name}: no event is left after the {users}/{items}-core filter; lower the limits.")
    gone_users = log.n_users - len(np.unique(user[kept]))
    gone_items = log.n_items - len(np.unique(item[kept]))
    note = (
        f"k-core (users >= {users}, items >= {items} events) dropped {int((~kept).sum()):,} events, "
        f"{gone_users:,} users and {gone_items:,} items."
    )
    return log.select(kept, note)


def _whole(log: InteractionLog) -> tuple[Sequences, Tensor]:
    """The whole log as Sequences, and the events per user."""
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
    """Ask for the events at `at`; where ties mean nothing the history stops before the answer's moment."""
    start, end = whole.offsets[users - 1], at.clone()
    if log.ties == "shuffle":
        end = _before(whole, start, end, whole.times[at])
        some = end > start
        if left := int((~some).sum()):
            notes.append(f"{left:,} users have nothing strictly before their {part} answer: they have no query.")
        users, at, start, end = users[some], at[some], start[some], end[some]
    return Queries(whole, users, whole.items[at], start, end)


def _before(sequences: Sequences, start: Tensor, end: Tensor, moment: Tensor) -> Tensor:
    """Where each history `[start, end)` must end so that all its events are known to be earlier than `moment` (Q,)."""
    lengths = end - start
    row = torch.repeat_interleave(torch.arange(len(start)), lengths)
    at = start[row] + torch.arange(len(row)) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    late = ~(sequences.times[at] < moment[row])
    return end.scatter_reduce(0, row[late], at[late], "amin")


def _backwards(log: InteractionLog) -> list[str]:
    """A note where times run backwards in the order of the source: first, last and next are then not by time."""
    user, times = log.events["user"].to_numpy(), log.events["timestamp"].to_numpy()
    back = run_backwards(user, times)
    if not back.any():
        return []
    found = log.events.groupby("user").agg(latest=("timestamp", "max"), last=("timestamp", "last"))
    return [
        f"{int(back.sum()):,} events of {len(np.unique(user[back])):,} users are earlier than the event before them, "
        "and the order of the source is kept: the last event of "
        f"{int((found['last'] < found['latest']).sum()):,} users is not their latest. Read the log with order='time' "
        "to sort it."
    ]


def _sorted_by_time(log: InteractionLog) -> tuple[InteractionLog, list[str]]:
    """The log with every user's events oldest first, and a note where that moved any."""
    user, times = log.events["user"].to_numpy(), log.events["timestamp"].to_numpy()
    back = run_backwards(user, times)
    if not back.any():
        return log, []
    drawn = np.random.default_rng(0).random(len(user)) if log.ties == "shuffle" else np.arange(len(user))
    events = log.events.iloc[np.lexsort((drawn, times, user))].reset_index(drop=True)
    note = (
        f"{int(back.sum()):,} events of {len(np.unique(user[back])):,} users are earlier than the event before them in "
        "the source: sorted by time for this split."
    )
    return replace(log, events=events, notes=(*log.notes, note)), [note]


def _moment(bound, times: Tensor) -> tuple[float, list[str]]:
    """A bound as unix seconds, with a note where a number is no unix seconds; `times`: those of the log."""
    import pandas as pd

    try:
        if isinstance(bound, str):
            number = pd.to_numeric(bound.strip(), errors="coerce")
            day = pd.to_datetime(bound.strip(), format="ISO8601", utc=True, errors="coerce")
            if not pd.isna(day) and not times.min() <= number <= times.max():
                return day.timestamp(), []
            if pd.isna(number):
                return _finite(seconds(pd.Series([bound.strip()]), "by_time")[0][0]), []
            bound = number
        if isinstance(bound, date | np.datetime64):  # datetimes and pandas' timestamps are dates
            stamp = pd.Timestamp(bound)
            return _finite((stamp if stamp.tzinfo else stamp.tz_localize("UTC")).timestamp()), []
        if isinstance(bound, numbers.Real) and not isinstance(bound, bool):
            number = _finite(float(bound))
            if times.min() <= number <= times.max():  # as the log counts, whatever it counts
                return number, []
            moment = _finite(seconds(pd.Series([bound]), "by_time")[0][0])
            return moment, [f"{bound} is read as {_date(moment)} (UTC)."] if moment != number else []
    except (ValueError, OverflowError, TypeError) as error:
        raise DataError(_no_moment(bound)) from error
    raise DataError(_no_moment(bound))


def _no_moment(bound) -> str:
    return f"by_time: {bound!r} is neither unix seconds nor a date like 2017-10-01."


def _finite(moment: float) -> float:
    if not np.isfinite(moment):
        raise ValueError("no moment")
    return float(moment)


def _date(unix: ArrayLike) -> str:
    """The day, or the moment where it is not midnight."""
    import pandas as pd

    moment = pd.Timestamp(float(unix), unit="s").round("us")  # float64 holds no more of a second
    return f"{moment:%Y-%m-%d}" if moment == moment.normalize() else moment.isoformat()
