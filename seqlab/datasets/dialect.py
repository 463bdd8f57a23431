"""How a text file of fields is written: its encoding, its separator, and whether its first line holds names."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
from pathlib import Path

from seqlab.datasets.columns import PLAIN
from seqlab.datasets.guessing import guess
from seqlab.runtime.text import DataError, did_you_mean, listed

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", "::": "double colon"}
ENDINGS = {".csv": ",", ".tsv": "\t", ".dat": None, ".data": None, ".txt": None, ".inter": "\t", ".item": "\t"}
"""Of each ending the separator that it promises; None: the first line tells."""
SPACES = r"\s+"
"""The one separator that is a pattern: any run of blanks."""
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
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?"
LINE = re.compile(rb"\r\n|\n|\r")


def ending_of(path: Path) -> str | None:
    """The ending that says a file holds fields, such as .csv or .tsv.gz; None for any other."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.removesuffix(".gz").endswith(ending)), None)


def encoding_of(path: Path, head: bytes, encoding: str | None) -> str:
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
        close = did_you_mean(encoding, [*ENCODINGS, "utf-8", "utf-16", "latin-1", "gbk"])
        raise DataError(f"{path}: there is no encoding called {encoding!r}.{close}") from error


def header_of(path: Path, zipped: bool, head: bytes) -> str:
    """The first line of a file's first bytes `head`; DataError if it is blank, NotUTF8 if it is no UTF-8."""
    line = LINE.split(head, maxsplit=1)[0]
    if not line.strip():
        raise DataError(f"{path}: the first line is empty; it should hold the names of the columns.")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(path, zipped) from error


def separator_of(path: Path, sep: str | None, header: str, insist: bool, notes: list[str]) -> str:
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


def fields_of(header: str, sep: str, quoting: int) -> list[str]:
    """The fields of the first line."""
    if sep == SPACES:
        return header.split()
    if quoting == csv.QUOTE_NONE:
        return header.split(sep)
    return next(csv.reader([header], delimiter=sep), [""])


def names_columns(fields: list[str], names) -> bool:
    """Whether the first line holds names: known ones, or none that is a number or a date (0, 1, 2, ... are names)."""
    if any(name in fields for name in names if not name.isdigit()):
        return True
    if [place or "0" for place in fields] == [str(place) for place in range(len(fields))]:
        return True
    if sum(guess(fields, role) is not None for role in ("user", "item", "time")) > 1:
        return True
    return not any(re.fullmatch(PLAIN, field.strip()) or re.fullmatch(DATE, field.strip()) for field in fields)


class NotUTF8(DataError):
    """The file is text in an encoding that its bytes do not tell."""


def not_utf8(path: Path, zipped: bool) -> NotUTF8:
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
