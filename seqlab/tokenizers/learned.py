"""What tokenizers that train a network have in common: standardised vectors, and training with a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.items.vectors import validated
from seqlab.optimization.checkpoint import State
from seqlab.optimization.loop import cosine
from seqlab.optimization.stage import seeded, train

ROWS_AT_ONCE = 8192  # that are encoded or decoded at a time


class LearnedTokenizer:
    """A tokenizer whose `network_` is trained by gradient.

    The network has `loss(batch) -> Loss`, and `start(data)`, which initialises it from all standardised vectors. After
    training `history_` has one row per epoch: the parts of the loss, means over the items.
    """

    epochs: int
    batch: int
    lr: float
    seed: int
    weight_decay = 1e-4

    def _rate(self, step: int, epoch: int, steps: int) -> float:
        """The learning rate of a step (from 1) in an epoch (from 0), of a training of so many steps."""
        return self.lr * cosine(epoch / self.epochs)

    def _batches(self, arrays: list[Tensor], device: torch.device) -> Iterator[Any]:
        """The batches of one epoch, from the standardised vectors (n, d) and what else the training reads."""
        for rows in torch.randperm(len(arrays[0])).split(self.batch):
            yield arrays[0][rows].to(device)

    def _after_epoch(self, state: State) -> dict[str, float]:
        return {}

    def _train(
        self, network_of: Callable[[int], nn.Module], checkpoint: Path | str | None, X: np.ndarray, *more: np.ndarray
    ) -> None:
        """Train `network_of(d)` on vectors (n, d) and `more` arrays; checkpoint: as in `optimization.stage.train`.

        Raises `ValueError` for a checkpoint of other settings or vectors.
        """
        self.mean_ = X.mean(0)
        self.scale_ = float((X - self.mean_).std()) or 1.0
        arrays = [self._standardised(X), *map(torch.from_numpy, more)]
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in (X, *more))).hexdigest()
        steps = self.epochs * -(-len(X) // self.batch)
        with seeded(self.seed):
            self.network_ = network_of(X.shape[1]).train()
            self.network_.start(arrays[0])
            history = train(
                type(self).__name__, self.network_, lambda _, device: self._batches(arrays, device),
                torch.optim.AdamW(self.network_.parameters(), self.lr, weight_decay=self.weight_decay),
                lambda step, epoch: self._rate(step, epoch, steps), self.epochs, targets=len(X),
                after_epoch=self._after_epoch, checkpoint=checkpoint,
                settings={"tokenizer": repr(self), "vectors": digest},
            )  # fmt: skip
        for row in history:
            row["epoch"] -= 1
        self.history_ = [{key: row[key] for key in row if key not in ("loss", "steps", "seconds")} for row in history]

    def _standardised(self, X: np.ndarray) -> Tensor:
        return torch.from_numpy((validated(X) - self.mean_) / self.scale_)

    def _original(self, x: Tensor) -> np.ndarray:
        """Standardised vectors (n, d) back in their original scale."""
        return x.numpy() * self.scale_ + self.mean_
