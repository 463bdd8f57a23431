"""Complements: skip-gram with negative sampling on baskets; its two tables rank substitutes and complements.

Paper: Kvernadze et al., "Two Is Better Than One: Dual Embeddings for Complementary Product Recommendations", ICKG
2022 (arXiv 2211.14982). word2vec (Mikolov et al., NeurIPS 2013) keeps two vectors per item. Two items whose IN vectors
are alike have the same companions: substitutes. An item whose OUT vector is like the IN vector of another one is its
companion: a complement.

Confirmed: nothing was read in code; no code was found.
Changed on purpose: a basket is one window and is drawn uniformly, whatever its length, because long baskets would
otherwise make most of the pairs; no synthetic pairs for items that were never bought, because the lab's logs have
events of all items that are ranked.
Reconstructed: the loss, the noise distribution count^alpha without the items of the basket, the score of an unfinished
basket (the mean over its items).
Held against: no published number on our data. The optimum in closed form: IN.OUT is PMI minus log K (Levy & Goldberg,
NeurIPS 2014). Pairs of a basket are symmetric, so on the positive eigenvalues of that matrix both scores agree; only
items that avoid their own kind can be distinguished by two tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Ranking
from seqlab.datasets.baskets import basket_items, unfinished_basket
from seqlab.datasets.events import Ragged, offsets_of
from seqlab.datasets.sequences import Batch, Sequences
from seqlab.layers import initialization
from seqlab.ranking import check_k, top
from seqlab.runtime.settings import Count, NonNegativeFloat, settings

Kind = Literal["in_out", "in_in"]

CARD = Card(
    claim="IN.OUT of two tables ranks complements, IN.IN substitutes.",
    title="Two Is Better Than One: Dual Embeddings for Complementary Product Recommendations",
    authors="Kvernadze et al.",
    year=2022,
    venue="ICKG",
    task="baskets",
    split="basket-completion",
    controls=(
        "complements:one_table", "basket_pmi", "basket_pmi:weight=count", "basket_pmi:weight=cosine", "item_knn",
    ),
    control_names={
        "complements:one_table": "the IN table alone", "basket_pmi": "raw PMI", "basket_pmi:weight=count": "counts",
        "basket_pmi:weight=cosine": "counts over popularity",
    },
    seeds=(0, 1, 2),
    # found by as many trials as the preset
    named={"one_table": "scores=in_in:alpha=0.75:weight_decay=3:epochs=4:validate_every=4"},
)  # fmt: skip
TINY = {"dim": 16, "negatives": 4, "subsampling": 0.0}

ROUNDS = 8
"""How often a negative that is in the basket is drawn again before it is left out."""


@settings
class Config:
    """Settings."""

    max_length: Count = 200  # most recent events read by `score`; only those of the last basket count
    dim: Count = 64
    negatives: Count = 5  # K, per pair; word2vec 5 to 20
    alpha: float = 0.75  # negatives are drawn by count^alpha; word2vec .75; the paper tunes it for the task
    subsampling: NonNegativeFloat = 0.0  # an item with share f of the events is kept with sqrt(subsampling / f); 0: off
    exclude: bool = True  # whether items of the basket are no negatives of its pairs
    scores: Kind = "in_out"
    similarity: Literal["dot", "cosine"] = "dot"  # dot favours items with long vectors, which are popular ones


@dataclass(frozen=True)
class SkipGrams:
    """Pairs of items of one basket. center, context: (P,); negatives: (P, K), 0 = none."""

    center: Tensor
    context: Tensor
    negatives: Tensor

    def __len__(self) -> int:
        return len(self.center)


class Complements(nn.Module):
    """`P(j in the basket of i) = sigmoid(in_i . out_j)`; an unfinished basket has the mean of its items' scores."""

    needs = ("basket",)

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.inputs = nn.Embedding(n_items + 1, config.dim, padding_idx=0)
        self.outputs = nn.Embedding(n_items + 1, config.dim, padding_idx=0)
        initialization.normal(self.inputs, self.outputs)

    def draw(
        self, train: Sequences, tokens: int, epoch: int, seed: int, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[SkipGrams]:
        """One epoch: as many pairs as the training part has items in baskets of two and more, `tokens` per batch."""
        generator = torch.Generator(train.items.device).manual_seed(seed)
        return skip_grams(basket_items(train), self.inputs.num_embeddings, self.config, tokens, generator, shard)

    def loss(self, batch: SkipGrams) -> Loss:
        center = self.inputs(batch.center)  # (P, D)
        positive = (center * self.outputs(batch.context)).sum(-1)  # (P,)
        negative = torch.einsum("pd,pkd->pk", center, self.outputs(batch.negatives))  # (P, K)
        total = F.softplus(-positive) + (F.softplus(negative) * (batch.negatives > 0)).sum(1)
        return Loss(total.mean(), count=len(batch))

    def score(self, batch: Batch) -> Tensor:
        basket = unfinished_basket(batch)  # (B, G)
        source, target = self.tables(self.config.scores)
        size = (basket > 0).sum(1, keepdim=True).clamp(min=1)
        return source[basket].sum(1) / size @ target.T  # (B, N + 1)

    def tables(self, kind: Kind) -> tuple[Tensor, Tensor]:
        """The vectors (N + 1, D) of query items, and those of the items that are ranked for them."""
        source, target = self.inputs.weight, (self.outputs if kind == "in_out" else self.inputs).weight
        if self.config.similarity == "cosine":
            return F.normalize(source, dim=1), F.normalize(target, dim=1)
        return source, target

    @torch.no_grad()
    def item_neighbours(self, item: int, kind: Kind, k: int = 10) -> Ranking:
        """The k items that go with an item ("in_out") or can replace it ("in_in"), as a Ranking of one row.

        Raises `ValueError` for an item that is not in the catalogue.
        """
        source, target = self.tables(kind)
        if not 0 < item < len(source):
            raise ValueError(f"there is no item {item}; items are numbered from 1 to {len(source) - 1}.")
        scores = source[item : item + 1] @ target.T  # (1, N + 1)
        scores[:, item] = -torch.inf
        return top(scores, min(check_k(k), len(source) - 2))

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)


