"""The shell's face of the lab. Every command is a few lines over a function you can call yourself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

app = typer.Typer(
    help="A lab for seeing how a sequential recommender thinks.", no_args_is_help=True,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip

Dataset = Annotated[str, typer.Option(help="a name (seqlab datasets), a folder with interactions.tsv.gz, or a file")]
Trained = Annotated[str | None, typer.Option(help="the data it was trained on, if they are no longer where they were")]
User = Annotated[str | None, typer.Option(help="the column of users, in a file of yours; else guessed")]
Item = Annotated[str | None, typer.Option(help="the column of items; else guessed")]
Time = Annotated[str | None, typer.Option(help="the column that says when; else guessed")]
Title = Annotated[str | None, typer.Option(help="the column of titles; else guessed")]
Sep = Annotated[str | None, typer.Option(help="what separates the columns, where the file's ending does not tell")]
Encoding = Annotated[str | None, typer.Option(help="of a file that is not UTF-8, such as cp1251")]
Bad = Annotated[str | None, typer.Option(help="rows without a user, an item or a time: refuse (the default), or drop")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value: a setting of the system, or of training")]
Arms = Annotated[list[str], typer.Argument(help="which systems; sasrec:layers=3 is one with a setting of its own")]
Seeds = Annotated[str, typer.Option(help="one or more, 0,1,2")]
SeenFilter = Annotated[bool | None, typer.Option(help="keep seen items out of the ranking")]
Runs = Annotated[Path, typer.Option(help="where run folders and checkpoints go")]


@app.callback()
def alone(context: typer.Context) -> None:
    import os

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and context.invoked_subcommand != "fit":
        raise ValueError(
            f"torchrun is for `fit`; `{context.invoked_subcommand}` would do its work once in every process. "
            "Many runs at a time are what `sweep` is for."
        )


@app.command()
def fit(
    system: Annotated[str, typer.Argument(help="which system (seqlab models)")],
    out: Annotated[Path, typer.Option(help="the run folder to write")],
    dataset: Dataset = "complete-journey",
    epochs: Annotated[int | None, typer.Option(help="at most so many epochs")] = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="of everything random")] = 0,
    resume: Annotated[bool, typer.Option(help="go on from the checkpoint in OUT.partial")] = False,
    seen_filter: SeenFilter = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    title: Title = None,
    sep: Sep = None,
    encoding: Encoding = None,
    bad: Bad = None,
) -> None:
    """Train SYSTEM on a dataset (leave-one-out), evaluate it, and write its run folder."""
    import dataclasses

    given = _pairs(settings or [])
    if out.exists() and not resume:
        raise ValueError(f"{out} exists; choose another folder, or pass --resume.")
    typer.echo(f"Reading {dataset}.")  # the first seconds are those of imports
    from seqlab import models
    from seqlab.datasets import leave_one_out, load
    from seqlab.optimization.options import Options
    from seqlab.presets import usual_options
    from seqlab.runtime import processes
    from seqlab.runtime.settings import read_as, types_of
    from seqlab.training.fit import fit

    kinds = types_of(Options)
    of_system = {key: value for key, value in given.items() if key not in kinds}
    changes = {key: read_as(kinds[key], value, key) for key, value in given.items() if key in kinds}
    changes |= {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    models.configure(system, of_system, also=kinds)  # a mistake is told before the data are read
    Options(**changes)
    log = load(dataset, **_reading(user, item, time, title, sep, encoding, bad))
    if not log.card and processes.index() == 0:
        typer.echo("\n".join(log.notes), err=True)
    split = leave_one_out(log)
    model = models.create(system, split, of_system, seed)
    options = dataclasses.replace(usual_options(model, split), **changes)
    run = fit(model, split, options, out, resume, seen_filter)
    if processes.index() == 0:
        typer.echo(repr(run))
        typer.echo(run.metrics["protocol"])
    if run.interrupted:
        raise typer.Exit(130)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    dataset: Trained = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    title: Title = None,
    sep: Sep = None,
    encoding: Encoding = None,
    bad: Bad = None,
) -> None:
    """Rank the test answers of a finished run again: metrics with 95 % intervals."""
    from seqlab import evaluation, tasks
    from seqlab.runs.run import load_run

    split = _split_of(run, dataset, _reading(user, item, time, title, sep, encoding, bad))
    loaded = load_run(run, split)
    ranks = tasks.rank(loaded.model, split, seen_filter=loaded.ranks.seen_filter)
    typer.echo(f"{ranks.protocol}\n{evaluation.INTERVALS}")
    typer.echo(evaluation.intervals(ranks).round(4).to_string())


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="a run folder")],
    b: Annotated[Path, typer.Argument(help="another one, on the same data")],
    dataset: Trained = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    title: Title = None,
    sep: Sep = None,
    encoding: Encoding = None,
    bad: Bad = None,
) -> None:
    """What run A gains over run B, user by user: differences with paired 95 % intervals."""
    from seqlab import evaluation
    from seqlab.runs.run import load_run

    split = _split_of(a, dataset, _reading(user, item, time, title, sep, encoding, bad))
    first, second = (load_run(folder, split).ranks for folder in (a, b))
    typer.echo(f"{first.protocol}\n{evaluation.INTERVALS}")
    typer.echo(evaluation.compare(first, second).round(4).to_string())


@app.command()
def report(
    notebooks: Annotated[
        list[Path] | None, typer.Argument(help="which, or a pinned view (a .json file); by default the curated set")
    ] = None,
    parameters: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value, or two words: name value")
    ] = None,
    out: Annotated[Path, typer.Option(help="the folder of the reports")] = Path("reports"),
    name: Annotated[str | None, typer.Option(help="the report's name, for one notebook")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="notebooks at a time")] = 1,
    timeout: Annotated[float, typer.Option(help="seconds a cell may take")] = 1800,
    start_timeout: Annotated[float, typer.Option(help="seconds a kernel may take to start")] = 120,
) -> None:
    """Run notebooks and render each to one self-contained HTML file; reports/index.html lists them."""
    from seqlab.reports.render import curated, render

    chosen = notebooks or curated()
    if not chosen:
        raise FileNotFoundError("there are no notebooks here; name one, or go to the folder that holds notebooks/.")
    done = render(chosen, _pairs(parameters or []), out, name, jobs, timeout, start_timeout, say=typer.echo)
    typer.echo(f"{out / 'index.html'} lists them.")
    if any(one.error for one in done):
        raise typer.Exit(1)


@app.command()
def models() -> None:
    """The systems, and what can be set."""
    from seqlab import models as systems

    for row in systems.table().to_dict("records"):
        paper = f"{row['paper']}, {row['venue']}, {row['year']}" if row["paper"] else "no paper"
        typer.echo(f"{row['system']} ({row['family']})\n    {row['what it is']}\n    {paper}\n    {row['settings']}")


@app.command()
def datasets() -> None:
    """The named datasets, their terms, and whether they are at hand."""
    from seqlab.datasets import catalog

    for row in catalog().itertuples(index=False):
        typer.echo(f"{row.name}\n    {row.title}: {row.users:,} users, {row.items:,} items, {row.events:,} events")
        typer.echo(f"    {row.have}; {row.licence}")


@app.command()
def leaderboard(
    arms: Arms,
    dataset: Dataset = "complete-journey",
    seeds: Seeds = "0",
    settings: Settings = None,
    seen_filter: SeenFilter = None,
    table: Annotated[Path | None, typer.Option(help="the table to add to; else RUNS/leaderboard.csv")] = None,
    runs: Runs = Path("data/runs"),
    against: Annotated[str | None, typer.Option(help="the arm that the others are compared with, user by user")] = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    title: Title = None,
    sep: Sep = None,
    encoding: Encoding = None,
    bad: Bad = None,
) -> None:
    """Train what the table lacks, with the dataset's presets; can be killed and called again."""
    from seqlab.experiments import leaderboard as board

    given, reading = _pairs(settings or []), _reading(user, item, time, title, sep, encoding, bad)
    path = table or runs / "leaderboard.csv"
    try:
        rows, gains = board.complete(arms, dataset, _numbers(seeds), path, runs, given, seen_filter, against, reading)
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


