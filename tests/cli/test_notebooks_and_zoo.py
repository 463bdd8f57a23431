"""The commands about what comes with the project: notebooks, JupyterLab, trained runs, the version."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import seqlab as package
from seqlab.reports.render import curated
from tests.cli.test_cli import code_of


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """In an empty folder: the command lines of JupyterLab, which is not started."""
    found: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", lambda program, words, env: found.append(words) or environments.append(env))
    return found


environments: list[dict[str, str]] = []
"""The environments of these command lines."""


def test_the_lab_starts_without_a_question_about_news_unless_the_users_settings_ask(started, monkeypatch) -> None:
    from jupyterlab_server.settings_utils import _get_overrides

    assert code_of("lab", "--no-browser") == 0
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", environments[-1]["JUPYTER_CONFIG_PATH"])
    settings, error = _get_overrides("nowhere")
    assert not error
    assert settings["@jupyterlab/apputils-extension:notification"] == {"fetchNews": "false", "checkForUpdates": False}


def test_lab_copies_the_notebooks_on_first_use_and_passes_options_on(started, tmp_path, capsys) -> None:
    assert code_of("lab", "--no-browser", "--port", "8899") == 0
    copied = sorted(path.name for path in (tmp_path / "notebooks").glob("*.ipynb"))
    assert copied == [path.name for path in curated()]
    assert f"{len(copied)} copied" in capsys.readouterr().out
    root = f"--ServerApp.root_dir={tmp_path.resolve() / 'notebooks'}"
    assert started == [[sys.executable, "-m", "jupyterlab", root, "--no-browser", "--port", "8899"]]
    (tmp_path / "notebooks" / copied[0]).unlink()
    assert code_of("lab") == 0 and "copied" not in capsys.readouterr().out
    assert not (tmp_path / "notebooks" / copied[0]).exists()
    (tmp_path / "mine").mkdir()
    assert code_of("lab", "mine", "--no-browser") == 0
    assert started[-1][3:] == [f"--ServerApp.root_dir={tmp_path.resolve() / 'mine'}", "--no-browser"]
    assert code_of("lab", "nothing") == 2
    assert "seqlab notebooks nothing" in capsys.readouterr().err


def test_the_lab_finds_systems_in_a_folder_named_relative_to_the_shell(started, tmp_path, monkeypatch) -> None:
    """Kernels run in the folders of their notebooks, where the relative path would name another folder."""
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("SEQLAB_MODELS", "mine")
    assert code_of("lab") == 0
    assert os.environ["SEQLAB_MODELS"] == str(tmp_path.resolve() / "mine")


def test_notebooks_says_what_it_did(tmp_path, capsys) -> None:
    assert code_of("notebooks", tmp_path / "some") == 0
    (tmp_path / "some" / curated()[0].name).write_text("changed")
    assert code_of("notebooks", tmp_path / "some") == 0
    assert f"1 kept, since they were changed ({curated()[0].name})" in capsys.readouterr().out


def test_a_report_is_asked_for_by_its_name(started, capsys) -> None:
    assert code_of("report", "90_report_sistem") == 2
    assert "Did you mean '90_report_system'?" in capsys.readouterr().err


def test_the_version_and_the_runs_that_come_with_it(capsys) -> None:
    assert code_of("--version") == 0
    assert capsys.readouterr().out.strip() == f"seqlab {package.__version__}"
    assert code_of("zoo") == 0
    assert " runs, " in capsys.readouterr().out
