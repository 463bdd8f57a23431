"""Smells: what in a log makes a number look better than the system behind it, one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqlab.datasets.event_order import repeated, run_backwards, share_moment

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

COLUMNS = ["smell", "value", "verdict", "sentence"]


def smells(split: Split) -> pd.DataFrame:
    """Look for the known traps of a split: a table with columns smell, value (a share), verdict, sentence.

    verdict is "fine", "look" (know this when you read a number) or "trap" (a number is likely wrong by it).
    value is NaN where a smell cannot be measured (no timestamps, no test queries).
    """
    log = split.log
    user, time = log.events["user"].to_numpy(), log.events["timestamp"].to_numpy()
    known = ~np.isnan(time)
    train = np.asarray(split.train.items)
    queries = _TestQueries(split)
    rows = [
        _duplicates(log, known),
        _backwards(user, time),
        _ties(log, user, time),
        _sorted_ties(log, user, time),
        _copy_last(log, queries),
        _next_number(log, queries),
        _unseen(log, queries, train),
        _repeats(log),
        _time_leak(split, queries),
        _concentration(log, train),
        _one_user(log, user),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


class _TestQueries:
    """The test queries: user, item (Q,), last and highest item of the history, its last time (or -inf)."""

    def __init__(self, split: Split):
        test = split.test
        self.user, self.item, start, end = (np.asarray(part) for part in (test.user, test.item, test.start, test.end))
        items = np.append(np.asarray(test.sequences.items), 0)
        times = np.append(np.asarray(test.sequences.times), np.nan)
        has = end > start
        self.last = np.where(has, items[end - 1], 0)
        spans = np.stack([start, np.maximum(end, start)], axis=1).ravel()
        highest = np.maximum.reduceat(items, spans)[::2] if len(spans) else np.zeros(0, np.int64)
        self.highest = np.where(has, highest, 0)
        self.last_time = np.where(has, times[end - 1], -np.inf)

    def __len__(self) -> int:
        return len(self.item)


def _rate(hits) -> float:
    return float(np.mean(hits)) if len(hits) else float("nan")


def _graded(value: float, look: float, trap: float = np.inf) -> str:
    return "trap" if value > trap else "look" if value > look else "fine"


def _duplicates(log, known):
    copies = log.events.loc[known, ["user", "item", "timestamp"]].duplicated()
    value = _rate(copies)
    if not len(copies):
        return (
            "exact duplicates",
            value,
            "look",
            "Without timestamps, copies cannot be distinguished from true repeats.",
        )
    return (
        "exact duplicates",
        value,
        _graded(value, 0.001, 0.05),
        f"{copies.sum():,} events repeat another one exactly (user, item and timestamp)"
        + (": a copy in the history gives its answer away." if copies.any() else "."),
    )


def _backwards(user, time):
    back = run_backwards(user, time)
    known = ~np.isnan(time)
    steps = int((np.diff(user[known]) == 0).sum())
    value = float(back.sum() / steps) if steps else float("nan")
    if not steps:
        return "times run backwards", value, "look", "Without timestamps nobody can tell what came first."
    if not back.any():
        return "times run backwards", value, "fine", "No event is earlier than the one before it of the same user."
    return (
        "times run backwards",
        value,
        _graded(value, 0.0, 0.01),
        f"{value:.1%} of steps ({back.sum():,}, of {len(np.unique(user[back])):,} users) go back in time: the order is "
        "the source's, so what comes next, or last, is not by time; order='time' sorts the log.",
    )


def _ties(log, user, time):
    value = _rate(share_moment(user, time))
    order = (
        "their order in the source decides what comes 'next'"
        if log.ties == "source"
        else "their order means nothing here and was shuffled"
    )
    if np.isnan(time).all():
        return (
            "ties",
            float("nan"),
            "look",
            "There are no timestamps: the order of the source must be believed.",
        )
    return (
        "ties",
        value,
        _graded(value, 0.05),
        f"{value:.1%} of events share their timestamp with another of the same user; {order}.",
    )


def _sorted_ties(log, user, time):
    value = log.source_ties_sorted
    pairs = int(((np.diff(user) == 0) & (np.diff(time) == 0)).sum())
    if log.events["timestamp"].isna().all():
        return (
            "sorted ids within ties",
            value,
            "look",
            "Without timestamps, ties cannot be distinguished from sequence.",
        )
    if np.isnan(value) or not pairs:
        return (
            "sorted ids within ties",
            float("nan"),
            "fine",
            "No events share a timestamp, so none can be sorted by id.",
        )
    off = abs(value - 0.5)
    sure = off * 2 * np.sqrt(pairs) > 4  # four standard errors of a fair coin
    verdict = _graded(off, 0.03, 0.1) if sure else "fine"
    start = f"Within one timestamp, the source lists the larger id second {value:.0%} of the time (chance: 50%)"
    if verdict == "fine":
        return "sorted ids within ties", value, verdict, f"{start}: it does not seem sorted by id."
    end = (
        "this log was shuffled there, so nothing can be learned from it"
        if log.ties == "shuffle"
        else "a system that learns the sorting looks clever; read(..., ties='shuffle') undoes it"
    )
    return "sorted ids within ties", value, verdict, f"{start}: {end}."


def _copy_last(log, queries):
    value = _rate(queries.last == queries.item)
    verdict = _graded(value, 0.05, np.inf if log.repeats else 0.2) if len(queries) else "look"
    return (
        "copy the last item",
        value,
        verdict,
        f"Answering with the last item of the history is right for {value:.1%} of test queries"
        f"{': a system must beat that' if value > 0.05 else ''}."
        if len(queries)
        else _NONE,
    )


def _next_number(log, queries):
    hits = (queries.highest + 1 == queries.item) & (queries.highest > 0)
    value, chance = _rate(hits), 1 / log.n_items
    verdict = _graded(value, 3 * chance + 0.003, 10 * chance + 0.01) if hits.sum() >= 5 else "fine"
    return (
        "highest id plus one",
        value,
        verdict if len(queries) else "look",
        f"Answering with the highest item number seen so far plus one is right for {value:.2%} of test "
        f"queries (chance: {chance:.2%}){': the numbering gives them away' if verdict == 'trap' else ''}."
        if len(queries)
        else _NONE,
    )


def _unseen(log, queries, train):
    counts = np.bincount(train, minlength=log.n_items + 1)
    value = _rate(counts[queries.item] == 0)
    return (
        "answers never trained on",
        value,
        _graded(value, 0.01) if len(queries) else "look",
        f"{value:.1%} of test answers are items that no training history holds: a system that knows ids "
        "alone cannot find them."
        if len(queries)
        else _NONE,
    )


def _repeats(log):
    again, copies = repeated(log.events, log.n_items)
    value = again / (log.n_events - copies)
    verdict = "fine" if log.repeats else _graded(value, 0.01, 0.05)
    end = (
        "seen items stay candidates, as they must"
        if log.repeats
        else "seen items are filtered from recommendations, so such answers cannot be found: see repeats=True"
    )
    return (
        "repeats",
        value,
        verdict,
        f"{value:.1%} of events bring back an item of the same user" + (f"; {end}." if value > 0.01 else "."),
    )


def _time_leak(split, queries):
    times = np.asarray(split.train.times)
    moment = _answer_times(split.log, queries)
    moment = moment[~np.isnan(moment)]
    if not len(moment) or np.isnan(times).all():
        return (
            "training after the query",
            float("nan"),
            "look",
            "Without timestamps nobody can tell what came first.",
        )
    value = _rate(moment < np.nanmax(times))
    return (
        "training after the query",
        value,
        _graded(value, 0.01),
        f"For {value:.1%} of test queries, training holds events later than the answer"
        + (": fine for comparing systems, too rosy for a forecast (split by_time to see)." if value > 0.01 else "."),
    )


def _answer_times(log, queries) -> np.ndarray:
    """(Q,) when the answer came: the user's first such event not before the history's end; NaN: unknown.

    Where times run backwards there may be none: then it is the user's last such event.
    """
    width = log.n_items + 1
    wanted = pd.DataFrame(
        {
            "pair": queries.user * width + queries.item,
            "query": np.arange(len(queries)),
            "after": np.nan_to_num(queries.last_time, nan=-np.inf),
        }
    )
    pair = log.events["user"].to_numpy() * width + log.events["item"].to_numpy()
    rows = np.isin(pair, wanted["pair"].to_numpy())
    events = pd.DataFrame({"pair": pair[rows], "time": log.events["timestamp"].to_numpy()[rows]})
    pairs = wanted.merge(events, on="pair")
    # a shuffled log asks with a history that ends strictly before the answer, else it may end at its moment
    fits = (pairs["time"] > pairs["after"]) | ((pairs["time"] == pairs["after"]) & (log.ties == "source"))
    first, last = pairs[fits].groupby("query")["time"].min(), pairs.groupby("query")["time"].max()
    return first.reindex(last.index).fillna(last).reindex(np.arange(len(queries))).to_numpy()


def _concentration(log, train):
    counts = np.sort(np.bincount(train, minlength=log.n_items + 1)[1:])
    total, size = counts.sum(), len(counts)
    if not total:
        return "popularity", float("nan"), "look", "There is no training event."
    top = max(1, round(size / 100))
    value = float(counts[-top:].sum() / total)
    gini = float(2 * (np.arange(1, size + 1) * counts).sum() / (size * total) - (size + 1) / size)
    return (
        "popularity",
        value,
        _graded(value, 0.2),
        f"The most popular 1% of items ({top:,}) draw {value:.1%} of training events (Gini {gini:.2f})"
        + (": always compare with plain popularity." if value > 0.2 else "."),
    )


def _one_user(log, user):
    lengths = np.bincount(user, minlength=log.n_users + 1)[1:]
    most, second = np.argmax(lengths), np.sort(lengths)[-2:-1].sum()
    value = float(lengths[most] / len(user))
    even = 1 / log.n_users
    verdict = _graded(value, max(0.2, 2 * even), max(0.5, 2 * even))
    if verdict == "fine" and value > 0.01 and lengths[most] >= 10 * second > 0:
        verdict = "look"
    name = str(log.users["user_id"].iloc[most])
    name = name if len(name) <= 40 else f"{name[:39]}…"
    return (
        "one user with most events",
        value,
        verdict,
        f"User {name!r} has {value:.1%} of all events ({lengths[most]:,}; the next has {second:,})"
        + (
            ": often a placeholder for everybody who is not known, a robot or a test account, and no history."
            if verdict != "fine"
            else "."
        ),
    )


_NONE = "There are no test queries."
