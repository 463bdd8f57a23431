"""Errors of data, the nearest name, and lists in words."""

from __future__ import annotations

import difflib


class DataError(ValueError):
    """Bad input data: says what is wrong, where (file, column, rows) and what to do."""


def listed(values, most: int = 5) -> str:
    """'2, 5, 9 and 14 more': the first few of many, for a sentence."""
    values = list(values)
    text = ", ".join(str(value) for value in values[:most])
    return text + (f" and {len(values) - most:,} more" if len(values) > most else "")


def did_you_mean(wanted: str, names) -> str:
    """' Did you mean "item_id"?' or nothing, for the end of a sentence."""
    close = difflib.get_close_matches(str(wanted).lower(), [str(name).lower() for name in names], n=1, cutoff=0.5)
    match = [name for name in names if str(name).lower() in close]
    return f" Did you mean {str(match[0])!r}?" if match else ""
