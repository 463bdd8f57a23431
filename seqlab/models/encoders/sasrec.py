"""SASRec: a causal Transformer over the items of a history; every position predicts the next item.

Paper: Kang & McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018. The loss is that of Klenitskiy &
Vasilev, "Turning Dross Into Gold Loss", RecSys 2023: cross-entropy over the whole catalogue, which improves
metrics more than any change of the architecture since.

Confirmed against the authors' code and its PyTorch port: causal attention, learned positions, item table shared by
input and output, dropout after the embeddings, BCE with one uniform negative as an option.
Changed on purpose: pre-norm blocks with a GELU layer four times as wide instead of the original's residual from the
normalised query (the ports find them equal or better); histories are right-padded, so positions count from the oldest
event kept; several heads; a crop of the history at random every epoch instead of always the latest.
Reconstructed: nothing.
Held against: SASRec+ on ml-1m and the eSASRec benchmark on amazon-beauty (`CARD`): full ranking, seen items filtered.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Published, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.item_sources import IdEmbedding
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.transformer import Block
from seqlab.ranking import top
from seqlab.runtime.settings import Count, Share, settings

CARD = Card(
    claim="Self-attention beats Markov chains and recurrent nets.",
    title="Self-Attentive Sequential Recommendation",
    authors="Kang & McAuley",
    year=2018,
    venue="ICDM",
    controls=("markov", "gru4rec"),
    homes=("complete-journey", "amazon-beauty"),
    # found by tuning on complete-journey, for the number of epochs that reasoning systems are trained there
    named={"brief": "dropout=0.0156:learning_rate=0.00248"},
    measured=(Measurement(),),
    tuned=(Measurement(), Measurement(("complete-journey",), ("sasrec:epochs=20",))),
    published=(
        Published("amazon-beauty", {"recall@10": 0.0921, "ndcg@10": 0.0531}, seen_filter=True,
                  source="tuned, sampled softmax (eSASRec's benchmark)",
                  differs="Ours has the full softmax, 64 dimensions and two layers."),
        Published("amazon-beauty", {"recall@10": 0.0605, "ndcg@10": 0.0318}, seen_filter=False,
                  source="as TIGER's paper has it",
                  differs="Binary cross-entropy against one negative: a weak baseline."),
        Published("ml-1m", {"recall@10": 0.3152, "ndcg@10": 0.1821}, seen_filter=True,
                  source="SASRec+, Klenitskiy & Vasilev 2023", differs="Its settings; ours are on the card."),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0, "negatives": 8}


@settings
class Config:
    """Settings, with the 2018 paper's beside them."""

    max_length: Count = 50  # most recent events read; paper 50, 200 on ml-1m
    dim: Count = 64  # paper 50
    layers: Count = 2  # paper 2
    heads: Count = 2  # paper 1
    dropout: Share = 0.3  # paper .5, .2 on ml-1m
    loss: losses.Name = "softmax"  # paper bce
    negatives: Count = 256  # drawn by the sampling losses; paper 1
    calibration: Share = 0.75  # gbce's t


class SASRec(nn.Module):
    """`h_t` = Transformer(items up to t); the score of item i is `h_t . E_i`."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.items = IdEmbedding(n_items, config.dim)
        self.positions = nn.Embedding(config.max_length, config.dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(Attention(config.dim, config.heads), config.dim, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        initialization.normal(self.items, self.positions)

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
        hidden = self.encode(batch)
        has_target = batch.targets > 0
        total = losses.next_item_loss(
            self.config.loss, hidden[has_target], self.items.table(), batch.targets[has_target],
            self.config.negatives, self.config.calibration,
        )  # fmt: skip
        return Loss(total)

    def score(self, batch: Batch) -> Tensor:
        return batch.last(self.encode(batch)) @ self.items.table().T  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
