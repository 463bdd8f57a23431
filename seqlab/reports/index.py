"""The index of a folder of reports, and each report's own folder put in place whole."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from seqlab.reports import pages
from seqlab.runtime.files import atomic_write


def write_index(out: str | Path) -> Path:
    """Write reports/index.html from what lies in the folder; returns its path."""
    out, rows = Path(out), []
    for older in out.glob(".*.old"):  # a process was killed while it put a folder in place of this one
        _mend(older.with_name(older.name[1:].removesuffix(".old")))
    for path in sorted(out.glob("[!.]*/provenance.json")):
        with contextlib.suppress(OSError, ValueError):  # a folder that is being replaced right now, or not ours
            row = json.loads(path.read_text(encoding="utf-8"))
            rows.append(row | {"numbers": len(json.loads((path.parent / "results.json").read_text(encoding="utf-8")))})
    return atomic_write(out / "index.html", pages.index_page(rows))


def replace_folder(place: Path, new: Path) -> None:
    """Put a whole folder in place of another; if the process is killed meanwhile, `_mend` leaves one of the two."""
    _mend(place)
    older = _older(place)
    if place.exists():
        place.rename(older)
    new.rename(place)
    shutil.rmtree(older, ignore_errors=True)


def _mend(place: Path) -> None:
    if place.exists():
        shutil.rmtree(_older(place), ignore_errors=True)
    elif _older(place).exists():
        _older(place).rename(place)


def _older(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")
