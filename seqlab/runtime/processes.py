"""What the processes of one training say to one another. One process alone says nothing, and nothing changes for it.

`torchrun` starts them, Accelerate connects them (gloo between CPUs, NCCL between GPUs). Whatever is said here every
process must say at the same place; where one fails, or is gone, the others are told so and stop instead of waiting.
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

PATIENCE = datetime.timedelta(hours=2)
"""How long one waits for another that still runs, such as the first while it writes; that one is gone shows at once."""

INTERRUPTED = "KeyboardInterrupt"


def start() -> None:
    """Meet the other processes, where there are some: all wait here until the last has come."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    from accelerate.state import PartialState

    device = torch.accelerator.current_accelerator(check_available=True)
    PartialState(cpu=device is None or device.type == "mps", timeout=PATIENCE)  # unasked, it connects no CPUs
    atexit.register(PartialState().destroy_process_group)


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def index() -> int:
    """Which of them this one is; the first, 0, does the writing and the talking."""
    return dist.get_rank() if count() > 1 else 0


def total(x: Tensor) -> Tensor:
    """The sum of everybody's `x`, which may be changed; every process gets the same bits."""
    if count() == 1:
        return x
    summed = x.to(_device())
    with _or_told():
        dist.all_reduce(summed)
    return summed.to(x.device)


def share(tensors: dict[str, Tensor], text: str = "") -> tuple[dict[str, Tensor], str]:
    """The first process's tensors (on the CPU, whatever their shapes) and text, for everybody."""
    if count() == 1:
        return tensors, text
    shapes = [[name, str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()]
    text, shapes = json.loads(say(json.dumps([text, shapes]) if index() == 0 else "")[0])
    shared = {}
    for name, kind, shape in shapes:
        own = tensors[name] if index() == 0 else torch.empty(shape, dtype=getattr(torch, kind))
        data = own.detach().contiguous().reshape(-1).view(torch.uint8).to(_device())
        with _or_told():
            dist.broadcast(data, 0)
        shared[name] = data.cpu().view(own.dtype).reshape(shape)
    return shared, text


def say(text: str) -> list[str]:
    """What each process says, the first first."""
    if count() == 1:
        return [text]
    data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else torch.empty(0, dtype=torch.uint8)
    sizes = torch.zeros(count(), dtype=torch.long)
    sizes[index()] = len(data)
    sizes = total(sizes)
    page = torch.zeros(count(), int(sizes.max()), dtype=torch.uint8)
    page[index(), : len(data)] = data
    return [bytes(line[:size].tolist()).decode() for line, size in zip(total(page), sizes.tolist(), strict=True)]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Something that every process does by itself, and after which they meet: if one fails in it, all stop.

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
    meet(failure)


def meet(failure: BaseException | None = None) -> None:
    """Wait for the others, and stop with them if this process or one of them failed; see `together`."""
    if isinstance(failure, ConnectionAbortedError):  # the others know, or are gone
        raise failure
    said = say("" if failure is None else _sentence(failure))
    failed = {process: sentence for process, sentence in enumerate(said) if sentence}
    worse = {process: sentence for process, sentence in failed.items() if sentence != INTERRUPTED}
    if failure is not None and (index() in worse or not worse):
        raise failure
    if worse:
        process, sentence = min(worse.items())
        raise ConnectionAbortedError(f"Process {process} of {count()} (the first is 0) stopped them all. {sentence}")
    if failed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def hold_back(pressed: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `pressed` instead of tearing this process from the others, whom it must tell first.

    Pressed again, it does. One process alone, and one whose Ctrl-C means something else, is left as it is.
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
    """Where what is said must lie."""
    from accelerate.state import PartialState

    return PartialState().device


@contextlib.contextmanager
def _or_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionAbortedError(
            f"Process {index()} of {count()} (the first is 0) lost the others: one of them has ended, or has not "
            f"answered for {PATIENCE.seconds // 3600} hours; see what it said."
        ) from error
