"""Columns of a table: selection by name, missing values, conversion to text, and row numbers for messages."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

import numpy as np
import pandas as pd

from seqlab.runtime.text import DataError, did_you_mean, listed

INTEGER = r"(?:0|[1-9][0-9]*)"
DECIMAL = r"[+-]?[0-9]+(?:\.[0-9]*)?"
NUMBER = rf"(?:{DECIMAL}|[+-]?\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
EXPONENT = r"[0-9]+[eE][0-9]{1,2}"
CODES = r"[+-]?(?:0[0-9].*|[0-9]{16,})"
"""Numbers that are rather codes: with leading zeros, or too long for float64."""
PLAIN_TEXT = r"[!-~]+(?: [!-~]+)*"
"""Printable ASCII with single inner spaces, which `normalize_text` does not change."""
MISSING = frozenset({
    "", "na", "n/a", "#n/a", "#na", "#n/a n/a", "n.a.", "none", "null", "nan", "-nan", "<na>", "\\n", "-", "--",
    "–", "—", "?", "undefined", "missing", "(null)", "[null]", "(none)", "(blank)", "#null!", "#ref!", "#value!",
    "#name?", "#num!", "#div/0!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
})  # fmt: skip
"""What databases, spreadsheets and scripts write for a missing value; compared without case and outer blanks."""
MISSING_TEXT = ("", "nan", "NaN", "NULL", "null", "<NA>")
"""What means a missing value in a column of text. NA and None may be words there."""
_INVISIBLE = re.compile("[\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def describe_rows(mask, row_numbers) -> str:
    """The rows of a boolean mask, for a message: 'row 7' or 'rows 2, 5, 9 and 14 more', numbered as in the source."""
    at = np.flatnonzero(np.asarray(mask))
    numbers = at if row_numbers is None else np.asarray(row_numbers)[at]
    counted = "" if row_numbers is not None else " (counting from 0)"
    return f"row{'s' if len(at) != 1 else ''} {listed(numbers)}{counted}"


def select_column(frame: pd.DataFrame, column, where: str) -> pd.Series:
    """The column of that name. Raises `DataError`, with the existing names, if there is none or more than one."""
    count = sum(name == column for name in frame.columns)
    if not count:
        names = listed([repr(str(name)) for name in frame.columns], 30) or "none"
        raise DataError(
            f"{where}: there is no column {column!r}. Its columns: {names}." + did_you_mean(column, frame.columns)
        )
    if count > 1:
        raise DataError(f"{where}: {count} columns are called {column!r}; rename all but one.")
    return frame[column]


def normalize_text(text: str) -> str:
    """The visible form of a text: stripped, single spaces, composed accents (NFC), no invisible characters."""
    return unicodedata.normalize("NFC", _SPACES.sub(" ", _INVISIBLE.sub("", text))).strip()


def canonical_ids(texts: pd.Series) -> pd.Series:
    """Texts in a canonical form: `normalize_text`, and numbers without leading zeros, trailing zeros and exponents."""
    odd = ~texts.str.fullmatch(PLAIN_TEXT).to_numpy(bool)
    if odd.any():
        texts = texts.mask(odd, texts[odd].map(normalize_text))
    plain = texts.str.fullmatch(DECIMAL).to_numpy(bool)
    if plain.any():
        shorter = texts[plain].str.replace(r"^\+?0*([0-9])", r"\1", regex=True)
        texts = texts.mask(plain, shorter.str.replace(r"\.0*$", "", regex=True))
    exponent = texts.str.fullmatch(EXPONENT).to_numpy(bool)
    if exponent.any() and plain.any():
        texts = texts.mask(exponent, texts[exponent].map(lambda one: format(Decimal(one), "f")))
    return texts


def fold_ids(texts: pd.Series) -> pd.Series:
    """Texts without differences in case, blanks, invisible characters and composition of accents."""
    odd = ~texts.str.fullmatch(PLAIN_TEXT).to_numpy(bool)
    if odd.any():
        texts = texts.mask(odd, texts[odd].map(normalize_text))
    return texts.str.casefold()


def is_missing(values: pd.Series, also: tuple[str, ...] = ()) -> np.ndarray:
    """(E,) bool: whether each value is missing, or is a word for a missing value (`MISSING` and `also`)."""
    try:
        codes, unique = factorize(values)
    except TypeError:
        return values.isna().to_numpy(bool)
    if pd.api.types.is_numeric_dtype(getattr(unique, "dtype", None)):
        return codes < 0
    return np.append(is_missing_text(pd.Series(unique, dtype=object).map(str), also), True)[codes]


def factorize(values: pd.Series):
    """`pandas.factorize`, faster for categoricals: codes (E,) int64 (-1 = missing) and the distinct values.

    Raises `TypeError` for unhashable values.
    """
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return pd.factorize(values)
    if not np.bincount(values.cat.codes + 1, minlength=len(values.cat.categories) + 1)[1:].all():
        values = values.cat.remove_unused_categories()
    return values.cat.codes.to_numpy(np.int64), values.cat.categories


def is_missing_text(texts: pd.Series, also: tuple[str, ...] = ()) -> np.ndarray:
    """(E,) bool: whether each text is blank or a word for a missing value (`MISSING` and `also`)."""
    return texts.str.strip().str.lower().isin(MISSING.union(also)).to_numpy(bool)


def numbers_of(texts: pd.Series) -> np.ndarray | None:
    """Texts as float64, NaN for missing ones; None if not all others are numbers, or if any looks like a code.

    Codes have leading zeros (01234) or 16 digits and more, of which float64 loses some.
    """
    missing = is_missing_text(texts)
    known = texts[~missing]
    if not len(known) or not known.str.fullmatch(NUMBER).all():
        return None
    if known.str.fullmatch(CODES).any():
        return None
    numbers = np.full(len(texts), np.nan)
    numbers[~missing] = known.astype("float64")
    return numbers


def finite_numbers(column: pd.Series, where: str, row_numbers=None, remedy: str = "") -> np.ndarray:
    """A column as float64. Raises `DataError`, with the rows and the remedy, for values that are no finite numbers."""
    if pd.api.types.is_complex_dtype(column.dtype) or pd.api.types.is_datetime64_any_dtype(column.dtype):
        raise DataError(f"{where}: column {column.name!r} has {column.dtype} values, not numbers.")
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if (wrong := ~np.isfinite(numbers)).any():
        rows = describe_rows(wrong, row_numbers)
        raise DataError(f"{where}: column {column.name!r} has no number in {rows}.{remedy and f' {remedy}'}")
    return numbers


def to_text(values: pd.Series) -> pd.Series:
    """Any column as text: '' for missing values, 1995 for 1995.0, bytes decoded as UTF-8, other values by `str`.

    A word of `MISSING_TEXT` means a missing value if it occurs more than once; a single one may be a real title.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    blank = values.isna().to_numpy(bool)
    if pd.api.types.is_float_dtype(values.dtype):
        numbers = values.to_numpy(np.float64, na_value=np.nan)[~blank]
        if np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all() and (np.abs(numbers) < 2**53).all():
            text = pd.Series("", index=values.index, dtype=object)
            text[~blank] = numbers.astype(np.int64).astype(str)
            return text.astype("str")
    if may_be_bytes(values):
        values = values.astype(object).map(_decoded)
    text = values.astype(object).mask(blank, "").map(str).astype("str")
    return text.mask(text.isin(MISSING_TEXT) & text.duplicated(keep=False), "")


def may_be_bytes(values: pd.Series) -> bool:
    """Whether the dtype of a column allows bytes."""
    return values.dtype == object or str(values.dtype) in ("binary[pyarrow]", "large_binary[pyarrow]")


def _decoded(value):
    """Bytes as text, if they are UTF-8; any other value unchanged."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
