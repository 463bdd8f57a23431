"""Slate clicks: the click rate of each item, corrected for the slots it was shown in, times that of each slot.

Paper: the ratio is COEC, clicks over expected clicks (Zhang & Jones, "Comparing Click Logs and Editorial Labels for
Training Query Rewriting", WWW workshop 2007). The idea: items in good slots are clicked more whatever they are, so the
clicks of an item are divided by those that the slots alone would give. It does not read the history: a system that is
not better has learnt nothing about users.

Confirmed: nothing was read in code.
Reconstructed: the ratio is shrunk to 1 by `strength` imaginary clicks as expected; a slate's outcomes have weights
slot rate x ratio, and no click has one weight for all slates, with which the training slates have as many no clicks as
were counted.
Held against: the simulator of seqlab.datasets.simulated, whose best possible log-likelihood is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.datasets.slates import training_exposures
from seqlab.ranking import top
from seqlab.runtime.settings import Count, NonNegativeFloat, settings

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

CARD = Card(
    claim="A floor.",
    title="Comparing Click Logs and Editorial Labels for Training Query Rewriting",
    authors="Zhang & Jones",
    year=2007,
    venue="WWW workshop",
    task="slates",
    homes=(),
)
TINY = {}


@settings
class Config:
    """Settings of the counts."""

    max_length: Count | None = 1  # no event is read; 1 keeps the batches small
    strength: NonNegativeFloat = 2.0  # imaginary expected clicks that shrink the ratio of an item to 1


class SlateClicks(nn.Module):
    """P(slot k is clicked) is proportional to `slot[k] ratio[item]`, P(no click) to `none`."""

    ratio: Tensor
    slot: Tensor
    none: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("ratio", torch.ones(n_items + 1))
        self.register_buffer("slot", torch.ones(1))  # (A,)
        self.register_buffer("none", torch.ones(()))

    def prepare(self, split: Split) -> None:
        shown = training_exposures(split)
        slot, is_clicked = shown.slot - 1, shown.is_clicked
        per_slot = (np.bincount(slot, is_clicked) + 0.5) / (np.bincount(slot) + 1)  # (A,)
        clicks = np.bincount(shown.items, is_clicked, split.n_items + 1)
        expected = np.bincount(shown.items, per_slot[slot], split.n_items + 1)
        ratio = (clicks + self.config.strength) / np.maximum(expected + self.config.strength, 1e-12)
        total = np.bincount(shown.slate, per_slot[slot] * ratio[shown.items])  # (S,)
        device = self.ratio.device
        self.ratio = torch.from_numpy(np.maximum(ratio, 1e-6)).float().to(device)
        self.slot = torch.from_numpy(per_slot).float().to(device)
        self.none = torch.tensor(_weight_of_none(total, int((shown.clicked == 0).sum()))).float().to(device)

    def slate_log_probs(self, batch: Batch) -> Tensor:
        """The log-probabilities of no click and of each slot: (B, A + 1), -inf at padding."""
        candidates = batch.context["candidates"]
        at = torch.arange(candidates.shape[1], device=candidates.device).clamp(max=len(self.slot) - 1)
        weights = (self.ratio[candidates] * self.slot[at]).masked_fill(candidates == 0, 0.0)
        weights = torch.cat([self.none.expand(len(weights), 1), weights], 1)  # (B, A + 1)
        return weights.log().log_softmax(1)

    def score(self, batch: Batch) -> Tensor:
        return self.ratio.repeat(len(batch), 1)  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)


def _weight_of_none(total: np.ndarray, count: int) -> float:
    """The weight w with sum(w / (w + total)) = count, for the weights `total` (S,) of all slots; by bisection of log w.

    At least half a slate has a click and half has none.
    """
    wanted = min(max(count, 0.5), len(total) - 0.5)
    low, high = np.log(total.min()) - 50, np.log(total.max()) + 50
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + total * np.exp(-middle))).sum() < wanted else (low, middle)
    return float(np.exp((low + high) / 2))
