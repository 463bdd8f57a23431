"""Reads delimited text files (CSV, TSV and similar) into a frame of text, with the line number of every row."""

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

from seqlab.datasets.columns import to_text
from seqlab.datasets.dialect import (
    SEPARATORS,
    WHITESPACE,
    encoding_of,
    fields_of,
    header_of,
    is_header,
    not_utf8,
    separator_of,
)
from seqlab.datasets.guessing import guess_name
from seqlab.runtime.text import DataError, first_line

CLOSE_QUOTE = 'close it, write "" for a quote character in a quoted field, or save as .tsv, which has no quoting.'
GUESS = object()
"""As the column of times: guess it by its name."""


class Table(NamedTuple):
    """The rows of a file as text (times possibly as numbers), the line in which each begins, notes, and header or not.

    Without a header the columns are called "0", "1", ...
    """

    frame: pd.DataFrame
    lines: np.ndarray
    notes: list[str]
    has_header: bool


def read_delimited(path: Path, sep: str | None, encoding: str | None, names=(), time=None, strict=True) -> Table:
    """The rows of a file. Blank lines are skipped and counted; tab-separated files have no quoting.

    sep: the delimiter, of one or more characters, or \\s+; None: by the suffix, else detected from the first line.
        strict False: a delimiter that is not in the first line is ignored.
    encoding: for files that are not UTF-8, UTF-16, or UTF-32 with a byte order mark.
    names: expected column names. time: the column that may become numbers, or `GUESS`; all others stay text.
    Raises `DataError`, with the line, for a file that is not such a table.
    """
    zipped = path.name.lower().endswith(".gz")
    try:
        with (gzip.open if zipped else open)(path, "rb") as file:
            head, n_lines = _scan(file)
    except (EOFError, OSError, zlib.error) as error:
        if not zipped:
            raise
        raise DataError(
            f"{path}: this is not a complete gzip file ({first_line(error)}). It may be truncated: download it again. "
            "If it is not compressed, remove .gz from its name."
        ) from error
    notes: list[str] = []
    code = encoding_of(path, head, encoding)
    content = None
    if code != "utf-8":
        content, code = _read_as_utf8(path, zipped, code)
        notes.append(f"{path}: the encoding is {code}.")
        head, n_lines = _scan(io.BytesIO(content))
    header = header_of(path, zipped, head)
    sep = separator_of(path, sep, header, strict, notes)
    quoting = csv.QUOTE_NONE if sep == "\t" or len(sep) > 1 else csv.QUOTE_MINIMAL
    shown, split = SEPARATORS.get(sep, repr(sep)), sep
    if len(sep.encode()) > 1 and sep != WHITESPACE:  # the parser needs a delimiter of a single byte
        if content is None:
            with (gzip.open if zipped else open)(path, "rb") as file:
                content = file.read()
        split = next((one for one in ("\t", "\x1f", "\x1e", "\x01") if one.encode() not in content), None)
        if split is None:
            raise DataError(
                f"{path}: with the separator {sep!r}, fields must not contain control characters. Remove them."
            )
        content = content.replace(sep.encode(), split.encode())
    fields = fields_of(header, sep, quoting)
    has_header = is_header(fields, names)
    if not has_header:
        notes.append(f"{path}: no header (the first line is data): the columns are called 0, 1, 2, ...")

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
            skip_blank_lines=False,  # keeps line numbers right
            low_memory=False,
            **({} if has_header else {"header": None, "names": [str(place) for place in range(len(fields))]}),
            **more,
        )

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # else rows longer than the header lose fields
            header_names = parse(nrows=0).columns
            time = guess_name(header_names, "time") if time is GUESS else time
            texts = [name for name in header_names if name != time]
            # Arrow strings avoid one Python object per field
            frame = parse(dtype=dict.fromkeys(texts, pd.ArrowDtype(pa.large_string())))
            frame = frame.astype(dict.fromkeys(texts, pd.StringDtype("pyarrow", na_value=np.nan)))
    except UnicodeDecodeError as error:
        raise not_utf8(path, zipped) from error
    except MemoryError:
        raise
    except Exception as error:  # for arbitrary bytes the parser raises more than ParserError
        try:
            why, advice = _explain(path, error, parse, sep, quoting, has_header)
        except UnicodeDecodeError:
            raise not_utf8(path, zipped) from error
        raise DataError(
            f"{path}: this is not a {shown}-separated table ({why}). "
            f"Every row needs as many fields as the header ({len(fields)}); {advice}"
        ) from error
    lines = np.arange(1, len(frame) + 1) + has_header
    if quoting == csv.QUOTE_MINIMAL and n_lines > len(frame) + has_header:  # a field contains line breaks
        first_lines = _first_lines(frame, has_header)
        _check_multiline_fields(path, frame, sep, first_lines)
        lines = first_lines[:-1]
    blank = frame.isna().all(axis=1).to_numpy(bool)
    if blank.any():
        notes.append(f"{path}: {blank.sum():,} blank lines are skipped.")
        frame, lines = frame[~blank], lines[~blank]
    if not len(frame):
        raise DataError(f"{path}: the file has a header but no rows.")
    return Table(frame, lines, notes, has_header)


