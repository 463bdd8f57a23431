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
import sys
import tempfile
import time
import typing
from dataclasses import dataclass, field
from pathlib import Path

from seqlab.reports import pages
from seqlab.reports.parameters import ParameterError, check, declared
from seqlab.runs.pins import unpin
from seqlab.runtime.files import alone, write_whole

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jupyter_client import AsyncKernelManager
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


def record(results: Mapping[str, typing.Any]) -> None:
    """Keep numbers of a running notebook in its report's results.json, beside those recorded before.

    Values are numbers, text, None, lists and dicts of these, NumPy or torch scalars and arrays, or a DataFrame (its
    rows). A number that is not finite is kept as null. Outside a report nothing is written and a line says so.
    Raises `TypeError` for anything else.
    """
    results = {str(key): _plain(value, str(key)) for key, value in results.items()}
    folder = os.environ.get("SEQLAB_REPORT_DIR")
    if not folder:
        print(f"{len(results)} results; they are written to results.json when this notebook is rendered as a report")
        return
    path = Path(folder) / "results.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_whole(path, json.dumps(kept | results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


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

    notebooks: their paths, or those of pinned views (`pins.pin`), which bring a notebook and its parameters.
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
    work = [_Work.prepared(Path(path), given, name) for path in notebooks]
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
                    say(f"[{len(reports)}/{len(work)}] {work[futures.index(future)].told(reports[-1])}")
                for one in work if not done else ():
                    if one.running:
                        say(f"[{len(reports)}/{len(work)}] {one.told()}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for one in work:
                one.kill()
            raise
        finally:
            write_index(out)
    order = {one.name: place for place, one in enumerate(work)}
    return sorted(reports, key=lambda report: order[report.name])


def write_index(out: str | Path) -> Path:
    """Write reports/index.html from what lies in the folder; returns its path."""
    out, rows = Path(out), []
    for older in out.glob(".*.old"):  # a process was killed while it put a folder in place of this one
        _mend(older.with_name(older.name[1:].removesuffix(".old")))
    for path in sorted(out.glob("[!.]*/provenance.json")):
        with contextlib.suppress(OSError, ValueError):  # a folder that is being replaced right now, or not ours
            row = json.loads(path.read_text(encoding="utf-8"))
            rows.append(row | {"numbers": len(json.loads((path.parent / "results.json").read_text(encoding="utf-8")))})
    return write_whole(out / "index.html", pages.index_page(rows))


@dataclass
class _Work:
    """One notebook on its way to a report; `cell` and `started` are what the progress lines tell while it runs."""

    path: Path
    name: str
    notebook: NotebookNode
    given: dict[str, typing.Any]
    defaults: dict[str, typing.Any]
    cell: int = 0
    started: float = 0.0
    running: bool = False
    kernel: AsyncKernelManager | None = field(default=None, repr=False)

    @classmethod
    def prepared(cls, path: Path, given: dict[str, typing.Any], name: str | None) -> _Work:
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
            defaults = {key: value for key, (value, _, _) in declared(notebook).items()}
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from error
        return cls(path.resolve(), name or path.stem, notebook, checked, defaults)

    @property
    def n_cells(self) -> int:
        return len(_code_cells(self.notebook))

    def told(self, report: Report | None = None) -> str:
        if report is None:
            return f"{self.name}  cell {self.cell}/{self.n_cells}  {time.monotonic() - self.started:.0f} s"
        if report.error is None:
            return f"{self.name}  done, {self.n_cells} cells  {report.seconds:.1f} s  {report.html}"
        return f"{self.name}  FAILED after {report.seconds:.1f} s: {report.error}"

    def kill(self) -> None:
        if self.kernel is not None and self.kernel.provisioner is not None:
            with contextlib.suppress(AttributeError, ProcessLookupError):
                self.kernel.provisioner.process.kill()


def _names_differ(work: list[_Work], name: str | None) -> None:
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
def _held(work: list[_Work], out: Path) -> Iterator[None]:
    """No other process makes these reports meanwhile."""
    with contextlib.ExitStack() as held:
        for one in work:
            sentence = f"another process is making the report {one.name!r} in {out}; wait, or give another folder"
            held.enter_context(alone(_working(out, one.name), sentence))
        yield


def _report(work: _Work, out: Path, here: Path, timeout: float, start_timeout: float, threads: int | None) -> Report:
    """Run and render one notebook aside, then put the result in place of what was there."""
    import nbformat

    from seqlab.runtime import provenance

    working = _working(out.resolve(), work.name)
    shutil.rmtree(working, ignore_errors=True)  # of a process that was killed, whose kernel may still write there
    working.mkdir()
    aside = Path(tempfile.mkdtemp(dir=working))
    work.started, work.running = time.monotonic(), True
    try:
        error = _execute(work, aside, here, timeout, start_timeout, threads)
        seconds = round(time.monotonic() - work.started, 1)
        executed = aside / "executed.ipynb"
        notebook = nbformat.read(executed, as_version=4) if executed.exists() else work.notebook
        marker = "papermill-error-cell-tag"  # papermill's own banners; the page has one
        notebook.cells = [cell for cell in notebook.cells if marker not in cell.metadata.get("tags", [])]
        for key in ("input_path", "output_path"):  # where this machine keeps its files is nobody's business
            notebook.metadata.get("papermill", {}).pop(key, None)
        write_whole(executed, nbformat.writes(notebook))
        if not (aside / "results.json").exists():
            write_whole(aside / "results.json", "{}\n")
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
            told = _one_line(f"an output cannot be shown ({type(failure).__name__}: {failure})")
            about |= {"ok": False, "error": error or told}
            page = pages.report_page(work.notebook, about)
        write_whole(aside / "provenance.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
        html = write_whole(out / f"{work.name}.html", page)
        aside.chmod(0o755)
        _replace_folder(out / work.name, aside)
        return Report(work.name, html, seconds, about["error"])
    finally:
        work.running = False
        shutil.rmtree(working, ignore_errors=True)


def _working(out: Path, name: str) -> Path:
    return out / f".{name}.new"


def _replace_folder(place: Path, new: Path) -> None:
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


def _execute(
    work: _Work, aside: Path, here: Path, timeout: float, start_timeout: float, threads: int | None
) -> str | None:
    """Run the notebook in the folder `here` into aside/executed.ipynb; returns what went wrong in one sentence."""
    import papermill
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.utils import run_sync
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    numbers = {index: place for place, index in enumerate(_code_cells(work.notebook, work.given), 1)}

    def on_cell(cell: NotebookNode, cell_index: int) -> None:
        work.cell = numbers.get(cell_index, work.cell)

    with tempfile.TemporaryDirectory() as specs:
        _kernelspec(Path(specs), aside.resolve(), work.path.parent, threads)
        finder = KernelSpecManager(kernel_dirs=[specs], ensure_native_kernel=False)
        # a socket in a folder only this user can read, named in full: kernel and client have different working folders
        private = {"transport": "ipc", "ip": str(Path(specs) / "kernel")} if sys.platform != "win32" else {}
        work.kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=finder, **private)
        try:
            papermill.execute_notebook(
                _literal(work.path), _literal(aside / "executed.ipynb"), work.given,
                kernel_name="python3", language="python", progress_bar=False,
                start_timeout=start_timeout, execution_timeout=timeout, iopub_timeout=60,
                # not papermill's cwd: that moves this whole process, and with it the other threads
                resources={"metadata": {"path": str(here)}},
                km=work.kernel, store_widget_state=False, on_cell_start=on_cell,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            return f"cell {work.cell} of {work.n_cells}: {_one_line(f'{error.ename}: {error.evalue}')}"
        except CellTimeoutError:
            return f"cell {work.cell} of {work.n_cells} took longer than {timeout:g} s (--timeout sets how long it may)"
        except DeadKernelError:
            return f"the kernel died in cell {work.cell} of {work.n_cells}, often for want of memory"
        except Exception as error:  # a report that cannot run is a failed report, whatever the reason
            return _one_line(f"{type(error).__name__}: {error}")
        finally:
            with contextlib.suppress(Exception):
                run_sync(work.kernel.shutdown_kernel)(now=True)
    return _stopped_early(aside / "executed.ipynb")


def _kernelspec(folder: Path, aside: Path, beside: Path, threads: int | None) -> None:
    """A kernel named python3 that is this very Python, whatever is installed or the notebook was saved with.

    It finds the modules in `beside`, the notebook's folder, as it does in JupyterLab.
    """
    env = {
        "SEQLAB_NOTEBOOK_DIR": str(beside),
        "SEQLAB_REPORT": "1",
        "SEQLAB_REPORT_DIR": str(aside),
        "PLOTLY_RENDERER": "plotly_mimetype",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    if threads is not None and "OMP_NUM_THREADS" not in os.environ:
        env |= {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
    # jupyter_client fills in ${NAME} here
    env = {key: value.replace("$", "$$") for key, value in env.items()}
    spec = {
        "argv": [
            sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
            # not by PYTHONPATH: a file there must not stand for a module that the kernel needs to start
            "--IPKernelApp.exec_lines="
            "__import__('sys').path.insert(1, __import__('os').environ['SEQLAB_NOTEBOOK_DIR'])",
        ],
        "display_name": "Python 3", "language": "python", "env": env,
    }  # fmt: skip
    (folder / "python3").mkdir()
    (folder / "python3" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


def _stopped_early(executed: Path) -> str | None:
    """papermill takes sys.exit() for a good end and leaves the cells after it alone."""
    import nbformat

    cells = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    for place, cell in enumerate(cells, 1):
        if any(output.output_type == "error" and output.ename == "SystemExit" for output in cell.outputs):
            return f"cell {place} of {len(cells)} left the notebook (SystemExit)"
        if cell.source.strip() and cell.execution_count is None:
            return f"cell {place} of {len(cells)} never ran"
    return None


def _code_cells(notebook: NotebookNode, given: Mapping[str, typing.Any] | None = None) -> list[int]:
    """Where the code cells are; with parameters `given`, in the notebook with papermill's cell put in."""
    places, shift = [], 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            places.append(index + shift)
        if given and "parameters" in cell.metadata.get("tags", []):
            shift = 1
    return places


def _plain(value: typing.Any, where: str) -> typing.Any:
    """`value` as JSON has it."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if hasattr(value, "to_dict"):
        value = value.to_dict(orient="records") if hasattr(value, "columns") else value.to_dict()
    elif hasattr(value, "tolist"):
        return _plain(value.tolist(), where)
    if isinstance(value, dict):
        return {str(key): _plain(member, f"{where}.{key}") for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(member, where) for member in value]
    raise TypeError(f"{where}: {type(value).__name__} cannot be recorded; record numbers, text, lists or dicts")


def _count(notebook: NotebookNode, kind: str) -> int:
    return sum(kind in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


def _title(notebook: NotebookNode) -> str:
    """The first heading, as text."""
    for cell in notebook.cells:
        found = re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if found:
            return re.sub(r"[*`]", "", found[1]).strip()
    return ""


def _one_line(text: str) -> str:
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
    return text if len(text) <= 300 else text[:299] + "…"


def _literal(path: Path) -> str:
    """papermill reads a path as a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")
