"""A notebook, run from top to bottom with parameters, becomes one HTML file that opens without a network.

reports/index.html                 every report there is
reports/NAME.html                  the report, whole in itself
reports/NAME/results.json          the numbers the notebook recorded (`record`)
reports/NAME/provenance.json       versions, revision, device, seconds, parameters
reports/NAME/executed.ipynb        the notebook with its outputs
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

from seqlab.reports import pages
from seqlab.reports.execute import Work, execute, one_line
from seqlab.reports.index import replace_folder, write_index
from seqlab.reports.parameters import ParameterError, check, declared
from seqlab.runs.pins import unpin
from seqlab.runtime.files import atomic_write, exclusive_lock

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nbformat import NotebookNode

HEARTBEAT = 10.0
"""Seconds between two lines about notebooks that are still running."""


@dataclass(frozen=True)
class Report:
    """What became of one notebook; `error` is None when it ran to its end."""

    name: str
    html: Path
    seconds: float
    error: str | None


def curated() -> list[Path]:
    """The notebooks of the lab: those beside the package, else those in ./notebooks."""
    for folder in (Path(__file__).parents[2] / "notebooks", Path.cwd() / "notebooks"):
        found = sorted(folder.glob("*.ipynb"))
        if found:
            return found
    return []


def render(
    notebooks: Iterable[str | Path],
    parameters: Mapping[str, typing.Any] | None = None,
    out: str | Path = "reports",
    name: str | None = None,
    jobs: int = 1,
    timeout: float = 1800,
    start_timeout: float = 120,
    say: Callable[[str], None] = print,
) -> list[Report]:
    """Run notebooks, each in a kernel of this Python and in the working folder, and render what they show.

    notebooks: their paths, or those of pinned views (`runs.pins.pin`), which bring a notebook and its parameters.
    parameters: values for the cell tagged `parameters`, of every notebook given; text is read as the declared type.
    Paths are relative to the working folder, wherever a notebook lies; modules beside it are found too.
    name: of the report, for one notebook (default: the notebook's). timeout: seconds a cell may take; start_timeout:
    seconds a kernel may take to start. jobs: notebooks at a time, which then share the processor's cores.
    say: gets the progress lines.

    Nothing runs if anything given is wrong: `FileNotFoundError` for a notebook that is not there, `ValueError` for
    one that cannot be read, for parameters it does not have or of another type, for two reports of one name,
    `BlockingIOError` where another process is making one of them.
    A notebook that fails does not stop the others; its report shows how far it came.
    """
    given, here = dict(parameters or {}), Path.cwd()
    out = Path(out)
    work = [_prepared(Path(path), given, name) for path in notebooks]
    _names_differ(work, name)
    out.mkdir(parents=True, exist_ok=True)
    import papermill.log  # 1.3 s: once, not in every thread

    # it reads parameters line by line and warns of "unknown" ones that are there; they are checked already
    papermill.log.logger.setLevel(logging.ERROR)
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    reports = []
    with _held(work, out), concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(_report, one, out, here, timeout, start_timeout, threads) for one in work]
        try:
            waiting = set(futures)
            while waiting:
                done, waiting = concurrent.futures.wait(waiting, HEARTBEAT, concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    reports.append(future.result())
                    say(f"[{len(reports)}/{len(work)}] {_told(work[futures.index(future)], reports[-1])}")
                for one in work if not done else ():
                    if one.running:
                        say(f"[{len(reports)}/{len(work)}] {_told(one)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for one in work:
                one.kill()
            raise
        finally:
            write_index(out)
    order = {one.name: place for place, one in enumerate(work)}
    return sorted(reports, key=lambda report: order[report.name])


def _prepared(path: Path, given: dict[str, typing.Any], name: str | None) -> Work:
    """The notebook at `path`, or that of a pinned view, ready to run with the parameters `given`."""
    import nbformat

    if path.suffix == ".json" and path.is_file():
        notebook, pinned = unpin(path)
        name, given = name or path.stem, pinned | given
        known = {one.stem: one for one in curated()}
        if notebook not in known:
            raise ValueError(f"{path} is a view of {notebook!r}, which is no notebook of this lab")
        path = known[notebook]
    if not path.is_file():
        raise FileNotFoundError(f"there is no notebook {path}")
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many kinds, and all mean this
        raise ValueError(f"{path} cannot be read as a notebook ({type(error).__name__})") from error
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # what an earlier run left must not pass for this one's
    try:
        checked = check(notebook, given)
        defaults = {key: value for key, (value, _) in declared(notebook).items()}
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error
    return Work(path.resolve(), name or path.stem, notebook, checked, defaults)


def _told(work: Work, report: Report | None = None) -> str:
    """A progress line: how far a notebook has come, or what became of it."""
    if report is None:
        return f"{work.name}  cell {work.cell}/{work.n_cells}  {time.monotonic() - work.started:.0f} s"
    if report.error is None:
        return f"{work.name}  done, {work.n_cells} cells  {report.seconds:.1f} s  {report.html}"
    return f"{work.name}  FAILED after {report.seconds:.1f} s: {report.error}"


def _names_differ(work: list[Work], name: str | None) -> None:
    if name is not None and len(work) > 1:
        raise ValueError("a name is for one report; give one notebook")
    taken: dict[str, Path] = {}
    for one in work:
        if one.name in taken:
            raise ValueError(f"{taken[one.name]} and {one.path} would both become the report {one.name!r}; render one "
                             "at a time, with a name of its own")  # fmt: skip
        if one.name == "index" or one.name.startswith(".") or re.search(r"[/\\\x00-\x1f]", one.name) or not one.name:
            raise ValueError(f"{one.name!r} cannot be the name of a report; give another name")
        taken[one.name] = one.path


@contextlib.contextmanager
def _held(work: list[Work], out: Path) -> Iterator[None]:
    """No other process makes these reports meanwhile."""
    with contextlib.ExitStack() as held:
        for one in work:
            sentence = f"another process is making the report {one.name!r} in {out}; wait, or give another folder"
            held.enter_context(exclusive_lock(_working(out, one.name), sentence))
        yield


def _report(work: Work, out: Path, here: Path, timeout: float, start_timeout: float, threads: int | None) -> Report:
    """Run and render one notebook aside, then put the result in place of what was there."""
    import nbformat

    from seqlab.runtime import provenance

    working = _working(out.resolve(), work.name)
    shutil.rmtree(working, ignore_errors=True)  # of a process that was killed, whose kernel may still write there
    working.mkdir()
    aside = Path(tempfile.mkdtemp(dir=working))
    work.started, work.running = time.monotonic(), True
    try:
        error = execute(work, aside, here, timeout, start_timeout, threads)
        seconds = round(time.monotonic() - work.started, 1)
        executed = aside / "executed.ipynb"
        notebook = nbformat.read(executed, as_version=4) if executed.exists() else work.notebook
        marker = "papermill-error-cell-tag"  # papermill's own banners; the page has one
        notebook.cells = [cell for cell in notebook.cells if marker not in cell.metadata.get("tags", [])]
        for key in ("input_path", "output_path"):  # where this machine keeps its files is nobody's business
            notebook.metadata.get("papermill", {}).pop(key, None)
        atomic_write(executed, nbformat.writes(notebook))
        if not (aside / "results.json").exists():
            atomic_write(aside / "results.json", "{}\n")
        origin = provenance.describe()
        about = {
            "name": work.name, "title": _title(notebook) or work.name, "notebook": work.path.name,
            "ok": error is None, "error": error, "seconds": seconds,
            "parameters": work.defaults | work.given, "given": list(work.given),
            "figures": _count(notebook, pages.PLOTLY), "widgets": _count(notebook, pages.WIDGET),
            **{key: origin[key] for key in ("date", "git", "device", "python", "versions")},
        }  # fmt: skip
        try:
            page = pages.report_page(notebook, about | {"folder": str(work.path.parent)})
        except Exception as failure:  # an output that no page can show, such as a figure without data
            told = one_line(f"an output cannot be shown ({type(failure).__name__}: {failure})")
            about |= {"ok": False, "error": error or told}
            page = pages.report_page(work.notebook, about)
        atomic_write(aside / "provenance.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        html = atomic_write(out / f"{work.name}.html", page)
        aside.chmod(0o755)
        replace_folder(out / work.name, aside)
        return Report(work.name, html, seconds, about["error"])
    finally:
        work.running = False
        shutil.rmtree(working, ignore_errors=True)


def _working(out: Path, name: str) -> Path:
    return out / f".{name}.new"


def _count(notebook: NotebookNode, kind: str) -> int:
    return sum(kind in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


def _title(notebook: NotebookNode) -> str:
    """The first heading, as text."""
    for cell in notebook.cells:
        found = re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if found:
            return re.sub(r"[*`]", "", found[1]).strip()
    return ""
