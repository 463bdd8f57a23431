"""Collective operations among the processes of one training; a single process gets its input back.

`torchrun` starts the processes, Accelerate connects them (gloo between CPUs, NCCL between GPUs). All processes must
call the same operations in the same order. If one fails or ends, the others raise instead of waiting.
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
"""Timeout of a collective operation. A process that has ended is detected at once."""

INTERRUPTED = "KeyboardInterrupt"


def start() -> None:
    """Connect the processes that torchrun started, if any. Each waits until all are connected."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    from accelerate.state import PartialState

    device = torch.accelerator.current_accelerator(check_available=True)
    PartialState(cpu=device is None or device.type == "mps", timeout=TIMEOUT)  # CPUs only on request
    atexit.register(PartialState().destroy_process_group)


def count() -> int:
    """The number of processes (world size)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def index() -> int:
    """The rank of this process, from 0. Process 0 writes files and reports."""
    return dist.get_rank() if count() > 1 else 0


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of `x` over the processes, bit-identical in each; `x` may be overwritten."""
    if count() == 1:
        return x
    summed = x.to(_device())
    with _connection_errors():
        dist.all_reduce(summed)
    return summed.to(x.device)


def broadcast(tensors: dict[str, Tensor], text: str = "") -> tuple[dict[str, Tensor], str]:
    """The tensors (any shapes) and the text of process 0, in every process; the tensors are on the CPU."""
    if count() == 1:
        return tensors, text
    shapes = [[name, str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()]
    text, shapes = json.loads(all_gather_text(json.dumps([text, shapes]) if index() == 0 else "")[0])
    shared = {}
    for name, kind, shape in shapes:
        local = tensors[name] if index() == 0 else torch.empty(shape, dtype=getattr(torch, kind))
        data = local.detach().contiguous().reshape(-1).view(torch.uint8).to(_device())
        with _connection_errors():
            dist.broadcast(data, 0)
        shared[name] = data.cpu().view(local.dtype).reshape(shape)
    return shared, text


def all_gather_text(text: str) -> list[str]:
    """The texts of all processes, by rank."""
    if count() == 1:
        return [text]
    data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8)
    sizes = torch.zeros(count(), dtype=torch.long)
    sizes[index()] = len(data)
    sizes = all_reduce_sum(sizes)
    padded = torch.zeros(count(), int(sizes.max()), dtype=torch.uint8)
    padded[index(), : len(data)] = data
    rows = zip(all_reduce_sum(padded), sizes.tolist(), strict=True)
    return [bytes(row[:size].tolist()).decode() for row, size in rows]


@contextlib.contextmanager
def propagate_errors() -> Iterator[None]:
    """A block that ends with a barrier: if it raises in one process, all processes raise.

    A process raises its own error, `ConnectionAbortedError` with the message of another process that failed, or
    `KeyboardInterrupt` if one was interrupted.
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
    """Wait for the other processes; raise, as `propagate_errors` does, if this process or another one failed."""
    if isinstance(failure, ConnectionAbortedError):  # the other processes have the error, or have ended
        raise failure
    messages = all_gather_text("" if failure is None else _message(failure))
    failed = {process: message for process, message in enumerate(messages) if message}
    errors = {process: message for process, message in failed.items() if message != INTERRUPTED}
    if failure is not None and (index() in errors or not errors):
        raise failure
    if errors:
        process, message = min(errors.items())
        raise ConnectionAbortedError(f"Process {process} of {count()} (the first is 0) failed. {message}")
    if failed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def defer_interrupt(pressed: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `pressed` instead of raising, so that all processes can stop; a second Ctrl-C raises.

    No effect for a single process, outside the main thread, or if SIGINT already has another handler.
    """
    default, is_main = signal.default_int_handler, threading.current_thread() is threading.main_thread()
    if count() == 1 or not is_main or signal.getsignal(signal.SIGINT) != default:
        yield
        return

    def handler(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, default)

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, default)


def _message(failure: BaseException) -> str:
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
            f"Process {index()} of {count()} (the first is 0) lost the connection to the others. One of them has ended "
            f"or has not answered for {TIMEOUT.seconds // 3600} hours; see its output."
        ) from error
