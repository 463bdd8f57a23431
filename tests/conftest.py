"""What every test may use: tiny notebooks, the data folder, one thread per worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("seqlab", deadline=None)  # how long an example takes is no property of the code
settings.load_profile("seqlab")

pytest_plugins = ["tests.browsing"]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: pytest-xdist already uses the cores


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the ten systems whose tests take longest: those with its name as a parameter, or in the file's name."""
    from seqlab import models

    seconds = dict.fromkeys(models.names(), 0.0)
    for report in (one for some in terminalreporter.stats.values() for one in some):
        if isinstance(report, pytest.TestReport):
            file, _, test = report.nodeid.partition("::")
            words = {Path(file).stem.removeprefix("test_"), *test.partition("[")[2].rstrip("]").split("-")}
            for name in words & seconds.keys():
                seconds[name] += report.duration
    slowest = sorted((one for one in seconds.items() if one[1] >= 1), key=lambda one: -one[1])[:10]
    if slowest:
        words = ", ".join(f"{name} {total:.0f}" for name, total in slowest)
        terminalreporter.write_line(f"slowest systems, seconds of their tests: {words}")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The benchmark files in $SEQLAB_DATA; without them the test is skipped."""
    folder = os.environ.get("SEQLAB_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SEQLAB_DATA names no folder: the benchmark files are not here")
    return Path(folder)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A small log of one's own as a CSV."""
    from tests.synthetic import chain_log

    path = tmp_path / "log.csv"
    chain_log().events.to_csv(path, index=False)
    return path


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[..., Path]:
    """Writes a notebook of these cells: text starting with "#" + space is Markdown, the rest is code.

    `parameters` becomes the source of a first cell tagged so.
    """
    import nbformat.v4 as v4

    def write(name: str, *cells: str, parameters: str | None = None, kernel: str = "a-kernel-of-somebody-else") -> Path:
        nodes = [v4.new_markdown_cell(text) if text.startswith("# ") else v4.new_code_cell(text) for text in cells]
        if parameters is not None:
            nodes.insert(0, v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        spec = {"name": kernel, "display_name": kernel, "language": "python"}
        path = tmp_path / f"{name}.ipynb"
        path.write_text(v4.writes(v4.new_notebook(cells=nodes, metadata={"kernelspec": spec})), encoding="utf-8")
        return path

    return write


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No data folder and an empty cache: what a new user has. Returns the cache's folder."""
    monkeypatch.delenv("SEQLAB_DATA", raising=False)
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def warm_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The command of a kernel that need not import what every notebook imports; its arguments follow."""
    if sys.platform != "linux":
        yield [sys.executable, "-m", "ipykernel_launcher"]
        return
    from tests import warm_kernels

    path = str(tmp_path_factory.mktemp("kernels") / "socket")
    env = os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    server = [sys.executable, warm_kernels.__file__, path]
    with subprocess.Popen(server, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield warm_kernels.command(path)
        process.stdin.close()


@pytest.fixture
def warm_reports(warm_kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are rendered with such kernels."""
    from seqlab.reports import execute

    write = execute._kernelspec

    def write_warm(specs: Path, *given: object) -> None:
        write(specs, *given)
        path = specs / "python3" / "kernel.json"
        spec = json.loads(path.read_text(encoding="utf-8"))
        assert spec["argv"][:3] == [sys.executable, "-m", "ipykernel_launcher"]
        path.write_text(json.dumps(spec | {"argv": [*warm_kernels, *spec["argv"][3:]]}), encoding="utf-8")

    monkeypatch.setattr(execute, "_kernelspec", write_warm)
