"""Selects and repairs the rows of a source before its users and items are numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from seqlab.datasets.bad_rows import BAD, bad_rows
from seqlab.datasets.columns import factorize, fold_ids, select_column, to_text
from seqlab.datasets.timestamps import check_time_format, parse_times, unix_seconds
from seqlab.runtime.text import DataError, did_you_mean, listed

DUPLICATES = ("keep", "drop")
FAR = 5 * 365.25 * 86_400
"""A date is far from the others if it is outside their middle 80 % by more than this, and than three times its span."""


@dataclass(frozen=True)
class Cleaning:
    """What is done with the rows of a source, in this order; what is dropped is counted in the notes.

    keep: column -> the values (as text) whose rows are kept, such as {"event_type": ["purchase"]}.
    bad: "refuse" leaves rows without a readable user, item or time to `make_log`, which raises; "drop" drops them.
    merge_ids: ids that differ only in case, blanks and invisible characters are one, in the most frequent spelling.
    since, until: dates; events before `since`, and those at or after `until`, are dropped.
    duplicates: "drop" keeps the first of the rows with equal user, item and (known) time.
    time_format: see `parse_times`. Raises `ValueError` for another value of these.
    """

    keep: Mapping[str, Sequence[str]] = field(default_factory=dict)
    bad: str = "refuse"
    merge_ids: bool = False
    since: str | None = None
    until: str | None = None
    duplicates: str = "keep"
    time_format: str | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (("bad", self.bad, BAD), ("duplicates", self.duplicates, DUPLICATES)):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)} (got {value!r}).")
        if isinstance(self.keep, str) or any(isinstance(values, str) for values in self.keep.values()):
            raise ValueError(f"keep must give a list of values for a column (got {self.keep!r}).")
        check_time_format(self.time_format)


def clean(
    frame: pd.DataFrame,
    rows,
    columns: Mapping[str, str | None],
    cleaning: Cleaning,
    order: str,
    where: str,
    notes: list,
) -> tuple[pd.DataFrame, np.ndarray | None, Mapping[str, str]]:
    """The rows of a source that are kept, their row numbers, and the spelling of each merged item id by `fold_ids`.

    columns: of the roles user, item and time (None: there is none). Notes are added to `notes`. Raises `DataError`
    where nothing is left, and for values to keep that do not occur.
    """

    def drop(mask: np.ndarray, why: str) -> None:
        nonlocal frame, rows
        if mask.any():
            notes.append(f"{where}: {mask.sum():,} of {len(mask):,} rows are dropped: {why}.")
            if mask.all():
                raise DataError(f"{where}: no row is left. {' '.join(notes[-5:])}")
            frame, rows = frame[~mask], None if rows is None else rows[~mask]

    for column, wanted in cleaning.keep.items():
        drop(*_other_values(frame, column, wanted, where))
    if cleaning.bad == "drop":
        done = np.zeros(len(frame), bool)
        found = bad_rows(frame, columns, where, order, cleaning.time_format)
        for one in found:  # each row is counted once
            if (new := one.rows & ~done).any():
                notes.append(f"{where}: {new.sum():,} of {len(done):,} rows are dropped: {one.what}.")
            done |= one.rows
        if done.all():
            raise DataError(f"{where}: no row is left. {' '.join(notes[-len(found) :])}")
        if done.any():
            frame, rows = frame[~done], None if rows is None else rows[~done]
    spelling: Mapping[str, str] = {}
    if cleaning.merge_ids:
        for role in ("user", "item"):
            merged, spelling = merge_spellings(select_column(frame, columns[role], where), where, notes)
            frame = frame.assign(**{columns[role]: merged})
    time = columns.get("time")
    if time is not None and (cleaning.since or cleaning.until):
        times = parse_times(select_column(frame, time, where), where, cleaning.time_format)[0]
        early = np.zeros(len(times), bool) if cleaning.since is None else times < _date(cleaning.since, "since")
        late = np.zeros(len(times), bool) if cleaning.until is None else times >= _date(cleaning.until, "until")
        drop(early, f"their time is before {cleaning.since} (since)")
        drop(late[~early], f"their time is not before {cleaning.until} (until)")
    if time is not None and cleaning.duplicates == "drop":
        drop(duplicate_rows(frame, columns, where, cleaning.time_format), "copies of another row (user, item and time)")
    return frame, rows, spelling


def merge_spellings(values: pd.Series, where: str, notes: list[str]) -> tuple[pd.Series, Mapping[str, str]]:
    """A column of ids with the most frequent spelling of each, and these spellings by `fold_ids`; numbers stay."""
    codes, unique = factorize(values)
    if pd.api.types.is_numeric_dtype(getattr(unique, "dtype", None)) or not len(unique):
        return values, {}
    texts = to_text(pd.Series(unique))
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    table = pd.DataFrame({"text": texts, "count": counts, "key": fold_ids(texts)})
    first = table.sort_values(["count", "text"], ascending=[False, True], kind="stable").drop_duplicates("key")
    spelling = first.set_index("key")["text"]
    merged = spelling.reindex(table["key"]).to_numpy(object)
    changed = merged != texts.to_numpy(object)
    if not changed.any():
        return values, spelling
    at = np.flatnonzero(changed)[0]
    notes.append(
        f"{where}: column {values.name!r}: {changed.sum():,} ids differ from another one only in case or blanks, such "
        f"as {texts[at]!r} and {merged[at]!r}; each is one id (merge_ids)."
    )
    return pd.Series(np.append(merged, None)[codes], index=values.index, name=values.name), spelling


def merge_keys(table: pd.DataFrame, key: str, spelling: Mapping[str, str]) -> pd.DataFrame:
    """An item table whose ids have the spelling of the log's; of several rows of an id, the one spelled so is kept."""
    if not len(spelling) or key not in table.columns:
        return table
    texts = to_text(table[key])
    folded = fold_ids(texts)
    spelled = folded.map(pd.Series(spelling)).fillna(texts)
    best = pd.DataFrame({"spelled": spelled, "other": spelled != texts}).sort_values("other", kind="stable")
    twice = best["spelled"].duplicated() & best["other"]  # rows that are written alike are left to `item_table`
    return table.assign(**{key: spelled})[~twice.sort_index()]


