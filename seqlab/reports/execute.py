"""One notebook run from top to bottom, in a kernel of this very Python."""

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
class Work:
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

    @property
    def n_cells(self) -> int:
        return len(_code_cells(self.notebook))

    def kill(self) -> None:
        if self.kernel is not None and self.kernel.provisioner is not None:
            with contextlib.suppress(AttributeError, ProcessLookupError):
                self.kernel.provisioner.process.kill()


def execute(
    work: Work, aside: Path, here: Path, timeout: float, start_timeout: float, threads: int | None
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
            return f"cell {work.cell} of {work.n_cells}: {one_line(f'{error.ename}: {error.evalue}')}"
        except CellTimeoutError:
            return f"cell {work.cell} of {work.n_cells} took longer than {timeout:g} s (--timeout sets how long it may)"
        except DeadKernelError:
            return f"the kernel died in cell {work.cell} of {work.n_cells}, often for want of memory"
        except Exception as error:  # a report that cannot run is a failed report, whatever the reason
            return one_line(f"{type(error).__name__}: {error}")
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


def one_line(text: str) -> str:
    """A message without colours and breaks, cut where it grows long."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
    return text if len(text) <= 300 else text[:299] + "…"


def _literal(path: Path) -> str:
    """papermill reads a path as a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")
