"""Commands for many trainings: leaderboard, sweep, tune, plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from seqlab.cli.names import check_arms
from seqlab.cli.options import (
    Dataset,
    SeenFilter,
    Settings,
    SplitName,
    load_words,
    resumable,
    split_of_cards,
    with_load_options,
)
from seqlab.cli.parsing import parse_grid, parse_pairs, parse_seeds

Arms = Annotated[list[str], typer.Argument(help="systems, with settings if need be: sasrec:layers=3")]
Seeds = Annotated[str, typer.Option(help="one or more, 0,1,2")]
Runs = Annotated[Path, typer.Option(help="the folder of run folders and checkpoints")]


@with_load_options
@resumable
def leaderboard(
    arms: Arms,
    dataset: Dataset = "complete-journey",
    split: SplitName = None,
    seeds: Seeds = "0",
    settings: Settings = None,
    seen_filter: SeenFilter = None,
    table: Annotated[Path | None, typer.Option(help="the table; by default RUNS/leaderboard.csv")] = None,
    runs: Runs = Path("data/runs"),
    against: Annotated[
        str | None, typer.Option(help="the arm that the others are compared with, paired by user")
    ] = None,
    *,
    load_options: dict[str, Any],
) -> None:
    """Train the runs that the table lacks, with the presets of the dataset. The command can be killed and repeated."""
    given = parse_pairs(settings or [])
    check_arms(arms, given)
    from seqlab.experiments.leaderboard import complete, headline

    path = table or runs / "leaderboard.csv"
    rows, gains = complete(arms, dataset, parse_seeds(seeds), path, runs, given, seen_filter, against, load_options,
                           split or split_of_cards(arms))  # fmt: skip
    names = headline(rows)
    shown = ["arm", "seed", "users", *names, f"{names[-1]} low", f"{names[-1]} high", "seconds"]
    typer.echo(rows[shown].to_string(index=False))
    typer.echo(f"The table: {path}")
    if gains is not None:
        typer.echo(f"\nGains over {against}, paired by user, with 95 % intervals:")
        shown = ["a", "b", "difference", "low", "high"]
        typer.echo(gains.set_index(["arm", "metric"])[shown].round(4).to_string())


@with_load_options
@resumable
def sweep(
    arms: Arms,
    datasets: Annotated[list[str] | None, typer.Option("--dataset", help="as fit takes it; may be repeated")] = None,
    split: SplitName = None,
    seeds: Seeds = "0",
    grid: Annotated[
        list[str] | None, typer.Option(help="key=32,64: values, tried in all combinations; lists: key=64,64;128,128")
    ] = None,
    settings: Settings = None,
    seen_filter: SeenFilter = None,
    runs: Runs = Path("data/runs"),
    table: Annotated[
        Path | None, typer.Option(help="the table, .parquet or .csv; by default RUNS/sweep.parquet")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes; several use one thread each, or OMP_NUM_THREADS")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="tcp://... of a Dask cluster whose workers share the folder RUNS")
    ] = None,
    *,
    load_options: dict[str, Any],
) -> None:
    """Train every arm on every dataset with every seed and every combination of a grid, several at a time.

    Run folders are those of `leaderboard`: finished runs are not trained again, killed ones continue from their
    checkpoint. A run that fails does not stop the others; failures are listed at the end, with exit code 2.
    """
    datasets, given = datasets or ["complete-journey"], parse_pairs(settings or [])
    check_arms(arms, {**given, **parse_pairs(grid or [])})
    from seqlab.experiments import sweep as sweeps
    from seqlab.experiments.leaderboard import headline

    choices = parse_grid(grid or [], arms)
    swept = sweeps.sweep(arms, datasets, parse_seeds(seeds), choices, given, runs, table, workers, scheduler,
                         seen_filter, echo=typer.echo, load_options=load_options,
                         split_name=split or split_of_cards(arms))  # fmt: skip
    if len(swept.table):
        names = headline(swept.table)
        shown = [*names, f"{names[-1]} low", f"{names[-1]} high", f"valid {names[-1]}", "seconds"]
        typer.echo(swept.table[shown].round(4).to_string())
        typer.echo(f"The table: {table or runs / 'sweep.parquet'}")
    for label, sentence in swept.failed.items():
        typer.echo(f"seqlab: {label} failed: {sentence}", err=True)
    if swept.failed:
        raise typer.Exit(2)


@with_load_options
@resumable
def tune(
    arm: Annotated[str, typer.Argument(help="a system, with settings if need be: sasrec:layers=3")],
    space: Annotated[list[str], typer.Option(help="key=1e-4..1e-2:log, key=16..128 or key=a,b,c; may be repeated")],
    dataset: Dataset = "complete-journey",
    split: SplitName = None,
    trials: Annotated[int, typer.Option(min=1, help="in all, including those finished before")] = 20,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="of training and of the search")] = 0,
    seen_filter: SeenFilter = None,
    runs: Runs = Path("data/runs"),
    *,
    load_options: dict[str, Any],
) -> None:
    """Search the settings with the best validation metric. The command can be killed and repeated.

    The test part is not used. Each trial is a run folder, as of `leaderboard` and `sweep`.
    """
    import shlex

    spaces, given = parse_pairs(space), parse_pairs(settings or [])
    check_arms([arm], {**given, **spaces})
    from seqlab.experiments import tuning

    if len(spaces) < len(space):
        raise ValueError("A setting has two spaces; give it one.")
    split = split or split_of_cards([arm])
    tuned = tuning.tune(arm, dataset, spaces, trials, given, seed, runs, seen_filter, typer.echo, load_options,
                        split)  # fmt: skip
    system = arm.split(":")[0]
    typer.echo(tuned.trials.sort_values(tuned.metric.name, ascending=not tuned.metric.higher).to_string())
    again = shlex.join(["seqlab", "leaderboard", tuned.arm, "--dataset", dataset, "--split", split, "--runs", str(runs),
                        *load_words(load_options)])  # fmt: skip
    typer.echo(f"\nThe best by validation:\n{again}\n\nFor seqlab/presets/{system}.toml:\n{tuned.preset}")


@resumable
def plan(
    missing: Annotated[bool, typer.Option("--missing", help="list the runs that the leaderboard lacks")] = False,
    train: Annotated[bool, typer.Option("--train", help="train those runs (hours), and write the page")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="search the settings of every system (hours)")] = False,
    trials: Annotated[int, typer.Option(min=1, help="of each search")] = 3,
    folder: Annotated[Path, typer.Option(help="where leaderboard.csv, claims.csv and runs/ are")] = Path("data"),
) -> None:
    """List the measurements that the cards of all systems name, or make them."""
    from seqlab.experiments import plan as plans

    if missing + train + tune > 1:
        raise ValueError("--missing, --train and --tune exclude each other; choose one.")
    if train:
        plans.complete(folder)
    elif tune:
        plans.tune(trials, folder / "runs", typer.echo)
    else:
        lines = plans.missing(folder / "leaderboard.csv", folder / "runs") if missing else plans.comparisons()
        typer.echo("\n".join(map(str, lines)) or "Nothing is missing.")
