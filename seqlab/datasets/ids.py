"""Numbers the ids of a column 1..N, by their sorted labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqlab.datasets.columns import (
    DECIMAL,
    INTEGER,
    canonical_ids,
    describe_rows,
    factorize,
    fold_ids,
    is_missing_text,
    may_be_bytes,
)
from seqlab.runtime.text import DataError, listed

FRACTION_OR_NEGATIVE = r"-[0-9.]*[1-9][0-9.]*|[+-]?[0-9]+\.[0-9]*[1-9][0-9]*"
SCIENTIFIC = r"[+-]?[0-9]+(?:[.,][0-9]*[eE][+-]?|[eE]\+)[0-9]+"
"""Scientific notation such as 4.00638E+12 of spreadsheets and float columns; 1e3 may be a code and stays text."""
SCIENTIFIC_IDS = (
    "ids in scientific notation, as a spreadsheet writes long numbers",
    "Their last digits are lost: export the source again with this column as text.",
)
NOT_INTEGER = ("ids that are negative or not whole numbers", "Ids must be whole numbers from 0 on, or text.")


def number_ids(values: pd.Series, where: str, row_numbers=None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Number the ids of a column 1..N in the order of their sorted labels (numbers by value, text alphabetically).

    Text that consists of whole numbers without leading zeros only is sorted by value; other text is kept unchanged, so
    007, 7 and 1e3 are three ids. The order is independent of popularity and time; labels 1..N keep their numbers.
    Returns codes (E,) int64, labels (N,) int64 or str, and notes. Raises `DataError` for ids that are missing (words
    such as NA or null included), negative, fractional, in scientific notation, or of mixed types.
    """
    column = values.name
    at = f"{where}: column {column!r}"
    if pd.api.types.is_bool_dtype(values.dtype):
        raise DataError(f"{at} contains booleans, not ids. Name the column that identifies users or items.")
    try:
        codes, unique = factorize(values)
    except TypeError as error:
        raise DataError(f"{at} contains lists or other nested values, not ids. Give one id per row.") from error
    kind = _kind(unique, codes, at, row_numbers)
    labels = pd.Series(unique) if kind == "number" else _as_text(unique, at)
    none = np.zeros(len(labels), bool) if kind == "number" else is_missing_text(labels)
    missing = np.append(none, True)[codes]
    if missing.any():
        why = " (missing values turn whole numbers into 1.0)" if pd.api.types.is_float_dtype(values.dtype) else ""
        words = [repr(word) for word in labels[none] if word.strip()] if none.any() else []
        why += f" ({listed(words)} {'counts' if len(words) == 1 else 'count'} as missing)" if words else ""
        raise DataError(
            f"{at} has no id in {missing.sum():,} of {len(values):,} rows{why}: "
            f"{describe_rows(missing, row_numbers)}. Fill them in{', rename' if words else ''} or drop these rows "
            "(bad='drop' drops and counts them; in a shell: --bad drop)."
        )
    labels, notes = (_number_labels if kind == "number" else _text_labels)(labels, codes, at, row_numbers)
    labels, order = np.unique(labels, return_inverse=True)
    return order.astype(np.int64)[codes] + 1, labels, notes


