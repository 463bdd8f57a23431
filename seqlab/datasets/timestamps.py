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
SECONDS_PER = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""The values of `time_format` for numbers since 1970, and their length in seconds."""
DATE_FORMATS = (
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%y", "%m/%d/%y", "%b %d, %Y",
    "%d %b %Y", "%a %b %d %Y",
)  # fmt: skip
CLOCK_FORMATS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", "T%H:%M:%S")
"""The formats that `guess_time_formats` tries are a date and a time of the day."""
FORMAT_ROWS = 1_000
"""The number of texts by which a format is guessed."""
YEAR_2200 = 7_258_118_400
CALENDAR_DIGITS = (8, 10, 12, 14, 17)
"""Numbers of digits of a date written as one number: YYYYMMDD, then HH, MM, SS and milliseconds."""
SPREADSHEET_DAYS = (32_874, 58_440)
"""1990 to 2060 as spreadsheet dates, in days since 1899-12-30."""
UNIX_EPOCH_DAY = 25_569


def unix_seconds(
    values: pd.Series, where: str, row_numbers=None, may_be_missing: bool = False, time_format: str | None = None
):
    """Timestamps as unix seconds (E,) float64 (NaN = unknown), and notes on the detected unit or format.

    Accepts numbers in s, ms, µs or ns, dates as one number (20240531180000), spreadsheet dates (44592.5), ISO 8601 text
    (optionally followed by UTC), and datetimes; without a time zone they are UTC. time_format: see `parse_times`.
    Raises `DataError` for unreadable values, mixed units, and missing values (unless `may_be_missing`).
    """
    at = f"{where}: column {values.name!r}"
    times, blank, notes = parse_times(values, where, time_format)
    bad = ~np.isfinite(times) & ~blank
    if bad.any():
        raise DataError(
            f"{at} has {unreadable(values, bad)}: {describe_rows(bad, row_numbers)}. "
            f"{_remedy(values, bad, time_format)}"
        )
    times = np.where(blank, np.nan, times)
    if blank.any() and not may_be_missing:
        raise DataError(
            f"{at} has no timestamp in {blank.sum():,} of {len(values):,} rows: "
            f"{describe_rows(blank, row_numbers)}. Fill them in, drop these rows (bad='drop' drops and counts them; in "
            "a shell: --bad drop), or pass order='source' if each user's rows are already oldest first."
        )
    if blank.any():
        notes = ([] if blank.all() else notes) + [
            f"{at}: {blank.sum():,} events have no timestamp; they keep their position."
        ]
    return times, notes


def parse_times(values: pd.Series, where: str, time_format: str | None = None):
    """Unix seconds (E,) float64, where a value is missing (E,) bool, and notes; NaN for what cannot be read.

    time_format: None: detected; s, ms, us or ns: numbers since 1970 in that unit; else a format of strptime, such as
    "%d.%m.%Y %H:%M", read as UTC. Raises `DataError` for a column that is none of times, and for mixed units.
    """
    at = f"{where}: column {values.name!r}"
    check_time_format(time_format)
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_complex_dtype(values.dtype):
        raise DataError(f"{at} does not contain timestamps. Name the column of times.")
    blank = values.isna().to_numpy(bool)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return _from_datetimes(values), blank, [f"{at}: datetimes, read as UTC unless they have a time zone."]
    if pd.api.types.is_numeric_dtype(values.dtype) and (time_format is None or time_format in SECONDS_PER):
        return _numbers(values, blank, at, time_format)
    text = values.map(str) if values.dtype == object else values.astype("str")
    blank = blank | is_missing(text, MISSING_TIME)
    text = text.mask(blank)
    if time_format is not None and time_format not in SECONDS_PER:
        dates = pd.to_datetime(text.str.strip(), format=time_format, utc=True, errors="coerce")
        return (
            _from_datetimes(dates),
            blank,
            [f"{at}: read by the format {time_format!r}, as UTC unless it has a zone."],
        )
    numbers = pd.to_numeric(text, errors="coerce")
    if time_format is not None or numbers.notna().sum() * 2 > (~blank).sum():
        return _numbers(numbers, blank, at, time_format)
    times, notes = _from_iso(text, at)
    return times, blank, notes


def check_time_format(time_format: str | None) -> None:
    """Raise `ValueError` for what is neither None, nor a unit, nor a format of strptime."""
    if time_format is not None and time_format not in SECONDS_PER and "%" not in time_format:
        raise ValueError(
            f"time_format must be one of {', '.join(SECONDS_PER)}, or a format of strptime such as '%d.%m.%Y %H:%M' "
            f"(got {time_format!r})."
        )


def unreadable(values: pd.Series, bad: np.ndarray) -> str:
    """A phrase with the number of values that cannot be read, and examples."""
    examples = listed([repr(str(value)) for value in values[bad].head(3)], 3)
    return f"{bad.sum():,} timestamps that cannot be read, such as {examples}"


def guess_time_formats(values: pd.Series) -> list[str]:
    """The formats of strptime, of those in common use, that read most of these texts; several if they read as many."""
    texts = values[~is_missing(values, MISSING_TIME)].astype("str").str.strip().head(FORMAT_ROWS)
    counts = {}
    for day in DATE_FORMATS:
        for clock in CLOCK_FORMATS:
            counts[day + clock] = int(pd.to_datetime(texts, format=day + clock, errors="coerce").notna().sum())
    best = max(counts.values(), default=0)
    return [one for one, count in counts.items() if count == best] if best * 2 > len(texts) else []


def _remedy(values: pd.Series, bad: np.ndarray, time_format: str | None) -> str:
    """What to do about times that cannot be read: of all rows, name the format; of a few, drop them."""
    if time_format is None and bad.mean() > 0.5 and (found := guess_time_formats(values[bad])):
        return (
            f"They look like {' or '.join(found)}: pass time_format={found[0]!r}, or write it in a card (seqlab card), "
            "or write ISO 8601 (2024-05-31 18:00:00)."
        )
    return (
        "Use unix seconds or ISO 8601 (2024-05-31 18:00:00), or drop these rows (bad='drop' drops and counts them; in "
        "a shell: --bad drop)."
    )


def _numbers(values: pd.Series, blank: np.ndarray, at: str, unit: str | None):
    """`parse_times` of numbers."""
    if unit is None:
        times, notes = _from_numbers(values, at)
        return times, blank, notes
    times = values.to_numpy(np.float64, na_value=np.nan) * SECONDS_PER[unit]
    return times, blank, [f"{at}: numbers, read as {unit} since 1970."]


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
