"""Text files of fields (CSV, TSV and their relatives) -> a frame of text, with the line of every row."""

from __future__ import annotations

import codecs
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

from seqlab.datasets.columns import PLAIN, text_of
from seqlab.datasets.guessing import guess
from seqlab.runtime.text import DataError, listed, nearest

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", "::": "double colon"}
ENDINGS = {".csv": ",", ".tsv": "\t", ".dat": None, ".data": None, ".txt": None, ".inter": "\t", ".item": "\t"}
"""Of each ending the separator that it promises; None: the first line tells."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""First bytes that say the encoding, the longer ones first."""
ENCODINGS = [
    "cp1252", "cp1251", "gb18030", "shift_jis", "cp949", "big5", "cp1250", "koi8_r", "cp1253", "cp1254", "cp1255",
    "cp1256",
]  # fmt: skip
"""What text that is not UTF-8 is mostly written in, the commonest first."""
MULTIBYTE = {"gb18030", "shift_jis", "cp949", "big5"}
QUOTES = 'close it, write "" for a quote mark in a quoted field, or save as .tsv, which has no quoting.'
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?"
LINE = re.compile(rb"\r\n|\n|\r")
GUESSED = object()
"""In place of the name of the column of times: the one whose name says so."""
SPACES = r"\s+"
"""The one separator that is a pattern: any run of blanks."""


class Table(NamedTuple):
    """A file's rows as text (its times maybe as numbers), the line each begins in, what to tell, and if it has names.

    Without names in the first line the columns are called "0", "1", ...
    """

    frame: pd.DataFrame
    lines: np.ndarray
    notes: list[str]
    has_header: bool


def ending_of(path: Path) -> str | None:
    """The ending that says a file holds fields, such as .csv or .tsv.gz; None for any other."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.removesuffix(".gz").endswith(ending)), None)


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
    code = _encoding(path, head, encoding)
    content = None
    if code != "utf-8":
        content, code = _decoded(path, zipped, code)
        notes.append(f"{path}: the text is {code}.")
        head, n_lines = _scan(io.BytesIO(content))
    header = _header(path, zipped, head)
    sep = _separator(path, sep, header, insist, notes)
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
    fields = _fields(header, sep, quoting)
    has_header = _names_columns(fields, names)
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
        raise _not_utf8(path, zipped) from error
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes make the parser raise far more than ParserError
        try:
            why, advice = _why(path, error, parse, sep, quoting, has_header)
        except UnicodeDecodeError:
            raise _not_utf8(path, zipped) from error
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


def _encoding(path: Path, head: bytes, encoding: str | None) -> str:
    """ "utf-8", unless the first bytes or the caller say otherwise."""
    marked = next((code for mark, code in MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked
    if encoding is None:
        first = head[:32]
        halves = (first[::2], first[1::2]) if len(first) > 7 else (b"", b"")
        for code, zeros, letters in (("utf-16-be", *halves), ("utf-16-le", *halves[::-1])):
            if zeros and not any(zeros) and all(letters):
                return code
        return "utf-8"
    try:
        return codecs.lookup(encoding).name
    except LookupError as error:
        close = nearest(encoding, [*ENCODINGS, "utf-8", "utf-16", "latin-1", "gbk"])
        raise DataError(f"{path}: there is no encoding called {encoding!r}.{close}") from error


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


def _header(path: Path, zipped: bool, head: bytes) -> str:
    line = LINE.split(head, maxsplit=1)[0]
    if not line.strip():
        raise DataError(f"{path}: the first line is empty; it should hold the names of the columns.")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, zipped) from error


def _separator(path: Path, sep: str | None, header: str, insist: bool, notes: list[str]) -> str:
    """What divides the fields; DataError if the first line shows another separator."""
    promised = ENDINGS.get(ending_of(path))
    sep = "\t" if sep == "\\t" else sep  # as a shell passes it on
    if sep == "":
        raise DataError(f"{path}: sep is empty; pass the character between the fields, such as sep=','.")
    shown = max(SEPARATORS, key=lambda one: (header.count(one) * len(one), one == promised))
    if sep is not None and not insist and sep not in header:
        sep = None
    if sep is None and promised is None and shown in header:
        notes.append(f"{path}: fields between {SEPARATORS[shown]}s, as the first line shows.")
        return shown
    sep = sep or promised or ","
    if sep not in header and sep != SPACES and shown in header:
        raise DataError(
            f"{path}: the header {header[:80]!r} has no {SEPARATORS.get(sep, repr(sep))} but looks "
            f"{SEPARATORS[shown]}-separated. Pass sep={shown!r} (in a shell: --sep {shown!r})."
        )
    return sep


def _fields(header: str, sep: str, quoting: int) -> list[str]:
    if sep == SPACES:
        return header.split()
    if quoting == csv.QUOTE_NONE:
        return header.split(sep)
    return next(csv.reader([header], delimiter=sep), [""])


def _names_columns(fields: list[str], names) -> bool:
    """Whether the first line holds names: known ones, or none that is a number or a date (0, 1, 2, ... are names)."""
    if any(name in fields for name in names if not name.isdigit()):
        return True
    if [place or "0" for place in fields] == [str(place) for place in range(len(fields))]:
        return True
    if sum(guess(fields, role) is not None for role in ("user", "item", "time")) > 1:
        return True
    return not any(re.fullmatch(PLAIN, field.strip()) or re.fullmatch(DATE, field.strip()) for field in fields)


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


class NotUTF8(DataError):
    """The file is text in an encoding that its bytes do not tell."""


def _not_utf8(path: Path, zipped: bool) -> NotUTF8:
    """The error for text in another encoding: the first lines that show it, and how they would read in likely ones."""
    from charset_normalizer import from_bytes

    bad, lines = [], []
    with (gzip.open if zipped else open)(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                bad.append(number)
                lines.append(line)
                if len(bad) == 100:
                    break
    words = re.findall(rb"[A-Za-z ]*[\x80-\xff][^\x00-\x1f,;:|\"]*", b"".join(lines))
    sample = b" ".join(words)
    ranked = [match.encoding for match in from_bytes(sample * (1 + 2000 // len(sample)), cp_isolation=ENCODINGS)]
    if ranked and ranked[0] not in MULTIBYTE:  # of alphabets that fit alike, the commonest
        western = ["cp1252"] if sample.decode("cp1252", "replace") == sample.decode(ranked[0], "replace") else []
        ranked = western + [code for code in ENCODINGS if code in ranked and code not in MULTIBYTE]
    readings: dict[str, str] = {}
    for code in dict.fromkeys([*ranked, *ENCODINGS]):
        try:
            b"".join(lines).decode(code)
        except UnicodeDecodeError:
            continue
        text = words[0][:30].decode(code, errors="ignore").strip()
        if text.isprintable() and text not in readings.values():
            readings[code] = text
    told = [f"encoding={code!r} ({text})" for code, text in list(readings.items())[:5]]
    best = next(iter(readings), "cp1252")
    return NotUTF8(
        f"{path}: the text is not UTF-8 (line{'s' if len(bad) != 1 else ''} {listed(bad)}). Pass the encoding in which "
        f"it reads right: {', '.join(told) or 'encoding=...'} (in a shell: --encoding {best}); or save it as UTF-8, "
        f"e.g. iconv -f {best} -t utf-8."
    )


def first_line(error: Exception) -> str:
    """The first line of an exception's text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
