"""Many runs at once: arms x datasets x seeds x a grid of settings, on the processes of this machine or of a cluster.

    seqlab sweep sasrec gru4rec --dataset amazon-beauty --seeds 0,1 --grid dim=32,64 --workers 4

What is true lies in the run folders, which are those of `seqlab leaderboard`: a finished run is never trained again,
whoever made it, and one that was killed goes on from its checkpoint. After every run its row joins the table.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.datasets import leave_one_out, load
from seqlab.experiments import leaderboard
from seqlab.runs.run import load_run
from seqlab.runtime.pools import pool

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.runtime.pools import Pool

MAX_ATTEMPTS = 3
"""How often a run is begun whose process is killed. The last time nothing runs beside it, which may have been what took
the memory."""

Outcome = dict[str, Any] | str
"""What comes of a run: its row for the table, or the sentence that says why there is none."""

_TRAINING = threading.Lock()  # random numbers and standard output belong to the process: one run of it at a time


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its name, its plan, and where its data come from, with their fingerprint."""

    label: str
    plan: leaderboard.Plan
    dataset: str
    data: str
    load_options: tuple[tuple[str, str], ...] = ()

    @property
    def attempts_file(self) -> Path:
        """Beside its folder: a line with the process for every time this sweep began it without coming to an end."""
        return self.plan.folder.with_name(f"{self.plan.folder.name}.tries")

    def attempts(self) -> int:
        """How often that was."""
        return len(self.attempts_file.read_text(encoding="utf-8").splitlines()) if self.attempts_file.exists() else 0


@dataclass(frozen=True)
class SweepResult:
    """What came of a sweep: the rows of its finished runs, and why the others failed; both by what a run is called."""

    table: pd.DataFrame
    failed: dict[str, str]


def sweep(
    arms: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int] = (0,),
    grid: Mapping[str, Sequence[Any]] | None = None,
    given: Mapping[str, Any] | None = None,
    runs: str | Path = "data/runs",
    table: str | Path | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    seen_filter: bool | None = None,
    echo: Callable[[str], None] = print,
    load_options: Mapping[str, str] | None = None,
) -> SweepResult:
    """Train every arm with every choice of the grid and every seed on every dataset, and keep a row of each run.

    arms: as `seqlab leaderboard` takes them; their own words stand over `grid` and `given`. grid: for some settings (of
    a system or of training) the values to try, in all combinations. given: settings for all. table: a .parquet or .csv,
    by default `runs/sweep.parquet`; rows of other sweeps stay in it. workers, scheduler: see `runtime.pools.pool`.
    load_options: how files are read, as `datasets.load` takes it.

    A run that fails does not stop the others. What a killed process was training is begun again, `MAX_ATTEMPTS` times in all.
    Raises, before anything is trained, `ValueError` for an arm, a setting or a dataset that is none, and for two
    datasets of one name; and what `runtime.pools.pool` raises.
    """
    runs = Path(runs).absolute()
    table = runs / "sweep.parquet" if table is None else Path(table)
    jobs, finished = _planned(
        arms, datasets, seeds, grid or {}, given or {}, runs, table, seen_filter, dict(load_options or {})
    )
    if finished:
        leaderboard.add(finished, table)
    left = [job for job in jobs if not job.plan.folder.exists()]
    done, failed = len(jobs) - len(left), {}
    echo(f"{len(jobs)} runs: {done} finished before, {f'{len(left)} to train' if left else 'nothing to train'}.")
    with (
        pool(workers, scheduler, runs) if left else contextlib.nullcontext() as run_all,
        contextlib.closing(_outcomes(left, run_all, echo)) as outcomes,  # whatever happens here, the processes end
    ):
        for job, told in outcomes:
            # a listing asks the file server anew, where `exists` may know of nothing yet
            if not isinstance(told, str) and job.plan.folder not in job.plan.folder.parent.glob("*"):
                told = (
                    f"a worker finished it, but {job.plan.folder} is not to be seen from here: all workers need the "
                    "same folder of runs (a shared file system)."
                )
            done += 1
            if isinstance(told, str):
                failed[job.label] = told
                what = f"FAILED, {told}"
            else:
                leaderboard.add([told], table)
                what = f"ndcg@10 {told['ndcg@10']:.4f}, validation {told['valid ndcg@10']:.4f}, {told['seconds']:.0f} s"
            echo(f"[{done}/{len(jobs)}] {job.label}: {what}")
    return SweepResult(_rows(jobs, table), failed)


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of a grid's values. Raises `ValueError` for a setting without any."""
    for key, values in grid.items():
        if not len(values) or "" in values:
            raise ValueError(f"The grid has no value for {key!r}, or an empty one; it looks like {key}=32,64.")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _planned(
    arms: Sequence[str], datasets: Sequence[str], seeds: Sequence[int], grid: Mapping[str, Sequence[Any]],
    given: Mapping[str, Any], runs: Path, table: Path, seen_filter: bool | None, load_options: dict[str, str],
) -> tuple[list[Job], list[dict[str, Any]]]:  # fmt: skip
    """The runs, each once, and the rows of those that are finished and not in the table."""
    if twice := [key for key in grid if key in given]:
        raise ValueError(f"{twice[0]!r} is in the grid and set for all; say it once.")
    known = set(leaderboard.keys(leaderboard.read(table)))
    jobs, finished, prints = {}, [], {}
    for dataset in datasets:
        split = leave_one_out(load(dataset, **load_options))
        data = split.log.fingerprint()
        if prints.setdefault(split.log.name, data) != data:
            raise ValueError(f"{dataset} is called {split.log.name!r}, like other data of this sweep: rename its file.")
        for arm, point, seed in itertools.product(arms, combinations(grid), seeds):
            one = leaderboard.plan(arm, split, seed, runs, {**given, **point}, seen_filter)
            if one.folder in jobs:
                continue
            words = leaderboard.format_settings({key: value for key, value in point.items() if f":{key}=" not in arm})
            label = f"{':'.join(filter(None, [arm, words]))} seed {seed} on {split.log.name}"
            jobs[one.folder] = Job(label, one, _anywhere(dataset), data, tuple(load_options.items()))
            if one.folder.exists():
                run = load_run(one.folder, split)
                if leaderboard.key_of(one.key) not in known:
                    finished.append(leaderboard.row(run, split, one.options))
    return list(jobs.values()), finished


