"""The order of events: repeats and duplicates, ties, and timestamps out of order."""

from __future__ import annotations

import numpy as np
import pandas as pd


def count_repeats(events: pd.DataFrame, n_items: int) -> tuple[int, int]:
    """The number of repeats (events with an earlier item of the same user), and of exact duplicates, not among them.

    A duplicate has the user, item and (known) timestamp of another event: one event that was logged twice.
    """
    pair = events["user"] * (n_items + 1) + events["item"]
    again = int(pair.duplicated().sum())
    if not again:
        return 0, 0
    repeated = pair.duplicated(keep=False) & events["timestamp"].notna()
    copies = int(pd.DataFrame({"pair": pair[repeated], "time": events["timestamp"][repeated]}).duplicated().sum())
    return again - copies, copies


def out_of_order(user: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(E,) bool: whether an event is earlier than the previous event of its user; events without a time are skipped."""
    known = np.flatnonzero(~np.isnan(times))
    back = np.zeros(len(times), bool)
    step = np.diff(times[known]) < 0
    back[known[1:]] = step & (np.diff(user[known]) == 0)
    return back


def simultaneous(user: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(E,) bool: whether any other event of the user has the same (known) timestamp."""
    order = np.lexsort((times, user))
    tied = ties_previous(user[order], times[order])
    shared = np.empty(len(user), bool)
    shared[order] = tied | np.append(tied[1:], False)
    return shared


def ties_previous(user: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(E,) bool: whether an event has the user and the (known) timestamp of the previous row."""
    tied = np.zeros(len(user), bool)
    tied[1:] = (user[1:] == user[:-1]) & (times[1:] == times[:-1])
    return tied


def rising_share(items: np.ndarray, tied: np.ndarray) -> float:
    """Of consecutive tied events with different items, the share whose second item label is the larger."""
    at = np.flatnonzero(tied)
    step = items[at] - items[at - 1]
    step = step[step != 0]
    return float((step > 0).mean()) if len(step) else float("nan")
