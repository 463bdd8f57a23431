"""The built wheel in an environment of its own and an empty folder: what somebody has who only typed `pip install`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.browsing import running_lab
from tests.test_project import ROOT, tracked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

BENCH = """() => { const bench = document.querySelector(".seqlab-workbench");
  const map = bench && [...bench.querySelectorAll(".js-plotly-plot")].find((one) => one.querySelector(".legendtext"));
  return Boolean(map && /User/.test((bench.querySelector("h3[role=status]") || {}).innerText)); }"""
UNKNOWN = ("PYTHONPATH", "SEQLAB_DATA", "SEQLAB_CACHE", "SEQLAB_MODELS", "VIRTUAL_ENV")


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Nothing of this checkout, and an empty cache."""
    cache = tmp_path_factory.mktemp("cache")
    return {key: one for key, one in os.environ.items() if key not in UNKNOWN} | {"SEQLAB_CACHE": str(cache)}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]) -> Path:
    """The folder of the programs of a new environment with the wheel of what git tracks."""
    source, wheels, venv = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "venv"))
    for path in tracked():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    for words in (["wheel", "--no-deps", "-w", wheels, source], ["install", "-c", ROOT / "constraints.txt"]):
        words = words if words[0] == "wheel" else [*words, next(wheels.glob("*.whl"))]
        subprocess.run([python, "-m", "pip", words[0], "-q", *words[1:]], check=True, env=environ)
    return venv / "bin"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


def output(installed: Path, folder: Path, environ: dict[str, str], *words: str) -> str:
    done = subprocess.run([installed / words[0], *words[1:]], cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_shell_knows_its_version_its_runs_and_its_notebooks(installed, empty, environ) -> None:
    assert output(installed, empty, environ, "seqlab", "--version").startswith("seqlab ")
    assert "sasrec: complete-journey, leave-one-out" in output(installed, empty, environ, "seqlab", "zoo")
    code = "import seqlab; run = seqlab.load_run('sasrec'); print(run.folder)"
    assert "/site-packages/" in output(installed, empty, environ, "python", "-c", code)
    output(installed, empty, environ, "seqlab", "recommend", "sasrec", "--out", "recs.csv", "--k", "3")
    assert (empty / "recs.csv").read_text(encoding="utf-8").startswith("user,item,rank")


def test_a_report_by_its_name(installed, empty, environ) -> None:
    output(installed, empty, environ, "seqlab", "report", "02_item_map")
    page = (empty / "reports" / "02_item_map.html").read_text(encoding="utf-8")
    assert "Traceback" not in page and "Fluid milk" in page


def test_the_lab_opens_the_workbench_on_trained_runs(installed, empty, environ, chromium, tmp_path) -> None:
    """`seqlab lab` in the empty folder: prints the seconds from "Run all cells" to a user and a drawn map."""
    home, seconds = tmp_path / "home", []
    home.mkdir()
    folder = empty / "notebooks"
    path = {"PATH": f"{installed}{os.pathsep}{environ['PATH']}"}
    command = ["env", *(f"--unset={name}" for name in UNKNOWN), str(installed / "seqlab"), "lab"]
    with running_lab(chromium, home, folder, command, cwd=empty, **environ | path) as lab:
        assert (folder / "07_workbench.ipynb").is_file()
        shutil.copy(folder / "07_workbench.ipynb", tmp_path / "bench.ipynb")
        for _ in range(3):
            with lab.notebook(tmp_path / "bench.ipynb", width=1300, height=1500) as opened:
                began = time.perf_counter()
                opened.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
                opened.page.wait_for_function(BENCH, timeout=120_000, polling=50)
                seconds.append(round(time.perf_counter() - began, 1))
                opened.idle()
                opened.shot("workbench-from-the-wheel")
                opened.no_mishaps()
    print(f"\nthe workbench was ready after {seconds} s; load {os.getloadavg()[0]:.1f}")
