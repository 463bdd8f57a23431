"""A column of ids as people write them -> the numbers 1..N and their sorted labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqlab.datasets.columns import PLAIN, WHOLE, factorized, is_absent, loosely, may_be_bytes, rows_where
from seqlab.runtime.text import DataError, listed

FRACTION_OR_NEGATIVE = r"-[0-9.]*[1-9][0-9.]*|[+-]?[0-9]+\.[0-9]*[1-9][0-9]*"
ROUNDED = r"[+-]?[0-9]+(?:[.,][0-9]*[eE][+-]?|[eE]\+)[0-9]+"
"""4.00638E+12, as spreadsheets and columns of floats write long numbers; 1e3 alone may be a code, and stays text."""
ROUNDED_IDS = (
    "ids in scientific notation, as a spreadsheet writes long numbers",
    "Their last digits are lost: export the source again with this column as text.",
)
NOT_WHOLE = ("ids that are negative or no whole numbers", "Ids are whole numbers from 0 up, or text.")


def number_ids(values: pd.Series, where: str, row_numbers=None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Number the ids of a column 1..N in the order of their sorted labels (numbers by value, text by letter).

    Text that holds nothing but whole numbers without leading zeros is numbered by value; any other text stays as
    written, character for character, so that 007, 7 and 1e3 are three ids. Sorting tells nothing of popularity or
    time, and labels that are 1..N already keep their numbers.
    Returns codes (E,) int64, labels (N,) int64 or str, and notes. DataError for ids that are missing (also
    by a word such as NA or null), negative, not whole, rounded, or of mixed types.
    """
    column = values.name
    at = f"{where}: column {column!r}"
    if pd.api.types.is_bool_dtype(values.dtype):
        raise DataError(f"{at} holds true/false, not ids; name the column that identifies users or items.")
    try:
        codes, unique = factorized(values)
    except TypeError as error:
        raise DataError(f"{at} holds lists or other nested values, not ids; give one plain id per row.") from error
    kind = _kind(unique, codes, at, row_numbers)
    labels = pd.Series(unique) if kind == "number" else _as_text(unique, at)
    none = np.zeros(len(labels), bool) if kind == "number" else is_absent(labels)
    missing = np.append(none, True)[codes]
    if missing.any():
        why = " (these gaps are why whole numbers show as 1.0)" if pd.api.types.is_float_dtype(values.dtype) else ""
        words = [repr(word) for word in labels[none] if word.strip()] if none.any() else []
        why += f" ({listed(words)} {'stands' if len(words) == 1 else 'stand'} for none)" if words else ""
        raise DataError(
            f"{at} has no id in {missing.sum():,} of {len(values):,} rows{why}: "
            f"{rows_where(missing, row_numbers)}. Fill them in{', rename' if words else ''} or drop these rows "
            "(bad='drop' drops and counts them)."
        )
    labels, notes = (_numbers if kind == "number" else _words)(labels, codes, at, row_numbers)
    labels, order = np.unique(labels, return_inverse=True)
    return order.astype(np.int64)[codes] + 1, labels, notes


def _as_text(unique, at: str) -> pd.Series:
    """Distinct values as text; bytes are read as UTF-8."""
    texts = pd.Series(unique)
    binary = pd.Series(unique, dtype=object).map(lambda one: isinstance(one, bytes)) if may_be_bytes(texts) else None
    try:
        if binary is not None and binary.any():
            return pd.Series([one.decode() for one in unique]).astype("str")
        return (texts.map(str) if texts.dtype == object else texts).astype("str")
    except UnicodeDecodeError as error:
        raise DataError(f"{at} holds bytes that are no UTF-8 text; give ids as text or whole numbers.") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{at} holds text with half a character (a lone surrogate); read the source anew.") from error


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
        return "text" if all(isinstance(one, int) for one in unique) else "number"  # as text no digit is lost
    if not text.all() and len(types) > 1:
        counts = [(np.isin(codes, np.flatnonzero(group)), group) for group in (number, text, ~number & ~text)]
        rarest = min((mask for mask, group in counts if group.any()), key=np.sum)
        raise DataError(
            f"{at} mixes types ({', '.join(types)}), so 1 and '1' may be one id or two; the rarer kind is "
            f"in {rows_where(rarest, row_numbers)}. Convert the column first, e.g. .astype(str)."
        )
    return "text"


