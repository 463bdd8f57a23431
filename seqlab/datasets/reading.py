"""Your own data: a pandas frame, CSV, TSV or Parquet with any column names -> InteractionLog."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from seqlab.datasets.columns import NUMBER, WHOLE, absent, select_column
from seqlab.datasets.delimited import GUESSED
from seqlab.datasets.dialect import ENDINGS
from seqlab.datasets.guessing import guessed, guessed_time, title_among_events
from seqlab.datasets.log import InteractionLog, make_log
from seqlab.datasets.tables import SourceTable, read_item_table, read_table
from seqlab.datasets.timestamps import NO_TIME, seconds
from seqlab.runtime.text import DataError, listed

BAD = ("refuse", "drop")
FOLDER = ("user_id", "item_id", "timestamp")


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
) -> InteractionLog:
    """Your own log: `read("log.csv", user="customer", item="sku", time="when", items="i.csv", title="name")`.

    source, items: a pandas frame, or the path of a .csv, .tsv, .dat, .txt (all also .gz) or .parquet file. `items`
        has one row per item and a key column of the same name as `item`; its other columns are kept as text.
    user, item, time, title: column names; those not given are guessed and the guess is said in `notes`. In a file
        without a line of names they are places, from 0: `read("ratings.dat", user=0, item=1, time=3)`.
    Times: unix s, ms, µs or ns (detected), ISO 8601 text, dates as numbers (20240531), or datetimes. Ids: whole
        numbers, or text, which is kept character for character (007 is not 7).
    repeats, ties, order: see `make_log`.
    sep: the separator where the file's ending does not tell; encoding: of a file that is not UTF-8, UTF-16 or UTF-32.
    bad: "refuse" or "drop" rows without a user, an item or (unless order is "source") a time; dropped ones are counted.
    Raises DataError, naming file, column, rows and remedy, for whatever is no log. Nothing is written.
    """
    if bad not in BAD:
        raise ValueError(f"bad is one of {BAD}, not {bad!r}")
    arguments = {"user": user, "item": item, "time": time, "title": title, "name": name, "sep": sep}
    arguments |= {"encoding": encoding, "bad": bad, "repeats": repeats, "ties": ties, "order": order}
    origin = _origin(source, items, arguments)
    table = read_table(source, "the frame", sep, encoding, (user, item, time), GUESSED if time is None else str(time))
    frame, where, told = table.frame, table.where, list(table.notes)
    user, item, time, title = (table.column(name) for name in (user, item, time, title))
    if not table.has_header and (user is None or item is None or (time is None and order == "time")):
        raise _nameless(table)
    if user is None:
        user = guessed(frame, "user", where, told)
    if item is None:
        item = guessed(frame, "item", where, told)
    if time is None and table.has_header:
        time = guessed_time(frame, user, where, told, needed=order == "time")
    if items is None and title is None and table.has_header:
        title = title_among_events(frame, item, {user, item, time}, where, told)
    frame = _numbers_where_possible(frame, {user, item, time, title})
    rows = table.rows
    if bad == "drop":
        frame, rows = _with_ids_and_times(frame, rows, user, item, time if order == "time" else None, where, told)
    described = SourceTable(None, "the item table")
    if items is not None:
        described, title = read_item_table(items, item, title, sep, encoding, told)
    log = make_log(
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
        notes=tuple(told),
    )
    return replace(log, origin=origin)


def read_folder(
    folder,
    name: str | None = None,
    *,
    ties: str = "source",
    repeats: bool | None = None,
    order: str = "time",
) -> InteractionLog:
    """A folder with interactions.tsv.gz (user_id, item_id, timestamp), maybe items.tsv.gz (item_id...).

    order: "time" puts every user's events oldest first; where any event has no timestamp the order of the source is
        kept, and a note says so. "source" keeps it in any case: blank, equal or earlier timestamps move nothing.
    """
    arguments, folder = {"name": name, "ties": ties, "repeats": repeats, "order": order}, Path(folder)
    found = {
        stem: path
        for stem in ("interactions", "items")
        for ending in (".tsv", ".tsv.gz")
        if (path := folder / f"{stem}{ending}").is_file()
    }
    if "interactions" not in found:
        raise DataError(
            f"{folder}: there is no interactions.tsv.gz in this folder. It needs one, tab-separated, with "
            "columns user_id, item_id and timestamp (and may have an items.tsv.gz)."
        )
    table = read_table(found["interactions"], "", names=FOLDER, time="timestamp")
    described = SourceTable(None, "the item table")
    if not table.has_header:
        raise DataError(f"{table.where}: the first line is data; put user_id, item_id and timestamp above it.")
    if "items" in found:
        described = read_table(found["items"], "", names=FOLDER)
    titled = (described.frame if "items" in found else table.frame).columns
    time = "timestamp" if "timestamp" in table.frame.columns else None
    told = [*table.notes, *described.notes]
    if order == "time":
        blank = len(table.frame)
        if time is not None:
            times, _ = seconds(
                select_column(table.frame, time, table.where), table.where, table.rows, may_be_missing=True
            )
            blank = int(np.isnan(times).sum())
        if blank:
            order = "source"
            told.append(
                f"{table.where}: {blank:,} of {len(table.frame):,} events have no timestamp, so each user's events "
                "stay in the order of the source."
            )
    log = make_log(
        table.frame,
        user="user_id",
        item="item_id",
        time=time,
        items=described.frame,
        title="title" if "title" in titled else None,
        name=name or folder.name,
        ties=ties,
        repeats=repeats,
        order=order,
        where=table.where,
        items_where=described.where,
        row_numbers=table.rows,
        item_row_numbers=described.rows,
        notes=tuple(told),
    )
    return replace(log, origin=_origin(folder, None, arguments))


def _origin(source, items, arguments: dict) -> dict | None:
    """What a log was read from, for `datasets.reload`: absolute paths and the arguments given; None for frames."""
    if not isinstance(source, str | Path) or not isinstance(items, str | Path | None):
        return None
    paths = {"path": source, "items": items}
    told = {key: os.path.abspath(path) for key, path in paths.items() if path is not None}
    told |= {key: value for key, value in arguments.items() if value is not None}
    return told | ({"repeats": bool(told["repeats"])} if "repeats" in told else {})


def _name(source) -> str:
    if isinstance(source, pd.DataFrame):
        return "log"
    name = re.sub(r"\.gz$", "", Path(source).name)
    return next((name.removesuffix(ending) for ending in (*ENDINGS, ".parquet") if name.endswith(ending)), name)


def _nameless(table: SourceTable) -> DataError:
    first = [f"{place}: {str(value)!r}" for place, value in enumerate(table.frame.iloc[0])]
    return DataError(
        f"{table.where}: the first line is data, so the columns have no names. Say their places, counted from 0, such "
        f"as user=0, item=1, time=3 (in a shell: --user 0 --item 1 --time 3); the first row is {listed(first, 30)}."
    )


def _with_ids_and_times(frame: pd.DataFrame, rows, user, item, time, where: str, told: list[str]):
    """The rows that have a user, an item and (if it is named) a time; the others are counted by what they lack."""
    kept = np.ones(len(frame), bool)
    for role, column in (("user", user), ("item", item), ("time", time)):
        if column is not None and isinstance(frame.get(column), pd.Series):
            lacking = absent(frame[column], NO_TIME if role == "time" else ()) & kept
            kept &= ~lacking
            if lacking.any():
                told.append(f"{where}: {lacking.sum():,} rows have no {role} (column {column!r}) and are dropped.")
    return (frame, rows) if kept.all() else (frame[kept], None if rows is None else rows[kept])


def _is_text(values: pd.Series) -> bool:
    if values.dtype == object:
        return pd.api.types.infer_dtype(values, skipna=True) == "string"
    return pd.api.types.is_string_dtype(values.dtype) and not isinstance(values.dtype, pd.CategoricalDtype)


def _numbers_where_possible(frame: pd.DataFrame, kept: set) -> pd.DataFrame:
    """Columns of text that hold nothing but numbers become numbers, except those in `kept` and codes such as 01234."""
    converted = frame.copy(deep=False)
    for column in [name for name in frame.columns if name not in kept]:
        values = frame[column]
        if isinstance(values, pd.Series) and _is_text(values):
            codes, unique = pd.factorize(values)
            texts = pd.Series(unique, dtype=object)
            none = absent(texts)
            texts = texts[~none].astype("str")
            long = texts.str.fullmatch(r"[+-]?(?:0[0-9].*|[0-9]{16,})")
            if len(texts) and texts.str.fullmatch(NUMBER).all() and not long.any():
                whole = texts.str.fullmatch(f"-?{WHOLE}").all()
                numbers = np.full(len(unique) + 1, np.nan)
                numbers[:-1][~none] = texts.astype("float64")
                numbers = numbers[codes]
                converted[column] = numbers.astype(np.int64) if whole and np.isfinite(numbers).all() else numbers
    return converted