def _anywhere(dataset: str) -> str:
    """A path of one's own as a process in another folder needs it; a name stays one."""
    path = Path(dataset)
    return str(path.absolute()) if path.exists() and (path.suffix or len(path.parts) > 1) else dataset


def _rows(jobs: list[Job], table: Path) -> pd.DataFrame:
    """The rows of those runs that are in the table, each with what its run is called, in the order of the runs."""
    import pandas as pd

    found = leaderboard.read(table)
    place = {key: row for row, key in enumerate(leaderboard.keys(found))}
    have = [job for job in jobs if leaderboard.key_of(job.plan.key) in place]
    rows = found.iloc[[place[leaderboard.key_of(job.plan.key)] for job in have]]
    return rows.set_index(pd.Index([job.label for job in have], name="run", dtype=object))


def _outcomes(jobs: list[Job], run_all: Pool, echo: Callable[[str], None]) -> Iterator[tuple[Job, Outcome]]:
    """What comes of every run, as it comes. A pool that breaks is followed by another one for what is left.

    Who began a run and did not end it may have been killed for what another one did, so nobody is given up for that:
    the last try, alone, tells. Raises `OSError` where processes end before they begin any run.
    """
    left = {job.plan.folder: job for job in jobs}
    _forget(jobs)
    try:
        while left:
            begun = {folder: job.attempts() for folder, job in left.items()}
            beside = [job for folder, job in left.items() if begun[folder] < MAX_ATTEMPTS - 1]
            for job, told in run_all(_attempt, beside or [*left.values()][:1]):
                yield left.pop(job.plan.folder), told
            again = [job.label for folder, job in left.items() if job.attempts() > begun[folder]]
            if again:
                echo(f"A process was killed. Begun again, from the last checkpoint: {'; '.join(again)}.")
            elif len(left) == len(begun):
                raise OSError("The processes end before they begin any run; is there memory for so many?")
    finally:
        _forget(jobs)


def _forget(jobs: list[Job]) -> None:
    for job in jobs:
        job.attempts_file.unlink(missing_ok=True)


def _attempt(job: Job) -> Outcome:
    """Train one run, in whatever process this is."""
    if job.attempts() >= MAX_ATTEMPTS:
        return f"its process was killed {MAX_ATTEMPTS} times, at last alone; it may need more memory."
    try:
        job.attempts_file.parent.mkdir(parents=True, exist_ok=True)
        with job.attempts_file.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        with _TRAINING, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            split = _split(job.dataset, job.data, job.load_options)
            run = job.plan.train_or_load(split)
        if run.interrupted:
            raise KeyboardInterrupt
        told = leaderboard.row(run, split, job.plan.options)
    except (ValueError, OSError, FloatingPointError) as error:
        told = " ".join(str(error).split())
    except Exception as error:  # whatever a system may raise: the other runs go on
        told = " ".join(f"{type(error).__name__}: {error}".split())
    job.attempts_file.unlink(missing_ok=True)
    return told


@functools.lru_cache(maxsize=1)  # a process gets the runs of one dataset after those of another
def _split(dataset: str, data: str, load_options: tuple[tuple[str, str], ...]) -> Split:
    split = leave_one_out(load(dataset, **dict(load_options)))
    if split.log.fingerprint() != data:
        raise ValueError(f"{dataset} does not hold the data that the sweep was planned for; has the file changed?")
    return split
