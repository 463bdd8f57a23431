"""Reads a frame or a file of any supported format into a table with its name and the line number of every row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from seqlab.datasets.delimited import read_delimited
from seqlab.datasets.dialect import SUFFIXES, NotUTF8, suffix_of
from seqlab.datasets.guessing import guess_name
from seqlab.runtime.text import DataError, did_you_mean, first_line


@dataclass(frozen=True)
class SourceTable:
    """A table and where it comes from.

    where: its name in messages. rows: (E,) the line number of each row of a text file, else None. has_header False: the
    columns are called "0", "1", ...
    """

    frame: pd.DataFrame | None
    where: str
    rows: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    has_header: bool = True

    def column(self, name):
        """A column name as the frame has it: numbers become text ("0") for a file."""
        return str(name) if isinstance(name, int) and self.rows is not None else name


def read_table(source, frame_name: str, sep=None, encoding=None, names=(), time=None, strict=True) -> SourceTable:
    """The table of a frame (called `frame_name` in messages) or of a path; see `read_delimited` for the rest.

    Raises `DataError` for a missing file, an unknown suffix, and a file that its reader cannot read.
    """
    if isinstance(source, pd.DataFrame):
        named = any(level is not None for level in source.index.names)
        return SourceTable(source.reset_index(allow_duplicates=True) if named else source, frame_name)
    if not isinstance(source, str | Path):
        raise DataError(f"a table must be a pandas frame or the path of a file, not {type(source).__name__}.")
    path = Path(source)
    where = str(path)
    if "\0" in where or not path.exists():
        raise no_such_file(path)
    if not path.is_file():
        raise DataError(
            f"{where}: this is not a file. Pass a file, or load() a folder that contains interactions.tsv.gz."
        )
    parquet = path.name.lower().endswith(".parquet")
    if suffix_of(path) is None and sep is None and not parquet:
        endings = ", ".join([*SUFFIXES, ".parquet"])
        raise DataError(
            f"{where}: the suffix does not determine the format. Use one of {endings} (all but the last also .gz), "
            "or pass sep=','."
        )
    if path.stat().st_size == 0:
        raise DataError(f"{where}: the file is empty.")
    if parquet:
        return SourceTable(_parquet(path), where)
    table = read_delimited(path, sep, encoding, {str(name) for name in names if name is not None}, time, strict)
    return SourceTable(table.frame, where, table.lines, table.notes, table.has_header)


def no_such_file(path: Path) -> DataError:
    """The error for a path without a file, with the nearest name in its folder."""
    near = ""
    if "\0" not in str(path) and path.parent.is_dir():
        near = did_you_mean(path.name, [one.name for one in path.parent.iterdir() if not one.name.startswith(".")])
    relative = "" if path.is_absolute() else f" The path is relative to the current folder, {Path.cwd().name!r}."
    return DataError(f"{path}: there is no such file.{near}{relative}")


def _parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except MemoryError:
        raise
    except Exception as error:  # for arbitrary bytes the parser raises errors of many types
        raise DataError(f"{path}: this is not a readable Parquet file ({first_line(error)}).") from error
    return read_table(frame, "").frame


def read_item_table(items, item, title, sep, encoding, notes: list[str]) -> tuple[SourceTable, str | None]:
    """The item table, and its column of titles (guessed if `title` is None).

    The column of ids is called as that of the events, else guessed, and gets the name `item`; without a header it is
    the first one.
    """
    name = "the item table"
    try:
        table = read_table(items, name, sep, None, (item, title), strict=False)
    except NotUTF8:
        if encoding is None:
            raise
        table = read_table(items, name, sep, encoding, (item, title), strict=False)
    notes += table.notes
    if not table.has_header:
        names = [item, *(f"column {place}" for place in range(1, len(table.frame.columns)))]
        notes.append(f"{table.where}: its first column is taken as the item; title=1 takes the second as the title.")
        table = replace(table, frame=table.frame.set_axis(names, axis=1))
        return table, None if title is None else f"column {title}"
    if item not in table.frame.columns:
        own = next((one for one in ("id", guess_name(table.frame.columns, "item")) if one in table.frame.columns), None)
        if own is not None:
            notes.append(f"{table.where}: column {own!r} taken as the item, {item!r} of the events.")
            table = replace(table, frame=table.frame.rename(columns={own: item}))
    if title is None and (title := guess_name(table.frame.columns, "title")) is not None:
        notes.append(f"{table.where}: column {title!r} taken as the title.")
    return table, table.column(title)
