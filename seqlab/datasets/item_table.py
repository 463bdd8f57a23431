"""The tables of items and of users: one row each, with the id, an item's title, and all other columns as text."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqlab.datasets.columns import INTEGER, canonical_ids, describe_rows, is_missing, select_column, to_text
from seqlab.datasets.ids import SCIENTIFIC, SCIENTIFIC_IDS, raise_for
from seqlab.runtime.text import DataError, listed


def item_table(labels: np.ndarray, items, key, title, where: str, row_numbers=None) -> tuple[pd.DataFrame, list[str]]:
    """The item table (index 1..N): item_id, title (the id where it is missing), then every other column as text.

    items: the source's table of items (None: the table has ids only); key, title: its columns. Returns the table and
    notes. Raises `DataError` for an item with several rows, or if no key is an id of the log.
    """
    table = pd.DataFrame({"item_id": labels}, index=pd.RangeIndex(1, len(labels) + 1, name="item"))
    names = pd.Series(labels, index=table.index).map(str).astype("str")
    if items is None:
        table["title"] = names
        return table, []
    found, notes = _rows(names, items, key, where, row_numbers, "items", "; their title is their id")
    titles = None if title is None else select_column(items, title, where)
    text = _aligned(titles, found, table.index) if titles is not None else pd.Series("", index=table.index, dtype="str")
    table["title"] = text.where(text.str.strip() != "", names)
    for column in items.columns:
        if column not in (key, title):
            target = f"{column} (source)" if str(column) in table.columns else str(column)
            table[target] = _aligned(select_column(items, column, where), found, table.index)
    return table, notes


def user_table(labels: np.ndarray, users, key, where: str, row_numbers=None) -> tuple[pd.DataFrame, list[str]]:
    """The table of users (index 1..U): user_id, then the further columns of the source's table as text ("" = missing).

    users: the source's table of users (None: the table has ids only); key: its column of ids. Returns the table and
    notes. Raises `DataError` for a user with several rows, or if no key is an id of the log.
    """
    table = pd.DataFrame({"user_id": labels}, index=pd.RangeIndex(1, len(labels) + 1, name="user"))
    if users is None:
        return table, []
    names = pd.Series(labels, index=table.index).map(str).astype("str")
    found, notes = _rows(names, users, key, where, row_numbers, "users", "; their columns are missing")
    for column in users.columns:
        if column != key:
            target = f"{column} (source)" if str(column) in table.columns else str(column)
            table[target] = _aligned(select_column(users, column, where), found, table.index)
    return table, notes


def _rows(names: pd.Series, source, key, where: str, row_numbers, what: str, without: str):
    """The row of the source of every name (-1 = none), and notes. what: "items" or "users"."""
    keys, notes = _keys(select_column(source, key, where), where, row_numbers)
    twice = keys.duplicated(keep=False) & (keys != "")
    if twice.any():
        raise DataError(
            f"{where}: column {key!r} contains {keys[twice].nunique():,} {what} more than once: "
            f"{describe_rows(twice, row_numbers)}. Keep one row per {what.removesuffix('s')}."
        )
    described = np.flatnonzero(keys != "")
    at = pd.Index(keys.iloc[described]).get_indexer(names)
    found = np.where(at >= 0, described[at] if len(described) else -1, -1)
    unused = len(described) - int((found >= 0).sum())
    close = _close_keys(names[found < 0], keys) if unused and (found < 0).any() else ""
    if (found < 0).all():
        raise DataError(
            f"{where}: none of the ids in column {key!r} (such as {listed(keys[:3])}) occurs in the log "
            f"(such as {listed(names[:3])}). Name the column that both tables share.{close}"
        )
    if (found < 0).any():
        notes.append(f"{where}: {(found < 0).sum():,} {what} have no row{without}.{close}")
    if unused:
        notes.append(f"{where}: {unused:,} rows of {what} without events are left out.")
    return found, notes


def _aligned(values: pd.Series, found: np.ndarray, index: pd.Index) -> pd.Series:
    """The values of the rows `found` as text, "" for -1."""
    text = to_text(values).to_numpy(object)
    parts = np.where(found >= 0, text[found], "") if len(text) else np.full(len(found), "", object)
    return pd.Series(parts, index=index, dtype="str")


def _close_keys(names: pd.Series, keys: pd.Series) -> str:
    """A sentence with the number of names that equal a key in canonical form, or ""."""
    canonical = canonical_ids(names.reset_index(drop=True))
    count = int(canonical.isin(canonical_ids(keys[keys != ""].reset_index(drop=True))).sum())
    return f" {count:,} match but for blanks, invisible characters, accents or zeros of numbers." if count else ""


def _keys(values: pd.Series, where: str, row_numbers) -> tuple[pd.Series, list[str]]:
    """The key column as text, in the form of the labels of `number_ids` ("" = no key), and notes."""
    keys = to_text(values).reset_index(drop=True)
    rounded = keys.str.fullmatch(SCIENTIFIC).to_numpy(bool)
    column = f"{where}: column {values.name!r}"
    raise_for(keys, rounded, np.arange(len(keys)), column, row_numbers, *SCIENTIFIC_IDS)
    blank = is_missing(keys)
    if not blank.all() and keys[~blank].str.fullmatch(INTEGER + r"(?:\.0*)?").all():
        keys = keys.str.replace(r"\.0*$", "", regex=True)
    if not blank.any():
        return keys, []
    rows = describe_rows(blank, row_numbers)
    note = f"{column} has no id in {rows}; these rows are left out."
    return keys.mask(blank, ""), [note]