def wrong_ids(values: pd.Series, missing: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The values that `number_ids` refuses besides missing ones: by reason, (E,) bool. Raises `TypeError` for lists."""
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_complex_dtype(values.dtype):
        return []
    codes, unique = factorize(values.mask(missing))
    if pd.api.types.is_numeric_dtype(getattr(unique, "dtype", None)):
        numbers = pd.to_numeric(pd.Series(unique), errors="coerce").to_numpy(np.float64, na_value=np.nan)
        wrong = ~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (numbers >= 0))
        reasons = [(NOT_INTEGER[0], wrong)]
    else:
        texts = pd.Series(unique, dtype=object).map(str).astype("str")
        rounded = texts.str.fullmatch(SCIENTIFIC).to_numpy(bool)
        plain = texts[~rounded].str.fullmatch(DECIMAL).all()
        fraction = texts.str.fullmatch(FRACTION_OR_NEGATIVE).to_numpy(bool) & ~rounded & bool(plain)
        reasons = [("ids in scientific notation", rounded), (NOT_INTEGER[0], fraction)]
    return [(what, np.append(wrong, False)[codes]) for what, wrong in reasons]


def _as_text(unique, at: str) -> pd.Series:
    """Distinct values as text; bytes are decoded as UTF-8. Raises `DataError`."""
    texts = pd.Series(unique)
    binary = pd.Series(unique, dtype=object).map(lambda one: isinstance(one, bytes)) if may_be_bytes(texts) else None
    try:
        if binary is not None and binary.any():
            return pd.Series([one.decode() for one in unique]).astype("str")
        return (texts.map(str) if texts.dtype == object else texts).astype("str")
    except UnicodeDecodeError as error:
        raise DataError(f"{at} contains bytes that are not UTF-8. Give ids as text or whole numbers.") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{at} contains text with a lone surrogate. Read the source again as UTF-8.") from error


def _kind(unique, codes, at: str, row_numbers) -> str:
    """'number' or 'text'. Raises `DataError` for mixed types in one column, with the rows of the rarest type."""
    dtype = getattr(unique, "dtype", np.dtype(object))
    if pd.api.types.is_numeric_dtype(dtype):
        if pd.api.types.is_complex_dtype(dtype):
            raise DataError(f"{at} contains complex numbers, not ids.")
        return "number"
    if dtype != np.dtype(object):
        return "text"
    number = np.array([isinstance(one, (int, float, np.number)) and not isinstance(one, bool) for one in unique], bool)
    text = np.array([isinstance(one, str) for one in unique], bool)
    types = sorted({type(one).__name__ for one in unique})
    if number.all() and len(unique):
        return "text" if all(isinstance(one, int) for one in unique) else "number"  # text keeps all digits
    if not text.all() and len(types) > 1:
        counts = [(np.isin(codes, np.flatnonzero(group)), group) for group in (number, text, ~number & ~text)]
        rarest = min((mask for mask, group in counts if group.any()), key=np.sum)
        raise DataError(
            f"{at} mixes types ({', '.join(types)}), so 1 and '1' may be one id or two; the rarest type is "
            f"in {describe_rows(rarest, row_numbers)}. Convert the column first, e.g. .astype(str)."
        )
    return "text"


def raise_for(unique: pd.Series, bad: np.ndarray, codes, at: str, row_numbers, what: str, remedy: str) -> None:
    """Raise `DataError` with examples and rows, if any of the distinct values is bad."""
    if bad.any():
        rows = describe_rows(bad[codes], row_numbers)
        raise DataError(f"{at} contains {what} ({listed(unique[bad])}) in {rows}. {remedy}")


def _number_labels(unique: pd.Series, codes, at: str, row_numbers) -> tuple[np.ndarray, list[str]]:
    """Labels of a numeric column: whole numbers from 0 on (as text beyond int64)."""
    if pd.api.types.is_integer_dtype(unique.dtype):
        values = unique.to_numpy()
        raise_for(unique, values < 0, codes, at, row_numbers, *NOT_INTEGER)
        if len(values) and int(values.max()) >= 2**63:
            return unique.map(str).to_numpy(object), []
        return values.astype(np.int64), []
    values = pd.to_numeric(unique, errors="coerce").to_numpy(np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0))
    raise_for(unique, bad, codes, at, row_numbers, *NOT_INTEGER)
    size = getattr(getattr(unique.dtype, "numpy_dtype", unique.dtype), "itemsize", 8)
    exact = {2: 2**11, 4: 2**24}.get(size, 2**53)
    lost = "ids too long for a column of floats, so digits are lost"
    raise_for(unique, values >= exact, codes, at, row_numbers, lost, "Read the column as text or as whole numbers.")
    return values.astype(np.int64), [f"{at} is written with decimals (1.0): read as whole numbers."]


def _text_labels(texts: pd.Series, codes, at: str, row_numbers) -> tuple[np.ndarray, list[str]]:
    """Labels of a text column: whole numbers if every label is one without leading zeros, else unchanged text."""
    rounded = texts.str.fullmatch(SCIENTIFIC).to_numpy(bool)
    raise_for(texts, rounded, codes, at, row_numbers, *SCIENTIFIC_IDS)
    whole = texts.str.fullmatch(INTEGER).to_numpy(bool)
    notes = []
    if len(texts) and not whole.all():
        decimal = texts.str.fullmatch(INTEGER + r"\.0*").to_numpy(bool)
        if (whole | decimal).all():
            notes.append(f"{at} is written with decimals (1.0): read as whole numbers.")
            shorter = texts.str.replace(r"\.0*$", "", regex=True)
            if twice := len(shorter) - shorter.nunique():
                notes.append(f"{at}: {twice:,} ids are written in two ways (7 and 7.0); each is one id.")
            texts, whole = shorter, np.ones(len(texts), bool)
    if len(texts) and whole.all():
        try:
            return texts.astype(np.int64).to_numpy(), notes
        except (OverflowError, ValueError):  # beyond int64
            return texts.to_numpy(object), notes
    plain = texts.str.fullmatch(DECIMAL).to_numpy(bool)
    if plain.all():
        bad = texts.str.fullmatch(FRACTION_OR_NEGATIVE).to_numpy(bool)
        raise_for(texts, bad, codes, at, row_numbers, *NOT_INTEGER)
    elif whole.any():
        notes.append(f"{at} contains numbers and text: all are read as text.")
    if zeros := int(texts.str.fullmatch("0[0-9]+").sum()):
        notes.append(f"{at}: {zeros:,} ids begin with a zero; all are kept as text.")
    return texts.to_numpy(object), notes + _near_copies(texts, at)


def _near_copies(texts: pd.Series, at: str) -> list[str]:
    """A note if ids are distinct but have the same canonical form, whatever their case."""
    canonical = fold_ids(canonical_ids(texts))
    copies = canonical.duplicated()
    if not copies.any():
        return []
    pair = texts[canonical == canonical[copies].iloc[0]].head(2)
    return [
        f"{at}: {copies.sum():,} ids differ from another one only in how they are written, such as "
        f"{' and '.join(ascii(one) for one in pair)}; they stay distinct ids. Clean the column if they are the same; "
        "merge_ids (of read, and of a card) merges those that differ in case and blanks."
    ]
