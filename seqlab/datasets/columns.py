"""A column as people have it: found by its name, its rows numbered as in the source, its cells as text."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

import numpy as np
import pandas as pd

from seqlab.runtime.text import DataError, did_you_mean, listed

WHOLE = r"(?:0|[1-9][0-9]*)"
PLAIN = r"[+-]?[0-9]+(?:\.[0-9]*)?"
NUMBER = rf"(?:{PLAIN}|[+-]?\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
EXPONENT = r"[0-9]+[eE][0-9]{1,2}"
TYPED = r"[!-~]+(?: [!-~]+)*"
"""Text in which nothing can hide: no blanks at its ends, no invisible or composed characters."""
ABSENT = frozenset({
    "", "na", "n/a", "#n/a", "#na", "#n/a n/a", "n.a.", "none", "null", "nan", "-nan", "<na>", "\\n", "-", "--",
    "–", "—", "?", "undefined", "missing", "(null)", "[null]", "(none)", "(blank)", "#null!", "#ref!", "#value!",
    "#name?", "#num!", "#div/0!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
})  # fmt: skip
"""What databases, spreadsheets and scripts write for "no value"; compared without case and outer blanks."""
NO_TEXT = ("", "nan", "NaN", "NULL", "null", "<NA>")
"""What means "no text" in words that people read. NA and None may be words there."""
_UNSEEN = re.compile("[\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def rows_where(mask, row_numbers) -> str:
    """'row 7' or 'rows 2, 5, 9 and 14 more': the rows a boolean mask picks, numbered as in the source."""
    at = np.flatnonzero(np.asarray(mask))
    numbers = at if row_numbers is None else np.asarray(row_numbers)[at]
    counted = "" if row_numbers is not None else " (counting from 0)"
    return f"row{'s' if len(at) != 1 else ''} {listed(numbers)}{counted}"


def select_column(frame: pd.DataFrame, column, where: str) -> pd.Series:
    """The one column of that name; DataError (with the names there are) for none or more than one."""
    found = [name for name in frame.columns if name == column]
    if not found:
        names = listed([repr(str(name)) for name in frame.columns], 30) or "none"
        raise DataError(
            f"{where}: there is no column {column!r}. Its columns: {names}." + did_you_mean(column, frame.columns)
        )
    if len(found) > 1:
        raise DataError(f"{where}: {len(found)} columns are called {column!r}; rename all but one.")
    return frame[column]


def as_seen(text: str) -> str:
    """A text by what it shows: single spaces, none outside, accents composed, no invisible characters."""
    return unicodedata.normalize("NFC", _SPACES.sub(" ", _UNSEEN.sub("", text))).strip()


def loosely(texts: pd.Series) -> pd.Series:
    """Text without what often differs by accident: outer and invisible characters, forms of accents, of numbers."""
    odd = ~texts.str.fullmatch(TYPED).to_numpy(bool)
    if odd.any():
        texts = texts.mask(odd, texts[odd].map(as_seen))
    plain = texts.str.fullmatch(PLAIN).to_numpy(bool)
    if plain.any():
        shorter = texts[plain].str.replace(r"^\+?0*([0-9])", r"\1", regex=True)
        texts = texts.mask(plain, shorter.str.replace(r"\.0*$", "", regex=True))
    exponent = texts.str.fullmatch(EXPONENT).to_numpy(bool)
    if exponent.any() and plain.any():
        texts = texts.mask(exponent, texts[exponent].map(lambda one: format(Decimal(one), "f")))
    return texts


def absent(values: pd.Series, also: tuple[str, ...] = ()) -> np.ndarray:
    """(E,) bool: the value is missing, or a word that stands for a missing one (`ABSENT` and `also`)."""
    try:
        codes, unique = factorized(values)
    except TypeError:
        return values.isna().to_numpy(bool)
    if pd.api.types.is_numeric_dtype(getattr(unique, "dtype", None)):
        return codes < 0
    return np.append(is_absent(pd.Series(unique, dtype=object).map(str), also), True)[codes]


def factorized(values: pd.Series):
    """Codes (E,) int64 (-1 = missing) and the distinct values; TypeError for what has no hash."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return pd.factorize(values)
    if not np.bincount(values.cat.codes + 1, minlength=len(values.cat.categories) + 1)[1:].all():
        values = values.cat.remove_unused_categories()
    return values.cat.codes.to_numpy(np.int64), values.cat.categories


def is_absent(texts: pd.Series, also: tuple[str, ...] = ()) -> np.ndarray:
    """(E,) bool: the text is blank, or a word that stands for a missing value (`ABSENT` and `also`)."""
    return texts.str.strip().str.lower().isin(ABSENT.union(also)).to_numpy(bool)


def text_of(values: pd.Series) -> pd.Series:
    """Any column as text: '' for missing, 1995 for 1995.0, bytes as UTF-8, the rest as Python prints it.

    A word such as NULL that several rows have means "missing"; one row alone may be called that.
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
    return text.mask(text.isin(NO_TEXT) & text.duplicated(keep=False), "")


def may_be_bytes(values: pd.Series) -> bool:
    """Whether a column of this type can hold bytes."""
    return values.dtype == object or str(values.dtype) in ("binary[pyarrow]", "large_binary[pyarrow]")


def _decoded(value):
    """Bytes as text, if they are UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