def duplicate_rows(frame: pd.DataFrame, columns: Mapping[str, str | None], where: str, time_format=None) -> np.ndarray:
    """(E,) bool: whether a row has the user, item and known time of an earlier row."""
    times = parse_times(select_column(frame, columns["time"], where), where, time_format)[0]
    keys = pd.DataFrame({role: factorize(select_column(frame, columns[role], where))[0] for role in ("user", "item")})
    return keys.assign(time=times).duplicated().to_numpy(bool) & np.isfinite(times)


def far_dates(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which times (E,) bool are far before and far after the others (see `FAR`), such as 1970 and 2124."""
    known = times[np.isfinite(times)]
    low, high = np.quantile(known, [0.1, 0.9]) if len(known) else (0.0, 0.0)
    far = max(FAR, 3 * (high - low))
    with np.errstate(invalid="ignore"):
        return times < low - far, times > high + far


def far_sentence(times: np.ndarray, far: np.ndarray, bound: str) -> str:
    """How many dates are far away, without a full stop. bound: "since" for those before, "until" for those after."""
    example = pd.Timestamp(times[far][0], unit="s")
    word = "before" if bound == "since" else "after"
    return f"{far.sum():,} events are years {word} all others, such as {example:%Y-%m-%d}"


def far_notes(times: np.ndarray) -> tuple[str, ...]:
    """Notes on dates that are far away."""
    ends = zip(("since", "until"), far_dates(times), strict=True)
    return tuple(f"{far_sentence(times, far, key)}; {key}=... drops them." for key, far in ends if far.any())


def _other_values(frame: pd.DataFrame, column: str, wanted: Sequence[str], where: str) -> tuple[np.ndarray, str]:
    """Which rows have none of the wanted values in a column, and what they have."""
    texts = to_text(select_column(frame, column, where))
    counts, wanted = texts.value_counts(), [str(one) for one in wanted]
    if unknown := [one for one in wanted if one not in counts.index]:
        there = listed((f"{value!r} ({count:,})" for value, count in counts.items()), 10)
        raise DataError(
            f"{where}: column {column!r} has no value {unknown[0]!r}.{did_you_mean(unknown[0], counts.index)} "
            f"Its values: {there}."
        )
    other = counts[~counts.index.isin(wanted)]
    shown = listed((f"{value or 'missing'} {count:,}" for value, count in other.items()), 5)
    return ~texts.isin(wanted).to_numpy(bool), f"column {column!r} is not {' or '.join(wanted)} ({shown})"


def _date(text: str, name: str) -> float:
    try:
        return float(unix_seconds(pd.Series([str(text)], name=name), "the period")[0][0])
    except DataError:
        raise ValueError(f"{name} must be a date such as 2024-05-31 (got {text!r}).") from None
