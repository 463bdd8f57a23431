"""Process pools: map a function over arguments, on this machine (joblib) or on a Dask cluster; workers may be killed.

Dask rather than Ray, because Dask is pure Python and small, and gives the work of a dead worker to another one. Dask is
called directly: joblib's Dask backend (1.6) waits for ever for work that Dask has given up.
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
"""Seconds to wait for the scheduler of a cluster, and for its first worker."""

Pool = Callable[[Callable[[Any], Any], list[Any]], Iterable[tuple[Any, Any]]]
"""pool(function, arguments): pairs (argument, result) in the order of completion. Arguments whose process was killed
may be missing."""


@contextlib.contextmanager
def pool(workers: int, scheduler: str | None, folder: Path) -> Iterator[Pool]:
    """A pool of `workers` processes of this machine (1: this process itself), or of the workers of a Dask cluster.

    Processes of this machine have OMP_NUM_THREADS threads each (default 1). scheduler: the address of a cluster, whose
    workers must have one thread each and access to `folder`. Raises `ValueError` if they have not, `ImportError` if
    Dask is not installed here or a package is missing there, `OSError` if the cluster does not answer.
    """
    if scheduler is not None:
        with _cluster(scheduler, folder) as client:
            yield functools.partial(_on_cluster, client)
    elif workers > 1:
        yield functools.partial(_on_this_machine, workers)
    else:
        yield lambda function, arguments: ((argument, function(argument)) for argument in arguments)


def _on_this_machine(workers: int, function: Callable[[Any], Any], arguments: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Ends early if a process is killed, because joblib then gives up the whole pool."""
    from joblib import Parallel, delayed, parallel_config

    threads = int((os.environ.get("OMP_NUM_THREADS") or "1").split(",")[0])
    workers = min(workers, max(len(arguments), 2))  # joblib would run one worker in this process
    with parallel_config("loky", inner_max_num_threads=threads):  # it sets OMP_NUM_THREADS before they start
        parallel = Parallel(workers, return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    with contextlib.suppress(BrokenProcessPool):
        results = parallel(delayed(_in_worker)(os.getpid(), function, *one) for one in enumerate(arguments))
        try:
            for index, result in results:
                yield arguments[index], result
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # joblib warns that it cancels the remaining work
                results.close()


def _in_worker(parent: int, function: Callable[[Any], Any], index: int, argument: Any) -> tuple[int, Any]:
    _exit_with_parent(parent)
    return index, function(argument)


@functools.cache
def _exit_with_parent(parent: int) -> None:
    """End this process when its parent process has ended, even when the parent was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _cluster(address: str, folder: Path) -> Iterator[Client]:
    if not re.fullmatch(r"(\w+://)?[^/]+:\d+", address):
        raise ValueError(f"{address!r} is not the address of a scheduler, such as tcp://10.0.0.1:8786.")
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("A cluster needs Dask, which is not installed: pip install 'seqlab[cluster]'.") from error
    with Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
        if multithreaded := [worker for worker, threads in client.nthreads().items() if threads > 1]:
            raise ValueError(f"Worker {multithreaded[0]} has several threads. Start one worker per core: --nthreads 1.")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            try:
                found = client.run(_exists, probe.name)
            except ImportError as error:
                raise ImportError(
                    f"The workers of {address} lack a package ({error}): install seqlab there."
                ) from error
        if without := [worker for worker, exists in found.items() if not exists]:
            raise ValueError(f"Worker {without[0]} has no access to {folder}. All workers need a shared file system.")
        yield client


def _exists(path: str) -> bool:
    return os.path.exists(path)


def _on_cluster(client: Client, function: Callable[[Any], Any], arguments: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Arguments that Dask gives up, because too many workers died of them, are missing.

    Raises `OSError` if the cluster is lost.
    """
    from distributed import KilledWorker, as_completed

    futures = {client.submit(function, argument, pure=False): argument for argument in arguments}
    for future in as_completed(futures, loop=client.loop):
        if future.status == "finished":
            yield futures[future], future.result()
        elif future.status == "error" and not isinstance(error := future.exception(), KilledWorker):
            raise OSError(f"A worker could not start ({type(error).__name__}: {error}).") from error
    if client.status != "running":
        raise OSError(f"The connection to the cluster at {client.scheduler.address} is lost.")
