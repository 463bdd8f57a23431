"""Text files of fields (CSV, TSV and their relatives) -> a frame of text, with the line of every row."""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
import zlib
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from seqlab.datasets.columns import text_of
from seqlab.datasets.dialect import (
    SEPARATORS,
    SPACES,
    encoding_of,
    fields_of,
    header_of,
    names_columns,
    not_utf8,
    separator_of,
)
from seqlab.datasets.guessing import guess
from seqlab.runtime.text import DataError

QUOTES = 'close it, write "" for a quote mark in a quoted field, or save as .tsv, which has no quoting.'
GUESSED = object()
"""In place of the name of the column of times: the one whose name says so."""


class Table(NamedTuple):
    """A file's rows as text (its times maybe as numbers), the line each begins in, what to tell, and if it has names.

    Without names in the first line the columns are called "0", "1", ...
    """

    frame: pd.DataFrame
    lines: np.ndarray
    notes: list[str]
    has_header: bool


def read_delimited(path: Path, sep: str | None, encoding: str | None, names=(), time=None, insist=True) -> Table:
    """The rows of a file. Blank lines are skipped and counted; a tab-separated file has no quoting at all.

    sep: one or more characters, or \\s+; None: what the ending promises, else what the first line shows.
        insist False: a separator that the first line lacks gives way to the ending's.
    encoding: of a file that is neither UTF-8 nor UTF-16 nor UTF-32 with a mark.
    names: names of columns that the caller knows.
    time: the one column that may become numbers, or `GUESSED`; all others stay text.
    DataError for whatever is no such table, with the line.
    """
    zipped = path.name.lower().endswith(".gz")
    try:
        with (gzip.open if zipped else open)(path, "rb") as file:
            head, n_lines = _scan(file)
    except (EOFError, OSError, zlib.error) as error:
        if not zipped:
            raise
        raise DataError(
            f"{path}: this is no whole gzip file ({first_line(error)}); it may have been cut short. "
            "Get it again, or unpack it if its name is wrong."
        ) from error
    notes: list[str] = []
    code = encoding_of(path, head, encoding)
    content = None
    if code != "utf-8":
        content, code = _decoded(path, zipped, code)
        notes.append(f"{path}: the text is {code}.")
        head, n_lines = _scan(io.BytesIO(content))
    header = header_of(path, zipped, head)
    sep = separator_of(path, sep, header, insist, notes)
    quoting = csv.QUOTE_NONE if sep == "\t" or len(sep) > 1 else csv.QUOTE_MINIMAL
    shown, split = SEPARATORS.get(sep, repr(sep)), sep
    if len(sep.encode()) > 1 and sep != SPACES:  # the parser takes single bytes
        if content is None:
            with (gzip.open if zipped else open)(path, "rb") as file:
                content = file.read()
        split = next((one for one in ("\t", "\x1f", "\x1e", "\x01") if one.encode() not in content), None)
        if split is None:
            raise DataError(
                f"{path}: with the separator {sep!r} the fields may hold no control characters; remove them."
            )
        content = content.replace(sep.encode(), split.encode())
    fields = fields_of(header, sep, quoting)
    has_header = names_columns(fields, names)
    if not has_header:
        notes.append(f"{path}: the first line is data, so there are no names: the columns are called 0, 1, 2, ...")

    def parse(**more) -> pd.DataFrame:
        return pd.read_csv(
            path if content is None else io.BytesIO(content),
            sep=split,
            compression="gzip" if zipped and content is None else None,
            encoding="utf-8",
            index_col=False,
            quoting=quoting,
            keep_default_na=False,
            na_values=[""],
            skip_blank_lines=False,  # a blank line keeps its place, so that lines can be counted
            low_memory=False,
            **({} if has_header else {"header": None, "names": [str(place) for place in range(len(fields))]}),
            **more,
        )

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header would lose fields
            called = parse(nrows=0).columns
            time = guess(called, "time") if time is GUESSED else time
            texts = [name for name in called if name != time]
            # Arrow takes the parser's text as it is; other strings would be made one by one
            frame = parse(dtype=dict.fromkeys(texts, pd.ArrowDtype(pa.large_string())))
            frame = frame.astype(dict.fromkeys(texts, pd.StringDtype("pyarrow", na_value=np.nan)))
    except UnicodeDecodeError as error:
        raise not_utf8(path, zipped) from error
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes make the parser raise far more than ParserError
        try:
            why, advice = _why(path, error, parse, sep, quoting, has_header)
        except UnicodeDecodeError:
            raise not_utf8(path, zipped) from error
        raise DataError(
            f"{path}: this cannot be read as a table separated by {shown}s ({why}). "
            f"Every row needs as many fields as the header ({len(fields)}); {advice}"
        ) from error
    lines = np.arange(1, len(frame) + 1) + has_header
    if quoting == csv.QUOTE_MINIMAL and n_lines > len(frame) + has_header:  # some field holds line breaks
        begins = _begins(frame, has_header)
        _refuse_swallowed_rows(path, frame, sep, begins)
        lines = begins[:-1]
    blank = frame.isna().all(axis=1).to_numpy(bool)
    if blank.any():
        notes.append(f"{path}: {blank.sum():,} blank lines are skipped.")
        frame, lines = frame[~blank], lines[~blank]
    if not len(frame):
        raise DataError(f"{path}: there is a header but no rows.")
    return Table(frame, lines, notes, has_header)


