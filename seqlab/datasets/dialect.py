"""The dialect of a delimited text file: its encoding, its delimiter, and whether its first line is a header."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
from pathlib import Path

from seqlab.datasets.columns import DECIMAL
from seqlab.datasets.guessing import guess_name
from seqlab.runtime.text import DataError, did_you_mean, listed

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", "::": "double colon"}
SUFFIXES = {".csv": ",", ".tsv": "\t", ".dat": None, ".data": None, ".txt": None, ".inter": "\t", ".item": "\t"}
"""The delimiter of each file suffix; None: detected from the first line."""
WHITESPACE = r"\s+"
"""The only delimiter that is a regular expression."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and their encodings, longest first."""
ENCODINGS = [
    "cp1252", "cp1251", "gb18030", "shift_jis", "cp949", "big5", "cp1250", "koi8_r", "cp1253", "cp1254", "cp1255",
    "cp1256",
]  # fmt: skip
"""Legacy encodings, most common first."""
MULTIBYTE = {"gb18030", "shift_jis", "cp949", "big5"}
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?"
LINE = re.compile(rb"\r\n|\n|\r")


def suffix_of(path: Path) -> str | None:
    """The suffix of a delimited file, such as .csv (a .gz after it is ignored); None for other files."""
    name = path.name.lower()
    return next((ending for ending in SUFFIXES if name.removesuffix(".gz").endswith(ending)), None)


def encoding_of(path: Path, head: bytes, encoding: str | None) -> str:
    """The encoding: of a byte order mark in `head`, as passed, UTF-16 by its pattern of zero bytes, else UTF-8.

    Raises `DataError` for an unknown encoding.
    """
    marked = next((code for mark, code in BYTE_ORDER_MARKS if head.startswith(mark)), None)
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
        close = did_you_mean(encoding, [*ENCODINGS, "utf-8", "utf-16", "latin-1", "gbk"])
        raise DataError(f"{path}: there is no encoding called {encoding!r}.{close}") from error


def header_of(path: Path, zipped: bool, head: bytes) -> str:
    """The first line of a file's first bytes. Raises `DataError` if it is blank, `NotUTF8` if it is not UTF-8."""
    line = LINE.split(head, maxsplit=1)[0]
    if not line.strip():
        raise DataError(f"{path}: the first line is empty. It must contain the column names.")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, zipped) from error


def separator_of(path: Path, sep: str | None, header: str, strict: bool, notes: list[str]) -> str:
    """The delimiter: as passed, by the suffix, or by the first line. Raises `DataError` if the first line contradicts.

    strict False: a passed delimiter that is not in the first line is ignored.
    """
    by_suffix = SUFFIXES.get(suffix_of(path))
    sep = "\t" if sep == "\\t" else sep  # as a shell passes it on
    if sep == "":
        raise DataError(f"{path}: sep is empty. Pass the delimiter, such as sep=','.")
    detected = max(SEPARATORS, key=lambda one: (header.count(one) * len(one), one == by_suffix))
    if sep is not None and not strict and sep not in header:
        sep = None
    if sep is None and by_suffix is None and detected in header:
        notes.append(f"{path}: {SEPARATORS[detected]}-separated (detected from the first line).")
        return detected
    sep = sep or by_suffix or ","
    if sep not in header and sep != WHITESPACE and detected in header:
        raise DataError(
            f"{path}: the header {header[:80]!r} has no {SEPARATORS.get(sep, repr(sep))} but looks "
            f"{SEPARATORS[detected]}-separated. Pass sep={detected!r} (in a shell: --sep {detected!r})."
        )
    return sep


def fields_of(header: str, sep: str, quoting: int) -> list[str]:
    """The fields of the first line."""
    if sep == WHITESPACE:
        return header.split()
    if quoting == csv.QUOTE_NONE:
        return header.split(sep)
    return next(csv.reader([header], delimiter=sep), [""])


def is_header(fields: list[str], names) -> bool:
    """Whether the first line is a header: it has known names, or no number and no date (0, 1, 2, ... are names)."""
    if any(name in fields for name in names if not name.isdigit()):
        return True
    if [place or "0" for place in fields] == [str(place) for place in range(len(fields))]:
        return True
    if sum(guess_name(fields, role) is not None for role in ("user", "item", "time")) > 1:
        return True
    return not any(re.fullmatch(DECIMAL, field.strip()) or re.fullmatch(DATE, field.strip()) for field in fields)


class NotUTF8(DataError):
    """A text file is not UTF-8, and its encoding is unknown."""


def not_utf8(path: Path, zipped: bool) -> NotUTF8:
    """The error for text that is not UTF-8: the first lines with such bytes, and their text in likely encodings."""
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
    if ranked and ranked[0] not in MULTIBYTE:  # of single-byte encodings that fit, the most common first
        western = ["cp1252"] if sample.decode("cp1252", "replace") == sample.decode(ranked[0], "replace") else []
        ranked = western + [code for code in ENCODINGS if code in ranked and code not in MULTIBYTE]
    decoded: dict[str, str] = {}
    for code in dict.fromkeys([*ranked, *ENCODINGS]):
        try:
            b"".join(lines).decode(code)
        except UnicodeDecodeError:
            continue
        text = words[0][:30].decode(code, errors="ignore").strip()
        if text.isprintable() and text not in decoded.values():
            decoded[code] = text
    likely = [f"encoding={code!r} ({text})" for code, text in list(decoded.items())[:5]]
    best = next(iter(decoded), "cp1252")
    return NotUTF8(
        f"{path}: the text is not UTF-8 (line{'s' if len(bad) != 1 else ''} {listed(bad)}). Pass the encoding that "
        f"shows the text correctly: {', '.join(likely) or 'encoding=...'} (in a shell: --encoding {best}), or convert "
        f"the file: iconv -f {best} -t utf-8."
    )
