"""The training of one module by itself: a tokenizer, or a stage before a system's main loss."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from seqlab.optimization.checkpoint import State
from seqlab.optimization.loop import Loop, make_accelerator
from seqlab.runtime.progress import Progress

if TYPE_CHECKING:
    from seqlab.optimization.checkpoint import Checkpoint


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
    checkpoint: Checkpoint | None = None,
    precision: str = "no",
) -> list[dict[str, float]]:
    """Train a module with `loss(batch) -> Loss`; it returns to the CPU, in evaluation mode. The history of its epochs.

    batches(epoch, device): the batches of an epoch (from 0). checkpoint: the training continues from it, if its file is
    there, and writes it after every epoch. The device is Accelerate's. Random numbers are drawn from torch's generators
    as they are: use `seeded` around building and training. Where several processes train a system, each trains the
    whole stage. rate, targets, clip, after_epoch: as in `Loop`; the history has the parts of the loss.
    """
    accelerator, state = make_accelerator(precision), State()
    device = accelerator.device
    model.to(device)
    with torch.enable_grad():
        loop = Loop(
            model, lambda epoch, _: batches(epoch, device), optimizer, rate, epochs, accelerator,
            Progress(epochs, "", name, lines=False), targets, clip=clip, after_epoch=after_epoch, checkpoint=checkpoint,
            loss_parts=True, distributed=False,
        )  # fmt: skip
        if checkpoint is not None:
            checkpoint.restore(state, model, loop.optimizer)
        loop.run(state)
    model.cpu().eval()
    return state.history