def _why(path: Path, error: Exception, parse, sep: str, quoting: int, has_header: bool) -> tuple[str, str]:
    """What is wrong with a file that `parse` could not read, and what to do; DataError if it is a swallowed row."""
    why, advice = first_line(error), "check the separator (sep=...) and the quoting."
    found = re.search(r"(EOF inside string starting at row|fields in line) (\d+)", why)
    if found is None:
        return why, advice
    never_closed = found[1].startswith("EOF")
    line = int(found[2]) + never_closed
    if line > 1 + has_header and quoting == csv.QUOTE_MINIMAL:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            before = parse(dtype="str", nrows=line - 1 - has_header)
        begins = _begins(before, has_header)
        _refuse_swallowed_rows(path, before, sep, begins)
        why, line = why.replace(f"in line {line},", f"in line {begins[-1]},"), begins[-1]
    return (f"a quote that opens in line {line} is never closed", QUOTES) if never_closed else (why, advice)


def _scan(file) -> tuple[bytes, int]:
    """The first MiB and the number of lines; reads all, so a compressed file that was cut short ends here."""
    head, breaks, last = b"", 0, b"\n"
    while chunk := file.read(1 << 24):
        head = head or chunk[: 1 << 20]
        breaks += chunk.count(b"\n")
        last = chunk[-1:]
    return head, breaks + (last != b"\n")


def _decoded(path: Path, zipped: bool, code: str) -> tuple[bytes, str]:
    """The file's text as UTF-8, and the encoding it is in: UTF-8 after all, if it can be read as that."""
    with (gzip.open if zipped else open)(path, "rb") as file:
        content = file.read()
    if b"\0" not in content:
        try:
            return content.decode("utf-8").encode(), "utf-8"
        except UnicodeDecodeError:
            pass
    try:
        return content.decode(code).removeprefix("\ufeff").encode(), code
    except (UnicodeError, LookupError) as error:
        raise DataError(f"{path}: the text is not {code} ({first_line(error)}). Pass another encoding=.") from error


def _begins(frame: pd.DataFrame, has_header: bool) -> np.ndarray:
    """(E + 1,) the line in which each row begins, and the one after the last."""
    breaks = np.ones(len(frame), np.int64)
    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column].dtype):
            breaks += frame[column].astype("str").str.count("\n").fillna(0).to_numpy(np.int64)
    first = 1 + has_header + (sum(str(name).count("\n") for name in frame.columns) if has_header else 0)
    return first + np.concatenate([[0], np.cumsum(breaks)])


def _refuse_swallowed_rows(path: Path, frame: pd.DataFrame, sep: str, begins: np.ndarray) -> None:
    """DataError if lines in a quoted field look like rows: as many fields, and ids, numbers and dates in their places.

    A quote that nobody closed ends at the next one, some rows on. Text of several lines has no such lines.
    """
    several = np.diff(begins) > 1
    whole = frame[~several]
    whole = whole.iloc[:: max(1, len(whole) // 1000)]
    texts = [text_of(frame.loc[several, column]).str.strip("\r\n") for column in frame.columns]
    lines = reduce(lambda row, text: row + sep + text, texts).reset_index(drop=True).str.split("\n").explode()
    lines = lines[lines.index.duplicated()]
    lines = lines[(lines.str.count(re.escape(sep)) == len(texts) - 1).to_numpy(bool)]
    if not len(lines):
        return
    pieces = lines.str.rstrip("\r").str.split(sep, expand=True, regex=False)
    whole = whole if len(whole) else pieces.set_axis(frame.columns, axis=1)
    alike, telling = np.ones(len(lines), bool), False
    for place, column in enumerate(frame.columns):
        usual, piece = text_of(whole[column]), pieces[place].astype("str")
        shapes = _shape(usual).value_counts()
        if len(shapes) <= 4 and shapes.index.str.contains("0").any():  # numbers, dates, U0001
            alike &= _shape(piece).isin(shapes.index).to_numpy(bool)
            telling = True
        elif not usual.str.contains(" ").any() and not texts[place].str.contains("\n").any():
            alike &= (~piece.str.contains(" ") & (piece != "")).to_numpy(bool)
    if telling and alike.any():
        first = lines.index[alike][0]
        row = np.flatnonzero(several)[first]
        column = next(name for name, text in zip(frame.columns, texts, strict=True) if "\n" in text.iloc[first])
        raise DataError(
            f"{path}: a quote that opens in line {begins[row]} (column {column!r}) is closed only in line "
            f"{begins[row + 1] - 1}, and what lies between looks like rows, not like text. If it is a stray one, "
            f"{QUOTES}"
        )


def _shape(texts: pd.Series) -> pd.Series:
    """1526 -> 0, 2024-05-31 -> 0-0-0, U007 -> a0."""
    return texts.str.replace(r"[0-9]+", "0", regex=True).str.replace(r"[A-Za-z]+", "a", regex=True)


def first_line(error: Exception) -> str:
    """The first line of an exception's text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
