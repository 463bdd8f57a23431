"""Columns as people have them -> columns as the lab needs them: ids 1..N, unix seconds, text."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

import numpy as np
import pandas as pd

from seqlab.runtime.text import DataError, listed, nearest

WHOLE = r"(?:0|[1-9][0-9]*)"
PLAIN = r"[+-]?[0-9]+(?:\.[0-9]*)?"
FRACTION_OR_NEGATIVE = r"-[0-9.]*[1-9][0-9.]*|[+-]?[0-9]+\.[0-9]*[1-9][0-9]*"
ROUNDED = r"[+-]?[0-9]+(?:[.,][0-9]*[eE][+-]?|[eE]\+)[0-9]+"
"""4.00638E+12, as spreadsheets and columns of floats write long numbers; 1e3 alone may be a code, and stays text."""
ROUNDED_IDS = (
    "ids in scientific notation, as a spreadsheet writes long numbers",
    "Their last digits are lost: export the source again with this column as text.",
)
NOT_WHOLE = ("ids that are negative or no whole numbers", "Ids are whole numbers from 0 up, or text.")
EXPONENT = r"[0-9]+[eE][0-9]{1,2}"
TYPED = r"[!-~]+(?: [!-~]+)*"
"""Text in which nothing can hide: no blanks at its ends, no invisible or composed characters."""
ABSENT = frozenset({
    "", "na", "n/a", "#n/a", "#na", "#n/a n/a", "n.a.", "none", "null", "nan", "-nan", "<na>", "\\n", "-", "--",
    "–", "—", "?", "undefined", "missing", "(null)", "[null]", "(none)", "(blank)", "#null!", "#ref!", "#value!",
    "#name?", "#num!", "#div/0!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
})  # fmt: skip
"""What databases, spreadsheets and scripts write for "no value"; compared without case and outer blanks."""
NO_TIME = ("nat",)
NO_TEXT = ("", "nan", "NaN", "NULL", "null", "<NA>")
"""What means "no text" in words that people read. NA and None may be words there."""
GUESSES = {  # compared without case and punctuation, the likeliest first
    "user": "user userid uid customer customerid householdid visitor visitorid reviewer reviewerid member "
    "memberid account accountid client clientid username sessionid",
    "item": "item itemid iid product productid sku asin parentasin movie movieid article articleid track "
    "trackid song songid book bookid isbn contentid businessid stockcode",
    "time": "timestamp time datetime date when ts unixtime unixtimestamp unixreviewtime eventtime eventdate createdat "
    "ratedat tdat transactiontimestamp invoicedate purchasedate orderdate timestampms timems",
    "title": "title name itemtitle itemname producttitle productname movietitle description text",
}
UNITS = (
    ("seconds", 1e11, 1.0),
    ("milliseconds", 1e14, 1e3),
    ("microseconds", 1e17, 1e6),
    ("nanoseconds", np.inf, 1e9),
)
YEAR_2200 = 7_258_118_400
CALENDAR_DIGITS = (8, 10, 12, 14, 17)
"""Lengths of a date written as one number: YYYYMMDD, then HH, MM, SS and milliseconds."""
SPREADSHEET_DAYS = (32_874, 58_440)
"""1990 to 2060 in days since 1899-12-30, as spreadsheets count."""
UNIX_EPOCH_DAY = 25_569

_UNSEEN = re.compile("[\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def rows_where(mask, row_numbers) -> str:
    """'row 7' or 'rows 2, 5, 9 and 14 more': the rows a boolean mask picks, numbered as in the source."""
    at = np.flatnonzero(np.asarray(mask))
    numbers = at if row_numbers is None else np.asarray(row_numbers)[at]
    counted = "" if row_numbers is not None else " (counting from 0)"
    return f"row{'s' if len(at) != 1 else ''} {listed(numbers)}{counted}"


def guess(columns, role: str):
    """The first of the names of columns that says it holds users, items, times or titles (`GUESSES`), or None."""
    plain: dict = {}
    for column in columns:
        typeless = re.sub(r":(token|float)(_seq)?$", "", str(column))  # as RecBole writes its columns
        plain.setdefault(re.sub(r"[^a-z0-9]", "", typeless.lower()), column)
    return next((plain[word] for word in GUESSES[role].split() if word in plain), None)


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


def as_seen(text: str) -> str:
    """A text by what it shows: single spaces, none outside, accents composed, no invisible characters."""
    return unicodedata.normalize("NFC", _SPACES.sub(" ", _UNSEEN.sub("", text))).strip()


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
        codes, unique = _factorized(values)
    except TypeError as error:
        raise DataError(f"{at} holds lists or other nested values, not ids; give one plain id per row.") from error
    kind = _kind(unique, codes, at, row_numbers)
    labels = pd.Series(unique) if kind == "number" else _as_text(unique, at)
    none = np.zeros(len(labels), bool) if kind == "number" else _is_absent(labels)
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


def absent(values: pd.Series, also: tuple[str, ...] = ()) -> np.ndarray:
    """(E,) bool: the value is missing, or a word that stands for a missing one (`ABSENT` and `also`)."""
    try:
        codes, unique = _factorized(values)
    except TypeError:
        return values.isna().to_numpy(bool)
    if pd.api.types.is_numeric_dtype(getattr(unique, "dtype", None)):
        return codes < 0
    return np.append(_is_absent(pd.Series(unique, dtype=object).map(str), also), True)[codes]


def _factorized(values: pd.Series):
    """Codes (E,) int64 (-1 = missing) and the distinct values; TypeError for what has no hash."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return pd.factorize(values)
    if not np.bincount(values.cat.codes + 1, minlength=len(values.cat.categories) + 1)[1:].all():
        values = values.cat.remove_unused_categories()
    return values.cat.codes.to_numpy(np.int64), values.cat.categories


