"""Your own data: a pandas frame, CSV, TSV or Parquet with any column names -> InteractionLog."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from seqlab.datasets.columns import PLAIN, WHOLE, absent, pick
from seqlab.datasets.delimited import ENDINGS, GUESSED, NotUTF8, ending_of, first_line, read_delimited
from seqlab.datasets.guessing import guess
from seqlab.datasets.log import InteractionLog, make_log
from seqlab.datasets.timestamps import NO_TIME, seconds
from seqlab.runtime.text import DataError, listed

BAD = ("refuse", "drop")
FOLDER = ("user_id", "item_id", "timestamp")
NUMBER = rf"(?:{PLAIN}|[+-]?\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
TIMELIKE = re.compile(r"time|date|stamp|epoch|(^|[^a-z])(ts|at|when|utc)($|[^a-z])", re.IGNORECASE)
SMALLEST_DATE = 1e8
"""Unix seconds; smaller numbers are counters."""
SAMPLE = 200_000
"""Events of whole users, by which columns of times are compared."""
TITLED = 0.5
"""Of the items that occur twice, the share that must have one text alone, for a column of the events to be titles."""


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
    table = _table(source, "the frame", sep, encoding, (user, item, time), GUESSED if time is None else str(time))
    frame, where, told = table.frame, table.where, list(table.notes)
    user, item, time, title = (table.column(name) for name in (user, item, time, title))
    if not table.has_header and (user is None or item is None or (time is None and order == "time")):
        raise _nameless(table)
    if user is None:
        user = _guessed(frame, "user", where, told)
    if item is None:
        item = _guessed(frame, "item", where, told)
    if time is None and table.has_header:
        time = _guessed_time(frame, user, where, told, needed=order == "time")
    if items is None and title is None and table.has_header:
        title = _title_among_events(frame, item, {user, item, time}, where, told)
    frame = _numbers_where_possible(frame, {user, item, time, title})
    rows = table.rows
    if bad == "drop":
        frame, rows = _with_ids_and_times(frame, rows, user, item, time if order == "time" else None, where, told)
    described = _Table(None, "the item table")
    if items is not None:
        described, title = _item_table(items, item, title, sep, encoding, told)
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
    table, described = _table(found["interactions"], "", names=FOLDER, time="timestamp"), _Table(None, "the item table")
    if not table.has_header:
        raise DataError(f"{table.where}: the first line is data; put user_id, item_id and timestamp above it.")
    if "items" in found:
        described = _table(found["items"], "", names=FOLDER)
    titled = (described.frame if "items" in found else table.frame).columns
    time = "timestamp" if "timestamp" in table.frame.columns else None
    told = [*table.notes, *described.notes]
    if order == "time":
        blank = len(table.frame)
        if time is not None:
            times, _ = seconds(pick(table.frame, time, table.where), table.where, table.rows, may_be_missing=True)
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


@dataclass(frozen=True)
class _Table:
    """A frame of a frame or a file, its name for messages, and of a file the line of every row and what to tell."""

    frame: pd.DataFrame | None
    where: str
    rows: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    has_header: bool = True

    def column(self, name):
        """A name as the frame has it: a place (0, 1, ...) may be given as a number, a file has it as text."""
        return str(name) if isinstance(name, int) and self.rows is not None else name


def _table(source, called: str, sep=None, encoding=None, names=(), time=None, insist=True) -> _Table:
    """The table of a frame or a path; `called` is a frame's name for messages, see `read_delimited` for the rest."""
    if isinstance(source, pd.DataFrame):
        named = any(level is not None for level in source.index.names)
        return _Table(source.reset_index(allow_duplicates=True) if named else source, called)
    if not isinstance(source, str | Path):
        raise DataError(f"a log is a pandas frame or the path of a file, not {type(source).__name__}.")
    path = Path(source)
    where = str(path)
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
    parquet = path.name.lower().endswith(".parquet")
    if ending_of(path) is None and sep is None and not parquet:
        endings = ", ".join([*ENDINGS, ".parquet"])
        raise DataError(
            f"{where}: the ending says nothing about the format. Use one of {endings} (all but the last also .gz), "
            "or pass sep=','."
        )
    if path.stat().st_size == 0:
        raise DataError(f"{where}: the file is empty.")
    if parquet:
        return _Table(_parquet(path), where)
    read = read_delimited(path, sep, encoding, {str(name) for name in names if name is not None}, time, insist)
    return _Table(read.frame, where, read.lines, read.notes, read.has_header)


def _parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes make the parser raise far more than its own types
        raise DataError(f"{path}: this is no Parquet file that can be read ({first_line(error)}).") from error
    return _table(frame, "").frame


def _name(source) -> str:
    if isinstance(source, pd.DataFrame):
        return "log"
    name = re.sub(r"\.gz$", "", Path(source).name)
    return next((name.removesuffix(ending) for ending in (*ENDINGS, ".parquet") if name.endswith(ending)), name)


