"""A frame, or a file of any kind that is read here, as one table that knows its name and the line of every row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from seqlab.datasets.delimited import first_line, read_delimited
from seqlab.datasets.dialect import ENDINGS, NotUTF8, ending_of
from seqlab.datasets.guessing import guess
from seqlab.runtime.text import DataError


@dataclass(frozen=True)
class SourceTable:
    """A frame of a frame or a file, its name for messages, and of a file the line of every row and what to tell."""

    frame: pd.DataFrame | None
    where: str
    rows: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    has_header: bool = True

    def column(self, name):
        """A name as the frame has it: a place (0, 1, ...) may be given as a number, a file has it as text."""
        return str(name) if isinstance(name, int) and self.rows is not None else name


def read_table(source, called: str, sep=None, encoding=None, names=(), time=None, insist=True) -> SourceTable:
    """The table of a frame or a path; `called` is a frame's name for messages, see `read_delimited` for the rest.

    DataError for a path without a file, for an ending that says nothing, and for what the format's reader refuses.
    """
    if isinstance(source, pd.DataFrame):
        named = any(level is not None for level in source.index.names)
        return SourceTable(source.reset_index(allow_duplicates=True) if named else source, called)
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
        return SourceTable(_parquet(path), where)
    read = read_delimited(path, sep, encoding, {str(name) for name in names if name is not None}, time, insist)
    return SourceTable(read.frame, where, read.lines, read.notes, read.has_header)


def _parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes make the parser raise far more than its own types
        raise DataError(f"{path}: this is no Parquet file that can be read ({first_line(error)}).") from error
    return read_table(frame, "").frame


def read_item_table(items, item, title, sep, encoding, told: list[str]) -> tuple[SourceTable, str | None]:
    """The table of items with its key column called as the log's, and the column of titles (guessed if not given)."""
    called = "the item table"
    try:
        table = read_table(items, called, sep, None, (item, title), insist=False)
    except NotUTF8:
        if encoding is None:
            raise
        table = read_table(items, called, sep, encoding, (item, title), insist=False)
    told += table.notes
    if not table.has_header:
        names = [item, *(f"column {place}" for place in range(1, len(table.frame.columns)))]
        told.append(f"{table.where}: its first column is taken as the item; title=1 takes the second as the title.")
        table = replace(table, frame=table.frame.set_axis(names, axis=1))
        return table, None if title is None else f"column {title}"
    if title is None and (title := guess(table.frame.columns, "title")) is not None:
        told.append(f"{table.where}: column {title!r} taken as the title.")
    return table, table.column(title)
