"""The split "slates 0.2": the last slates that each user saw are queries, and what was clicked is the answer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seqlab.datasets.events import Events
from seqlab.datasets.exposures import TABLE, Exposures
from seqlab.datasets.log import InteractionLog
from seqlab.datasets.sequences import Queries, Sequences
from seqlab.datasets.splits import Split, prefix, whole_log
from seqlab.runtime.text import DataError

NAME = "slates"
TRAIN, VALID, TEST = 0, 1, 2


def slates(log: InteractionLog, share: float = 0.2, columns: tuple[str, ...] = ()) -> Split:
    """The last `share` of each user's slates are test queries, the same number before them validation queries.

    The history of a query are the user's events strictly before the slate, its candidates the slate, its labels 1 for
    the clicked slot and 0 for the others (all 0: no click), its id the number of the slate in the log's exposures, from
    0. Training are the events before a user's first validation slate; the slates before it are `training_exposures`. A
    user has at least one training slate; users with fewer than 3 slates have no query. Raises `DataError` for a log
    without exposures or times, a share outside (0, 0.5), and if there are no queries.
    """
    exposures = Exposures.of_log(log)
    if log.events["timestamp"].isna().any():
        raise DataError(f"{log.name}: a split by slates needs the time of every event, and some are missing.")
    part = parts(exposures, share)
    whole, _ = whole_log(log, columns)
    end = torch.from_numpy(_events_before(log, exposures.user, exposures.times))  # (S,)
    start = whole.offsets[torch.from_numpy(exposures.user) - 1]

    first = np.flatnonzero((part == VALID) & (np.diff(part, prepend=TEST) != 0))  # each user's first validation slate
    kept = whole.lengths.clone()
    kept[torch.from_numpy(exposures.user[first]) - 1] = (end - start)[first]
    few = log.n_users - len(first)
    notes = [f"{few:,} users have fewer than 3 slates: they have no query."] if few else []
    if left := log.tables[TABLE]["slate"].nunique() - len(exposures):
        notes.append(f"{left:,} slates are left out: their user, or an item that they show, is not in the log.")
    found = {}
    for name, which in (("validation", VALID), ("test", TEST)):
        has_history = (part == which) & (end > start).numpy()
        if left := int((part == which).sum() - has_history.sum()):
            notes.append(f"{left:,} {name} slates have no event before them: they are no queries.")
        found[name] = _queries(exposures, np.flatnonzero(has_history), whole, start, end)
        if not len(found[name]):
            raise DataError(
                f"{log.name}: no user has 3 slates and an event before the last ones: there are no queries."
            )
    text = f"{NAME} {share:g}"
    return Split(log, prefix(whole, kept), found["validation"], found["test"], text, tuple(notes), NAME)


def parts(exposures: Exposures, share: float) -> np.ndarray:
    """Whether each slate is for training (0), validation (1) or test (2): (S,). Raises `DataError` for a bad share."""
    if not 0 < share < 0.5:
        raise DataError(f"slates: the share of the test slates must be between 0 and 0.5 (got {share:g}).")
    _, starts, counts = np.unique(exposures.user, return_index=True, return_counts=True)
    held_out = np.minimum(np.maximum(np.floor(counts * share + 0.5), 1), (counts - 1) // 2).astype(np.int64)  # (U',)
    to_last = np.repeat(starts + counts, counts) - np.arange(len(exposures))  # 1 = the last slate of a user
    held_out = np.repeat(held_out, counts)
    return (to_last <= 2 * held_out).astype(np.int8) + (to_last <= held_out)


def training_exposures(split: Split) -> Exposures:
    """The slates of a split by slates that may be trained on: those before each user's first validation slate.

    Raises `DataError` for another split, and for a log without exposures.
    """
    name, _, share = split.name.partition(" ")
    exposures = Exposures.of_log(split.log)
    if name != NAME:
        raise DataError(
            f"{split.log.name}: the split {split.name!r} has no training slates; split by {NAME + ' 0.2'!r}."
        )
    return exposures.select(parts(exposures, float(share)) == TRAIN)


def _events_before(log: InteractionLog, user: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The place (S,) in the events after the last one of each user such that it and all before are before a time."""
    latest = log.events.groupby("user")["timestamp"].cummax().to_numpy()
    users, when = np.concatenate([user, log.events["user"]]), np.concatenate([times, latest])
    is_event = np.arange(len(users)) >= len(user)
    order = np.lexsort((is_event, when, users))  # at equal times the slate comes before the event
    place = np.empty(len(users), np.int64)
    place[order] = is_event[order].cumsum()
    return place[: len(user)]


def _queries(exposures: Exposures, rows: np.ndarray, whole: Sequences, start: Tensor, end: Tensor) -> Queries:
    chosen, at = exposures.select(rows), torch.from_numpy(rows)
    width = int(exposures.lengths.max())
    candidates = torch.from_numpy(chosen.padded(width))  # (Q, A)
    slots = torch.arange(1, width + 1)
    labels = (slots == torch.from_numpy(chosen.clicked)[:, None]).double().masked_fill(candidates == 0, torch.nan)
    items, times = torch.from_numpy(chosen.item), torch.from_numpy(chosen.times)
    missing = {
        name: torch.full((len(rows),), torch.nan if column.is_floating_point() else 0, dtype=column.dtype)
        for name, column in whole.extra.items()
    }
    return Queries(
        whole, torch.from_numpy(chosen.user), Events(items, times, missing), start[at], end[at], at,
        candidates=candidates, labels=labels,
    )  # fmt: skip
