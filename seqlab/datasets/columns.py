"""Columns as people have them -> columns as the lab needs them: ids 1..N, unix seconds, text."""

from __future__ import annotations

import difflib

import numpy as np
import pandas as pd

WHOLE = r"0|[1-9][0-9]{0,17}"
NUMBER = r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?"
UNITS = (
    ("seconds", 1e11, 1.0),
    ("milliseconds", 1e14, 1e3),
    ("microseconds", 1e17, 1e6),
    ("nanoseconds", np.inf, 1e9),
)


class DataError(ValueError):
    """Bad input data: says what is wrong, where (file, column, rows) and what to do."""


def listed(values, most: int = 5) -> str:
    """'2, 5, 9 and 14 more': the first few of many, for a sentence."""
    values = list(values)
    text = ", ".join(str(value) for value in values[:most])
    return text + (f" and {len(values) - most:,} more" if len(values) > most else "")


def rows_where(mask, row_numbers) -> str:
    """'row 7' or 'rows 2, 5, 9 and 14 more': the rows a boolean mask picks, numbered as in the source."""
    at = np.flatnonzero(np.asarray(mask))
    numbers = at if row_numbers is None else np.asarray(row_numbers)[at]
    counted = "" if row_numbers is not None else " (counting from 0)"
    return f"row{'s' if len(at) != 1 else ''} {listed(numbers)}{counted}"


def nearest(wanted: str, names) -> str:
    """' Did you mean "item_id"?' or nothing, for the end of a sentence."""
    close = difflib.get_close_matches(str(wanted).lower(), [str(name).lower() for name in names], n=1, cutoff=0.5)
    match = [name for name in names if str(name).lower() in close]
    return f" Did you mean {str(match[0])!r}?" if match else ""


def pick(frame: pd.DataFrame, column, where: str) -> pd.Series:
    """The one column of that name; DataError (with the names there are) for none or more than one."""
    found = [name for name in frame.columns if name == column]
    if not found:
        names = listed([repr(str(name)) for name in frame.columns], 30) or "none"
        raise DataError(
            f"{where}: there is no column {column!r}. Its columns: {names}." + nearest(column, frame.columns)
        )
    if len(found) > 1:
        raise DataError(f"{where}: {len(found)} columns are called {column!r}; rename all but one.")
    return frame[column]


