"""Renders notebooks with parameters into HTML files that open without a network.

reports/index.html                 every report there is
reports/NAME.html                  the report, self-contained
reports/NAME/results.json          the numbers the notebook recorded (`record`)
reports/NAME/provenance.json       versions, revision, device, seconds, parameters
reports/NAME/executed.ipynb        the notebook with its outputs
reports/NAME/thumbnail.svg         its picture in the index, where it has a figure
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
import typing
from dataclasses import dataclass
from pathlib import Path

from seqlab.reports import arrange, pages
from seqlab.reports.execute import Job, execute, one_line
from seqlab.reports.index import THUMBNAIL, replace_folder, titles, write_index
from seqlab.reports.parameters import ParameterError, check, declared
from seqlab.reports.sketch import sketch
from seqlab.runs.pins import unpin
from seqlab.runtime.files import atomic_write, exclusive_lock
from seqlab.runtime.included import included
from seqlab.runtime.text import did_you_mean

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nbformat import NotebookNode

HEARTBEAT = 10.0
"""Seconds between two progress lines about notebooks that are running."""


@dataclass(frozen=True)
class Report:
    """The result of rendering one notebook; `error` is None when it ran to its end."""

    name: str
    html: Path
    seconds: float
    error: str | None


def curated() -> list[Path]:
    """The notebooks of the lab: those that come with the package, else those in ./notebooks."""
    for folder in (included("notebooks"), Path.cwd() / "notebooks"):
        found = sorted(folder.glob("*.ipynb"))
        if found:
            return found
    return []


def named(notebook: str | Path) -> Path:
    """The path of a notebook, which may be the name of a curated one; a copy in ./notebooks is taken before it."""
    path = Path(notebook)
    if path.exists() or len(path.parts) != 1 or path.suffix == ".json":
        return path
    name = path.name if path.suffix == ".ipynb" else f"{path.name}.ipynb"
    known = {one.name: one for one in curated()}
    mine = Path("notebooks") / name
    if name in known:
        return mine if mine.is_file() else known[name]
    return path


def render(
    notebooks: Iterable[str | Path],
    parameters: Mapping[str, typing.Any] | None = None,
    out: str | Path = "reports",
    name: str | None = None,
    jobs: int = 1,
    timeout: float = 1800,
    start_timeout: float = 120,
    echo: Callable[[str], None] = print,
    settings: Mapping[str, typing.Any] | None = None,
) -> list[Report]:
    """Run notebooks, each in a kernel of this Python and in the working folder, and render their outputs.

    notebooks: paths of notebooks, names of curated ones (see `named`), or paths of pinned views (`runs.pins.pin`): a
    notebook with its parameters.
    parameters: values for the cell tagged `parameters` of every notebook; text is converted to the declared type.
    Paths are relative to the working folder; modules in the folder of a notebook can be imported.
    settings: are added to the parameter `settings` of every notebook, over those that are there.
    name: of the report, for one notebook (default: the notebook's). timeout: seconds a cell may take; start_timeout:
    seconds a kernel may take to start. jobs: notebooks that run in parallel and share the cores.
    echo: is called with each progress line.

    All arguments are validated before anything runs: raises `FileNotFoundError` for a notebook that does not exist,
    `ValueError` for one that cannot be read, for parameters it does not have or of another type and for two reports of
    one name, `BlockingIOError` where another process renders one of them.
    A notebook that fails does not stop the others; its report has the outputs up to the error.
    """
    given, working_folder = dict(parameters or {}), Path.cwd()
    out = Path(out)
    queued = [_prepare(named(path), given, name, dict(settings or {})) for path in notebooks]
    _check_names(queued, name)
    out.mkdir(parents=True, exist_ok=True)
    import papermill.log  # 1.3 s: once, not in every thread

    # it parses parameters line by line and warns of declared ones as "unknown"; they are validated already
    papermill.log.logger.setLevel(logging.ERROR)
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    reports = []
    with _locked(queued, out), concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        beside = titles(out) | {one.name: _title(one.notebook) or one.name for one in queued}
        beside = dict(sorted(beside.items()))
        futures = [
            pool.submit(_report, one, out, working_folder, timeout, start_timeout, threads, beside) for one in queued
        ]
        try:
            waiting = set(futures)
            while waiting:
                done, waiting = concurrent.futures.wait(waiting, HEARTBEAT, concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    reports.append(future.result())
                    line = _progress_line(queued[futures.index(future)], reports[-1])
                    echo(f"[{len(reports)}/{len(queued)}] {line}")
                for one in queued if not done else ():
                    if one.running:
                        echo(f"[{len(reports)}/{len(queued)}] {_progress_line(one)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for one in queued:
                one.kill()
            raise
        finally:
            write_index(out)
    order = {one.name: place for place, one in enumerate(queued)}
    return sorted(reports, key=lambda report: order[report.name])


def _prepare(path: Path, given: dict[str, typing.Any], name: str | None, settings: dict[str, typing.Any]) -> Job:
    """The notebook at `path`, or that of a pinned view, ready to run with parameters, and settings added to its own."""
    import nbformat

    if path.suffix == ".json" and path.is_file():
        notebook, pinned = unpin(path)
        name, given = name or path.stem, pinned | given
        known = {one.stem: one for one in curated()}
        if notebook not in known:
            raise ValueError(f"{path} is a view of {notebook!r}, which is no notebook of this lab")
        path = known[notebook]
    if not path.is_file():
        names = [one.stem for one in curated()]
        there = f" There are: {', '.join(names)}." if names else ""
        raise FileNotFoundError(f"there is no notebook {path}.{did_you_mean(path.stem, names)}{there}")
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many types
        raise ValueError(f"{path} cannot be read as a notebook ({type(error).__name__})") from error
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # outputs of an earlier run
    try:
        if "split_name" in given and "split_name" not in declared(notebook):
            raise ParameterError("it splits no log: it has no parameter split_name, which --split sets.")
        values = check(notebook, given)
        defaults = {key: value for key, (value, _) in declared(notebook).items()}
        if settings:
            if not isinstance(defaults.get("settings"), dict):
                raise ParameterError("it has no settings of one system or tokenizer, which --set changes.")
            values["settings"] = values.get("settings", defaults["settings"]) | settings
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error
    return Job(path.resolve(), name or path.stem, notebook, values, defaults)


def _progress_line(job: Job, report: Report | None = None) -> str:
    """A progress line: the cell that runs, or the result."""
    if report is None:
        return f"{job.name}  cell {job.cell}/{job.n_cells}  {time.monotonic() - job.started:.0f} s"
    if report.error is None:
        return f"{job.name}  done, {job.n_cells} cells  {report.seconds:.1f} s  {report.html}"
    return f"{job.name}  FAILED after {report.seconds:.1f} s: {report.error}"


def _check_names(queued: list[Job], name: str | None) -> None:
    if name is not None and len(queued) > 1:
        raise ValueError("a name is for one report; give one notebook")
    taken: dict[str, Path] = {}
    for one in queued:
        if one.name in taken:
            raise ValueError(f"{taken[one.name]} and {one.path} would both become the report {one.name!r}; render one "
                             "at a time, with a name of its own")  # fmt: skip
        if one.name == "index" or one.name.startswith(".") or re.search(r"[/\\\x00-\x1f]", one.name) or not one.name:
            raise ValueError(f"{one.name!r} cannot be the name of a report; give another name")
        taken[one.name] = one.path


@contextlib.contextmanager
def _locked(queued: list[Job], out: Path) -> Iterator[None]:
    """Lock these reports against other processes."""
    with contextlib.ExitStack() as stack:
        for one in queued:
            sentence = f"another process is making the report {one.name!r} in {out}; wait, or give another folder"
            stack.enter_context(exclusive_lock(_working(out, one.name), sentence))
        yield


def _report(
    job: Job,
    out: Path,
    working_folder: Path,
    timeout: float,
    start_timeout: float,
    threads: int | None,
    beside: Mapping[str, str],
) -> Report:
    """Run and render one notebook in a temporary folder, which then replaces that of an earlier report.

    beside: name -> title of all pages in the folder, which it links.
    """
    import nbformat

    from seqlab.runtime import provenance

    working = _working(out.resolve(), job.name)
    shutil.rmtree(working, ignore_errors=True)  # of a killed process, whose kernel may still write there
    working.mkdir()
    folder = Path(tempfile.mkdtemp(dir=working))
    job.started, job.running = time.monotonic(), True
    try:
        error = execute(job, folder, working_folder, timeout, start_timeout, threads)
        seconds = round(time.monotonic() - job.started, 1)
        executed = folder / "executed.ipynb"
        notebook = nbformat.read(executed, as_version=4) if executed.exists() else job.notebook
        marker = "papermill-error-cell-tag"  # banners of papermill; the page has one
        notebook.cells = [cell for cell in notebook.cells if marker not in cell.metadata.get("tags", [])]
        for key in ("input_path", "output_path"):  # paths of this machine
            notebook.metadata.get("papermill", {}).pop(key, None)
        atomic_write(executed, nbformat.writes(notebook))
        if not (folder / "results.json").exists():
            atomic_write(folder / "results.json", "{}\n")
        origin = provenance.describe()
        about = {
            "name": job.name, "title": _title(notebook) or job.name, "notebook": job.path.name,
            "summary": arrange.summary(notebook),
            "ok": error is None, "error": error, "seconds": seconds,
            "parameters": job.defaults | job.given, "given": list(job.given),
            "figures": _count(notebook, pages.PLOTLY), "widgets": _count(notebook, pages.WIDGET),
            **{key: origin[key] for key in ("date", "git", "device", "python", "versions")},
        }  # fmt: skip
        try:
            page = pages.report_page(notebook, about | {"folder": str(job.path.parent)}, beside)
            if picture := _thumbnail(notebook):
                atomic_write(folder / THUMBNAIL, picture)
        except Exception as failure:  # an output that no page can show, such as a figure without data
            message = one_line(f"an output cannot be shown ({type(failure).__name__}: {failure})")
            about |= {"ok": False, "error": error or message}
            page = pages.report_page(job.notebook, about, beside)
        atomic_write(folder / "provenance.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        html = atomic_write(out / f"{job.name}.html", page)
        folder.chmod(0o755)
        replace_folder(out / job.name, folder)
        return Report(job.name, html, seconds, about["error"])
    finally:
        job.running = False
        shutil.rmtree(working, ignore_errors=True)


def _working(out: Path, name: str) -> Path:
    return out / f".{name}.new"


def _count(notebook: NotebookNode, kind: str) -> int:
    return sum(kind in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


def _thumbnail(notebook: NotebookNode) -> str:
    """The figure of the cell tagged `thumbnail`, else the first one that can be drawn small, as SVG."""
    cells = sorted(notebook.cells, key=lambda cell: arrange.THUMBNAIL not in cell.metadata.get("tags", []))
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    for figure in (data[pages.PLOTLY] for data in outputs if pages.PLOTLY in data):
        with contextlib.suppress(Exception):  # a figure of another shape than those that are drawn: no picture
            if drawn := sketch(figure):
                return drawn
    return ""


def _title(notebook: NotebookNode) -> str:
    """The first heading, as text."""
    for cell in notebook.cells:
        found = re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if found:
            return re.sub(r"[*`]", "", found[1]).strip()
    return ""
