"""Shopping trips: the baskets of a user that lie close together as one event, for models of when people come again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from seqlab.datasets.columns import select_column
from seqlab.datasets.log import InteractionLog, make_log
from seqlab.runtime.text import DataError

OTHER = "other"


def trips(
    log: InteractionLog,
    merge: str | pd.Timedelta = "1h",
    mark: str = "product_category",
    top: int = 20,
    weight: str | None = None,
) -> InteractionLog:
    """A log with one event per trip, whose item is the trip's mark: what it was mainly about.

    merge: baskets of a user less than this apart (each from the one before it) are one trip, at the time of the first.
        Baskets are those of the role basket, at their earliest time; in a log without baskets, each event is one.
    mark: a column of the items, or an event column with categories. The mark of a trip is its most frequent value among
        the trip's events; of equally frequent ones, the first by name.
    weight: an event column; the mark is then the value with the largest sum of it, such as what most was spent on.
    top: the marks that the most trips have are items; all others, and trips without any, are "other".
    The events get the columns baskets and events, the number of each in the trip. The users keep their columns and get
    observed_until: unix seconds, the end of the whole log, up to which a user who did not come again was observed.
    The log has no further tables. Notes count what was merged. Raises `DataError` for a missing column or missing
    timestamps, and `ValueError` for a negative `merge` or `top` below 1.
    """
    gap = pd.Timedelta(merge).total_seconds()
    if not gap >= 0 or top < 1:
        raise ValueError(f"merge must not be negative and top at least 1 (got {merge!r} and {top!r}).")
    user, times = log.events["user"].to_numpy(), log.events["timestamp"].to_numpy()
    if np.isnan(times).any():
        raise DataError(f"{log.name}: {np.isnan(times).sum():,} events have no timestamp, so there are no trips.")
    basket = _baskets(log)
    trip, n_baskets = _merged(user, times, basket, gap)  # (E,): trips in the order of their user and time
    n_trips = int(trip.max()) + 1
    first = np.full(n_trips, np.inf)
    np.minimum.at(first, trip, times)
    whose = np.empty(n_trips, np.int64)
    whose[trip] = user
    marks, names = _marks(log, mark)
    amounts = np.ones(len(trip)) if weight is None else _amounts(log, weight)
    main = _heaviest(trip, marks, amounts, n_trips)  # (trips,): 0 = none
    counts = np.bincount(main, minlength=len(names) + 1)[1:]
    kept = np.lexsort((np.arange(len(names)), -counts))[:top] + 1  # equal counts by name
    label = np.full(len(names) + 1, OTHER, object)
    label[kept] = np.asarray(names, object)[kept - 1]
    events = pd.DataFrame(
        {
            "user": whose,
            "item": label[main],
            "timestamp": first,
            "baskets": np.bincount(trip, n_baskets, n_trips).astype(np.int64),
            "events": np.bincount(trip, minlength=n_trips),
        }
    )
    notes = [
        f"{int(n_baskets.sum()):,} baskets of {log.n_users:,} users are {n_trips:,} trips: baskets less than "
        f"{merge} apart are one.",
        f"{(main == 0).sum():,} trips have no {mark} at all, and {counts.sum() - counts[kept - 1].sum():,} one that is "
        f"not among the {len(kept):,} most frequent: they are called {OTHER!r}.",
    ]
    made = make_log(events, name=log.name, repeats=True, where="the trips", notes=(*log.notes, *notes))
    users = log.users.loc[made.users["user_id"]].set_axis(made.users.index)
    return replace(made, users=users.assign(observed_until=times.max()))


def _baskets(log: InteractionLog) -> np.ndarray:
    """(E,) the number of the basket of every event, within its user; an event without one is one of its own."""
    try:
        codes = log.column("basket")[0]
    except DataError:
        return np.arange(log.n_events)
    alone = codes == 0
    codes[alone] = codes.max(initial=0) + np.arange(1, alone.sum() + 1)
    return codes


def _merged(user: np.ndarray, times: np.ndarray, basket: np.ndarray, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """(E,) the trip of every event, from 0; and (E,) 1 for one event of every basket, 0 for the others."""
    order = np.lexsort((times, basket, user))
    new = np.r_[True, (np.diff(user[order]) != 0) | (np.diff(basket[order]) != 0)]
    starts = order[new]  # the earliest event of each basket
    by_time = np.lexsort((times[starts], user[starts]))
    begins = np.r_[True, (np.diff(user[starts][by_time]) != 0) | (np.diff(times[starts][by_time]) >= gap)]
    of_basket = np.empty(len(starts), np.int64)
    of_basket[by_time] = np.cumsum(begins) - 1
    trip, once = np.empty(len(user), np.int64), np.zeros(len(user))
    trip[order] = of_basket[np.cumsum(new) - 1]
    once[starts] = 1
    return trip, once


def _marks(log: InteractionLog, mark: str) -> tuple[np.ndarray, list[str]]:
    """(E,) the mark of every event (0 = none) and the names of the marks 1.. in alphabetical order."""
    if mark in log.items.columns:
        texts = log.items[mark].astype(str)
        names = sorted(set(texts[texts.str.strip() != ""]))
        return (pd.Index(names).get_indexer(texts) + 1)[log.events["item"].to_numpy() - 1], names
    if mark not in log.events.columns and mark not in log.roles:
        select_column(log.items, mark, f"{log.name}: the items")  # raises
    codes, categories = log.column(mark)
    if categories is None:
        raise DataError(f"{log.name}: column {mark!r} has numbers. The mark of a trip is a column of categories.")
    return codes, list(categories)


def _amounts(log: InteractionLog, weight: str) -> np.ndarray:
    """(E,) the numbers of a column, 0 where they are missing."""
    amounts, categories = log.column(weight)
    if categories is not None:
        raise DataError(f"{log.name}: column {weight!r} has categories. The weight of a mark is a column of numbers.")
    return np.nan_to_num(amounts)


def _heaviest(trip: np.ndarray, marks: np.ndarray, amounts: np.ndarray, n_trips: int) -> np.ndarray:
    """(trips,) the mark with the largest sum of amounts in each trip; of equal ones the first; 0 = no mark."""
    some = np.flatnonzero(marks)
    pairs, place = np.unique(trip[some] * (marks.max(initial=0) + 1) + marks[some], return_inverse=True)
    sums = np.bincount(place, amounts[some], len(pairs)).round(6)  # of equal sums, none is larger by rounding
    at, mark = np.divmod(pairs, marks.max(initial=0) + 1)
    order = np.lexsort((mark, -sums, at))
    first = order[np.r_[True, np.diff(at[order]) != 0]] if len(order) else order
    found = np.zeros(n_trips, np.int64)
    found[at[first]] = mark[first]
    return found
