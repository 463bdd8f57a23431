"""What the order of a log's events tells: repeats and copies, ties, and times that run backwards."""

from __future__ import annotations

import numpy as np
import pandas as pd


def repeated(events: pd.DataFrame, n_items: int) -> tuple[int, int]:
    """How many events bring back an item of their user, and, apart from these, how many are exact copies.

    A copy has the user, the item and the (known) timestamp of another event: one event that was logged twice.
    """
    pair = events["user"] * (n_items + 1) + events["item"]
    again = int(pair.duplicated().sum())
    if not again:
        return 0, 0
    repeated = pair.duplicated(keep=False) & events["timestamp"].notna()
    copies = int(pd.DataFrame({"pair": pair[repeated], "time": events["timestamp"][repeated]}).duplicated().sum())
    return again - copies, copies


def run_backwards(user: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(E,) bool: this event is earlier than the event before it of its user; events without a time are passed over."""
    known = np.flatnonzero(~np.isnan(times))
    back = np.zeros(len(times), bool)
    step = np.diff(times[known]) < 0
    back[known[1:]] = step & (np.diff(user[known]) == 0)
    return back


def share_moment(user: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(E,) bool: another event of the user has the same (known) timestamp, wherever it stands."""
    order = np.lexsort((times, user))
    tied = ties_with_previous(user[order], times[order])
    shared = np.empty(len(user), bool)
    shared[order] = tied | np.append(tied[1:], False)
    return shared


def ties_with_previous(user: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(E,) bool: this event has the user and the (known) timestamp of the event before it."""
    tied = np.zeros(len(user), bool)
    tied[1:] = (user[1:] == user[:-1]) & (times[1:] == times[:-1])
    return tied


def share_rising(items: np.ndarray, tied: np.ndarray) -> float:
    """Of neighbours at one timestamp with different items, the share whose second label is the larger."""
    at = np.flatnonzero(tied)
    step = items[at] - items[at - 1]
    step = step[step != 0]
    return float((step > 0).mean()) if len(step) else float("nan")
