"""S4Rec: a diagonal state-space model (S4D) reads the history; what it keeps of an event depends on its age only.

Paper: Gu, Gupta, Goel & Ré, "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022:
a linear recurrence per channel that is trained as one long convolution. It has no recommender; this one is SASRec with
the convolution in the place of attention and positions, at the same loss.

Confirmed against the authors' code: the kernel of S4D-Lin with zero-order hold, the convolution by FFT, the initial
values of A, C, D and dt, then GELU, dropout and a GLU; A and dt without weight decay and with a smaller learning rate.
Changed on purpose: the layer stands in a pre-norm block with a feed-forward layer, as SASRec's attention does, instead
of post-norm without one; real and imaginary parts are computed from fewer exponentials.
Reconstructed: the recommender around the layer.
Held against: the authors' code on fixed weights, and SASRec.
"""

from __future__ import annotations

from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.item_sources import IdEmbedding
from seqlab.layers.mixers.s4d import S4D
from seqlab.layers.transformer import Block
from seqlab.ranking import top
from seqlab.runtime.settings import Count, Share, settings

CARD = Card(
    claim="A linear recurrence that weighs an event by its age alone ranks as well as self-attention.",
    title="On the Parameterization and Initialization of Diagonal State Space Models",
    authors="Gu, Gupta, Goel & Ré",
    year=2022,
    venue="NeurIPS",
    controls=("sasrec", "gru4rec"),
    homes=("complete-journey", "amazon-beauty"),
    measured=(
        Measurement(("complete-journey",), against=("sasrec", "gru4rec"), seeds=(0, 1, 2)),
        Measurement(("amazon-beauty",), against=("sasrec", "gru4rec")),
    ),
)
TINY = {"max_length": 8, "dim": 32, "layers": 1, "states": 8, "dropout": 0.0, "negatives": 8}


@settings
class Config:
    """Settings, with those of the authors' example beside them."""

    max_length: Count = 50  # most recent events read; 1024
    dim: Count = 64  # 128
    layers: Count = 2  # 4
    states: Count = 32  # of each channel, a multiple of 2; 64
    dropout: Share = 0.3  # .1
    loss: losses.Name = "softmax"
    negatives: Count = 256  # drawn by the sampling losses
    calibration: Share = 0.75  # gbce's t


class S4Rec(nn.Module):
    """`h_t` = S4D(items up to t); the score of item i is `h_t . E_i`."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.items = IdEmbedding(n_items, config.dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(S4D(config.dim, config.states, config.dropout), config.dim, config.dropout)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        initialization.normal(self.items)

    def encode(self, batch: Batch) -> Tensor:
        """The state after every event: (B, T, D). Padding is on the right, so it reaches no state of an event."""
        x = self.dropout(self.items.lookup(batch.items) * self.config.dim**0.5)  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def item_vectors(self) -> Tensor:
        return self.items.table()

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
