"""Converts a column of timestamps in any common format to unix seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from seqlab.datasets.columns import describe_rows, is_missing
from seqlab.runtime.text import DataError, listed

MISSING_TIME = ("nat",)
UNITS = (
    ("seconds", 1e11, 1.0),
    ("milliseconds", 1e14, 1e3),
    ("microseconds", 1e17, 1e6),
    ("nanoseconds", np.inf, 1e9),
)
YEAR_2200 = 7_258_118_400
CALENDAR_DIGITS = (8, 10, 12, 14, 17)
"""Numbers of digits of a date written as one number: YYYYMMDD, then HH, MM, SS and milliseconds."""
SPREADSHEET_DAYS = (32_874, 58_440)
"""1990 to 2060 as spreadsheet dates, in days since 1899-12-30."""
UNIX_EPOCH_DAY = 25_569


def unix_seconds(values: pd.Series, where: str, row_numbers=None, may_be_missing: bool = False):
    """Timestamps as unix seconds (E,) float64 (NaN = unknown), and notes on the detected unit or format.

    Accepts numbers in s, ms, µs or ns, dates as one number (20240531180000), spreadsheet dates (44592.5), ISO 8601 text
    (optionally followed by UTC), and datetimes; without a time zone they are UTC.
    Raises `DataError` for unreadable values, mixed units, and missing values (unless `may_be_missing`).
    """
    at = f"{where}: column {values.name!r}"
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_complex_dtype(values.dtype):
        raise DataError(f"{at} does not contain timestamps. Name the column of times.")
    blank = values.isna().to_numpy(bool)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        times, notes = _from_datetimes(values), [f"{at}: datetimes, read as UTC unless they have a time zone."]
    elif pd.api.types.is_numeric_dtype(values.dtype):
        times, notes = _from_numbers(values, at)
    else:
        text = values.map(str) if values.dtype == object else values.astype("str")
        blank = blank | is_missing(text, MISSING_TIME)
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
            f"{describe_rows(bad, row_numbers)}. Use unix seconds or ISO 8601 (2024-05-31 18:00:00)."
        )
    times = np.where(blank, np.nan, times)
    if blank.any() and not may_be_missing:
        raise DataError(
            f"{at} has no timestamp in {blank.sum():,} of {len(values):,} rows: "
            f"{describe_rows(blank, row_numbers)}. Fill them in, drop these rows (bad='drop' drops and counts them), "
            "or pass order='source' if each user's rows are already oldest first."
        )
    if blank.any():
        notes = ([] if blank.all() else notes) + [
            f"{at}: {blank.sum():,} events have no timestamp; they keep their position."
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
    """Unix seconds of ISO 8601 text (NaN = unreadable); "UTC" and "GMT" after it are read as Z."""
    named = text.str.strip().str.upper().str.endswith(("UTC", "GMT")).fillna(False).to_numpy(bool)
    if named.any():
        text = text.mask(named, text[named].str.replace(r"\s*(?:[+-]00:?00\s*)?[A-Za-z]{3}\s*$", "Z", regex=True))
    dates = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    return _from_datetimes(dates), [f"{at}: ISO 8601 text, read as UTC unless it has a time zone."]


def _from_numbers(values: pd.Series, at: str) -> tuple[np.ndarray, list[str]]:
    """Unix seconds of numbers, read as dates, spreadsheet dates or time since 1970, whichever fits most of them."""
    times = values.to_numpy(np.float64, na_value=np.nan)
    known = times[np.isfinite(times)]
    if not len(known):
        return times, []
    sample = known[:: max(1, len(known) // 100_000)]
    digits = len(str(int(min(np.abs(np.median(sample)), 1e18))))
    if digits in CALENDAR_DIGITS and np.isfinite(_from_calendar(sample, digits)).mean() > 0.5:
        exact = values.to_numpy() if isinstance(values.dtype, np.dtype) and values.dtype.kind == "i" else times
        form = "YYYYMMDDHHMMSSmmm"[:digits]
        return _from_calendar(exact, digits), [f"{at}: dates written as one number ({form}), read as UTC."]
    low, high = SPREADSHEET_DAYS
    days = low <= known.min() and known.max() <= high
    date = pd.Timestamp("1899-12-30") + pd.Timedelta(days=known[0] if days else 0)
    shown = f"{known[0]:.10g} is {date:%Y-%m-%d %H:%M}"
    if days and (known != np.floor(known)).any():
        return np.round((times - UNIX_EPOCH_DAY) * 86_400, 3), [
            f"{at}: decimal numbers, read as spreadsheet dates, in days since 1899-12-30 ({shown}). If they are "
            "counters, start them at 0."
        ]
    times, notes = _unit(times, at)
    if days:
        notes = [f"{notes[0]} If they are spreadsheet dates ({shown}), write them as ISO 8601."]
    return times, notes


def _from_calendar(numbers: np.ndarray, digits: int) -> np.ndarray:
    """Unix seconds (E,) float64 of dates written as numbers with that many digits; NaN for other numbers."""
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
    """Convert numbers to seconds, with the unit detected by their size (seconds are below 1e11 until the year 5138)."""
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
            f"{at} contains numbers such as {times[np.isfinite(times)][0]:.17g}, which would be the year "
            f"{1970 + int(median / 31_556_952)} as {name} since 1970. Write times as ISO 8601 (2024-05-31 18:00:00) or "
            "unix seconds."
        )
    notes = [f"{at}: numbers, read as {name} since 1970."]
    if size.max() < 1e8:
        notes = [f"{at}: small numbers, kept as seconds; only their order and differences have a meaning."]
    return times / divisor, notes
