"""Tokenizers that train a network: standardised vectors, and training with a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.items.vectors import validated
from seqlab.optimization.checkpoint import State
from seqlab.optimization.loop import cosine
from seqlab.optimization.stage import seeded, train

ROWS_AT_ONCE = 8192  # that are encoded or decoded at a time


class Learned(Protocol):
    """A tokenizer with a trained network: its settings, and what `fit_network` sets."""

    epochs: int
    batch: int
    lr: float
    seed: int
    network_: nn.Module
    mean_: np.ndarray
    scale_: float
    history_: list[dict[str, float]]


def fit_network(
    tokenizer: Learned,
    network: Callable[[int], nn.Module],
    arrays: tuple[np.ndarray, ...],
    checkpoint: Path | str | None,
    *,
    batches: Callable[[list[Tensor], torch.device], Iterable[Any]] | None = None,
    rate: Callable[[int, int, int], float] | None = None,
    after_epoch: Callable[[State], dict[str, float]] = lambda _: {},
    weight_decay: float = 1e-4,
) -> None:
    """Train `network(d)` on vectors (n, d), the first of `arrays`; set the attributes of `Learned` that end in "_".

    The network has `loss(batch) -> Loss`, and `start(data)`, which initialises it from all standardised vectors.
    `history_` has one row per epoch: the parts of the loss, means over the items. batches(arrays, device): of an epoch
    (default: the standardised vectors in random order). rate(step, epoch, steps): the learning rate of a step (from 1)
    in an epoch (from 0) of a training of `steps` (default: a cosine over the epochs). checkpoint: as in
    `optimization.stage.train`; `ValueError` for one of other settings or vectors.
    """
    X, batches = arrays[0], batches or (lambda arrays, device: random_rows(tokenizer, arrays, device))
    rate = rate or (lambda step, epoch, steps: tokenizer.lr * cosine(epoch / tokenizer.epochs))
    tokenizer.mean_ = X.mean(0)
    tokenizer.scale_ = float((X - tokenizer.mean_).std()) or 1.0
    tensors = [standardised(tokenizer, X), *map(torch.from_numpy, arrays[1:])]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in arrays)).hexdigest()
    steps = tokenizer.epochs * -(-len(X) // tokenizer.batch)
    with seeded(tokenizer.seed):
        tokenizer.network_ = network(X.shape[1]).train()
        tokenizer.network_.start(tensors[0])
        history = train(
            type(tokenizer).__name__, tokenizer.network_, lambda _, device: batches(tensors, device),
            torch.optim.AdamW(tokenizer.network_.parameters(), tokenizer.lr, weight_decay=weight_decay),
            lambda step, epoch: rate(step, epoch, steps), tokenizer.epochs, targets=len(X), after_epoch=after_epoch,
            checkpoint=checkpoint, settings={"tokenizer": repr(tokenizer), "vectors": digest},
        )  # fmt: skip
    left_out = ("loss", "steps", "seconds")
    tokenizer.history_ = [{key: row[key] for key in row if key not in left_out} for row in history]
    for row in tokenizer.history_:
        row["epoch"] -= 1


def random_rows(tokenizer: Learned, arrays: list[Tensor], device: torch.device) -> Iterable[Tensor]:
    """The standardised vectors (n, d) of one epoch, in batches of random order."""
    for rows in torch.randperm(len(arrays[0])).split(tokenizer.batch):
        yield arrays[0][rows].to(device)


def standardised(tokenizer: Learned, X: np.ndarray) -> Tensor:
    """Vectors (n, d) with the mean and the scale of the training vectors removed."""
    return torch.from_numpy((validated(X) - tokenizer.mean_) / tokenizer.scale_)


def original(tokenizer: Learned, x: Tensor) -> np.ndarray:
    """Standardised vectors (n, d) back in their original scale."""
    return x.numpy() * tokenizer.scale_ + tokenizer.mean_
