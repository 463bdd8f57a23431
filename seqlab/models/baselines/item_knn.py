"""Item k-NN: items are similar when the same users have both; recommended is what is most similar to the history.

Paper: Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms", WWW 2001; Deshpande & Karypis,
"Item-based Top-N Recommendation Algorithms", TOIS 2004. The order of events is ignored, so the gain of a
sequential system over this one is the value of the order.

Confirmed: nothing was read in code.
Reconstructed: cosine over user sets with a shrink term in the denominator, the nearest neighbours of each item kept,
the score a plain sum over the history.
Held against: no published number of our protocol was seen; a floor beside popularity and the Markov table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Measurement, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.ranking import top
from seqlab.runtime.settings import Count, NonNegativeFloat, settings

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

SIMILARITIES_AT_ONCE = 1 << 24
"""Entries of the item-item matrix that are computed at a time (64 MB in float32)."""

CARD = Card(
    claim="A floor.",
    title="Item-based Collaborative Filtering Recommendation Algorithms",
    authors="Sarwar et al.",
    year=2001,
    venue="WWW",
    homes=("complete-journey", "amazon-beauty"),
    measured=(Measurement(), Measurement(("amazon2018-games", "ml-1m"), against=("sasrec",))),
)
TINY = {}


@settings
class Config:
    """Settings."""

    max_length: Count | None = None  # the whole history is summed over
    neighbours: Count = 100  # kept per item
    shrink: NonNegativeFloat = 10.0  # users added to the denominator: lowers similarities that are based on few users


class ItemKNN(nn.Module):
    """`score(i) = sum over the history of sim(item, i)`, with `sim = both / (sqrt(n_item * n_i) + shrink)` users."""

    near: Tensor
    similarity: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        kept = min(config.neighbours, n_items)
        self.register_buffer("near", torch.zeros(n_items + 1, kept, dtype=torch.long))  # 0 = no neighbour
        self.register_buffer("similarity", torch.zeros(n_items + 1, kept))

    def prepare(self, split: Split) -> None:
        from scipy import sparse

        items, users = split.train.items.cpu().numpy(), split.train.users.cpu().numpy()
        shape = split.n_users + 1, split.n_items + 1
        seen = sparse.coo_array((np.ones(len(items), np.float32), (users, items)), shape).tocsr()
        seen.data[:] = 1.0  # repeats do not count
        item_users = seen.T.tocsr()
        norm = np.sqrt(np.diff(item_users.indptr).astype(np.float64))
        rows = max(1, SIMILARITIES_AT_ONCE // shape[1])
        for first in range(0, shape[1], rows):
            both = (item_users[first : first + rows] @ seen).toarray()  # (rows, N + 1)
            cosine = both / np.maximum(norm[first : first + rows, None] * norm + self.config.shrink, 1e-12)
            cosine[np.arange(len(cosine)), first + np.arange(len(cosine))] = 0  # an item is not its own neighbour
            best, near = torch.from_numpy(cosine.astype(np.float32)).topk(self.near.shape[1], dim=1)
            self.near[first : first + rows] = near.masked_fill(best == 0, 0).to(self.near.device)
            self.similarity[first : first + rows] = best.to(self.near.device)

    def score(self, batch: Batch) -> Tensor:
        scores = torch.zeros(len(batch), len(self.near), device=self.near.device)
        for column in batch.items.split(max(1, SIMILARITIES_AT_ONCE // self.near.shape[1] // len(batch)), dim=1):
            scores.scatter_add_(1, self.near[column].flatten(1), self.similarity[column].flatten(1))
        return scores  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