def _is_absent(texts: pd.Series, also: tuple[str, ...] = ()) -> np.ndarray:
    return texts.str.strip().str.lower().isin(ABSENT.union(also)).to_numpy(bool)


def _as_text(unique, at: str) -> pd.Series:
    """Distinct values as text; bytes are read as UTF-8."""
    texts = pd.Series(unique)
    binary = pd.Series(unique, dtype=object).map(lambda one: isinstance(one, bytes)) if _may_be_bytes(texts) else None
    try:
        if binary is not None and binary.any():
            return pd.Series([one.decode() for one in unique]).astype("str")
        return (texts.map(str) if texts.dtype == object else texts).astype("str")
    except UnicodeDecodeError as error:
        raise DataError(f"{at} holds bytes that are no UTF-8 text; give ids as text or whole numbers.") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{at} holds text with half a character (a lone surrogate); read the source anew.") from error


def _may_be_bytes(values: pd.Series) -> bool:
    return values.dtype == object or str(values.dtype) in ("binary[pyarrow]", "large_binary[pyarrow]")


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


def _refuse(unique: pd.Series, bad: np.ndarray, codes, at: str, row_numbers, what: str, remedy: str) -> None:
    """DataError with examples and rows, if any of the distinct values is bad."""
    if bad.any():
        rows = rows_where(bad[codes], row_numbers)
        raise DataError(f"{at} holds {what} ({listed(unique[bad])}) in {rows}. {remedy}")


def _numbers(unique: pd.Series, codes, at: str, row_numbers) -> tuple[np.ndarray, list[str]]:
    """Labels of a numeric column: whole numbers from 0 up (above 64 bits as text)."""
    if pd.api.types.is_integer_dtype(unique.dtype):
        values = unique.to_numpy()
        _refuse(unique, values < 0, codes, at, row_numbers, *NOT_WHOLE)
        if len(values) and int(values.max()) >= 2**63:
            return unique.map(str).to_numpy(object), []
        return values.astype(np.int64), []
    values = pd.to_numeric(unique, errors="coerce").to_numpy(np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(values) & (values == np.floor(values)) & (values >= 0))
    _refuse(unique, bad, codes, at, row_numbers, *NOT_WHOLE)
    size = getattr(getattr(unique.dtype, "numpy_dtype", unique.dtype), "itemsize", 8)
    exact = {2: 2**11, 4: 2**24}.get(size, 2**53)
    lost = "ids too long for a column of decimal numbers, so that digits are lost"
    _refuse(unique, values >= exact, codes, at, row_numbers, lost, "Read the column as text or as whole numbers.")
    return values.astype(np.int64), [f"{at} is written with decimals (1.0): read as whole numbers."]


