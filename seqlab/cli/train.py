"""Commands for single runs: fit, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqlab.cli.names import check_arms
from seqlab.cli.options import Dataset, SeenFilter, Settings, SplitName, split_of_cards, with_load_options
from seqlab.cli.parsing import parse_pairs
from seqlab.cli.run_data import Lists, SplitOfRun, decoding_for, require_run, split_of_run

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.log import InteractionLog
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

Evaluated = Annotated[
    str | None, typer.Option(help="other data than those of the training, or these, if they were moved")
]


@with_load_options
def fit(
    system: Annotated[str, typer.Argument(help="which system (seqlab models)")],
    out: Annotated[Path, typer.Option(help="the run folder to write")],
    dataset: Dataset = "complete-journey",
    split: SplitName = None,
    epochs: Annotated[int | None, typer.Option(help="the maximum number of epochs")] = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    resume: Annotated[bool, typer.Option(help="continue from the checkpoint in OUT.partial")] = False,
    seen_filter: SeenFilter = None,
    start: Annotated[Path | None, typer.Option(help="a finished run whose weights and settings to begin from")] = None,
    track: Annotated[
        str | None, typer.Option(help="tensorboard, mlflow or wandb: a tracker that gets losses, metrics and settings")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="measure the systems that only count too, and print them")] = True,
    *,
    load_options: dict[str, Any],
) -> None:
    """Train SYSTEM on a dataset, evaluate it, and write its run folder.

    A run is not trained anew for another decoding: where OUT holds the training, `--set decoding=diverse` measures its
    weights by that.
    """
    import dataclasses

    given = parse_pairs(settings or [])
    check_arms([system], given)
    if out.exists() and not resume:
        from seqlab.decoding.settings import SETTINGS

        if not SETTINGS.keys() & given.keys():
            raise ValueError(f"{out} exists; choose another folder, or pass --resume.")
        resume = True  # its weights are measured by another decoding
    typer.echo(f"Reading {dataset}.")  # before the slow imports
    from seqlab import datasets, models
    from seqlab.contracts import Learns, supports
    from seqlab.optimization import tracking
    from seqlab.presets import default_options
    from seqlab.runtime import processes
    from seqlab.training.fit import fit

    given |= {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    chosen, changes = models.separate(system, given)  # raises before the data are read
    if start is not None:
        require_run(start)
    if track is not None:
        tracking.check(track)
    log = datasets.load(dataset, **load_options)
    if not log.card and processes.index() == 0:
        typer.echo("\n".join(log.notes), err=True)
    parts = datasets.split(log, split or split_of_cards([system]))
    begun = None if start is None else _load_start(start, log)
    if begun is not None and begun.system == system:
        chosen = dataclasses.asdict(begun.model.config) | chosen
    model = models.create(system, parts, chosen, seed)
    if hint := _codes_hint(model, parts.n_items):
        typer.echo(hint, err=True)
    options = dataclasses.replace(default_options(model, parts), **changes)
    run = fit(model, parts, options, out, resume, seen_filter, begun, track or "")
    if processes.index() == 0:
        typer.echo(repr(run))
        typer.echo(run.metrics["protocol"])
        if baselines and processes.count() == 1 and not run.interrupted and supports(model, Learns):
            typer.echo(_beside_baselines(run, parts))
        if track is not None:
            typer.echo(tracking.where(track, out))
    if run.interrupted:
        raise typer.Exit(130)


@with_load_options
def evaluate(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    dataset: Evaluated = None,
    split: SplitOfRun = None,
    settings: Lists = None,
    *,
    load_options: dict[str, Any],
) -> None:
    """Evaluate a finished run on its test part again: metrics with 95 % intervals.

    On other data, it ranks their items with the weights of the run, if its system can; nothing is written. By another
    decoding (`--set decoding=diverse`) on its own data, the outcome is stored in RUN beside its own.
    """
    require_run(run)  # before the slow imports
    from seqlab import evaluation, tasks
    from seqlab.contracts import needs_of
    from seqlab.datasets.split_names import with_columns
    from seqlab.runs import catalogue, store
    from seqlab.runs.identity import stored_identity
    from seqlab.runs.run import load_run
    from seqlab.runs.zoo import run_folder
    from seqlab.training.evaluate import evaluate as decoded

    parts, run = split_of_run(run, dataset, split, load_options), run_folder(run)
    found = stored_identity(run)
    if dataset is not None and found.fingerprint != parts.log.fingerprint(found.version):
        model = store.load(run)
        if settings:
            model.decoding = decoding_for(found.system, model, parse_pairs(settings))
        outcome = catalogue.measure(model, parts, found.data)
    elif settings:
        loaded = load_run(run, parts)
        measured = decoded(loaded, parts, decoding_for(found.system, loaded.model, parse_pairs(settings)))
        typer.echo(", ".join(f"{key}={value}" for key, value in measured.decoding.items()))
        outcome = measured.outcome
    else:
        loaded = load_run(run, parts)
        parts = with_columns(parts, needs_of(loaded.model))
        outcome = tasks.measure(loaded.model, parts, seen_filter=loaded.seen_filter)
    typer.echo(f"{outcome.protocol}\n{evaluation.INTERVALS}")
    typer.echo(evaluation.intervals(outcome).round(4).to_string())


def _codes_hint(model: nn.Module, n_items: int) -> str:
    """A sentence where a system has more codes than there are items, else ""."""
    from seqlab.tokenizers.clustering import codes_hint

    levels, tokenizer = (getattr(model.config, name, "") for name in ("levels", "tokenizer"))
    return codes_hint(levels, n_items) if levels and tokenizer != "fsq" else ""  # a lattice has codes without items


def _beside_baselines(run: Run, parts: Split) -> str:
    """The systems that only count, measured as this run is, and whether it beats the best of them."""
    import contextlib
    import io

    from seqlab.reports.floors import fit_floors
    from seqlab.reports.headlines import of_system

    names = ["markov", "popularity", *(["personal_frequency"] if parts.log.repeats else [])]
    with contextlib.redirect_stdout(io.StringIO()):  # of their trainings
        counting, _ = fit_floors(names, run, parts)
    name = run.outcome.primary
    numbers = ", ".join(f"{one.system} {one.metrics['test'][name]:.3f}" for one in counting)
    return f"Counting: {numbers} ({name}).\n{of_system(run, counting)}" if counting else str(of_system(run))


def _load_start(run: Path, log: InteractionLog) -> Run:
    """The run to begin from, with the split of its training: of this log, if it was trained on it."""
    from seqlab.datasets import split
    from seqlab.runs.identity import stored_identity
    from seqlab.runs.run import load_run

    found = stored_identity(run)
    same = found.fingerprint == log.fingerprint(found.version)
    return load_run(run, split(log, found.split) if same else split_of_run(run, None, None, {}))
