"""SASRec with side vectors: SASRec that also reads the item vectors of tokenizers; the control of generative systems.

Paper: none of its own; the baseline "SASRec*" of ReSID (arXiv 2602.02338, 2026), whose authors propose it: a system
of semantic IDs reads item text or fields, so its gain over a SASRec that reads only ids may be due to the text.
Here a row of the item table is the embedding of the id plus a learned projection of the item vector that codes are made
from.

Confirmed: only that the paper's control reads the fields (its Table 4), not how it combines them.
Changed on purpose: item vectors of `items.vectors`, the same that tokenizers get, instead of tables of fields;
others by `assign`. The rest is this lab's SASRec with the softmax over the whole catalogue.
Reconstructed: the sum of id and projection, without a bias, on both sides (input and output) of one tied table; vectors
divided by their root mean square, and a projection whose initial values are as large as those of the ids.
Held against: plain sasrec on the same split. In ReSID's paper the fields lift SASRec on Musical Instruments, which is
not here (`CARD`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Published, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.item_sources import ProjectedVectors
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.transformer import Block
from seqlab.ranking import top
from seqlab.runtime.settings import Count, Share, settings

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

CARD = Card(
    claim="Known fields lift SASRec (R@10 by a fifth).",
    controls=("sasrec",),
    homes=("complete-journey", "amazon-beauty"),
    seen_filter=False,
    measured=(
        Measurement(arms=("sasrec_side", "sasrec"), against=("sasrec_side", "sasrec")),
        Measurement(("amazon2018-games", "ml-1m"), against=("sasrec",), seen_filter=True),
    ),
    published=(
        Published("Musical Instruments, Amazon 2023", {"recall@10": 0.0639, "ndcg@10": 0.0326},
                  source="SASRec* in ReSID's paper", differs="SASRec without fields has .0528 and .0265 there."),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings: those of SASRec, and which vectors; ReSID's paper does not give its control's."""

    max_length: Count = 50  # most recent events read
    dim: Count = 64
    layers: Count = 2
    heads: Count = 2
    dropout: Share = 0.3
    vectors: str | None = None  # of items.vectors; none: as for codes, tfidf+collaborative, or the latter without words
    vector_dim: Count = 128  # maximum width of the vectors; narrower ones are padded with zeros
    ids: bool = True  # false: no embedding of ids, only vectors


class SASRecSide(nn.Module):
    """`h_t` = Transformer(items up to t); the score of item i is `h_t . (id_i + W v_i)`."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.items = ProjectedVectors(n_items, config.dim, config.vector_dim, config.ids)
        self.positions = nn.Embedding(config.max_length, config.dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(Attention(config.dim, config.heads), config.dim, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        initialization.normal(self.positions)

    def prepare(self, split: Split) -> None:
        """Compute the item vectors from item text and training events only, unless they were set with `assign`."""
        from seqlab.items.vectors import default_source, item_vectors

        if not bool(self.items.vectors.any()):
            self.assign(item_vectors(split, self.config.vectors or default_source(split.log)))

    def assign(self, vectors: np.ndarray | Tensor) -> None:
        """Set the item vectors (N, d). Raises `ValueError` for a wrong shape, for vectors too wide or not finite."""
        self.items.assign(vectors)

    def encode(self, batch: Batch) -> Tensor:
        """The state after every event: (B, T, D)."""
        positions = torch.arange(batch.items.shape[1], device=batch.items.device)
        x = self.dropout(self.items.lookup(batch.items) * self.config.dim**0.5 + self.positions(positions))  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def item_vectors(self) -> Tensor:
        return self.items.table()  # (N + 1, D)

    def loss(self, batch: Batch) -> Loss:
        has_target = batch.targets > 0
        return Loss(losses.softmax(self.encode(batch)[has_target], self.items.table(), batch.targets[has_target]))

    def score(self, batch: Batch) -> Tensor:
        return F.linear(batch.last(self.encode(batch)), self.items.table())  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
