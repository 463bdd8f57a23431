"""Commands for single runs: fit, evaluate, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqlab.cli.options import Dataset, SeenFilter, Settings, with_load_options
from seqlab.cli.parsing import parse_pairs

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

Trained = Annotated[str | None, typer.Option(help="the data it was trained on, if they were moved")]


@with_load_options
def fit(
    system: Annotated[str, typer.Argument(help="which system (seqlab models)")],
    out: Annotated[Path, typer.Option(help="the run folder to write")],
    dataset: Dataset = "complete-journey",
    epochs: Annotated[int | None, typer.Option(help="the maximum number of epochs")] = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    resume: Annotated[bool, typer.Option(help="continue from the checkpoint in OUT.partial")] = False,
    seen_filter: SeenFilter = None,
    *,
    load_options: dict[str, str],
) -> None:
    """Train SYSTEM on a dataset (leave-one-out), evaluate it, and write its run folder."""
    import dataclasses

    given = parse_pairs(settings or [])
    if out.exists() and not resume:
        raise ValueError(f"{out} exists; choose another folder, or pass --resume.")
    typer.echo(f"Reading {dataset}.")  # before the slow imports
    from seqlab import models
    from seqlab.datasets import leave_one_out, load
    from seqlab.presets import default_options
    from seqlab.runtime import processes
    from seqlab.training.fit import fit

    given |= {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    chosen, changes = models.separate(system, given)  # raises before the data are read
    log = load(dataset, **load_options)
    if not log.card and processes.index() == 0:
        typer.echo("\n".join(log.notes), err=True)
    split = leave_one_out(log)
    model = models.create(system, split, chosen, seed)
    options = dataclasses.replace(default_options(model, split), **changes)
    run = fit(model, split, options, out, resume, seen_filter)
    if processes.index() == 0:
        typer.echo(repr(run))
        typer.echo(run.metrics["protocol"])
    if run.interrupted:
        raise typer.Exit(130)


@with_load_options
def evaluate(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    dataset: Trained = None,
    *,
    load_options: dict[str, str],
) -> None:
    """Evaluate a finished run on its test part again: metrics with 95 % intervals."""
    from seqlab import evaluation, tasks
    from seqlab.runs.run import load_run

    split = _split_of(run, dataset, load_options)
    loaded = load_run(run, split)
    ranks = tasks.rank(loaded.model, split, seen_filter=loaded.ranks.seen_filter)
    typer.echo(f"{ranks.protocol}\n{evaluation.INTERVALS}")
    typer.echo(evaluation.intervals(ranks).round(4).to_string())


@with_load_options
def compare(
    a: Annotated[Path, typer.Argument(help="a run folder")],
    b: Annotated[Path, typer.Argument(help="another one, on the same data")],
    dataset: Trained = None,
    *,
    load_options: dict[str, str],
) -> None:
    """Differences of metrics between run A and run B, paired by user, with 95 % intervals."""
    from seqlab import evaluation
    from seqlab.runs.run import load_run

    split = _split_of(a, dataset, load_options)
    first, second = (load_run(folder, split).ranks for folder in (a, b))
    typer.echo(f"{first.protocol}\n{evaluation.INTERVALS}")
    typer.echo(evaluation.compare(first, second).round(4).to_string())


def _split_of(run: Path, dataset: str | None, load_options: dict[str, str]) -> Split:
    """The data of a finished run, from their stored path, or from `dataset`."""
    import json

    from seqlab.datasets import catalog, leave_one_out, load, reload

    if not (run / "provenance.json").is_file():
        raise FileNotFoundError(f"{run} is no finished run: provenance.json is missing.")
    data = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["data"]
    if dataset is not None or load_options:
        return leave_one_out(load(dataset or data["name"], **load_options))
    if data.get("origin"):
        return leave_one_out(reload(data["origin"]))
    if data["name"] not in {*catalog()["name"]}:
        raise ValueError(f"{run} does not store the path of its data, {data['name']!r}: name the file with --dataset.")
    return leave_one_out(load(data["name"]))
