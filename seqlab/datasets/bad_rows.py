"""Rows of events that cannot be read: all kinds of them in one pass, to refuse a table or to drop the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from seqlab.datasets.columns import describe_rows, is_missing
from seqlab.datasets.ids import wrong_ids
from seqlab.datasets.timestamps import MISSING_TIME, parse_times, unreadable
from seqlab.runtime.text import DataError, listed

BAD = ("refuse", "drop")
"""What is done about bad rows."""


@dataclass(frozen=True)
class BadRows:
    """The rows (E,) bool that are bad for one reason. what: the reason, such as "column 'sku' has no id"."""

    what: str
    rows: np.ndarray


def bad_rows(
    frame: pd.DataFrame, columns: Mapping[str, str | None], where: str, order: str = "time", time_format=None
) -> list[BadRows]:
    """The rows without a user, an item or a time that can be read, by reason; [] if all can be read.

    columns: of the roles user, item and time (None: there is none). order "source": times may be missing. What is wrong
    with a whole column, such as times in two units, is left to `make_log`.
    """
    found = []
    for role, column in columns.items():
        values = None if column is None else frame.get(column)
        if not isinstance(values, pd.Series):
            continue
        try:
            found += _bad_times(values, where, order, time_format) if role == "time" else _bad_ids(values)
        except (ValueError, TypeError, ArithmeticError):  # of odd objects in a frame
            continue
    return [one for one in found if one.rows.any()]


def union(found: list[BadRows]) -> np.ndarray:
    """(E,) bool: the rows that are bad for any reason."""
    return np.logical_or.reduce([one.rows for one in found])


def refusal(found: list[BadRows], where: str, row_numbers) -> DataError:
    """The error that names all reasons with their rows, and the remedy."""
    bad = union(found)
    parts = "; ".join(f"{one.what}: {describe_rows(one.rows, row_numbers)}" for one in found)
    return DataError(
        f"{where}: {bad.sum():,} rows cannot be read. {parts}. Correct them, or drop these rows: "
        "bad='drop' drops and counts them (in a shell: --bad drop; `seqlab card FILE` shows what else is odd, and "
        "writes a card with which it is read)."
    )


def drop_incomplete_rows(frame: pd.DataFrame, rows, columns: Mapping[str, str | None], where: str, notes: list[str]):
    """Drop rows without a value in any of these columns, by role (None: no column), and count them in `notes`.

    Returns the frame and the row numbers of what is left.
    """
    kept = np.ones(len(frame), bool)
    for role, column in columns.items():
        if column is not None and isinstance(frame.get(column), pd.Series):
            missing = is_missing(frame[column], MISSING_TIME if role == "time" else ()) & kept
            kept &= ~missing
            if missing.any():
                notes.append(f"{where}: {missing.sum():,} rows have no {role} (column {column!r}) and are dropped.")
    return (frame, rows) if kept.all() else (frame[kept], None if rows is None else rows[kept])


def _bad_ids(values: pd.Series) -> list[BadRows]:
    column, missing = f"column {values.name!r}", is_missing(values)
    words = [repr(word) for word in dict.fromkeys(values[missing].dropna().astype(str)) if word.strip()]
    why = f" ({listed(words)} {'counts' if len(words) == 1 else 'count'} as missing)" if words else ""
    wrong = [
        BadRows(f"{column} has {what} ({listed(dict.fromkeys(values[mask].astype(str)), 3)})", mask)
        for what, mask in wrong_ids(values, missing)
    ]
    return [BadRows(f"{column} has no id{why}", missing), *wrong]


def _bad_times(values: pd.Series, where: str, order: str, time_format) -> list[BadRows]:
    column = f"column {values.name!r}"
    times, blank, _ = parse_times(values, where, time_format)
    bad = ~np.isfinite(times) & ~blank
    found = [BadRows(f"{column} has no timestamp", blank)] if order == "time" else []
    return [*found, BadRows(f"{column} has {unreadable(values, bad).partition(' ')[2]}", bad)]
