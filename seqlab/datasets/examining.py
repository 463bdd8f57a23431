"""Examines a file of events that nobody has described yet: what is in it, all that is odd, and a first card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqlab.datasets.bad_rows import bad_rows, union
from seqlab.datasets.cleaning import duplicate_rows, far_dates, far_sentence, merge_spellings
from seqlab.datasets.columns import describe_rows, factorize, select_column, to_text
from seqlab.datasets.delimited import GUESS
from seqlab.datasets.guessing import event_types, guess_name
from seqlab.datasets.reading import source_columns
from seqlab.datasets.tables import SourceTable, read_table
from seqlab.datasets.timestamps import guess_time_formats, parse_times
from seqlab.runtime.text import listed

ONE_TITLE = 0.95
"""A column of titles under another name has one text for at least this share of the items."""


@dataclass
class Examination:
    """What was seen in a file.

    seen: sentences. facts, comments: of a first card (see `log_card.card_text`), with which the file can be read.
    """

    seen: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: Any, comment: str) -> None:
        """Add a line to the card; key: "bad", or "keep.event_type" in a table."""
        table, _, name = key.rpartition(".")
        (self.facts.setdefault(table, {}) if table else self.facts)[name] = value
        self.comments[key] = comment


def examine(path: str | Path, given: Mapping[str, Any] | None = None) -> Examination:
    """Examine a CSV, TSV or Parquet file of events, in one pass over all kinds of bad rows.

    given: arguments of `load` that are known already, such as {"user": "customer"}. Raises `DataError` for what is no
    table, and where no column looks like the user, the item or the time.
    """
    given, notes = dict(given or {}), []
    roles = given.pop("columns", {})
    named = (*(given.get(role) for role in ("user", "item", "time")), *roles.values())
    table = read_table(path, "", given.get("sep"), given.get("encoding"), named, given.get("time") or GUESS)
    columns = source_columns(table, given, "time", given.get("time_format"), "items" not in given, notes)
    frame, found = table.frame, Examination()
    found.set("file", Path(path).name, "relative to this card")
    for key in ("items", "sep", "encoding", "time_format"):
        if given.get(key) is not None:
            found.facts[key] = str(given[key])
    found.seen.append(f"{table.where}: {len(frame):,} rows, {len(frame.columns)} columns.")
    found.seen += [note.partition(": ")[2].capitalize() for note in table.notes]
    _columns(table, columns, roles, "title" in given or "items" in given, found)
    time_format = _time_format(frame, columns["time"], table.where, found)
    _bad_rows(table, columns, time_format, given.get("bad"), found)
    _dates(table, columns["time"], time_format, found)
    for role in ("user", "item"):
        _spellings(frame[columns[role]], found)
    _duplicates(table, columns, time_format, found)
    if "action" in found.facts["roles"]:
        _actions(frame, found.facts["roles"]["action"], found)
    found.facts["roles"] = found.facts.pop("roles")  # tables come last
    if "keep" in found.facts:
        found.facts["keep"] = found.facts.pop("keep")
    return found


def _columns(table: SourceTable, columns: dict, roles: Mapping[str, str], titled: bool, found: Examination) -> None:
    """The role of every column."""
    frame = table.frame
    taken = {role: column for role, column in columns.items() if column is not None}
    for role in ("user", "item"):
        select_column(frame, taken[role], table.where)
    if "title" not in taken and not titled and (title := _title_by_values(frame, taken)) is not None:
        taken["title"] = title
    free = [name for name in frame.columns if name not in taken.values() and name not in roles.values()]
    for role in ("basket", "action", "price", "quantity", "rating", "store"):
        if role not in roles and (name := guess_name(free, role)) is not None:
            taken[role] = name
            free.remove(name)
    taken |= roles
    for role, column in taken.items():
        unique = select_column(frame, column, table.where).nunique()
        what = f"{unique:,} {'ids' if role in ('user', 'item', 'basket') else 'values'}"
        example = next((str(value) for value in frame[column].dropna()[:1]), "")
        found.set(f"roles.{role}", str(column), f"{what}, such as {example[:40]}")
        found.seen.append(f"The {role} is column {column!r}: {what}, such as {example[:40]!r}.")
    if "title" not in taken and not titled:
        found.seen.append("No column looks like the titles of items: their ids are shown. Name one with --title.")
    if free:
        found.seen.append(f"Columns without a role are kept as they are: {listed(map(repr, map(str, free)), 20)}.")


def _title_by_values(frame: pd.DataFrame, taken: Mapping[str, str]) -> str | None:
    """A column of words that are the same for all events of an item, and differ between items; None without one."""
    items = factorize(frame[taken["item"]])[0]
    for name in frame.columns:
        if name in taken.values():
            continue
        values = to_text(frame[name])
        pairs = pd.DataFrame({"item": items, "text": values})[(items >= 0) & (values != "")].drop_duplicates()
        per_item = pairs["item"].value_counts()
        if (
            len(per_item) > 1
            and (per_item == 1).mean() >= ONE_TITLE
            and pairs["text"].nunique() > len(per_item) / 2
            and pairs["text"].str.contains(r"[^\W\d]{2,}.*\s").mean() > 0.5
        ):
            return name
    return None


def _time_format(frame: pd.DataFrame, time: str, where: str, found: Examination) -> str | None:
    """The format of times, if it has to be named."""
    if "time_format" in found.facts:
        return found.facts["time_format"]
    times, blank, _ = parse_times(frame[time], where)
    if np.isfinite(times).sum() * 2 > (~blank).sum() or not (formats := guess_time_formats(frame[time])):
        return None
    other = f"; {' and '.join(formats[1:])} would fit as well: look" if len(formats) > 1 else ""
    found.set("time_format", formats[0], f"of column {time}{other}")
    found.seen.append(f"Times have the format {formats[0]!r}{other}.")
    return formats[0]


def _bad_rows(table: SourceTable, columns: dict, time_format: str | None, bad: str | None, found: Examination) -> None:
    needed = {role: columns[role] for role in ("user", "item", "time")}
    kinds = bad_rows(table.frame, needed, table.where, "time", time_format)
    if not kinds:
        return
    rows = union(kinds)
    for one in kinds:
        found.seen.append(f"{one.rows.sum():,} rows are bad: {one.what}: {describe_rows(one.rows, table.rows)}.")
    found.set("bad", bad or "drop", f"{rows.sum():,} of {len(rows):,} rows; or refuse, to get an error instead")


def _dates(table: SourceTable, time: str, time_format: str | None, found: Examination) -> None:
    """The period, and the dates that are far from all others."""
    times = parse_times(table.frame[time], table.where, time_format)[0]
    early, late = far_dates(times)
    near = times[np.isfinite(times) & ~early & ~late]
    if not len(near):
        return
    first, last = (pd.Timestamp(edge, unit="s") for edge in (near.min(), near.max()))
    found.seen.append(f"Times are from {first:%Y-%m-%d} to {last:%Y-%m-%d}.")
    for key, far, bound in (("since", early, first), ("until", late, last + pd.Timedelta(days=1))):
        if far.any():
            sentence = far_sentence(times, far, key)
            found.seen.append(f"{sentence}: {describe_rows(far, table.rows)}.")
            found.set(key, f"{bound:%Y-%m-%d}", f"{sentence}; they are dropped")


def _spellings(values: pd.Series, found: Examination) -> None:
    notes: list[str] = []
    merge_spellings(values, "", notes)
    if notes:
        sentence = notes[0].removeprefix(": ").partition("; ")[0]
        found.seen.append(f"{sentence[0].upper()}{sentence[1:]}.")
        found.set("merge_ids", True, f"{sentence}; each is one id")


def _duplicates(table: SourceTable, columns: dict, time_format: str | None, found: Examination) -> None:
    copies = duplicate_rows(table.frame, columns, table.where, time_format)
    if copies.any():
        sentence = f"{copies.sum():,} rows are copies of another one (user, item and time)"
        found.seen.append(f"{sentence}: {describe_rows(copies, table.rows)}.")
        found.set("duplicates", "drop", f"{sentence}; or keep")


def _actions(frame: pd.DataFrame, column: str, found: Examination) -> None:
    """The types of events."""
    counts = event_types(frame[column])
    if not counts:
        return
    shown = ", ".join(f"{value} {count:,}" for value, count in counts.items())
    found.seen.append(f"Column {column!r} mixes types of events: {shown}.")
    found.set(f"keep.{column}", [*counts], f"{shown}: take out what is no event for you")
