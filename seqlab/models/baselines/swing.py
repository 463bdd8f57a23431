"""Swing: item k-NN on the Swing graph: two items are similar if pairs of otherwise dissimilar users have both.

Paper: Yang et al., "Large Scale Product Graph Construction for Recommendation in E-commerce", 2020 (arXiv 2010.05525).
ManCAR reads this graph; its gain over the graph is the value of its reasoning.

Confirmed: the weights are those of ManCAR's paper (see seqlab.items.swing_graph), built from training histories only.
Changed on purpose: no user is sampled, so the graph is exact, unless `users` limits the users per item.
Reconstructed: the score, a plain sum over the history, as in item_knn.
Held against: no published number of our protocol was seen; a baseline beside item_knn.
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

WEIGHTS_AT_ONCE = 1 << 24
"""Weights of neighbours that are gathered at a time (64 MB in float32)."""

CARD = Card(
    claim="The graph of mancar without a network, a floor.",
    title="Large Scale Product Graph Construction for Recommendation in E-commerce",
    authors="Yang et al.",
    year=2020,
    venue="arXiv 2010.05525",
    measured=(
        Measurement(("complete-journey",), against=("sasrec:brief:epochs=20",), seeds=(0, 1, 2)),
        Measurement(("amazon-beauty", "amazon2018-games", "ml-1m"), against=("sasrec",)),
    ),
)
TINY = {}


@settings
class Config:
    """Settings, with those of ManCAR's paper beside them."""

    max_length: Count | None = None  # most recent items summed over; None: the whole history
    neighbours: Count = 100  # kept per item; paper 100
    active: float = 5.0  # in the weight of a user, (number of items + active) ** -power; paper 5
    common: float = 1.0  # added to the number of items that two users share; paper 1
    power: float = 0.3  # see `active`; paper .3
    users: Count | None = None  # read per item at most, sampled at random; paper 10 of each pair of items


class Swing(nn.Module):
    """`score(i) = sum over the history of sim(item, i)`."""

    near: Tensor
    weights: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        kept = min(config.neighbours, n_items)
        self.register_buffer("near", torch.zeros(n_items + 1, kept, dtype=torch.long))  # 0 = no neighbour
        self.register_buffer("weights", torch.zeros(n_items + 1, kept))

    def prepare(self, split: Split) -> None:
        from seqlab.items.swing_graph import swing

        config = self.config
        graph = swing(split, config.neighbours, config.active, config.common, config.power, config.users)
        self.near.copy_(graph.neighbours)
        self.weights.copy_(graph.weights)

    def score(self, batch: Batch) -> Tensor:
        scores = torch.zeros(len(batch), len(self.near), device=self.near.device)
        for column in batch.items.split(max(1, WEIGHTS_AT_ONCE // self.near.shape[1] // len(batch)), dim=1):
            scores.scatter_add_(1, self.near[column].flatten(1), self.weights[column].flatten(1))
        return scores  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
