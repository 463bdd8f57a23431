"""The items of a log as a table: one row each with its label, its title, and all else that is known of it as text."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqlab.datasets.columns import WHOLE, absent, loosely, rows_where, select_column, text_of
from seqlab.datasets.ids import ROUNDED, ROUNDED_IDS, refuse
from seqlab.runtime.text import DataError, listed


def item_table(labels: np.ndarray, items, key, title, where: str, row_numbers=None) -> tuple[pd.DataFrame, list[str]]:
    """The item table (index 1..N): item_id, title (falls back to the id), then every other column as text.

    `items` None gives ids alone. DataError for an item with more than one row.
    """
    table = pd.DataFrame({"item_id": labels}, index=pd.RangeIndex(1, len(labels) + 1, name="item"))
    names = pd.Series(labels, index=table.index).map(str).astype("str")
    if items is None:
        table["title"] = names
        return table, []
    keys, notes = _keys(select_column(items, key, where), where, row_numbers)
    twice = keys.duplicated(keep=False) & (keys != "")
    if twice.any():
        raise DataError(
            f"{where}: column {key!r} describes {keys[twice].nunique():,} items more than once: "
            f"{rows_where(twice, row_numbers)}. Keep one row per item."
        )
    if title is not None:
        titles = select_column(items, title, where)
    described = np.flatnonzero(keys != "")
    at = pd.Index(keys.iloc[described]).get_indexer(names)
    found = np.where(at >= 0, described[at] if len(described) else -1, -1)
    unused = len(described) - int((found >= 0).sum())
    close = _close_keys(names[found < 0], keys) if unused and (found < 0).any() else ""
    if (found < 0).all():
        raise DataError(
            f"{where}: none of the ids in column {key!r} (such as {listed(keys[:3])}) occurs in the log "
            f"(such as {listed(names[:3])}). Name the column that both share.{close}"
        )
    if (found < 0).any():
        notes.append(f"{where}: {(found < 0).sum():,} items have no row; their id stands for the title.{close}")
    if unused:
        notes.append(f"{where}: {unused:,} rows describe items without an event and are left out.")

    def aligned(values: pd.Series) -> np.ndarray:
        text = text_of(values).to_numpy(object)
        return np.where(found >= 0, text[found], "") if len(text) else np.full(len(found), "", object)

    shown = pd.Series(aligned(titles) if title is not None else "", index=table.index, dtype="str")
    table["title"] = shown.where(shown.str.strip() != "", names)
    for column in items.columns:
        if column not in (key, title):
            kept = f"{column} (source)" if str(column) in table.columns else str(column)
            table[kept] = pd.Series(aligned(select_column(items, column, where)), index=table.index, dtype="str")
    return table, notes


def _close_keys(names: pd.Series, keys: pd.Series) -> str:
    """A sentence on how many names would have a row if they, or the keys, were written alike."""
    loose = loosely(names.reset_index(drop=True))
    would = int(loose.isin(loosely(keys[keys != ""].reset_index(drop=True))).sum())
    told = f" {would:,} of them would have one but for outer blanks, invisible characters, accents or a number's zeros."
    return told if would else ""


def _keys(values: pd.Series, where: str, row_numbers) -> tuple[pd.Series, list[str]]:
    """The key column as text that matches the labels of number_ids; rows without a key match nothing."""
    keys = text_of(values).reset_index(drop=True)
    rounded = keys.str.fullmatch(ROUNDED).to_numpy(bool)
    column = f"{where}: column {values.name!r}"
    refuse(keys, rounded, np.arange(len(keys)), column, row_numbers, *ROUNDED_IDS)
    blank = absent(keys)
    if not blank.all() and keys[~blank].str.fullmatch(WHOLE + r"(?:\.0*)?").all():
        keys = keys.str.replace(r"\.0*$", "", regex=True)
    if not blank.any():
        return keys, []
    rows = rows_where(blank, row_numbers)
    note = f"{column} names no item in {rows}; they describe none."
    return keys.mask(blank, ""), [note]