def _words(texts: pd.Series, codes, at: str, row_numbers) -> tuple[np.ndarray, list[str]]:
    """Labels of a text column: whole numbers where every label is one in its plainest form, else text as written."""
    rounded = texts.str.fullmatch(ROUNDED).to_numpy(bool)
    _refuse(texts, rounded, codes, at, row_numbers, *ROUNDED_IDS)
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
        _refuse(texts, bad, codes, at, row_numbers, *NOT_WHOLE)
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


def seconds(values: pd.Series, where: str, row_numbers=None, may_be_missing: bool = False):
    """Timestamps as unix seconds (E,) float64 (NaN = unknown) and notes on the unit or the format detected.

    Takes whole or decimal numbers in s, ms, µs or ns, dates as one number (20240531180000), a spreadsheet's days
    (44592.5), ISO 8601 text (UTC may stand after it), and datetimes (without a zone: UTC).
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
        times, notes = _from_numbers(values, at)
    else:
        text = values.map(str) if values.dtype == object else values.astype("str")
        blank = blank | absent(text, NO_TIME)
        numbers = pd.to_numeric(text.mask(blank), errors="coerce")
        if numbers.notna().sum() * 2 > (~blank).sum():
            times, notes = _from_numbers(numbers, at)
        else:
            times, notes = _from_iso(text.mask(blank), at)
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
            f"{rows_where(blank, row_numbers)}. Fill them in, drop these rows (bad='drop' drops and counts them), or "
            "pass order='source' if each user's rows are already oldest first."
        )
    if blank.any():
        notes = ([] if blank.all() else notes) + [
            f"{at}: {blank.sum():,} events have no timestamp; they keep their place."
        ]
    return times, notes


def _from_datetimes(values: pd.Series) -> np.ndarray:
    if isinstance(values.dtype, pd.ArrowDtype):
        zone = getattr(values.dtype.pyarrow_dtype, "tz", None)
        values = values.astype("datetime64[us, UTC]" if zone else "datetime64[us]")
    if getattr(values.dtype, "tz", None) is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    stamps = values.to_numpy().astype("datetime64[us]")
    times = stamps.astype(np.int64) / 1e6
    times[np.isnat(stamps)] = np.nan
    return times


def _from_iso(text: pd.Series, at: str) -> tuple[np.ndarray, list[str]]:
    """ISO 8601 text (NaN = cannot be read); "UTC" and "GMT" after it mean what Z means."""
    named = text.str.strip().str.upper().str.endswith(("UTC", "GMT")).fillna(False).to_numpy(bool)
    if named.any():
        text = text.mask(named, text[named].str.replace(r"\s*(?:[+-]00:?00\s*)?[A-Za-z]{3}\s*$", "Z", regex=True))
    dates = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    return _from_datetimes(dates), [f"{at}: ISO 8601 text, read as UTC unless it names a zone."]


def _from_numbers(values: pd.Series, at: str) -> tuple[np.ndarray, list[str]]:
    """Numbers as dates, as a spreadsheet's days or as time since 1970, by what nearly all of them can be."""
    times = values.to_numpy(np.float64, na_value=np.nan)
    known = times[np.isfinite(times)]
    if not len(known):
        return times, []
    some = known[:: max(1, len(known) // 100_000)]
    digits = len(str(int(min(np.abs(np.median(some)), 1e18))))
    if digits in CALENDAR_DIGITS and np.isfinite(_from_calendar(some, digits)).mean() > 0.5:
        exact = values.to_numpy() if isinstance(values.dtype, np.dtype) and values.dtype.kind == "i" else times
        form = "YYYYMMDDHHMMSSmmm"[:digits]
        return _from_calendar(exact, digits), [f"{at}: dates written as one number ({form}), read as UTC."]
    low, high = SPREADSHEET_DAYS
    days = low <= known.min() and known.max() <= high
    date = pd.Timestamp("1899-12-30") + pd.Timedelta(days=known[0] if days else 0)
    shown = f"{known[0]:.10g} is {date:%Y-%m-%d %H:%M}"
    if days and (known != np.floor(known)).any():
        return np.round((times - UNIX_EPOCH_DAY) * 86_400, 3), [
            f"{at}: decimal numbers, read as a spreadsheet's days since 1899-12-30 ({shown}). If they are something "
            "else, count from 0."
        ]
    times, notes = _unit(times, at)
    if days:
        notes = [f"{notes[0]} If they are a spreadsheet's days ({shown}), write them as dates."]
    return times, notes


def _from_calendar(numbers: np.ndarray, digits: int) -> np.ndarray:
    """Unix seconds (E,) float64 of dates as numbers of that many digits; NaN for what is no date."""
    whole = np.isfinite(numbers) & (np.abs(numbers) < 1e18) & (numbers == np.floor(numbers))
    numbers = np.where(whole, numbers, 0).astype(np.int64)
    scale = 10 ** (digits - 8)
    date, clock = numbers // scale, numbers % scale * 10 ** (17 - digits)  # HHMMSSmmm
    year, month, day = date // 10_000, date // 100 % 100, date % 100
    hour, minute, second, milli = clock // 10**7, clock // 10**5 % 100, clock // 1000 % 100, clock % 1000
    first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = first.astype("datetime64[D]") + (day - 1)
    good = (year >= 1900) & (year <= 2100) & (month >= 1) & (month <= 12) & (day >= 1)
    good &= (days.astype("datetime64[M]") == first) & (hour < 24) & (minute < 60) & (second < 60)
    times = days.astype(np.int64) * 86_400 + hour * 3600 + minute * 60 + second + milli / 1000
    return np.where(good, times, np.nan)


def _unit(times: np.ndarray, at: str) -> tuple[np.ndarray, list[str]]:
    """The unit of numeric stamps by their size: seconds stay below 1e11 until the year 5138."""
    size = np.abs(times[np.isfinite(times)])
    name, _, divisor = next(unit for unit in UNITS if np.median(size) < unit[1])
    present = {
        unit[0]
        for low, unit in zip((1e8, 1e11, 1e14, 1e17), UNITS, strict=True)
        if ((size >= low) & (size < unit[1])).any()
    }
    if len(present) > 1:
        raise DataError(f"{at} mixes timestamps in {' and '.join(sorted(present))}; convert them to one unit.")
    if (median := np.median(size) / divisor) > YEAR_2200:
        raise DataError(
            f"{at} holds numbers such as {times[np.isfinite(times)][0]:.17g}, which as {name} since 1970 are the year "
            f"{1970 + int(median / 31_556_952)}. Write the times as ISO 8601 (2024-05-31 18:00:00) or unix seconds."
        )
    notes = [f"{at}: numbers, read as {name} since 1970."]
    if size.max() < 1e8:
        notes = [f"{at}: small numbers, kept as seconds; only their order and gaps mean something."]
    return times / divisor, notes


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
    if _may_be_bytes(values):
        values = values.astype(object).map(_decoded)
    text = values.astype(object).mask(blank, "").map(str).astype("str")
    return text.mask(text.isin(NO_TEXT) & text.duplicated(keep=False), "")


def _decoded(value):
    """Bytes as text, if they are UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


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
            table[kept] = pd.Series(aligned(pick(items, column, where)), index=table.index, dtype="str")
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
    _refuse(keys, rounded, np.arange(len(keys)), column, row_numbers, *ROUNDED_IDS)
    blank = absent(keys)
    if not blank.all() and keys[~blank].str.fullmatch(WHOLE + r"(?:\.0*)?").all():
        keys = keys.str.replace(r"\.0*$", "", regex=True)
    if not blank.any():
        return keys, []
    rows = rows_where(blank, row_numbers)
    note = f"{column} names no item in {rows}; they describe none."
    return keys.mask(blank, ""), [note]
