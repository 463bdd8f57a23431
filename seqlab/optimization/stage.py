"""The training of one module by itself: a tokenizer, or a stage before a system's main loss."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqlab.optimization.checkpoint import Checkpoint, State
from seqlab.optimization.loop import Loop, make_accelerator
from seqlab.runtime.progress import Progress


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block torch's random numbers start from `seed`; after it, those of before continue."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def train(
    name: str,
    model: nn.Module,
    batches: Callable[[int, torch.device], Iterable[Any]],
    optimizer: torch.optim.Optimizer,
    rate: Callable[[int, int], float],
    epochs: int,
    *,
    targets: int = 0,
    clip: float = math.inf,
    after_epoch: Callable[[State], dict[str, float]] = lambda _: {},
    checkpoint: Path | str | None = None,
    settings: dict[str, Any] | None = None,
    precision: str = "no",
) -> list[dict[str, float]]:
    """Train a module with `loss(batch) -> Loss`; it returns to the CPU, in evaluation mode. The history of its epochs.

    batches(epoch, device): the batches of an epoch (from 0). checkpoint: a folder; the training continues from the
    checkpoint there, if there is one, and writes it after every epoch. settings: of the training and its data, as JSON
    has them; a checkpoint of others raises `ValueError`. The device is Accelerate's. The random numbers are those of
    torch's generators: use `seeded` around building and training. Where several processes train a system, each trains
    the whole stage. rate, targets, clip, after_epoch: as in `Loop`; the history has the parts of the loss.
    """
    accelerator, state = make_accelerator(precision), State()
    device, kept = accelerator.device, checkpoint and Checkpoint(Path(checkpoint), json.dumps(settings))
    model.to(device)
    with torch.enable_grad():
        loop = Loop(
            model, lambda epoch, _: batches(epoch, device), optimizer, rate, epochs, accelerator,
            Progress(epochs, "", name, lines=False), targets, clip=clip, after_epoch=after_epoch, checkpoint=kept,
            loss_parts=True, distributed=False,
        )  # fmt: skip
        if kept:
            kept.restore(state, model, loop.optimizer)
        loop.run(state)
    model.cpu().eval()
    return state.history
