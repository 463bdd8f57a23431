"""Smells: what in a log makes a number look better than the system behind it, one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

COLUMNS = ["smell", "value", "verdict", "sentence"]


def smells(split: Split) -> pd.DataFrame:
    """Look for the known traps of a split: a table with columns smell, value (a share), verdict, sentence.

    verdict is "fine", "look" (know this when you read a number) or "trap" (a number is likely wrong by it).
    value is NaN where a smell cannot be measured (no timestamps, no test questions).
    """
    log = split.log
    user, item, time = (log.events[column].to_numpy() for column in ("user", "item", "timestamp"))
    known = ~np.isnan(time)
    train = np.asarray(split.train.items)
    asked = _Asked(split)
    rows = [
        _duplicates(log, known),
        _ties(log, user, time),
        _sorted_ties(log, user, time),
        _copy_last(log, asked),
        _next_number(log, asked),
        _unseen(log, asked, train),
        _repeats(log, user, item),
        _time_leak(split, asked),
        _concentration(log, train),
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


class _Asked:
    """The test questions: user, item (Q,), last and highest item of the history, its last time (or -inf)."""

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
            "Without timestamps, copies cannot be told from true repeats.",
        )
    return (
        "exact duplicates",
        value,
        _graded(value, 0.001, 0.05),
        f"{copies.sum():,} events repeat another one exactly (user, item and timestamp)"
        + (": a copy in the history gives its answer away." if copies.any() else "."),
    )


def _tied(user, time):
    return (user[1:] == user[:-1]) & (time[1:] == time[:-1])


def _ties(log, user, time):
    tied = _tied(user, time)
    value = float((np.append(tied, False) | np.append(False, tied)).mean())
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
        f"{value:.1%} of events share their timestamp with a neighbour of the same user; {order}.",
    )


def _sorted_ties(log, user, time):
    value = log.source_ties_sorted
    pairs = int(_tied(user, time).sum())
    if log.events["timestamp"].isna().all():
        return (
            "sorted ids within ties",
            value,
            "look",
            "Without timestamps, ties cannot be told from sequence.",
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


def _copy_last(log, asked):
    value = _rate(asked.last == asked.item)
    verdict = _graded(value, 0.05, np.inf if log.repeats else 0.2) if len(asked) else "look"
    return (
        "copy the last item",
        value,
        verdict,
        f"Answering with the last item of the history is right for {value:.1%} of test questions"
        f"{': a system must beat that' if value > 0.05 else ''}."
        if len(asked)
        else _NONE,
    )


def _next_number(log, asked):
    hits = (asked.highest + 1 == asked.item) & (asked.highest > 0)
    value, chance = _rate(hits), 1 / log.n_items
    verdict = _graded(value, 3 * chance + 0.003, 10 * chance + 0.01) if hits.sum() >= 5 else "fine"
    return (
        "highest id plus one",
        value,
        verdict if len(asked) else "look",
        f"Answering with the highest item number seen so far plus one is right for {value:.2%} of test "
        f"questions (chance: {chance:.2%}){': the numbering gives them away' if verdict == 'trap' else ''}."
        if len(asked)
        else _NONE,
    )


def _unseen(log, asked, train):
    counts = np.bincount(train, minlength=log.n_items + 1)
    value = _rate(counts[asked.item] == 0)
    return (
        "answers never trained on",
        value,
        _graded(value, 0.01) if len(asked) else "look",
        f"{value:.1%} of test answers are items that no training history holds: a system that knows ids "
        "alone cannot find them."
        if len(asked)
        else _NONE,
    )


def _repeats(log, user, item):
    value = _rate(pd.Series(user * (log.n_items + 1) + item).duplicated())
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


def _time_leak(split, asked):
    times = np.asarray(split.train.times)
    if not len(asked) or not (~np.isnan(times)).any():
        return (
            "training after the question",
            float("nan"),
            "look",
            "Without timestamps nobody can tell what came first.",
        )
    moment = _answer_times(split.log, asked)
    latest = np.nanmax(times)
    dated = ~np.isnan(moment)
    value = _rate(moment[dated] < latest)
    return (
        "training after the question",
        value,
        _graded(value, 0.01),
        f"For {value:.1%} of test questions, training holds events later than the answer"
        + (": fine for comparing systems, too rosy for a forecast (split by_time to see)." if value > 0.01 else "."),
    )


def _answer_times(log, asked) -> np.ndarray:
    """(Q,) when the answer came: the user's first such event not before the history's end; NaN: unknown."""
    width = log.n_items + 1
    wanted = pd.DataFrame(
        {
            "pair": asked.user * width + asked.item,
            "question": np.arange(len(asked)),
            "after": np.nan_to_num(asked.last_time, nan=-np.inf),
        }
    )
    pair = log.events["user"].to_numpy() * width + log.events["item"].to_numpy()
    rows = np.isin(pair, wanted["pair"].to_numpy())
    events = pd.DataFrame({"pair": pair[rows], "time": log.events["timestamp"].to_numpy()[rows]})
    met = wanted.merge(events, on="pair")
    # a shuffled log asks with a history that ends strictly before the answer, else it may end at its moment
    met = met[(met["time"] > met["after"]) | ((met["time"] == met["after"]) & (log.ties == "source"))]
    return met.groupby("question")["time"].min().reindex(np.arange(len(asked))).to_numpy()


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


_NONE = "There are no test questions."