def _explain(path: Path, error: Exception, parse, sep: str, quoting: int, has_header: bool) -> tuple[str, str]:
    """The problem of a file that `parse` could not read, and a remedy.

    Raises `DataError` if an unclosed quote has joined rows.
    """
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
        first_lines = _first_lines(before, has_header)
        _check_multiline_fields(path, before, sep, first_lines)
        why, line = why.replace(f"in line {line},", f"in line {first_lines[-1]},"), first_lines[-1]
    return (f"a quote that opens in line {line} is never closed", CLOSE_QUOTE) if never_closed else (why, advice)


def _scan(file) -> tuple[bytes, int]:
    """The first MiB and the number of lines; reads the whole file, so a truncated gzip file raises here."""
    head, breaks, last = b"", 0, b"\n"
    while chunk := file.read(1 << 24):
        head = head or chunk[: 1 << 20]
        breaks += chunk.count(b"\n")
        last = chunk[-1:]
    return head, breaks + (last != b"\n")


def _read_as_utf8(path: Path, zipped: bool, code: str) -> tuple[bytes, str]:
    """The text of the file in UTF-8, and its encoding: UTF-8 if it is valid, else `code`. Raises `DataError`."""
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


def _first_lines(frame: pd.DataFrame, has_header: bool) -> np.ndarray:
    """(E + 1,) the line in which each row begins, then the line after the last row."""
    breaks = np.ones(len(frame), np.int64)
    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column].dtype):
            breaks += frame[column].astype("str").str.count("\n").fillna(0).to_numpy(np.int64)
    first = 1 + has_header + (sum(str(name).count("\n") for name in frame.columns) if has_header else 0)
    return first + np.concatenate([[0], np.cumsum(breaks)])


def _check_multiline_fields(path: Path, frame: pd.DataFrame, sep: str, first_lines: np.ndarray) -> None:
    """Raise `DataError` if lines inside a quoted field look like rows, because a quote was not closed.

    Such lines have as many fields as a row, with ids, numbers and dates in their columns; lines of real text do not.
    """
    multiline = np.diff(first_lines) > 1
    whole = frame[~multiline]
    whole = whole.iloc[:: max(1, len(whole) // 1000)]
    texts = [to_text(frame.loc[multiline, column]).str.strip("\r\n") for column in frame.columns]
    lines = reduce(lambda row, text: row + sep + text, texts).reset_index(drop=True).str.split("\n").explode()
    lines = lines[lines.index.duplicated()]
    lines = lines[(lines.str.count(re.escape(sep)) == len(texts) - 1).to_numpy(bool)]
    if not len(lines):
        return
    pieces = lines.str.rstrip("\r").str.split(sep, expand=True, regex=False)
    whole = whole if len(whole) else pieces.set_axis(frame.columns, axis=1)
    like_row, has_pattern = np.ones(len(lines), bool), False
    for place, column in enumerate(frame.columns):
        values, piece = to_text(whole[column]), pieces[place].astype("str")
        patterns = _pattern(values).value_counts()
        if len(patterns) <= 4 and patterns.index.str.contains("0").any():  # numbers, dates, U0001
            like_row &= _pattern(piece).isin(patterns.index).to_numpy(bool)
            has_pattern = True
        elif not values.str.contains(" ").any() and not texts[place].str.contains("\n").any():
            like_row &= (~piece.str.contains(" ") & (piece != "")).to_numpy(bool)
    if has_pattern and like_row.any():
        first = lines.index[like_row][0]
        row = np.flatnonzero(multiline)[first]
        column = next(name for name, text in zip(frame.columns, texts, strict=True) if "\n" in text.iloc[first])
        raise DataError(
            f"{path}: a quote that opens in line {first_lines[row]} (column {column!r}) is closed only in line "
            f"{first_lines[row + 1] - 1}, and the lines between look like rows. If the quote is a mistake, "
            f"{CLOSE_QUOTE}"
        )


def _pattern(texts: pd.Series) -> pd.Series:
    """1526 -> 0, 2024-05-31 -> 0-0-0, U007 -> a0."""
    return texts.str.replace(r"[0-9]+", "0", regex=True).str.replace(r"[A-Za-z]+", "a", regex=True)
