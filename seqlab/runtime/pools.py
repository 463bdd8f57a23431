"""A function over many things, each in a process of this machine or of a cluster; processes may be killed.

On this machine they are joblib's (loky). On several machines they are the workers of a Dask cluster. Dask rather than
Ray: it is pure Python, small, takes a function and its argument as joblib does, and gives what a worker took with it
when it died to another one. The work goes to Dask without joblib between them, because joblib's own way there (1.6)
waits for ever for work that Dask has given up.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

CONNECT_TIMEOUT = 10
"""Seconds that the scheduler of a cluster may take to answer, and its workers to come."""

Pool = Callable[[Callable[[Any], Any], list[Any]], Iterable[tuple[Any, Any]]]
"""pool(function, things): each thing with what the function made of it, as it comes. Things whose process was killed
may not come."""


@contextlib.contextmanager
def pool(workers: int, scheduler: str | None, folder: Path) -> Iterator[Pool]:
    """Processes to work on: this one if `workers` is 1, else so many of this machine, or the workers of a Dask cluster.

    Those of this machine have one thread each, or as many as OMP_NUM_THREADS says. scheduler: the address of a cluster;
    its workers have one thread each and all see `folder`. Raises `ValueError` where they do not, `ImportError` where
    Dask is missing here or the package there, `OSError` where no cluster answers.
    """
    if scheduler is not None:
        with _cluster(scheduler, folder) as client:
            yield functools.partial(_on_cluster, client)
    elif workers > 1:
        yield functools.partial(_on_this_machine, workers)
    else:
        yield lambda function, things: ((thing, function(thing)) for thing in things)


def _on_this_machine(workers: int, function: Callable[[Any], Any], things: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Ends early where a process is killed: joblib then takes all of them for lost."""
    from joblib import Parallel, delayed, parallel_config

    threads = int((os.environ.get("OMP_NUM_THREADS") or "1").split(",")[0])
    workers = min(workers, max(len(things), 2))  # of one worker joblib makes this process, which must not be killed
    with parallel_config("loky", inner_max_num_threads=threads):  # it sets OMP_NUM_THREADS before they start
        parallel = Parallel(workers, return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    with contextlib.suppress(BrokenProcessPool):
        made = parallel(delayed(_below)(os.getpid(), function, *one) for one in enumerate(things))
        try:
            for place, one in made:
                yield things[place], one
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that what nobody waits for any more is given up is meant
                made.close()


def _below(parent: int, function: Callable[[Any], Any], place: int, thing: Any) -> tuple[int, Any]:
    _end_with(parent)
    return place, function(thing)


@functools.cache
def _end_with(parent: int) -> None:
    """End this process when the one that started it has ended, even by being killed: nobody waits for its work."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _cluster(address: str, folder: Path) -> Iterator[Client]:
    if not re.fullmatch(r"(\w+://)?[^/]+:\d+", address):
        raise ValueError(f"{address!r} is no address of a scheduler; it looks like tcp://10.0.0.1:8786.")
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("A cluster needs Dask, which is not installed: pip install 'seqlab[cluster]'.") from error
    with Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
        if wide := [worker for worker, threads in client.nthreads().items() if threads > 1]:
            raise ValueError(f"Worker {wide[0]} has several threads; start workers with --nthreads 1, one per core.")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as mark:
            try:
                seen = client.run(_sees, mark.name)
            except ImportError as error:
                raise ImportError(
                    f"The workers of {address} lack a package ({error}): install seqlab there."
                ) from error
        if blind := [worker for worker, sees in seen.items() if not sees]:
            raise ValueError(f"Worker {blind[0]} does not see {folder}: all need the same one (a shared file system).")
        yield client


def _sees(path: str) -> bool:
    return os.path.exists(path)


def _on_cluster(client: Client, function: Callable[[Any], Any], things: list[Any]) -> Iterator[tuple[Any, Any]]:
    """What Dask gives up, because too many workers died of it, does not come. Raises `OSError` where it is gone."""
    from distributed import KilledWorker, as_completed

    futures = {client.submit(function, thing, pure=False): thing for thing in things}
    for future in as_completed(futures, loop=client.loop):
        if future.status == "finished":
            yield futures[future], future.result()
        elif future.status == "error" and not isinstance(error := future.exception(), KilledWorker):
            raise OSError(f"A worker could not begin ({type(error).__name__}: {error}).") from error
    if client.status != "running":
        raise OSError(f"The cluster at {client.scheduler.address} is gone.")
