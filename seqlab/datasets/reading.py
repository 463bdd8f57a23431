"""Your own data: a pandas frame, CSV, TSV or Parquet with any column names -> InteractionLog."""

from __future__ import annotations

import csv
import gzip
import os
import re
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from seqlab.datasets.columns import DataError, listed, pick, seconds
from seqlab.datasets.log import InteractionLog, make_log

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
MISSING = ["", "nan", "NaN", "NULL", "null", "<NA>"]
GUESSES = {  # compared without case and punctuation, the likeliest first
    "user": "user userid uid customer customerid householdid visitor visitorid reviewer reviewerid member "
    "memberid account accountid client clientid sessionid",
    "item": "item itemid iid product productid sku asin parentasin movie movieid article articleid track "
    "trackid song songid book bookid isbn contentid businessid stockcode",
    "time": "timestamp time datetime date when ts unixtime unixreviewtime eventtime createdat ratedat tdat "
    "transactiontimestamp invoicedate purchasedate",
    "title": "title name itemtitle itemname producttitle productname movietitle description text",
}


def read(
    source,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    items=None,
    title: str | None = None,
    name: str | None = None,
    *,
    repeats: bool | None = None,
    ties: str = "source",
    order: str = "time",
    sep: str | None = None,
) -> InteractionLog:
    """Your own log: `read("log.csv", user="customer", item="sku", time="when", items="i.csv", title="name")`.

    source, items: a pandas frame, or the path of a .csv, .tsv (both also .gz) or .parquet file. `items` has
        one row per item and a key column of the same name as `item`; its other columns are kept as text.
    user, item, time, title: column names; those not given are guessed and the guess is said in `notes`.
    Times: unix s, ms, µs or ns (detected), ISO 8601 text, or datetimes. Ids: whole numbers or text.
    repeats, ties, order: see `make_log`; sep: the separator where the file's ending does not tell.
    Raises DataError, naming file, column, rows and remedy, for whatever is no log. Nothing is written.
    """
    arguments = {"user": user, "item": item, "time": time, "title": title, "name": name, "sep": sep}
    arguments |= {"repeats": repeats, "ties": ties, "order": order}
    origin = _origin(source, items, arguments)
    frame, where, rows = _table(source, "the frame", sep, ids={user, item} - {None}, time=time)
    given = {"user": user, "item": item, "time": time}
    told = []
    for role, column in given.items():
        if column is None:
            given[role] = _guess(frame, role, needed=role != "time" or order == "time", where=where)
            told += [f"{where}: column {given[role]!r} taken as the {role}."] if given[role] is not None else []
    if rows is not None:
        frame = _numbers_where_possible(frame, {*given.values(), title})
    item_frame, items_where, item_rows = None, "the item table", None
    if items is not None:
        item_frame, items_where, item_rows = _table(items, items_where, sep if isinstance(items, str | Path) else None)
        if title is None and (title := _guess(item_frame, "title", needed=False, where=items_where)) is not None:
            told.append(f"{items_where}: column {title!r} taken as the title.")
    if name is None:
        name = (
            "log"
            if isinstance(source, pd.DataFrame)
            else re.sub(r"(\.gz)?$|\.(csv|tsv|parquet)(\.gz)?$", "", Path(source).name)
        )
    log = make_log(
        frame,
        user=given["user"],
        item=given["item"],
        time=given["time"],
        items=item_frame,
        title=title,
        name=name,
        ties=ties,
        repeats=repeats,
        order=order,
        where=where,
        items_where=items_where,
        row_numbers=rows,
        item_row_numbers=item_rows,
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
    frame, where, rows = _table(found["interactions"], "", None)
    time = "timestamp" if "timestamp" in frame.columns else None
    told = []
    if order == "time":
        blank = len(frame)
        if time is not None:
            times, _ = seconds(pick(frame, time, where), where, rows, may_be_missing=True)
            blank = int(np.isnan(times).sum())
        if blank:
            order = "source"
            told.append(
                f"{where}: {blank:,} of {len(frame):,} events have no timestamp, so each user's events stay in the "
                "order of the source."
            )
    item_frame, items_where, item_rows, title = None, "the item table", None, None
    if "items" in found:
        item_frame, items_where, item_rows = _table(found["items"], "", None)
        title = "title" if "title" in item_frame.columns else None
    log = make_log(
        frame,
        user="user_id",
        item="item_id",
        time=time,
        items=item_frame,
        title=title,
        name=name or folder.name,
        ties=ties,
        repeats=repeats,
        order=order,
        where=where,
        items_where=items_where,
        row_numbers=rows,
        item_row_numbers=item_rows,
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


def _guess(frame: pd.DataFrame, role: str, needed: bool, where: str) -> str | None:
    """The column whose name says it holds users, items, times or titles."""
    plain = {}
    for column in frame.columns:
        plain.setdefault(re.sub(r"[^a-z0-9]", "", str(column).lower()), column)
    found = next((plain[word] for word in GUESSES[role].split() if word in plain), None)
    if found is None and needed:
        hint = " or pass order='source' if each user's rows are already oldest first" if role == "time" else ""
        raise DataError(
            f"{where}: no column looks like the {role}. Name it with {role}=...{hint}; the columns are: "
            f"{listed([repr(str(column)) for column in frame.columns], 30) or 'none'}."
        )
    return found


def _table(source, called: str, sep: str | None, ids=(), time=None):
    """(frame, its name for messages, row numbers as in the file or None) of a frame or a path."""
    if isinstance(source, pd.DataFrame):
        named = any(level is not None for level in source.index.names)
        return (source.reset_index(allow_duplicates=True) if named else source), called, None
    if not isinstance(source, str | Path):
        raise DataError(f"a log is a pandas frame or the path of a file, not {type(source).__name__}.")
    path, where = Path(source), str(source)
    if "\0" in where or not path.exists():
        raise DataError(
            f"{where}: there is no such file. Check the path; it is relative to {Path.cwd().name!r}, "
            "the folder you are in."
            if not path.is_absolute()
            else f"{where}: there is no such file."
        )
    if not path.is_file():
        raise DataError(
            f"{where}: this is not a file. Give the file itself, or load() a folder that holds interactions.tsv.gz."
        )
    ending = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if ending is None and sep is None:
        raise DataError(
            f"{where}: the ending says nothing about the format. Use one of {', '.join(SUFFIXES)}, or pass sep=','."
        )
    if path.stat().st_size == 0:
        raise DataError(f"{where}: the file is empty.")
    if ending == ".parquet":
        frame = _parquet(path)
        return frame, where, None
    frame = _delimited(path, sep or ("\t" if ending.startswith(".tsv") else ","), ids, time)
    return frame, where, frame.index.to_numpy() + 2  # row 1 is the header


def _parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes make the parser raise far more than its own types
        raise DataError(f"{path}: this is no Parquet file that can be read ({_first_line(error)}).") from error
    return _table(frame, "", None)[0]


def _delimited(path: Path, sep: str, ids, time) -> pd.DataFrame:
    """A CSV or TSV whose index is the row number - 2; blank lines are skipped. TSV has no quoting at all."""
    zipped = path.name.lower().endswith(".gz")
    header = _header(path, zipped)
    fields = header.count(sep) + 1
    other = max(SEPARATORS, key=header.count)
    if fields == 1 and header.count(other):
        raise DataError(
            f"{path}: the header {header[:80]!r} has no {SEPARATORS.get(sep, repr(sep))} but looks "
            f"{SEPARATORS[other]}-separated. Pass sep={other!r}."
        )
    options = {
        "sep": sep,
        "compression": "gzip" if zipped else None,
        "encoding": "utf-8",
        "index_col": False,
        "quoting": csv.QUOTE_NONE if sep == "\t" else csv.QUOTE_MINIMAL,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header would lose fields
            names = pd.read_csv(path, nrows=0, **options).columns
            # a blank line keeps its place, so that row numbers are the file's
            frame = pd.read_csv(
                path,
                dtype=_dtypes(names, ids, time),
                keep_default_na=False,
                na_values=MISSING,
                skip_blank_lines=False,
                low_memory=False,
                **options,
            )
    except UnicodeDecodeError as error:
        raise _not_utf8(path, zipped) from error
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes make the parser raise far more than ParserError
        raise DataError(
            f"{path}: this cannot be read as a table separated by {SEPARATORS.get(sep, repr(sep))}s "
            f"({_first_line(error)}). Every row needs as many fields as the header ({fields}); "
            "check the separator (sep=...) and the quoting."
        ) from error
    frame = frame[~frame.isna().all(axis=1)]
    if not len(frame):
        raise DataError(f"{path}: there is a header but no rows.")
    return frame


def _dtypes(names, ids, time) -> dict:
    """All text, so that 007 stays 007; ids as categories (each label kept once); times left to be numbers."""
    plain = {name: re.sub(r"[^a-z0-9]", "", str(name).lower()) for name in names}
    likely = set(f"{GUESSES['user']} {GUESSES['item']}".split())
    return {
        name: "category" if name in ids or plain[name] in likely else "str"
        for name in names
        if name in ids or not (name == time or plain[name] in GUESSES["time"].split())
    }


def _header(path: Path, zipped: bool) -> str:
    """The first line, having read the whole file once if it is compressed: a truncated one ends here."""
    try:
        with (gzip.open if zipped else open)(path, "rb") as file:
            line = file.readline(1_000_000)
            while zipped and file.read(1 << 24):
                pass
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path}: this is no whole gzip file ({_first_line(error)}); it may have been cut short. "
            "Get it again, or unpack it if its name is wrong."
        ) from error
    if not line.strip():
        raise DataError(f"{path}: the first line is empty; it should hold the names of the columns.")
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, zipped) from error


def _not_utf8(path: Path, zipped: bool) -> DataError:
    """The error for text in another encoding, with the first rows that show it."""
    bad = []
    with (gzip.open if zipped else open)(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                bad.append(number)
                if len(bad) == 5:
                    break
    return DataError(
        f"{path}: the text is not UTF-8 (line{'s' if len(bad) != 1 else ''} {listed(bad)}). Save it as "
        f"UTF-8, e.g. iconv -f latin1 -t utf-8."
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _numbers_where_possible(frame: pd.DataFrame, text: set) -> pd.DataFrame:
    """Columns that hold nothing but numbers become numbers, except those named in `text`."""
    converted = {}
    for column in set(frame.columns) - text:
        if isinstance(values := frame[column], pd.Series):
            numbers = pd.to_numeric(values, errors="coerce")
            if (numbers.notna() | values.isna()).all():
                converted[column] = numbers
    return frame.assign(**{str(column): numbers for column, numbers in converted.items()})
