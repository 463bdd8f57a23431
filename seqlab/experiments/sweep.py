"""A sweep: runs of arms x datasets x seeds x a grid of settings, on processes of this machine or of a cluster.

    seqlab sweep sasrec gru4rec --dataset amazon-beauty --seeds 0,1 --grid dim=32,64 --workers 4

The state of a sweep is in its run folders, which are those of `seqlab leaderboard`: a finished run is never trained
again, and a killed one continues from its checkpoint. After every run its row is added to the table.
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

from seqlab import tasks
from seqlab.datasets import load
from seqlab.datasets.split_names import DEFAULT, split
from seqlab.experiments import leaderboard
from seqlab.experiments.arm_names import format_settings
from seqlab.runtime.pools import pool

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.runtime.pools import Pool

MAX_ATTEMPTS = 3
"""How often a run is started whose process is killed. No other run is active at its last attempt, since others may
have taken the memory."""

RowOrError = dict[str, Any] | str
"""The result of a run: its row of the table, or the reason why it failed."""

_TRAINING = threading.Lock()  # a process trains one run at a time: its runs share random state and standard output


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its label, its plan, its dataset with the fingerprint of its data, and the split."""

    label: str
    plan: leaderboard.Plan
    dataset: str
    data: str
    split: str
    load_options: tuple[tuple[str, Any], ...] = ()

    @property
    def attempts_file(self) -> Path:
        """A file beside the run folder with one line, the process id, for every attempt that has not ended."""
        return self.plan.folder.with_name(f"{self.plan.folder.name}.tries")

    def attempts(self) -> int:
        """The number of attempts that have not ended."""
        return len(self.attempts_file.read_text(encoding="utf-8").splitlines()) if self.attempts_file.exists() else 0


@dataclass(frozen=True)
class SweepResult:
    """The results of a sweep: rows of finished runs, and reasons why others failed; both by the label of the run."""

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
    load_options: Mapping[str, Any] | None = None,
    split_name: str = DEFAULT,
) -> SweepResult:
    """Train every arm with every combination of the grid and every seed on every dataset; store a row of each run.

    Combinations that differ only in their decoding are one training, measured by each.

    arms: as `seqlab leaderboard` takes them; their settings replace those of `grid` and `given`. grid: for some
    settings or training options, the values to combine. given: settings of all runs. table: a .parquet or .csv, by
    default `runs/sweep.parquet`; rows of other sweeps stay in it. workers, scheduler: see `runtime.pools.pool`.
    load_options: as `datasets.load` takes them. split_name: as `datasets.split` takes it.

    A run that fails does not stop the others. A run whose process was killed is started again, `MAX_ATTEMPTS` times in
    all. Raises, before any training, `ValueError` for an unknown arm, setting or dataset and for two datasets of one
    name, and what `runtime.pools.pool` raises.
    """
    runs = Path(runs).absolute()
    table = runs / "sweep.parquet" if table is None else Path(table)
    jobs, finished = _plan_jobs(
        arms, datasets, seeds, grid or {}, given or {}, runs, table, seen_filter, dict(load_options or {}), split_name
    )
    if finished:
        leaderboard.add(finished, table)
    _delete_attempts(jobs)  # a killed sweep may have left those of finished runs too
    left = [job for job in jobs if not job.plan.finished()]
    done, failed = len(jobs) - len(left), {}
    echo(f"{len(jobs)} runs: {done} finished before, {f'{len(left)} to train' if left else 'nothing to train'}.")
    with (
        pool(workers, scheduler, runs) if left else contextlib.nullcontext() as run_all,
        contextlib.closing(_results(left, run_all, echo)) as results,  # its processes end whatever is raised here
    ):
        for job, result in results:
            # a listing is not cached by network file systems, unlike `exists`
            if not isinstance(result, str) and job.plan.folder not in job.plan.folder.parent.glob("*"):
                result = (
                    f"a worker finished it, but {job.plan.folder} does not exist on this machine: all workers need the "
                    "same folder of runs (a shared file system)."
                )
            done += 1
            if isinstance(result, str):
                failed[job.label] = result
                message = f"FAILED, {result}"
            else:
                leaderboard.add([result], table)
                name = tasks.primary(result["task"]).name
                message = (
                    f"{name} {result[name]:.4f}, validation {result[f'valid {name}']:.4f}, {result['seconds']:.0f} s"
                )
            echo(f"[{done}/{len(jobs)}] {job.label}: {message}")
    return SweepResult(_rows(jobs, table), failed)


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of a grid's values. Raises `ValueError` for a setting without values."""
    for key, values in grid.items():
        if not len(values) or "" in values:
            raise ValueError(f"The grid has no value for {key!r}, or an empty one; it looks like {key}=32,64.")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _plan_jobs(
    arms: Sequence[str], datasets: Sequence[str], seeds: Sequence[int], grid: Mapping[str, Sequence[Any]],
    given: Mapping[str, Any], runs: Path, table: Path, seen_filter: bool | None, load_options: dict[str, Any],
    split_name: str,
) -> tuple[list[Job], list[dict[str, Any]]]:  # fmt: skip
    """The runs, each once, and the rows of finished runs that the table lacks."""
    if twice := [key for key in grid if key in given]:
        raise ValueError(f"{twice[0]!r} is in the grid and set for all runs; set it once.")
    known = set(leaderboard.keys(leaderboard.read(table)))
    jobs, finished, fingerprints = {}, [], {}
    for dataset in datasets:
        parts = split(load(dataset, **load_options), split_name)
        data = parts.log.fingerprint()
        if fingerprints.setdefault(parts.log.name, data) != data:
            raise ValueError(f"{dataset} is called {parts.log.name!r}, like other data of this sweep: rename its file.")
        for arm, point, seed in itertools.product(arms, combinations(grid), seeds):
            one = leaderboard.plan(arm, parts, seed, runs, {**given, **point}, seen_filter)
            if (one.folder, one.key["decoding"]) in jobs:
                continue
            words = format_settings({key: value for key, value in point.items() if f":{key}=" not in arm})
            label = f"{':'.join(filter(None, [arm, words]))} seed {seed} on {parts.log.name}"
            jobs[one.folder, one.key["decoding"]] = Job(
                label, one, _absolute(dataset), data, parts.name, tuple(load_options.items())
            )
            if one.finished():
                run = one.load(parts)
                if leaderboard.key_of(one.key) not in known:
                    finished.append(leaderboard.row(run, one.key))
    return list(jobs.values()), finished