@app.command()
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
    user: User = None,
    item: Item = None,
    time: Time = None,
    title: Title = None,
    sep: Sep = None,
    encoding: Encoding = None,
    bad: Bad = None,
) -> None:
    """Train every arm on every dataset with every seed and every choice of a grid, several at a time.

    Run folders are those of `leaderboard`: what is finished is not trained again, what was killed goes on from its
    checkpoint. A run that fails does not stop the others; it is told at the end, with exit code 2.
    """
    from seqlab.experiments import sweep as sweeps

    where, given = datasets or ["complete-journey"], _pairs(settings or [])
    choices = _grid(grid or [], arms)
    try:
        swept = sweeps.sweep(arms, where, _numbers(seeds), choices, given, runs, table, workers, scheduler, seen_filter,
                             say=typer.echo, reading=_reading(user, item, time, title, sep, encoding, bad))  # fmt: skip
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


@app.command()
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
    user: User = None,
    item: Item = None,
    time: Time = None,
    title: Title = None,
    sep: Sep = None,
    encoding: Encoding = None,
    bad: Bad = None,
) -> None:
    """Search the settings that validate best; the test part is not looked at. Can be killed and called again.

    Each trial is a run folder as `leaderboard` and `sweep` make them.
    """
    import shlex

    from seqlab.experiments import tuning

    wanted, given, reading = (
        _pairs(space),
        _pairs(settings or []),
        _reading(user, item, time, title, sep, encoding, bad),
    )
    if len(wanted) < len(space):
        raise ValueError("A setting has two spaces; all that is to be tried stands in one.")
    try:
        tuned = tuning.tune(arm, dataset, wanted, trials, given, seed, runs, seen_filter, typer.echo, reading)
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on with the trial it was at.", err=True)
        raise typer.Exit(130) from None
    system = arm.split(":")[0]
    typer.echo(tuned.trials.sort_values(tuned.trials.columns[-1], ascending=False).to_string())
    again = shlex.join(["seqlab", "leaderboard", tuned.arm, "--dataset", dataset, "--runs", str(runs),
                        *(word for key, text in reading.items() for word in (f"--{key}", text))])  # fmt: skip
    typer.echo(f"\nThe best by validation:\n{again}\n\nFor seqlab/presets/{system}.toml:\n{tuned.preset}")


