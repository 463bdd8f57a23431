"""Executes a notebook from top to bottom in a kernel of this Python."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import typing
from dataclasses import dataclass, field
from pathlib import Path

if typing.TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_client import AsyncKernelManager
    from nbformat import NotebookNode


@dataclass
class Job:
    """A notebook to execute; `cell` and `started` are its progress while it runs."""

    path: Path
    name: str
    notebook: NotebookNode
    given: dict[str, typing.Any]
    defaults: dict[str, typing.Any]
    cell: int = 0
    started: float = 0.0
    running: bool = False
    kernel: AsyncKernelManager | None = field(default=None, repr=False)

    @property
    def n_cells(self) -> int:
        return len(_code_cells(self.notebook))

    def kill(self) -> None:
        if self.kernel is not None and self.kernel.provisioner is not None:
            with contextlib.suppress(AttributeError, ProcessLookupError):
                self.kernel.provisioner.process.kill()


def execute(
    job: Job, folder: Path, working_folder: Path, timeout: float, start_timeout: float, threads: int | None
) -> str | None:
    """Run the notebook in the working folder and write folder/executed.ipynb; returns an error message or None."""
    import papermill
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.utils import run_sync
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    numbers = {index: place for place, index in enumerate(_code_cells(job.notebook, job.given), 1)}

    def on_cell(cell: NotebookNode, cell_index: int) -> None:
        job.cell = numbers.get(cell_index, job.cell)

    with tempfile.TemporaryDirectory() as specs:
        _kernelspec(Path(specs), folder.resolve(), job.path.parent, threads)
        finder = KernelSpecManager(kernel_dirs=[specs], ensure_native_kernel=False)
        # a socket in a folder only this user can read; absolute, as kernel and client have different working folders
        private = {"transport": "ipc", "ip": str(Path(specs) / "kernel")} if sys.platform != "win32" else {}
        job.kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=finder, **private)
        try:
            papermill.execute_notebook(
                _literal(job.path), _literal(folder / "executed.ipynb"), job.given,
                kernel_name="python3", language="python", progress_bar=False,
                start_timeout=start_timeout, execution_timeout=timeout, iopub_timeout=60,
                # not papermill's cwd: it changes the working folder of the whole process
                resources={"metadata": {"path": str(working_folder)}},
                km=job.kernel, store_widget_state=False, on_cell_start=on_cell,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            return f"cell {job.cell} of {job.n_cells}: {one_line(f'{error.ename}: {error.evalue}')}"
        except CellTimeoutError:
            return f"cell {job.cell} of {job.n_cells} took longer than {timeout:g} s (--timeout sets how long it may)"
        except DeadKernelError:
            return f"the kernel died in cell {job.cell} of {job.n_cells}, often for lack of memory"
        except Exception as error:  # a report that cannot run is a failed report, whatever the reason
            return one_line(f"{type(error).__name__}: {error}")
        finally:
            with contextlib.suppress(Exception):
                run_sync(job.kernel.shutdown_kernel)(now=True)
    return _stopped_early(folder / "executed.ipynb")


def _kernelspec(specs: Path, results: Path, notebook_folder: Path, threads: int | None) -> None:
    """Write the spec of a kernel named python3 that runs this Python, whatever kernel the notebook was saved with.

    Modules in the notebook's folder can be imported, as in JupyterLab.
    """
    env = {
        "SEQLAB_NOTEBOOK_DIR": str(notebook_folder),
        "SEQLAB_REPORT": "1",
        "SEQLAB_REPORT_DIR": str(results),
        "PLOTLY_RENDERER": "plotly_mimetype",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TQDM_DISABLE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    if threads is not None and "OMP_NUM_THREADS" not in os.environ:
        env |= {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
    # jupyter_client expands ${NAME}
    env = {key: value.replace("$", "$$") for key, value in env.items()}
    spec = {
        "argv": [
            sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
            # not by PYTHONPATH: a file there could shadow a module that the kernel imports as it starts
            "--IPKernelApp.exec_lines="
            "__import__('sys').path.insert(1, __import__('os').environ['SEQLAB_NOTEBOOK_DIR'])",
        ],
        "display_name": "Python 3", "language": "python", "env": env,
    }  # fmt: skip
    (specs / "python3").mkdir()
    (specs / "python3" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


def _stopped_early(executed: Path) -> str | None:
    """An error message where the notebook ended by sys.exit(), which papermill counts as success."""
    import nbformat

    cells = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    for place, cell in enumerate(cells, 1):
        if any(output.output_type == "error" and output.ename == "SystemExit" for output in cell.outputs):
            return f"cell {place} of {len(cells)} left the notebook (SystemExit)"
        if cell.source.strip() and cell.execution_count is None:
            return f"cell {place} of {len(cells)} never ran"
    return None


def _code_cells(notebook: NotebookNode, given: Mapping[str, typing.Any] | None = None) -> list[int]:
    """Indices of the code cells; with parameters `given`, in the notebook with the cell that papermill inserts."""
    places, shift = [], 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            places.append(index + shift)
        if given and "parameters" in cell.metadata.get("tags", []):
            shift = 1
    return places


def one_line(text: str) -> str:
    """A message without ANSI colours and line breaks, cut to 300 characters."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
    return text if len(text) <= 300 else text[:299] + "…"


def _literal(path: Path) -> str:
    """A path with its braces doubled, because papermill formats paths."""
    return str(path).replace("{", "{{").replace("}", "}}")
