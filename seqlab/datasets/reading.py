"""Reads your own data (a pandas frame, CSV, TSV or Parquet, with any column names) into an InteractionLog."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from seqlab.datasets.bad_rows import bad_rows, refusal
from seqlab.datasets.cleaning import Cleaning, clean, far_notes, merge_keys
from seqlab.datasets.columns import INTEGER, numbers_of, select_column
from seqlab.datasets.delimited import GUESS
from seqlab.datasets.dialect import SUFFIXES
from seqlab.datasets.exposures import Exposures
from seqlab.datasets.guessing import event_type_note, guess_column, guess_time_column, guess_title_column
from seqlab.datasets.log import InteractionLog, make_log
from seqlab.datasets.tables import SourceTable, read_item_table, read_table
from seqlab.datasets.timestamps import unix_seconds
from seqlab.runtime.text import DataError, listed

FOLDER_COLUMNS = ("user_id", "item_id", "timestamp")


def read(
    source,
    user: str | int | None = None,
    item: str | int | None = None,
    time: str | int | None = None,
    items=None,
    title: str | int | None = None,
    name: str | None = None,
    *,
    repeats: bool | None = None,
    ties: str = "source",
    order: str = "time",
    sep: str | None = None,
    encoding: str | None = None,
    bad: str = "refuse",
    columns: Mapping[str, str | int] | None = None,
    time_format: str | None = None,
    keep: Mapping[str, Sequence[str]] | None = None,
    merge_ids: bool = False,
    since: str | None = None,
    until: str | None = None,
    duplicates: str = "keep",
) -> InteractionLog:
    """Read a log: `read("log.csv", user="customer", item="sku", time="when", items="items.csv", title="name")`.

    source, items: a pandas frame, or the path of a .csv, .tsv, .dat, .txt (also .gz) or .parquet file. `items` has one
        row per item and a key column of the same name as `item`; its other columns are kept as text.
    user, item, time, title: column names, or in a file without a header column numbers from 0, such as
        `read("ratings.dat", user=0, item=1, time=3)`. None: guessed, with a note in `notes`.
    Times: unix s, ms, µs or ns (detected), ISO 8601 text, dates as numbers (20240531), or datetimes. Ids: whole
        numbers, or text, which is kept unchanged (007 is not 7).
    repeats, ties, order: see `make_log`.
    sep: the delimiter, if the suffix of the file does not determine it. encoding: of a file that is not UTF-8, UTF-16
        or UTF-32.
    bad: "refuse" raises for rows without a readable user, item or time (which may be missing if order is "source"),
        and names all of them; "drop" drops and counts them.
    columns: the role of further columns, `{"basket": "order_no", "price": "amount"}` (see `InteractionLog.roles`). A
        column that is called like its role needs no entry, and columns without a role are kept too.
    time_format: None: detected; s, ms, us or ns for numbers, or a format of strptime such as "%d.%m.%Y %H:%M".
    keep, merge_ids, since, until, duplicates: which rows are kept, and which ids are one (see `cleaning.Cleaning`).
    Raises `DataError`, with file, column, rows and remedy, for data that are not a log. Writes nothing.
    """
    cleaning = Cleaning(keep or {}, bad, merge_ids, since, until, duplicates, time_format)
    arguments = {"user": user, "item": item, "time": time, "title": title, "name": name, "sep": sep}
    arguments |= {"encoding": encoding, "bad": bad, "repeats": repeats, "ties": ties, "order": order}
    arguments |= {"columns": dict(columns) if columns else None}
    arguments |= {"keep": {name: [*values] for name, values in keep.items()} if keep else None, "since": since}
    arguments |= {"until": until, "time_format": time_format, "merge_ids": merge_ids or None}
    arguments |= {"duplicates": None if duplicates == "keep" else duplicates}
    origin = _origin(source, items, arguments)
    named = (user, item, time, *(columns or {}).values())
    table = read_table(source, "the frame", sep, encoding, named, GUESS if time is None else str(time))
    where, notes = table.where, list(table.notes)
    given = {"user": user, "item": item, "time": time, "title": title}
    user, item, time, title = source_columns(table, given, order, time_format, items is None, notes).values()
    roles = {role: table.column(name) for role, name in (columns or {}).items()}
    frame = table.frame
    frame = _convert_numbers(frame, {user, item, time, title})
    cleaned = {"user": user, "item": item, "time": time}
    frame, rows, spelling = clean(frame, table.rows, cleaned, cleaning, order, where, notes)
    described = SourceTable(None, "the item table")
    if items is not None:
        described, title = read_item_table(items, item, title, sep, encoding, notes)
        described = replace(described, frame=merge_keys(described.frame, item, spelling))
    make = partial(
        make_log,
        frame,
        user=user,
        item=item,
        time=time,
        items=described.frame,
        title=title,
        name=_name(source) if name is None else name,
        ties=ties,
        repeats=repeats,
        order=order,
        where=where,
        items_where=described.where,
        row_numbers=rows,
        item_row_numbers=described.rows,
        roles=roles,
        notes=tuple(notes),
        time_format=time_format,
    )
    try:
        log = make()
        odd = (*far_notes(log.events["timestamp"].to_numpy()), *event_type_note(frame, cleaning.keep))
        return replace(log, origin=origin, notes=(*log.notes, *odd))
    except DataError as error:
        found = bad_rows(frame, cleaned, where, order, time_format)
        if len(found) > 1:  # make_log raises for the first kind only
            raise refusal(found, where, rows) from error
        raise


def source_columns(
    table: SourceTable, given: Mapping, order: str, time_format: str | None, titled: bool, notes: list[str]
) -> dict[str, str | None]:
    """The columns of the roles user, item, time and title: those that are given, else guessed, with a note.

    titled: whether titles are among the events. None: there is none. Raises `DataError` where a needed one is missing.
    """
    frame, where = table.frame, table.where
    user, item, time, title = (table.column(given.get(role)) for role in ("user", "item", "time", "title"))
    if not table.has_header and (user is None or item is None or (time is None and order == "time")):
        raise _no_header_error(table)
    if user is None:
        user = guess_column(frame, "user", where, notes)
    if item is None:
        item = guess_column(frame, "item", where, notes)
    if time is None and table.has_header:
        time = guess_time_column(frame, user, where, notes, order == "time", time_format)
    if titled and title is None and table.has_header:
        title = guess_title_column(frame, item, {user, item, time}, where, notes)
    return {"user": user, "item": item, "time": time, "title": title}


def read_folder(
    folder,
    name: str | None = None,
    *,
    ties: str = "source",
    repeats: bool | None = None,
    order: str = "time",
    columns: Mapping[str, str] | None = None,
) -> InteractionLog:
    """Read a folder of tables: interactions.tsv[.gz] (user_id, item_id, timestamp, and further columns of the events).

    items.tsv[.gz] (item_id, title, ...), users.tsv[.gz] (user_id, ...) and exposures.tsv[.gz] (slate, user_id,
    timestamp, item_id, clicked, and slot and propensity if known: see `Exposures`) are optional.
    name: None: that of the folder. ties, repeats: see `make_log`. columns: the role of further columns, as in `read`.
    order: "time" sorts each user's events by time, or keeps the order of the source, with a note, if any event has no
    timestamp; "source" keeps that order in any case. Raises `DataError`.
    """
    arguments, folder = {"name": name, "ties": ties, "repeats": repeats, "order": order}, Path(folder)
    arguments |= {"columns": dict(columns) if columns else None}
    found = {
        stem: path
        for stem in ("interactions", "items", "users", "exposures")
        for ending in (".tsv", ".tsv.gz")
        if (path := folder / f"{stem}{ending}").is_file()
    }
    if "interactions" not in found:
        raise DataError(
            f"{folder}: there is no interactions.tsv.gz in this folder. It needs one, tab-separated, with "
            "columns user_id, item_id and timestamp (an items.tsv.gz and a users.tsv.gz are optional)."
        )
    table = read_table(found["interactions"], "", names=FOLDER_COLUMNS, time="timestamp")
    described, people = SourceTable(None, "the item table"), SourceTable(None, "the user table")
    if not table.has_header:
        raise DataError(f"{table.where}: there is no header. Add a line with user_id, item_id and timestamp.")
    if "items" in found:
        described = read_table(found["items"], "", names=FOLDER_COLUMNS)
    if "users" in found:
        people = read_table(found["users"], "", names=FOLDER_COLUMNS)
    titled = (described.frame if "items" in found else table.frame).columns
    time = "timestamp" if "timestamp" in table.frame.columns else None
    notes = [*table.notes, *described.notes, *people.notes]
    if order == "time":
        blank = len(table.frame)
        if time is not None:
            times, _ = unix_seconds(
                select_column(table.frame, time, table.where), table.where, table.rows, may_be_missing=True
            )
            blank = int(np.isnan(times).sum())
        if blank:
            order = "source"
            notes.append(
                f"{table.where}: {blank:,} of {len(table.frame):,} events have no timestamp, so events keep the order "
                "of the source."
            )
    log = make_log(
        table.frame,
        user="user_id",
        item="item_id",
        time=time,
        items=described.frame,
        users=people.frame,
        title="title" if "title" in titled else None,
        name=name or folder.name,
        ties=ties,
        repeats=repeats,
        order=order,
        where=table.where,
        items_where=described.where,
        users_where=people.where,
        row_numbers=table.rows,
        item_row_numbers=described.rows,
        user_row_numbers=people.rows,
        roles=columns,
        notes=tuple(notes),
    )
    if "exposures" in found:
        shown = read_table(found["exposures"], "", names=(*FOLDER_COLUMNS, "slate", "clicked"), time="timestamp")
        log = Exposures.from_frame(shown.frame, log, user="user_id", item="item_id", where=shown.where).attach(log)
    return replace(log, origin=_origin(folder, None, arguments))


def _origin(source, items, arguments: dict) -> dict | None:
    """`InteractionLog.origin`: absolute paths and the arguments that were passed; None for frames."""
    if not isinstance(source, str | Path) or not isinstance(items, str | Path | None):
        return None
    paths = {"path": source, "items": items}
    origin = {key: os.path.abspath(path) for key, path in paths.items() if path is not None}
    origin |= {key: value for key, value in arguments.items() if value is not None}
    return origin | ({"repeats": bool(origin["repeats"])} if "repeats" in origin else {})


def _name(source) -> str:
    if isinstance(source, pd.DataFrame):
        return "log"
    name = re.sub(r"\.gz$", "", Path(source).name)
    return next((name.removesuffix(ending) for ending in (*SUFFIXES, ".parquet") if name.endswith(ending)), name)


def _no_header_error(table: SourceTable) -> DataError:
    first = [f"{place}: {str(value)!r}" for place, value in enumerate(table.frame.iloc[0])]
    return DataError(
        f"{table.where}: there is no header (the first line is data). Pass column numbers from 0, such as user=0, "
        f"item=1, time=3 (in a shell: --user 0 --item 1 --time 3); the first row is {listed(first, 30)}."
    )


def _is_text(values: pd.Series) -> bool:
    if values.dtype == object:
        return pd.api.types.infer_dtype(values, skipna=True) == "string"
    return pd.api.types.is_string_dtype(values.dtype) and not isinstance(values.dtype, pd.CategoricalDtype)


def _convert_numbers(frame: pd.DataFrame, kept: set) -> pd.DataFrame:
    """Convert columns of text that are all numbers, except those in `kept` and codes such as 01234."""
    converted = frame.copy(deep=False)
    for column in [name for name in frame.columns if name not in kept]:
        values = frame[column]
        if isinstance(values, pd.Series) and _is_text(values):
            codes, unique = pd.factorize(values)
            texts = pd.Series(unique, dtype=object).astype("str")
            numbers = numbers_of(texts)
            if numbers is not None:
                whole = texts[~np.isnan(numbers)].str.fullmatch(f"-?{INTEGER}").all()
                numbers = np.append(numbers, np.nan)[codes]
                converted[column] = numbers.astype(np.int64) if whole and np.isfinite(numbers).all() else numbers
    return converted
