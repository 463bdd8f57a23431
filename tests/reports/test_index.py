"""The index lists complete reports, also after the process was killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from seqlab.reports.index import titles, write_index
from seqlab.reports.render import render
from tests.reports.test_pages import about


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


def test_the_index_shows_the_picture_and_the_result_of_each_and_the_gallery_where_there_is_one(tmp_path: Path) -> None:
    for name, result in (("new", {"headline": "It is 3 < 4."}), ("old", {"n": 1})):
        (tmp_path / name).mkdir()
        origin = about(name, None)
        del origin["summary"], origin["headline"], origin["thumbnail"], origin["numbers"]  # of an earlier version
        (tmp_path / name / "provenance.json").write_text(json.dumps(origin))
        (tmp_path / name / "results.json").write_text(json.dumps(result))
        (tmp_path / f"{name}.html").write_text("")
    (tmp_path / "new" / "thumbnail.svg").write_text("<svg/>")
    page = write_index(tmp_path).read_text(encoding="utf-8")
    assert "It is 3 &lt; 4." in page and page.count("data:image/svg+xml;base64,PHN2Zy8+") == 1
    assert "gallery.html" not in page
    (tmp_path / "gallery.html").write_text("")
    assert 'href="gallery.html"' in write_index(tmp_path).read_text(encoding="utf-8")
    assert titles(tmp_path) == {"new": "new", "old": "old"}
