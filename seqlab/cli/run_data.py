"""A finished run with the data it was trained on, and histories of users, for the commands that take a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqlab.cli.parsing import parse_pairs

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.splits import Split
    from seqlab.datasets.unanswered import Unanswered
    from seqlab.decoding.settings import Decoding
    from seqlab.runs.run import Run

Trained = Annotated[str | None, typer.Option(help="the data it was trained on, if they were moved")]
SplitOfRun = Annotated[str | None, typer.Option("--split", help="that of the training, which is the default")]
Lists = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value: a setting of the decoding, such as decoding=diverse or width=50"),
]
Part = Annotated[
    str, typer.Option(help="where histories end: all (after all events), or before the answers of valid or test")
]
Histories = Annotated[
    Path | None, typer.Option(help="a file of events with the histories to use instead, such as those of new users")
]


def split_of_run(run: Path, dataset: str | None, split: str | None, load_options: dict[str, Any]) -> Split:
    """The data of a finished run, from their stored path, or from `dataset`; split: None = that of the run.

    run: its folder, or the name of one that comes with the project.
    """
    require_run(run)  # before the slow imports
    import json

    from seqlab.datasets import load
    from seqlab.datasets import split as make_split
    from seqlab.runs import data as of_run
    from seqlab.runs.zoo import run_folder

    run = run_folder(run)
    if dataset is None and not load_options:
        return of_run.split_of(run, split)
    data = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["data"]
    origin = data.get("origin") or {}
    source = dataset or origin.get("card") or origin.get("path") or data["name"]
    return make_split(load(source, **load_options), split or data["split"])


def require_run(run: Path) -> None:
    """Raise `FileNotFoundError` for what is neither a finished run nor the name of one that comes with the project."""
    from seqlab.runs.zoo import run_folder

    if not (run_folder(run) / "provenance.json").is_file():
        raise FileNotFoundError(f"{run} is no finished run: provenance.json is missing.")


def open_run(
    run: Path, dataset: str | None, split: str | None, settings: list[str] | None, load_options: dict[str, Any]
) -> tuple[Run, Split]:
    """A finished run with the decoding of these settings, and the split of its training."""
    require_run(run)  # before the slow imports
    from seqlab.contracts import needs_of
    from seqlab.datasets.split_names import with_columns
    from seqlab.runs.run import load_run

    parts = split_of_run(run, dataset, split, load_options)
    opened = load_run(run, parts)
    if settings:
        opened.model.decoding = decoding_for(opened.system, opened.model, parse_pairs(settings))
    return opened, with_columns(parts, needs_of(opened.model))


def histories_of(opened: Run, parts: Split, part: str, histories: Path | None) -> Unanswered:
    """The histories of a file, or those of a part of the split of a run."""
    from seqlab.contracts import needs_of
    from seqlab.datasets import unanswered
    from seqlab.datasets.split_names import OF_USERS

    columns = tuple(name for name in needs_of(opened.model) if not name.startswith(OF_USERS))
    if histories is None:
        return unanswered.of_split(parts, part, columns)
    if part != "all":
        raise ValueError("--histories and --part exclude each other: a file has histories of its own.")
    return unanswered.of_file(histories, parts.log, columns)


def decoding_for(system: str, model: nn.Module, settings: dict[str, str]) -> Decoding:
    """The decoding of these settings for a trained model; those that are not given are the model's."""
    from seqlab.decoding.settings import resolve
    from seqlab.models import split_settings

    others, lists = split_settings(system, settings)
    if others:
        raise ValueError(f"{next(iter(others))!r} is no setting of a decoding; a trained run keeps its own settings.")
    return resolve(model, lists.over(getattr(model, "decoding", lists)))
