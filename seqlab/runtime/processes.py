"""Collective operations among the processes of one training; with a single process each returns its input.

`torchrun` starts them, Accelerate connects them (gloo between CPUs, NCCL between GPUs). Every process must call each
operation at the same place. Where one fails, or has ended, the others raise instead of waiting.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import json
import os
import signal
import threading
from collections.abc import Iterator

import torch
from torch import Tensor
from torch import distributed as dist

TIMEOUT = datetime.timedelta(hours=2)
"""Timeout of a collective operation. A process that has ended is noticed at once."""

INTERRUPTED = "KeyboardInterrupt"


def start() -> None:
    """Connect the processes that torchrun started, if any; each waits for the last."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    from accelerate.state import PartialState

    device = torch.accelerator.current_accelerator(check_available=True)
    PartialState(cpu=device is None or device.type == "mps", timeout=TIMEOUT)  # by itself it connects no CPUs
    atexit.register(PartialState().destroy_process_group)


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def index() -> int:
    """Which of them this one is, from 0. Process 0 writes and reports."""
    return dist.get_rank() if count() > 1 else 0


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of `x` over the processes, bit for bit the same in each; `x` may be overwritten."""
    if count() == 1:
        return x
    summed = x.to(_device())
    with _connection_errors():
        dist.all_reduce(summed)
    return summed.to(x.device)


def broadcast(tensors: dict[str, Tensor], text: str = "") -> tuple[dict[str, Tensor], str]:
    """The tensors (any shapes; returned on the CPU) and the text of process 0, in every process."""
    if count() == 1:
        return tensors, text
    shapes = [[name, str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()]
    text, shapes = json.loads(all_gather_text(json.dumps([text, shapes]) if index() == 0 else "")[0])
    shared = {}
    for name, kind, shape in shapes:
        own = tensors[name] if index() == 0 else torch.empty(shape, dtype=getattr(torch, kind))
        data = own.detach().contiguous().reshape(-1).view(torch.uint8).to(_device())
        with _connection_errors():
            dist.broadcast(data, 0)
        shared[name] = data.cpu().view(own.dtype).reshape(shape)
    return shared, text


def all_gather_text(text: str) -> list[str]:
    """The texts of all processes, in their order."""
    if count() == 1:
        return [text]
    data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8)
    sizes = torch.zeros(count(), dtype=torch.long)
    sizes[index()] = len(data)
    sizes = all_reduce_sum(sizes)
    page = torch.zeros(count(), int(sizes.max()), dtype=torch.uint8)
    page[index(), : len(data)] = data
    return [
        bytes(line[:size].tolist()).decode() for line, size in zip(all_reduce_sum(page), sizes.tolist(), strict=True)
    ]


@contextlib.contextmanager
def propagate_errors() -> Iterator[None]:
    """A block that every process runs by itself, with a barrier at its end: if it fails in one, all raise.

    Raises what this process failed with, `ConnectionAbortedError` with its sentence where another did, and
    `KeyboardInterrupt` in all of them where one was interrupted.
    """
    if count() == 1:
        yield
        return
    failure = None
    try:
        yield
    except BaseException as error:
        failure = error
    barrier(failure)


def barrier(failure: BaseException | None = None) -> None:
    """Wait for the others; raise if this process or one of them failed, as `propagate_errors` says."""
    if isinstance(failure, ConnectionAbortedError):  # the others know, or have ended
        raise failure
    sentences = all_gather_text("" if failure is None else _sentence(failure))
    failed = {process: sentence for process, sentence in enumerate(sentences) if sentence}
    worse = {process: sentence for process, sentence in failed.items() if sentence != INTERRUPTED}
    if failure is not None and (index() in worse or not worse):
        raise failure
    if worse:
        process, sentence = min(worse.items())
        raise ConnectionAbortedError(f"Process {process} of {count()} (the first is 0) stopped them all. {sentence}")
    if failed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def defer_interrupt(pressed: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `pressed` instead of raising, so that the others can be stopped too; pressed again, it raises.

    Nothing changes for a single process, nor where SIGINT has a handler of its own.
    """
    usual, here = signal.default_int_handler, threading.current_thread() is threading.main_thread()
    if count() == 1 or not here or signal.getsignal(signal.SIGINT) != usual:
        yield
        return

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _sentence(failure: BaseException) -> str:
    if isinstance(failure, KeyboardInterrupt):
        return INTERRUPTED
    return f"{type(failure).__name__}: {failure}"


def _device() -> torch.device:
    """The device of tensors in collective operations."""
    from accelerate.state import PartialState

    return PartialState().device


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionAbortedError(
            f"Process {index()} of {count()} (the first is 0) lost the others: one of them has ended, or has not "
            f"answered for {TIMEOUT.seconds // 3600} hours; see its output."
        ) from error