def _absolute(dataset: str) -> str:
    """A path as an absolute one, for processes in another working folder; the name of a dataset stays a name."""
    path = Path(dataset)
    return str(path.absolute()) if path.exists() and (path.suffix or len(path.parts) > 1) else dataset


def _rows(jobs: list[Job], table: Path) -> pd.DataFrame:
    """The rows of those runs that are in the table, indexed by label, in the order of the runs."""
    import pandas as pd

    found = leaderboard.read(table)
    row_of = {key: row for row, key in enumerate(leaderboard.keys(found))}
    rows = {job.label: row_of[key] for job in jobs if (key := leaderboard.key_of(job.plan.key)) in row_of}
    return found.iloc[list(rows.values())].set_index(pd.Index(rows, name="run", dtype=object))


def _results(jobs: list[Job], run_all: Pool, echo: Callable[[str], None]) -> Iterator[tuple[Job, RowOrError]]:
    """The result of every run, as soon as it is known. A pool that breaks is followed by another one for the rest.

    A run that was started and did not end may have been killed for the memory of another run. So a run fails for this
    only at its last attempt, when no other run is active. Raises `OSError` where processes end before they start a run.
    """
    left = {job.label: job for job in jobs}
    try:
        while left:
            first = {job.plan.folder: job for job in reversed(left.values())}  # others of a folder load its weights
            before = {job.label: job.attempts() for job in reversed(first.values())}
            parallel = [left[label] for label, attempts in before.items() if attempts < MAX_ATTEMPTS - 1]
            count = len(left)
            for job, result in run_all(_attempt, parallel or [left[next(iter(before))]]):
                yield left.pop(job.label), result
            again = [label for label in before if label in left and left[label].attempts() > before[label]]
            if again:
                echo(f"A process was killed. Started again from the last checkpoint: {'; '.join(again)}.")
            elif len(left) == count:
                raise OSError("The processes end before they start any run; is there enough memory for all of them?")
    finally:
        _delete_attempts(jobs)


def _delete_attempts(jobs: list[Job]) -> None:
    for job in jobs:
        job.attempts_file.unlink(missing_ok=True)


def _attempt(job: Job) -> RowOrError:
    """Train one run in this process."""
    if job.attempts() >= MAX_ATTEMPTS:
        return f"its process was killed {MAX_ATTEMPTS} times, at last without other runs; it may need more memory."
    try:
        job.attempts_file.parent.mkdir(parents=True, exist_ok=True)
        with job.attempts_file.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        with _TRAINING, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run = job.plan.train_or_load(_split(job.dataset, job.data, job.split, job.load_options))
        if run.interrupted:
            raise KeyboardInterrupt
        result = leaderboard.row(run, job.plan.key)
    except (ValueError, OSError, FloatingPointError) as error:
        result = " ".join(str(error).split())
    except Exception as error:  # a fault of a system does not stop the other runs
        result = " ".join(f"{type(error).__name__}: {error}".split())
    job.attempts_file.unlink(missing_ok=True)
    return result


@functools.lru_cache(maxsize=1)  # the runs are sorted by dataset
def _split(dataset: str, data: str, split_name: str, load_options: tuple[tuple[str, Any], ...]) -> Split:
    log = load(dataset, **dict(load_options))
    if log.fingerprint() != data:
        raise ValueError(f"{dataset} does not hold the data that the sweep was planned for; has the file changed?")
    return split(log, split_name)
