"""The error for bad data, and phrases for messages: a suggestion of a name, a short list, an error's first line."""

from __future__ import annotations

import difflib


class DataError(ValueError):
    """Bad input data. The message names the problem, its place (file, column, rows) and what to do."""


class MissingDataError(DataError):
    """Data without what a system, a split or a task needs. The message names what is missing."""


def listed(values, most: int = 5) -> str:
    """The first `most` of many values, for a message: '2, 5, 9 and 14 more'."""
    values = list(values)
    text = ", ".join(str(value) for value in values[:most])
    return text + (f" and {len(values) - most:,} more" if len(values) > most else "")


def did_you_mean(wanted: str, names) -> str:
    """A question with the closest of the names (' Did you mean "item_id"?'), or '' if none is close."""
    close = difflib.get_close_matches(str(wanted).lower(), [str(name).lower() for name in names], n=1, cutoff=0.55)
    match = [name for name in names if str(name).lower() in close]
    return f" Did you mean {str(match[0])!r}?" if match else ""


def first_line(error: Exception) -> str:
    """The first line of an exception's message (at most 200 characters), or the name of its type."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
