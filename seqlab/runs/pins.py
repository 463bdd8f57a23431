"""Pins: the state of a notebook as a small JSON file, from which `seqlab report` makes the same page again.

    {"notebook": "07_workbench", "parameters": {"dataset": "../log.csv", "user": "A1", ...},
     "runs": {"../data/runs/sasrec": "9f3c..."}}

Runs and datasets that are files have paths relative to the pin, so that a folder with all of them can be copied to
another machine; a run that comes with the project has its name, such as "zoo:sasrec". The weights of the runs must be
those that were pinned, by their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seqlab.runs.zoo import zoo_runs
from seqlab.runtime.files import atomic_write

ZOO = "zoo:"
"""How the name of a run that comes with the project begins."""


def pin(path: str | Path, notebook: str, parameters: Mapping[str, Any], runs: Iterable[str | Path] = ()) -> Path:
    """Write the pin of one state of a notebook of the lab; returns its path.

    parameters: literals for the cell tagged `parameters`, without `runs`; `dataset` may be a path relative to the
    working folder. runs: the run folders that are open. Raises `ValueError` for a folder without a finished run, and
    for values that JSON does not have.
    """
    path, kept, parameters = Path(path).resolve(), {}, dict(parameters)
    if is_file(parameters.get("dataset"), Path.cwd()):
        parameters["dataset"] = Path(os.path.relpath(Path(parameters["dataset"]).resolve(), path.parent)).as_posix()
    for run in runs:
        folder = Path(run).resolve()
        if not (folder / "model.safetensors").is_file():
            raise ValueError(f"{folder} holds no finished run, so a report could not open it; fit one with out=...")
        own = zoo_runs().get(folder.name)
        inside = own is not None and own.resolve() == folder
        key = f"{ZOO}{folder.name}" if inside else Path(os.path.relpath(folder, path.parent)).as_posix()
        kept[key] = fingerprint(folder)
    content = {"notebook": notebook, "parameters": parameters, "runs": kept}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    return atomic_write(path, text)


def unpin(path: str | Path) -> tuple[str, dict[str, Any]]:
    """The notebook and the parameters of a pin; where runs were open, the parameter `runs` lists their folders.

    A dataset that is a file, and the folders, are absolute paths. Raises `ValueError` for a file that is no pin, and
    for a run that is missing or has other weights.
    """
    path = Path(path).resolve()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        notebook, parameters, runs = str(content["notebook"]), dict(content["parameters"]), dict(content["runs"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no pinned view: it holds no notebook, parameters and runs.") from error
    if is_file(parameters.get("dataset"), path.parent):
        parameters["dataset"] = os.path.normpath(path.parent / parameters["dataset"])
    folders = []
    for relative, weights in runs.items():
        own = zoo_runs().get(relative.removeprefix(ZOO)) if relative.startswith(ZOO) else None
        folder = Path(os.path.normpath(path.parent / relative)) if own is None else own
        if not os.path.isfile(folder / "model.safetensors"):  # is_file() raises for a name no system could have
            raise ValueError(f"{path} needs the run {folder}, which is missing; bring it, or edit the pin.")
        if fingerprint(folder) != weights:
            raise ValueError(f"{folder} holds other weights than those that were pinned in {path}.")
        folders.append(str(folder))
    return notebook, parameters | ({"runs": folders} if folders else {})


def is_file(dataset: object, folder: Path) -> bool:
    """Whether a dataset, as `datasets.load` takes it, is a path (relative to `folder`) and not a name."""
    from seqlab.datasets.named import cards  # imports pandas

    if not isinstance(dataset, str) or not dataset or dataset in cards():
        return False
    path = Path(dataset)
    named = path.name == dataset and not path.suffix
    if named and (shared := os.environ.get("SEQLAB_DATA")) and (Path(shared) / dataset).is_dir():
        return False
    return not named or os.path.exists(folder / path)


def fingerprint(run: Path) -> str:
    """The SHA-256 of the weights of a run."""
    with (run / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
