"""Smell tests: properties of a log or split that make metrics look better than the system is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqlab.datasets.event_order import count_repeats, out_of_order, simultaneous

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

COLUMNS = ["smell", "value", "verdict", "sentence"]
NO_TIMES = "Without timestamps, the order of events in time is unknown."
NO_QUERIES = "There are no test queries."


def smells(split: Split) -> pd.DataFrame:
    """Check a split for known problems: a table with columns smell, value (a share), verdict, sentence.

    verdict: "fine", "look" (consider it when reading metrics) or "trap" (metrics are likely misleading). value: NaN if
    it cannot be measured (no timestamps, no test queries).
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
    """The test queries, (Q,) each: user, item; last item, highest item and last time (or -inf) of the history."""

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
        return "exact duplicates", value, "look", "Without timestamps, duplicates cannot be distinguished from repeats."
    sentence = f"{copies.sum():,} events are exact duplicates (user, item and timestamp)"
    sentence += ": a duplicate in the history reveals the answer." if copies.any() else "."
    return "exact duplicates", value, _graded(value, 0.001, 0.05), sentence


def _backwards(user, time):
    back = out_of_order(user, time)
    known = ~np.isnan(time)
    steps = int((np.diff(user[known]) == 0).sum())
    value = float(back.sum() / steps) if steps else float("nan")
    if not steps:
        return "times run backwards", value, "look", NO_TIMES
    if not back.any():
        return "times run backwards", value, "fine", "No event is earlier than the previous event of the same user."
    sentence = (
        f"{value:.1%} of steps ({back.sum():,}, of {len(np.unique(user[back])):,} users) go back in time: the order is "
        "the source's, so the next and the last event are not by time; order='time' sorts the log."
    )
    return "times run backwards", value, _graded(value, 0.0, 0.01), sentence


def _ties(log, user, time):
    if np.isnan(time).all():
        return "ties", float("nan"), "look", "There are no timestamps: the order of the source cannot be checked."
    value = _rate(simultaneous(user, time))
    in_source = log.ties == "source"
    order = "the source's order decides which comes next" if in_source else "their order has no meaning and is shuffled"
    sentence = f"{value:.1%} of events share their timestamp with another one of the same user; {order}."
    return "ties", value, _graded(value, 0.05), sentence


def _sorted_ties(log, user, time):
    value = log.source_ties_sorted
    pairs = int(((np.diff(user) == 0) & (np.diff(time) == 0)).sum())
    name = "sorted ids within ties"
    if log.events["timestamp"].isna().all():
        return name, value, "look", "Without timestamps, ties cannot be distinguished from sequence."
    if np.isnan(value) or not pairs:
        return name, float("nan"), "fine", "No events share a timestamp, so none can be sorted by id."
    off = abs(value - 0.5)
    significant = off * 2 * np.sqrt(pairs) > 4  # four standard errors of a fair coin
    verdict = _graded(off, 0.03, 0.1) if significant else "fine"
    if verdict == "trap" and log.ties == "shuffle":
        verdict = "look"
    start = f"Within one timestamp, the larger id is second in the source in {value:.0%} of pairs (chance: 50%)"
    if verdict == "fine":
        return name, value, verdict, f"{start}: it does not seem sorted by id."
    end = (
        "ties are shuffled in this log, so no system can learn the sorting"
        if log.ties == "shuffle"
        else "a system that learns the sorting gets better metrics; read(..., ties='shuffle') removes it"
    )
    return name, value, verdict, f"{start}: {end}."


def _copy_last(log, queries):
    if not len(queries):
        return "copy the last item", float("nan"), "look", NO_QUERIES
    value = _rate(queries.last == queries.item)
    sentence = f"The last item of the history is the answer of {value:.1%} of test queries"
    sentence += ": a system must beat that." if value > 0.05 else "."
    return "copy the last item", value, _graded(value, 0.05, np.inf if log.repeats else 0.2), sentence


def _next_number(log, queries):
    if not len(queries):
        return "highest id plus one", float("nan"), "look", NO_QUERIES
    hits = (queries.highest + 1 == queries.item) & (queries.highest > 0)
    value, chance = _rate(hits), 1 / log.n_items
    verdict = _graded(value, 3 * chance + 0.003, 10 * chance + 0.01) if hits.sum() >= 5 else "fine"
    sentence = f"The highest item number of the history plus one is the answer of {value:.2%} of test queries"
    sentence += f" (chance: {chance:.2%}){': the numbering reveals answers' if verdict == 'trap' else ''}."
    return "highest id plus one", value, verdict, sentence


def _unseen(log, queries, train):
    if not len(queries):
        return "answers never trained on", float("nan"), "look", NO_QUERIES
    value = _rate(np.bincount(train, minlength=log.n_items + 1)[queries.item] == 0)
    sentence = f"{value:.1%} of test answers are items without training events: a system of item ids cannot find them."
    return "answers never trained on", value, _graded(value, 0.01), sentence


def _repeats(log):
    again, copies = count_repeats(log.events, log.n_items)
    value = again / (log.n_events - copies)
    verdict = "fine" if log.repeats else _graded(value, 0.01, 0.05)
    end = (
        "seen items stay candidates, as they must"
        if log.repeats
        else "seen items are filtered from recommendations, so such answers cannot be found: see repeats=True"
    )
    sentence = f"{value:.1%} of events repeat an item of the same user" + (f"; {end}." if value > 0.01 else ".")
    return "repeats", value, verdict, sentence


def _time_leak(split, queries):
    times = np.asarray(split.train.times)
    answered = _answer_times(split.log, queries)
    answered = answered[~np.isnan(answered)]
    if not len(answered) or np.isnan(times).all():
        return "training after the query", float("nan"), "look", NO_TIMES
    value = _rate(answered < np.nanmax(times))
    sentence = f"For {value:.1%} of test queries, training contains events later than the answer"
    sentence += ": fine to compare systems, too optimistic as a forecast (compare by_time)." if value > 0.01 else "."
    return "training after the query", value, _graded(value, 0.01), sentence


def _answer_times(log, queries) -> np.ndarray:
    """(Q,) the time of each answer, NaN = unknown: of the user's first event with the item after the history.

    If times are out of order there may be none; then of the user's last event with the item.
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
    # in a shuffled log the history ends strictly before the answer, else it may end at the same time
    fits = (pairs["time"] > pairs["after"]) | ((pairs["time"] == pairs["after"]) & (log.ties == "source"))
    first, last = pairs[fits].groupby("query")["time"].min(), pairs.groupby("query")["time"].max()
    return first.reindex(last.index).fillna(last).reindex(np.arange(len(queries))).to_numpy()


def _concentration(log, train):
    counts = np.sort(np.bincount(train, minlength=log.n_items + 1)[1:])
    total, size = counts.sum(), len(counts)
    if not total:
        return "popularity", float("nan"), "look", "There are no training events."
    top = max(1, round(size / 100))
    value = float(counts[-top:].sum() / total)
    gini = float(2 * (np.arange(1, size + 1) * counts).sum() / (size * total) - (size + 1) / size)
    sentence = f"The most popular 1% of items ({top:,}) have {value:.1%} of training events (Gini {gini:.2f})"
    sentence += ": always compare with plain popularity." if value > 0.2 else "."
    return "popularity", value, _graded(value, 0.2), sentence


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
    sentence = f"User {name!r} has {value:.1%} of all events ({lengths[most]:,}; the next has {second:,})"
    sentence += ": often a placeholder for unknown users, a robot or a test account." if verdict != "fine" else "."
    return "one user with most events", value, verdict, sentence