def skip_grams(
    baskets: Ragged,
    n_rows: int,
    config: Config,
    tokens: int,
    generator: torch.Generator,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[SkipGrams]:
    """One epoch of pairs: a basket drawn uniformly, two distinct items of it, and K negatives.

    baskets: the distinct items of each, ascending. n_rows: N + 1. A basket of one item is never drawn.
    """
    counts = torch.bincount(baskets.values, minlength=n_rows)
    noise = counts.double().clamp(min=1).pow(config.alpha) * (counts > 0)  # alpha may be negative
    noise = noise.cumsum(0)
    keys = torch.repeat_interleave(torch.arange(len(baskets), device=counts.device), baskets.lengths) * n_rows
    keys = keys + baskets.values  # of every (basket, item), ascending
    kept = subsample(baskets, counts, config.subsampling, generator)
    large = (kept.lengths >= 2).nonzero()[:, 0]
    pairs = int(kept.lengths[large].sum())
    device = counts.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)

    for first in range(0, pairs, tokens):
        size = min(tokens, pairs - first)
        basket = large[(uniform(size) * len(large)).long()]
        length, start = kept.lengths[basket], kept.offsets[basket]
        one = (uniform(size) * length).long()
        other = (uniform(size) * (length - 1)).long()
        other = other + (other >= one)  # any item but the first
        center, context = kept.values[start + one], kept.values[start + other]
        negatives = torch.searchsorted(noise, uniform(size, config.negatives) * noise[-1], right=True)  # (P, K)
        if config.exclude:
            base = basket * n_rows
            row, column = _contains(keys, base[:, None] + negatives).nonzero(as_tuple=True)
            for _ in range(ROUNDS):
                fresh = torch.searchsorted(noise, uniform(len(row)) * noise[-1], right=True)
                negatives[row, column] = fresh
                inside = _contains(keys, base[row] + fresh)
                row, column = row[inside], column[inside]
            negatives[row, column] = 0
        mine = slice(shard[0], None, shard[1])
        yield SkipGrams(center[mine], context[mine], negatives[mine])


def subsample(baskets: Ragged, counts: Tensor, threshold: float, generator: torch.Generator) -> Ragged:
    """Baskets without some of the frequent items: an item stays with sqrt(threshold / its share), 0: all stay."""
    if not threshold:
        return baskets
    share = counts / counts.sum()
    keep = (threshold / share.clamp(min=1e-12)).sqrt()[baskets.values]
    kept = torch.rand(len(keep), generator=generator, device=keep.device) < keep
    before = offsets_of(kept)
    return Ragged(baskets.values[kept], before[baskets.offsets])


def _contains(keys: Tensor, wanted: Tensor) -> Tensor:
    """Whether each number occurs in the ascending `keys`."""
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return keys[at] == wanted
