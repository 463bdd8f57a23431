"""Commands for notebooks: render them to HTML reports, open them in JupyterLab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqlab.cli.parsing import parse_pairs

JUPYTER = Path(__file__).parent / "jupyter"
"""Configuration of JupyterLab: nothing is fetched from outside, and no question about it lies over the notebook."""

GALLERY = Path("gallery")
"""The name among the notebooks that stands for the page of all systems."""


def report(
    notebooks: Annotated[
        list[Path] | None,
        typer.Argument(help="notebooks, by path or name (90_report_system), pins (.json), or gallery; by default all"),
    ] = None,
    parameters: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value, or two words: name value")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", "-s", help="the parameter split_name, as datasets.split takes it")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: added to the parameter settings, as decoding=diverse")
    ] = None,
    out: Annotated[Path, typer.Option(help="the folder of the reports")] = Path("reports"),
    name: Annotated[str | None, typer.Option(help="the report's name, for one notebook")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="notebooks at a time")] = 1,
    timeout: Annotated[float, typer.Option(help="seconds a cell may take")] = 1800,
    start_timeout: Annotated[float, typer.Option(help="seconds a kernel may take to start")] = 120,
) -> None:
    """Run notebooks and render each to one self-contained HTML file; reports/index.html lists them.

    `gallery` is a page with a card per system; it is made with all notebooks too.
    """
    from seqlab.reports.render import curated, render

    chosen = [path for path in notebooks or curated() if path != GALLERY]
    if not chosen and not notebooks:
        raise FileNotFoundError("there are no notebooks here; name one, or go to the folder that holds notebooks/.")
    given = parse_pairs(parameters or []) | ({} if split is None else {"split_name": split})
    done = render(chosen, given, out, name, jobs, timeout, start_timeout, typer.echo,
                  parse_pairs(settings or []))  # fmt: skip
    if not notebooks or GALLERY in notebooks:
        from seqlab.reports import gallery, index

        gallery.make(out, typer.echo)
        index.write_index(out)
    typer.echo(f"{out / 'index.html'} lists them.")
    if any(one.error for one in done):
        raise typer.Exit(1)


def notebooks(folder: Annotated[Path, typer.Argument(help="where to copy them")] = Path("notebooks")) -> None:
    """Copy the notebooks of the lab to a folder, never over a file that was changed there."""
    from seqlab.reports.copies import copy_notebooks

    typer.echo(str(copy_notebooks(folder)))


def lab(context: typer.Context) -> None:
    """Open JupyterLab on the notebooks in ./notebooks, copied there on first use; or on FOLDER, as `seqlab lab FOLDER`.

    Further options are those of JupyterLab, such as --no-browser or --port=8889. It does not ask for news or updates
    unless its own settings say so.
    """
    import os
    import sys

    from seqlab.reports.copies import copy_notebooks
    from seqlab.runtime.outside import VARIABLE

    words = list(context.args)
    folder = Path(words.pop(0)) if words and not words[0].startswith("-") else None
    if folder is None:
        folder = Path.cwd() if Path.cwd().name == "notebooks" else Path("notebooks")
        if not any(folder.glob("*.ipynb")):
            typer.echo(str(copy_notebooks(folder)))
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; to copy the notebooks there: seqlab notebooks {folder}")
    if models := os.environ.get(VARIABLE):  # kernels run in the folder of their notebook
        os.environ[VARIABLE] = os.path.abspath(models)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}", *words]
    places = [str(JUPYTER), os.environ.get("JUPYTER_CONFIG_PATH")]
    os.execve(sys.executable, command, os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, places))})