def refuse(unique: pd.Series, bad: np.ndarray, codes, at: str, row_numbers, what: str, remedy: str) -> None:
    """DataError with examples and rows, if any of the distinct values is bad."""
    if bad.any():
        rows = rows_where(bad[codes], row_numbers)
        raise DataError(f"{at} holds {what} ({listed(unique[bad])}) in {rows}. {remedy}")


def _numbers(unique: pd.Series, codes, at: str, row_numbers) -> tuple[np.ndarray, list[str]]:
    """Labels of a numeric column: whole numbers from 0 up (above 64 bits as text)."""
    if pd.api.types.is_integer_dtype(unique.dtype):
        values = unique.to_numpy()
        refuse(unique, values < 0, codes, at, row_numbers, *NOT_WHOLE)
        if len(values) and int(values.max()) >= 2**63:
            return unique.map(str).to_numpy(object), []
        return values.astype(np.int64), []
    values = pd.to_numeric(unique, errors="coerce").to_numpy(np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0))
    refuse(unique, bad, codes, at, row_numbers, *NOT_WHOLE)
    size = getattr(getattr(unique.dtype, "numpy_dtype", unique.dtype), "itemsize", 8)
    exact = {2: 2**11, 4: 2**24}.get(size, 2**53)
    lost = "ids too long for a column of decimal numbers, so that digits are lost"
    refuse(unique, values >= exact, codes, at, row_numbers, lost, "Read the column as text or as whole numbers.")
    return values.astype(np.int64), [f"{at} is written with decimals (1.0): read as whole numbers."]


def _words(texts: pd.Series, codes, at: str, row_numbers) -> tuple[np.ndarray, list[str]]:
    """Labels of a text column: whole numbers where every label is one in its plainest form, else text as written."""
    rounded = texts.str.fullmatch(ROUNDED).to_numpy(bool)
    refuse(texts, rounded, codes, at, row_numbers, *ROUNDED_IDS)
    whole = texts.str.fullmatch(WHOLE).to_numpy(bool)
    notes = []
    if len(texts) and not whole.all():
        decimal = texts.str.fullmatch(WHOLE + r"\.0*").to_numpy(bool)
        if (whole | decimal).all():
            notes.append(f"{at} is written with decimals (1.0): read as whole numbers.")
            shorter = texts.str.replace(r"\.0*$", "", regex=True)
            if twice := len(shorter) - shorter.nunique():
                notes.append(f"{at}: {twice:,} ids are written in two ways (7 and 7.0); each is one id.")
            texts, whole = shorter, np.ones(len(texts), bool)
    if len(texts) and whole.all():
        try:
            return texts.astype(np.int64).to_numpy(), notes
        except (OverflowError, ValueError):  # longer than 64 bits
            return texts.to_numpy(object), notes
    plain = texts.str.fullmatch(PLAIN).to_numpy(bool)
    if plain.all():
        bad = texts.str.fullmatch(FRACTION_OR_NEGATIVE).to_numpy(bool)
        refuse(texts, bad, codes, at, row_numbers, *NOT_WHOLE)
    elif whole.any():
        notes.append(f"{at} holds both numbers and text: all read as text.")
    if zeros := int(texts.str.fullmatch("0[0-9]+").sum()):
        notes.append(f"{at}: {zeros:,} ids begin with a zero; all are kept as text, as written.")
    return texts.to_numpy(object), notes + _near_copies(texts, at)


def _near_copies(texts: pd.Series, at: str) -> list[str]:
    """A note if ids differ only in how they are written: they are kept apart."""
    loose = loosely(texts)
    copies = loose.duplicated()
    if not copies.any():
        return []
    pair = texts[loose == loose[copies].iloc[0]].head(2)
    return [
        f"{at}: {copies.sum():,} ids differ from another one only in how they are written, such as "
        f"{' and '.join(ascii(one) for one in pair)}; each is an id of its own. Clean the column if they are one."
    ]
