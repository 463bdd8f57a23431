"""The notebooks as they are copied into a folder of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqlab.reports import copies
from seqlab.reports.copies import copy_notebooks
from seqlab.reports.render import curated, named


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three notebooks that come with the package."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name in ("00_a", "01_b", "02_c"):
        (folder / f"{name}.ipynb").write_text(f"{name} as it came")
    monkeypatch.setattr(copies, "included", lambda what: folder)
    return folder


def test_notebooks_are_copied_and_a_changed_one_is_kept(source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "notebooks"
    first = copy_notebooks(mine)
    assert first.copied == ("00_a.ipynb", "01_b.ipynb", "02_c.ipynb")
    assert (mine / "01_b.ipynb").read_text() == "01_b as it came"
    (mine / "00_a.ipynb").write_text("I changed this")
    (source / "00_a.ipynb").write_text("a newer one")
    (source / "01_b.ipynb").write_text("a newer one")
    again = copy_notebooks(mine)
    assert (again.copied, again.updated, again.changed, again.same) == (
        (), ("01_b.ipynb",), ("00_a.ipynb",), ("02_c.ipynb",)
    )  # fmt: skip
    assert str(again).endswith(
        "1 replaced by a newer one; 1 kept, since they were changed (00_a.ipynb); 1 there already."
    )
    assert (mine / "00_a.ipynb").read_text() == "I changed this"
    assert (mine / "01_b.ipynb").read_text() == "a newer one"
    assert copy_notebooks(mine).changed == ("00_a.ipynb",)


def test_a_file_of_somebody_else_is_kept(source: Path, tmp_path: Path) -> None:
    (tmp_path / "02_c.ipynb").write_text("was here before")
    (tmp_path / copies.COPIED).write_text("[]")
    assert copy_notebooks(tmp_path).changed == ("02_c.ipynb",)
    assert (tmp_path / "02_c.ipynb").read_text() == "was here before"


def test_the_folder_of_the_project_itself_is_left_alone(source: Path) -> None:
    assert not copy_notebooks(source).copied and not (source / copies.COPIED).exists()


def test_a_project_without_notebooks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "included", lambda what: tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="came without its notebooks"):
        copy_notebooks(tmp_path / "mine")


def test_a_notebook_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the package, unless a copy lies in ./notebooks; a path stays a path."""
    monkeypatch.chdir(tmp_path)
    own = {path.stem: path for path in curated()}["90_report_system"]
    assert named("90_report_system") == named("90_report_system.ipynb") == own
    assert named("elsewhere/90_report_system.ipynb") == Path("elsewhere/90_report_system.ipynb")
    assert named("nothing") == Path("nothing") and named("view.json") == Path("view.json")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / own.name).write_text("{}")
    assert named("90_report_system") == Path("notebooks") / own.name
