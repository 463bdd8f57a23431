"""Many trainings: the leaderboard, a sweep, a search of settings, and the plan of them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqlab.cli.options import Dataset, SeenFilter, Settings, with_load_options
from seqlab.cli.parsing import parse_grid, parse_pairs, parse_seeds

Arms = Annotated[list[str], typer.Argument(help="which systems; sasrec:layers=3 is one with a setting of its own")]
Seeds = Annotated[str, typer.Option(help="one or more, 0,1,2")]
Runs = Annotated[Path, typer.Option(help="where run folders and checkpoints go")]


@with_load_options
def leaderboard(
    arms: Arms,
    dataset: Dataset = "complete-journey",
    seeds: Seeds = "0",
    settings: Settings = None,
    seen_filter: SeenFilter = None,
    table: Annotated[Path | None, typer.Option(help="the table to add to; else RUNS/leaderboard.csv")] = None,
    runs: Runs = Path("data/runs"),
    against: Annotated[str | None, typer.Option(help="the arm that the others are compared with, user by user")] = None,
    *,
    load_options: dict[str, str],
) -> None:
    """Train what the table lacks, with the dataset's presets; can be killed and called again."""
    from seqlab.experiments import leaderboard as board

    given = parse_pairs(settings or [])
    path = table or runs / "leaderboard.csv"
    try:
        rows, gains = board.complete(
            arms, dataset, parse_seeds(seeds), path, runs, given, seen_filter, against, load_options
        )
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    shown = ["arm", "seed", "users", "recall@10", "ndcg@10", "ndcg@10 low", "ndcg@10 high", "seconds"]
    typer.echo(rows[shown].to_string(index=False))
    typer.echo(f"The table: {path}")
    if gains is not None:
        typer.echo(f"\nGains over {against}, paired by user, with 95 % intervals:")
        shown = ["a", "b", "difference", "low", "high"]
        typer.echo(gains.set_index(["arm", "metric"])[shown].round(4).to_string())


@with_load_options
def sweep(
    arms: Arms,
    datasets: Annotated[list[str] | None, typer.Option("--dataset", help="as fit takes it; may be repeated")] = None,
    seeds: Seeds = "0",
    grid: Annotated[
        list[str] | None, typer.Option(help="key=32,64: values to try, in all combinations; 64,64;128,128 of lists")
    ] = None,
    settings: Settings = None,
    seen_filter: SeenFilter = None,
    runs: Runs = Path("data/runs"),
    table: Annotated[
        Path | None, typer.Option(help="of the results, .parquet or .csv; else RUNS/sweep.parquet")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes; several have one thread, or OMP_NUM_THREADS")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="tcp://... of a Dask cluster to use instead; all its workers must see RUNS")
    ] = None,
    *,
    load_options: dict[str, str],
) -> None:
    """Train every arm on every dataset with every seed and every choice of a grid, several at a time.

    Run folders are those of `leaderboard`: what is finished is not trained again, what was killed goes on from its
    checkpoint. A run that fails does not stop the others; it is told at the end, with exit code 2.
    """
    from seqlab.experiments import sweep as sweeps

    where, given = datasets or ["complete-journey"], parse_pairs(settings or [])
    choices = parse_grid(grid or [], arms)
    try:
        swept = sweeps.sweep(arms, where, parse_seeds(seeds), choices, given, runs, table, workers, scheduler, seen_filter,
                             echo=typer.echo, load_options=load_options)  # fmt: skip
    except KeyboardInterrupt:
        typer.echo("Stopped. What is finished is kept; the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    if len(swept.table):
        shown = ["recall@10", "ndcg@10", "ndcg@10 low", "ndcg@10 high", "valid ndcg@10", "seconds"]
        typer.echo(swept.table[shown].round(4).to_string())
        typer.echo(f"The table: {table or runs / 'sweep.parquet'}")
    for label, sentence in swept.failed.items():
        typer.echo(f"seqlab: {label} failed: {sentence}", err=True)
    if swept.failed:
        raise typer.Exit(2)


@with_load_options
def tune(
    arm: Annotated[str, typer.Argument(help="which system; sasrec:layers=3 is one with a setting of its own")],
    space: Annotated[
        list[str], typer.Option(help="key=1e-4..1e-2:log, key=16..128 or key=a,b,c: where to search; may be repeated")
    ],
    dataset: Dataset = "complete-journey",
    trials: Annotated[int, typer.Option(min=1, help="in all, with those finished before")] = 20,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="of training and of the search")] = 0,
    seen_filter: SeenFilter = None,
    runs: Runs = Path("data/runs"),
    *,
    load_options: dict[str, str],
) -> None:
    """Search the settings that validate best; the test part is not looked at. Can be killed and called again.

    Each trial is a run folder as `leaderboard` and `sweep` make them.
    """
    import shlex

    from seqlab.experiments import tuning

    wanted, given = parse_pairs(space), parse_pairs(settings or [])
    if len(wanted) < len(space):
        raise ValueError("A setting has two spaces; all that is to be tried stands in one.")
    try:
        tuned = tuning.tune(arm, dataset, wanted, trials, given, seed, runs, seen_filter, typer.echo, load_options)
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on with the trial it was at.", err=True)
        raise typer.Exit(130) from None
    system = arm.split(":")[0]
    typer.echo(tuned.trials.sort_values(tuned.trials.columns[-1], ascending=False).to_string())
    again = shlex.join(["seqlab", "leaderboard", tuned.arm, "--dataset", dataset, "--runs", str(runs),
                        *(word for key, text in load_options.items() for word in (f"--{key}", text))])  # fmt: skip
    typer.echo(f"\nThe best by validation:\n{again}\n\nFor seqlab/presets/{system}.toml:\n{tuned.preset}")


def plan(
    missing: Annotated[bool, typer.Option("--missing", help="list what the leaderboard lacks")] = False,
    train: Annotated[bool, typer.Option("--train", help="train that (hours), and write its page")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="search settings of every system (hours)")] = False,
    trials: Annotated[int, typer.Option(min=1, help="of each search")] = 3,
    folder: Annotated[Path, typer.Option(help="where leaderboard.csv, claims.csv and runs/ are")] = Path("data"),
) -> None:
    """What the cards of all systems ask the leaderboard to measure; listed, or done."""
    from seqlab.experiments import plan as plans

    if missing + train + tune > 1:
        raise ValueError("--missing, --train and --tune are three tasks; choose one.")
    try:
        if train:
            plans.complete(folder)
        elif tune:
            plans.tune(trials, folder / "runs", typer.echo)
        else:
            lines = plans.missing(folder / "leaderboard.csv", folder / "runs") if missing else plans.comparisons()
            typer.echo("\n".join(map(str, lines)) or "Nothing is missing.")
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on from there.", err=True)
        raise typer.Exit(130) from None
