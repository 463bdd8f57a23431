"""Popularity: recommended are the most frequent items of the training part, the same for every user.

Paper: none; the baseline of every other system. It does not read the history, so its metrics come from
the skew of the catalogue only.

Confirmed: nothing to confirm.
Reconstructed: nothing.
Held against: HR@10 .0838, NDCG@10 .0436 on ml-100k without items of fewer than 5 ratings (our own calibration):
leave-one-out, full ranking, seen items filtered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Measurement, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.ranking import top
from seqlab.runtime.settings import Count, settings

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

CARD = Card(
    claim="A floor.",
    homes=("complete-journey", "amazon-beauty"),
    measured=(Measurement(), Measurement(("amazon2018-games", "ml-1m"), against=("sasrec",))),
)
TINY = {}


@settings
class Config:
    """No settings that change a score."""

    max_length: Count | None = 1  # no event is read; 1 keeps the batches small


class Popularity(nn.Module):
    """The score of an item is the number of its training events."""

    counts: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("counts", torch.zeros(n_items + 1))

    def prepare(self, split: Split) -> None:
        self.counts.copy_(split.train.item_counts(split.n_items))

    def advance(self, split: Split) -> None:
        """Add the counts of a further training part."""
        self.counts += split.train.item_counts(split.n_items).to(self.counts)

    def score(self, batch: Batch) -> Tensor:
        return self.counts.repeat(len(batch), 1)  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
