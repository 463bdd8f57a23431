"""The data that a finished run was trained on, for the commands that take a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

Trained = Annotated[str | None, typer.Option(help="the data it was trained on, if they were moved")]
SplitOfRun = Annotated[str | None, typer.Option("--split", help="that of the training, which is the default")]


def split_of_run(run: Path, dataset: str | None, split: str | None, load_options: dict[str, Any]) -> Split:
    """The data of a finished run, from their stored path, or from `dataset`; split: None = that of the run."""
    import json

    from seqlab.datasets import catalog, load, reload
    from seqlab.datasets import split as make_split

    require_run(run)
    data = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["data"]
    name = split or data["split"]
    if dataset is not None or load_options:
        return make_split(load(dataset or data["name"], **load_options), name)
    if data.get("origin"):
        return make_split(reload(data["origin"]), name)
    if data["name"] not in {*catalog()["name"]}:
        raise ValueError(f"{run} does not store the path of its data, {data['name']!r}: name the file with --dataset.")
    return make_split(load(data["name"]), name)


def require_run(run: Path) -> None:
    if not (run / "provenance.json").is_file():
        raise FileNotFoundError(f"{run} is no finished run: provenance.json is missing.")