@app.command()
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


@app.command()
def doctor() -> None:
    """What is installed, on what machine, and what will be slow here."""
    from seqlab.runtime.doctor import examine

    for line in examine():
        typer.echo(line)


@app.command()
def lab(folder: Annotated[Path | None, typer.Argument(help="by default the curated notebooks")] = None) -> None:
    """Open JupyterLab on the notebooks."""
    import os
    import sys

    from seqlab.reports import render

    found = render.curated()
    folder = folder or (found[0].parent if found else Path.cwd())
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"])


def _split_of(run: Path, dataset: str | None, reading: dict[str, str]) -> Split:
    """The data of a finished run, read from where they were, or those named in their place."""
    import json

    from seqlab.datasets import catalog, leave_one_out, load, reload

    if not (run / "provenance.json").is_file():
        raise FileNotFoundError(f"{run} is no finished run: provenance.json is missing.")
    data = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["data"]
    if dataset is not None or reading:
        return leave_one_out(load(dataset or data["name"], **reading))
    if data.get("origin"):
        return leave_one_out(reload(data["origin"]))
    if data["name"] not in {*catalog()["name"]}:
        raise ValueError(f"{run} does not say where its data, {data['name']!r}, lie: name the file with --dataset.")
    return leave_one_out(load(data["name"]))


def _reading(*values: str | None) -> dict[str, str]:
    """Those options that say how to read a file and were given, as `datasets.load` takes them."""
    names = ("user", "item", "time", "title", "sep", "encoding", "bad")
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _pairs(given: list[str]) -> dict[str, str]:
    """key=value texts as a dict."""
    for text in given:
        if "=" not in text:
            raise ValueError(f"{text!r} is no key=value.")
    return dict(text.split("=", 1) for text in given)


def _numbers(text: str) -> list[int]:
    """Seeds, 0,1,2."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{text!r} are no seeds; they look like 0,1,2.") from None


def _grid(given: list[str], arms: list[str]) -> dict[str, list[str]]:
    """key=32,64 texts as lists."""
    from seqlab import models as systems
    from seqlab.runtime.settings import apart, types_of

    grid: dict[str, list[str]] = {}
    for key, text in (pair for one in given for pair in _pairs([one]).items()):
        if key in grid:
            raise ValueError(f"{key!r} is in the grid twice; all its values stand together, {key}=32,64.")
        for arm in arms:
            grid[key] = apart(types_of(systems.module(arm.split(":")[0]).Config).get(key), text, key)
    return grid


def main() -> None:
    """The command `seqlab`: errors that a person can mend are one sentence on stderr and exit code 2."""
    import sys

    try:
        app(_joined(sys.argv[1:]))
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        typer.echo(f"seqlab: {error}", err=True)
        raise SystemExit(2) from None


def _joined(words: list[str]) -> list[str]:
    """`-p name value`, as papermill has it, is `-p name=value` to typer."""
    words, joined = list(words), []
    while words:
        word = words.pop(0)
        joined.append(word)
        if word in ("-p", "--parameter") and len(words) > 1 and "=" not in words[0]:
            joined.append(f"{words.pop(0)}={words.pop(0)}")
    return joined