def number_ids(values: pd.Series, where: str, row_numbers=None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Number the ids of a column 1..N in the order of their sorted labels (numbers by value, text by letter).

    Sorting tells nothing of popularity or time, and labels that are 1..N already keep their numbers.
    Returns codes (E,) int64, labels (N,) int64 or str, and notes. DataError for ids that are missing,
    negative, not whole, or of mixed types.
    """
    column = values.name
    at = f"{where}: column {column!r}"
    if pd.api.types.is_bool_dtype(values.dtype):
        raise DataError(f"{at} holds true/false, not ids; name the column that identifies users or items.")
    try:
        if isinstance(values.dtype, pd.CategoricalDtype):
            if not np.bincount(values.cat.codes + 1, minlength=len(values.cat.categories) + 1)[1:].all():
                values = values.cat.remove_unused_categories()
            codes, unique = values.cat.codes.to_numpy(np.int64), values.cat.categories
        else:
            codes, unique = pd.factorize(values)
    except TypeError as error:
        raise DataError(f"{at} holds lists or other nested values, not ids; give one plain id per row.") from error
    missing = codes < 0
    kind = _kind(unique, codes, at, row_numbers)
    if kind == "text":
        texts = pd.Series(unique, dtype=object).map(str)
        missing |= np.isin(codes, np.flatnonzero(texts.str.strip() == ""))
    if missing.any():
        why = " (these gaps are why whole numbers show as 1.0)" if pd.api.types.is_float_dtype(values.dtype) else ""
        raise DataError(
            f"{at} has no id in {missing.sum():,} of {len(values):,} rows{why}: "
            f"{rows_where(missing, row_numbers)}. Fill them in or drop these rows."
        )
    labels, notes = _labels(texts if kind == "text" else pd.Series(unique), kind, codes, at, row_numbers)
    labels, order = np.unique(labels, return_inverse=True)
    return order.astype(np.int64)[codes] + 1, labels, notes


def _kind(unique, codes, at: str, row_numbers) -> str:
    """'number' or 'text'; mixed types in one object column are refused, naming the rows of the rarer type."""
    dtype = getattr(unique, "dtype", np.dtype(object))
    if pd.api.types.is_numeric_dtype(dtype):
        if pd.api.types.is_complex_dtype(dtype):
            raise DataError(f"{at} holds complex numbers, not ids.")
        return "number"
    if dtype != np.dtype(object):
        return "text"
    number = np.array([isinstance(one, (int, float, np.number)) and not isinstance(one, bool) for one in unique], bool)
    text = np.array([isinstance(one, str) for one in unique], bool)
    types = sorted({type(one).__name__ for one in unique})
    if number.all() and len(unique):
        return "number"
    if not text.all() and len(types) > 1:
        counts = [(np.isin(codes, np.flatnonzero(group)), group) for group in (number, text, ~number & ~text)]
        rarest = min((mask for mask, group in counts if group.any()), key=np.sum)
        raise DataError(
            f"{at} mixes types ({', '.join(types)}), so 1 and '1' may be one id or two; the rarer kind is "
            f"in {rows_where(rarest, row_numbers)}. Convert the column first, e.g. .astype(str)."
        )
    return "text"


def _labels(unique: pd.Series, kind: str, codes, at: str, row_numbers) -> tuple[np.ndarray, list[str]]:
    """Whole numbers where every label is one, else text; with what to tell the reader."""
    if kind == "text":
        whole = unique.str.fullmatch(WHOLE).to_numpy(bool)
        if len(unique) and whole.all():
            return unique.astype(np.int64).to_numpy(), []
        numeric = unique.str.fullmatch(NUMBER).to_numpy(bool)
        plain = unique.str.fullmatch(r"[0-9]+").to_numpy(bool)
        if not numeric.all() or plain.all():  # 007 and numbers too long for 64 bits stay as written
            mixed = [f"{at} holds both numbers and text: all read as text."] if whole.any() and not plain.all() else []
            return unique.to_numpy(object), mixed
    if pd.api.types.is_integer_dtype(unique.dtype):
        values = unique.to_numpy()
        bad = values < 0
        decimal = False
    else:
        values = pd.to_numeric(unique, errors="coerce").to_numpy(np.float64)
        with np.errstate(invalid="ignore"):
            bad = ~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0) & (values < 2**53))
        decimal = True
    if bad.any():
        rows = rows_where(np.isin(codes, np.flatnonzero(bad)), row_numbers)
        raise DataError(
            f"{at} holds ids that are negative or no whole numbers ({listed(unique[bad])}) in {rows}. "
            "Ids are whole numbers from 0 up, or text."
        )
    if not decimal and len(values) and int(values.max()) >= 2**63:
        return unique.map(str).to_numpy(object), []
    return values.astype(np.int64), [f"{at} is written with decimals (1.0): read as whole numbers."] if decimal else []


def seconds(values: pd.Series, where: str, row_numbers=None, may_be_missing: bool = False):
    """Timestamps as unix seconds (E,) float64 (NaN = unknown) and notes on the unit or the format detected.

    Takes whole or decimal numbers in s, ms, µs or ns, ISO 8601 text, and datetimes (without a zone: UTC).
    DataError for what cannot be read, for gaps (unless they may be missing) and for mixed units.
    """
    at = f"{where}: column {values.name!r}"
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_complex_dtype(values.dtype):
        raise DataError(f"{at} holds no timestamps; name the column that says when.")
    blank = values.isna().to_numpy(bool)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        times, notes = _from_datetimes(values), [f"{at}: datetimes, read as UTC unless they name a zone."]
    elif pd.api.types.is_numeric_dtype(values.dtype):
        times, notes = _unit(values.to_numpy(np.float64, na_value=np.nan), at)
    else:
        text = values.map(str) if values.dtype == object else values.astype("str")
        blank = blank | text.str.strip().isin(["", "nan", "NaN", "None", "NaT", "<NA>"]).to_numpy(bool)
        numbers = pd.to_numeric(text.mask(blank), errors="coerce").to_numpy(np.float64, na_value=np.nan)
        if np.isfinite(numbers).sum() * 2 > (~blank).sum():
            times, notes = _unit(numbers, at)
        else:
            dates = pd.to_datetime(text.mask(blank), format="ISO8601", utc=True, errors="coerce")
            times, notes = (
                _from_datetimes(dates),
                [f"{at}: ISO 8601 text, read as UTC unless it names a zone."],
            )
    bad = ~np.isfinite(times) & ~blank
    if bad.any():
        examples = listed([repr(str(value)) for value in values[bad].head(3)], 3)
        raise DataError(
            f"{at} has {bad.sum():,} timestamps that cannot be read, such as {examples}: "
            f"{rows_where(bad, row_numbers)}. Use unix seconds or ISO 8601 (2024-05-31 18:00:00)."
        )
    times = np.where(blank, np.nan, times)
    if blank.any() and not may_be_missing:
        raise DataError(
            f"{at} has no timestamp in {blank.sum():,} of {len(values):,} rows: "
            f"{rows_where(blank, row_numbers)}. Fill them in, drop these rows, or pass order='source' "
            "if each user's rows are already oldest first."
        )
    if blank.any():
        notes = ([] if blank.all() else notes) + [
            f"{at}: {blank.sum():,} events have no timestamp; they keep their place."
        ]
    return times, notes


def _from_datetimes(values: pd.Series) -> np.ndarray:
    if getattr(values.dtype, "tz", None) is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    stamps = values.to_numpy().astype("datetime64[us]")
    times = stamps.astype(np.int64) / 1e6
    times[np.isnat(stamps)] = np.nan
    return times


def _unit(times: np.ndarray, at: str) -> tuple[np.ndarray, list[str]]:
    """The unit of numeric stamps by their size: seconds stay below 1e11 until the year 5138."""
    size = np.abs(times[np.isfinite(times)])
    if not len(size):
        return times, []
    name, _, divisor = next(unit for unit in UNITS if np.median(size) < unit[1])
    present = {
        unit[0]
        for low, unit in zip((1e8, 1e11, 1e14, 1e17), UNITS, strict=True)
        if ((size >= low) & (size < unit[1])).any()
    }
    if len(present) > 1:
        raise DataError(f"{at} mixes timestamps in {' and '.join(sorted(present))}; convert them to one unit.")
    notes = [f"{at}: numbers, read as {name} since 1970."]
    if size.max() < 1e8:
        notes = [f"{at}: small numbers, kept as seconds; only their order and gaps mean something."]
    return times / divisor, notes


def text_of(values: pd.Series) -> pd.Series:
    """Any column as text: '' for missing, 1995 for 1995.0, the rest as Python prints it."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    blank = values.isna().to_numpy(bool)
    if pd.api.types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(np.float64, na_value=np.nan)[~blank]
        if np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all() and (np.abs(numbers) < 2**53).all():
            text = pd.Series("", index=values.index, dtype=object)
            text[~blank] = numbers.astype(np.int64).astype(str)
            return text.astype("str")
    return values.astype(object).mask(blank, "").map(str).astype("str")


def item_table(labels: np.ndarray, items, key, title, where: str, row_numbers=None) -> tuple[pd.DataFrame, list[str]]:
    """The item table (index 1..N): item_id, title (falls back to the id), then every other column as text.

    `items` None gives ids alone. DataError for an item with more than one row.
    """
    table = pd.DataFrame({"item_id": labels}, index=pd.RangeIndex(1, len(labels) + 1, name="item"))
    names = pd.Series(labels, index=table.index).map(str).astype("str")
    if items is None:
        table["title"] = names
        return table, []
    keys, notes = _keys(pick(items, key, where), where, row_numbers)
    twice = keys.duplicated(keep=False) & (keys != "")
    if twice.any():
        raise DataError(
            f"{where}: column {key!r} describes {keys[twice].nunique():,} items more than once: "
            f"{rows_where(twice, row_numbers)}. Keep one row per item."
        )
    if title is not None:
        titles = pick(items, title, where)
    found = pd.Index(keys).get_indexer(names)
    unused = len(keys) - int((found >= 0).sum())
    if (found < 0).any():
        notes.append(f"{where}: {(found < 0).sum():,} items have no row; their id stands for the title.")
    if unused:
        notes.append(f"{where}: {unused:,} rows describe items without an event and are left out.")
    if (found < 0).all():
        raise DataError(
            f"{where}: none of the ids in column {key!r} (such as {listed(keys[:3])}) occurs in the log "
            f"(such as {listed(names[:3])}). Name the column that both share."
        )

    def aligned(values: pd.Series) -> np.ndarray:
        text = text_of(values).to_numpy(object)
        return np.where(found >= 0, text[found], "") if len(text) else np.full(len(found), "", object)

    shown = pd.Series(aligned(titles) if title is not None else "", index=table.index, dtype="str")
    table["title"] = shown.where(shown.str.strip() != "", names)
    for column in items.columns:
        if column not in (key, title):
            kept = f"{column} (source)" if str(column) in table.columns else str(column)
            table[kept] = pd.Series(aligned(pick(items, column, where)), index=table.index, dtype="str")
    return table, notes


def _keys(values: pd.Series, where: str, row_numbers) -> tuple[pd.Series, list[str]]:
    """The key column as text that matches the labels of number_ids; rows without a key match nothing."""
    keys = text_of(values).reset_index(drop=True)
    decimal = keys.str.fullmatch(r"[0-9]+\.0+")
    if len(keys) and decimal.any() and keys.str.fullmatch(NUMBER).all():
        keys = keys.str.replace(r"\.0+$", "", regex=True)
    blank = keys.str.strip() == ""
    if not blank.any():
        return keys, []
    rows = rows_where(blank, row_numbers)
    note = f"{where}: column {values.name!r} is blank in {rows}; they describe no item."
    return keys.mask(blank, ""), [note]
