"""The index lists complete reports, also after the process was killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from seqlab.reports.index import write_index
from seqlab.reports.render import render


def test_a_process_killed_between_two_folders_loses_neither(notebook, tmp_path: Path) -> None:
    path = notebook("page", "import seqlab; seqlab.record({'n': 1})")
    (report,) = render([path], out=tmp_path / "reports", echo=lambda line: None)
    place = report.html.with_suffix("")
    place.rename(place.with_name(".page.old"))  # where it was killed
    index = write_index(place.parent).read_text(encoding="utf-8")
    assert "page.html" in index and json.loads((place / "results.json").read_text()) == {"n": 1}
    shutil.copytree(place, place.with_name(".page.old"))  # or a moment later
    write_index(place.parent)
    assert sorted(entry.name for entry in place.parent.iterdir()) == ["index.html", "page", "page.html"]
