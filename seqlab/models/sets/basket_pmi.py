"""Basket PMI: counts of which items are in one basket; an unfinished basket is completed by its items' partners.

Paper: Church & Hanks, "Word Association Norms, Mutual Information, and Lexicography", Computational Linguistics 1990
(pointwise mutual information); lift, confidence and support are those of association rules. It is what skip-gram with
negative sampling factors, so the gain of a factorisation over this table is the value of its smoothing.

Confirmed: nothing was read in code.
Reconstructed: only positive PMI counts, as is usual for word vectors; pairs of few baskets are left out, because PMI
and lift are largest for the rarest pairs; the score is the mean over the items of the unfinished basket.
Held against: no published number of our protocol was seen; a floor for systems that complete baskets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Measurement, Ranking
from seqlab.datasets.baskets import unfinished_basket
from seqlab.datasets.sequences import Batch
from seqlab.items.co_purchases import Weight, co_purchases
from seqlab.ranking import top
from seqlab.runtime.settings import Count, settings

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

FLOORS = ("popularity", "personal_frequency", "markov", "item_knn")
"""Floors that read the history alone."""

CARD = Card(
    claim="A floor for baskets.",
    title="Word Association Norms, Mutual Information, and Lexicography",
    authors="Church & Hanks",
    year=1990,
    venue="Computational Linguistics",
    task="baskets",
    split="basket-completion",
    measured=(
        Measurement(arms=("basket_pmi", "basket_pmi:weight=cosine", "basket_pmi:weight=count", *FLOORS)),
        Measurement(arms=("basket_pmi", "basket_pmi:weight=cosine", *FLOORS), split="last-basket"),
    ),
)
TINY = {"support": 1}


@settings
class Config:
    """Settings."""

    max_length: Count | None = 200  # most recent events read; only those of the last basket count
    weight: Weight = "pmi"  # of a pair of items, see `seqlab.items.co_purchases`
    support: Count = 5  # least baskets of a pair


class BasketPMI(nn.Module):
    """`score(j) = mean over the items i of the basket of weight(i, j)`; the weights are kept sparse (CSR)."""

    needs = ("basket",)
    crow: Tensor
    col: Tensor
    value: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("crow", torch.zeros(n_items + 2, dtype=torch.long))  # row i: crow[i] to crow[i + 1]
        self.register_buffer("col", torch.zeros(0, dtype=torch.long))
        self.register_buffer("value", torch.zeros(0))

    def prepare(self, split: Split) -> None:
        table = co_purchases(split.train, split.n_items, self.config.support).weights(self.config.weight)
        device = self.value.device
        self.crow = torch.from_numpy(table.indptr.astype(np.int64)).to(device)
        self.col = torch.from_numpy(table.indices.astype(np.int64)).to(device)
        self.value = torch.from_numpy(table.data.astype(np.float32)).to(device)

    def score(self, batch: Batch) -> Tensor:
        basket = unfinished_basket(batch)  # (B, G)
        n_columns = len(self.crow) - 1
        scores = torch.zeros(len(basket) * n_columns, device=self.value.device)
        base = torch.arange(len(basket), device=scores.device) * n_columns
        for item in basket.unbind(1):  # within one column every cell occurs once, so the order of sums is fixed
            degree = self.crow[item + 1] - self.crow[item]  # 0 for padding
            row = torch.repeat_interleave(torch.arange(len(basket), device=scores.device), degree)  # (E,)
            entry = (self.crow[item] - degree.cumsum(0) + degree)[row] + torch.arange(len(row), device=scores.device)
            scores[base[row] + self.col[entry]] += self.value[entry]
        size = (basket > 0).sum(1, keepdim=True).clamp(min=1)
        return scores.view(len(basket), n_columns) / size  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