def _item_table(items, item, title, sep, encoding, told: list[str]) -> tuple[_Table, str | None]:
    """The table of items with its key column called as the log's, and the column of titles (guessed if not given)."""
    called = "the item table"
    try:
        table = _table(items, called, sep, None, (item, title), insist=False)
    except NotUTF8:
        if encoding is None:
            raise
        table = _table(items, called, sep, encoding, (item, title), insist=False)
    told += table.notes
    if not table.has_header:
        names = [item, *(f"column {place}" for place in range(1, len(table.frame.columns)))]
        told.append(f"{table.where}: its first column is taken as the item; title=1 takes the second as the title.")
        table = replace(table, frame=table.frame.set_axis(names, axis=1))
        return table, None if title is None else f"column {title}"
    if title is None and (title := guess(table.frame.columns, "title")) is not None:
        told.append(f"{table.where}: column {title!r} taken as the title.")
    return table, table.column(title)


def _nameless(table: _Table) -> DataError:
    first = [f"{place}: {str(value)!r}" for place, value in enumerate(table.frame.iloc[0])]
    return DataError(
        f"{table.where}: the first line is data, so the columns have no names. Say their places, counted from 0, such "
        f"as user=0, item=1, time=3 (in a shell: --user 0 --item 1 --time 3); the first row is {listed(first, 30)}."
    )


def _guessed(frame: pd.DataFrame, role: str, where: str, told: list[str], needed: bool = True):
    """The column whose name says it holds users, items or times; DataError without one, if it is needed."""
    if (found := guess(frame.columns, role)) is not None:
        told.append(f"{where}: column {found!r} taken as the {role}.")
    elif needed:
        hint = " or pass order='source' if each user's rows are already oldest first" if role == "time" else ""
        raise DataError(
            f"{where}: no column looks like the {role}. Name it with {role}=... (in a shell: --{role} ...){hint}; "
            f"the columns are: {listed([repr(str(column)) for column in frame.columns], 30) or 'none'}. If that is a "
            "row of data, put a line of names above it."
        )
    return found


def _guessed_time(frame: pd.DataFrame, user, where: str, told: list[str], needed: bool):
    """The column of times; where several agree on the order, the one with the fewest ties within users."""
    first = guess(frame.columns, "time")
    others = [name for name in frame.columns if name not in (first, user) and TIMELIKE.search(str(name))]
    if first is None or not others:
        return _guessed(frame, "time", where, told, needed)
    try:
        users = pd.factorize(frame[user])[0]
    except (TypeError, ValueError, KeyError):  # make_log says what is wrong with this column
        return _guessed(frame, "time", where, told, needed)
    some = np.flatnonzero(users % (1 + len(frame) // SAMPLE) == 0)
    users, rough, best = users[some], _times(frame[first].iloc[some]), first
    if rough is None:
        return _guessed(frame, "time", where, told, needed)
    ties = {first: _ties(users, rough)}
    for name in others:
        fine = _times(frame[name].iloc[some]) if isinstance(frame[name], pd.Series) else None
        if fine is None:
            continue
        ties[name] = _ties(users, fine)
        if ties[name] < ties[best] and _agree(rough, fine):
            best = name
    if best == first:
        return _guessed(frame, "time", where, told, needed)
    told.append(
        f"{where}: column {best!r} taken as the time: {first!r} agrees with it but leaves {ties[first]:,} events of "
        f"a user at one time as another, {best!r} {ties[best]:,}{'' if len(some) == len(frame) else ' (of a sample)'}."
    )
    return best


def _times(values: pd.Series) -> np.ndarray | None:
    """Unix seconds of a column that can be read as times throughout; None for any other."""
    try:
        return seconds(values, "")[0] if len(values) else None
    except DataError:
        return None


def _agree(rough: np.ndarray, fine: np.ndarray) -> bool:
    """Whether both tell of the same moments: the rough one never runs back along the fine one, nor is it far away."""
    backwards = np.diff(rough[np.lexsort((rough, fine))]) < 0
    dates = min(abs(np.median(rough)), abs(np.median(fine))) > SMALLEST_DATE
    return backwards.mean() <= 0.01 and not (dates and np.median(np.abs(fine - rough)) > 32 * 86_400)


def _ties(users: np.ndarray, times: np.ndarray) -> int:
    """Events that have the user and the time of another."""
    return int(pd.DataFrame({"user": users, "time": times}).duplicated().sum())


def _title_among_events(frame: pd.DataFrame, item, taken: set, where: str, told: list[str]):
    """The column of the events that holds titles of items: words, mostly the same wherever an item occurs."""
    title = guess([name for name in frame.columns if name not in taken], "title")
    if title is None or not isinstance(frame[title], pd.Series) or not isinstance(frame.get(item), pd.Series):
        return None
    try:
        items, texts = pd.factorize(frame[item])[0], pd.factorize(frame[title])
    except TypeError:
        return None
    words = pd.Series(texts[1], dtype=object)
    if not words.map(lambda one: isinstance(one, str)).all() or words.str.fullmatch(NUMBER).all():
        return None
    known = pd.DataFrame({"item": items, "text": texts[0]})[(texts[0] >= 0) & (items >= 0)]
    events, several = known["item"].value_counts(), known.drop_duplicates()["item"].value_counts()
    often = several.reindex(events.index[events > 1])
    if len(often) and (often == 1).mean() < TITLED:
        return None
    told.append(f"{where}: column {title!r} taken as the title.")
    return title


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
