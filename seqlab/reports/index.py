"""Writes the index of a folder of reports, and replaces the folder of a report atomically."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from seqlab.reports import pages
from seqlab.runtime.files import atomic_write

THUMBNAIL = "thumbnail.svg"
"""The file in the folder of a report that holds its picture in the index."""

OTHERS = {"gallery.html": "The gallery: every system with its idea and a picture"}
"""Pages beside the reports that the index links, where they are there: file -> title."""


def write_index(out: str | Path) -> Path:
    """Write index.html from the provenance files in the folder; returns its path."""
    out, rows = Path(out), []
    for backup in out.glob(".*.old"):  # a process was killed while it replaced this folder
        _recover(backup.with_name(backup.name[1:].removesuffix(".old")))
    for path in sorted(out.glob("[!.]*/provenance.json")):
        with contextlib.suppress(OSError, ValueError):  # a folder that is being replaced, or no report
            row = json.loads(path.read_text(encoding="utf-8"))
            results = json.loads((path.parent / "results.json").read_text(encoding="utf-8"))
            picture = path.parent / THUMBNAIL
            thumbnail = picture.read_text(encoding="utf-8") if picture.is_file() else ""
            headline = str(results.get("headline") or "")
            summary = row.get("summary", "")  # pages of an earlier version have none
            rows.append(
                row | {"numbers": len(results), "headline": headline, "thumbnail": thumbnail, "summary": summary}
            )
    others = {file: title for file, title in OTHERS.items() if (out / file).is_file()}
    return atomic_write(out / "index.html", pages.index_page(rows, others))


def titles(out: str | Path) -> dict[str, str]:
    """name -> title of the reports in the folder."""
    found = {}
    for path in sorted(Path(out).glob("[!.]*/provenance.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            row = json.loads(path.read_text(encoding="utf-8"))
            if (path.parent.with_name(f"{path.parent.name}.html")).is_file():
                found[row["name"]] = row["title"]
    return found


def replace_folder(place: Path, new: Path) -> None:
    """Replace a folder by another; if the process is killed meanwhile, `_recover` restores one of the two."""
    _recover(place)
    backup = _backup(place)
    if place.exists():
        place.rename(backup)
    new.rename(place)
    shutil.rmtree(backup, ignore_errors=True)


def _recover(place: Path) -> None:
    if place.exists():
        shutil.rmtree(_backup(place), ignore_errors=True)
    elif _backup(place).exists():
        _backup(place).rename(place)


def _backup(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")
