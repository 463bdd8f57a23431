"""GRU4Rec: a gated recurrent network reads the history; its state at every event predicts the next item.

Paper: Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016; losses and sampling
from Hidasi & Karatzoglou, "Recurrent Neural Networks with Top-k Gains", CIKM 2018. At every event, gates
control how much of the state is overwritten.

Confirmed against the authors' PyTorch code: the table shared by input and output ("constrained embedding"), dropout
on the embedding and on the hidden state, cross-entropy and BPR-max with ELU as the two recommended losses.
Changed on purpose: whole histories in a batch, with gradients through time, instead of session-parallel steps;
cross-entropy over the whole catalogue instead of in-batch plus popularity-sampled negatives; Adam for Adagrad;
the embedding enters multiplied by sqrt(D); no item bias; PyTorch's cell, which resets after the product, not before.
Reconstructed: nothing.
Held against: GRU4Rec with full cross-entropy on ml-1m (`CARD`): full ranking, seen items filtered. The paper's own
data sets are sessions of clicks.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Published, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.item_sources import IdEmbedding
from seqlab.layers.mixers.gru import GRU
from seqlab.ranking import top
from seqlab.runtime.settings import Count, Share, settings
from seqlab.tracing import Tap

CARD = Card(
    claim="A recurrent net beats neighbours of the last item.",
    title="Session-based Recommendations with Recurrent Neural Networks",
    authors="Hidasi et al.",
    year=2016,
    venue="ICLR",
    controls=("item_knn", "markov"),
    homes=("complete-journey", "amazon-beauty"),
    measured=(Measurement(), Measurement(("amazon-beauty", "amazon2018-games", "ml-1m"), against=("sasrec",))),
    published=(
        Published("amazon-beauty", {"recall@10": 0.0283, "ndcg@10": 0.0137}, seen_filter=False,
                  source="as TIGER's paper has it", differs="Its loss is not stated."),
        Published("ml-1m", {"recall@10": 0.2811, "ndcg@10": 0.1648}, seen_filter=True,
                  source="full cross-entropy, Klenitskiy & Vasilev 2023", differs="Its settings."),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "dropout": 0.0, "negatives": 8}


@settings
class Config:
    """Settings, with those of the authors' tuned runs beside them."""

    max_length: Count = 50  # most recent events read; the authors read whole sessions
    dim: Count = 64  # 224 to 512
    layers: Count = 1  # 1
    dropout: Share = 0.3  # .2 to .45
    loss: Literal[losses.Name, "bpr_max"] = "softmax"  # sampled softmax or bpr_max
    negatives: Count = 2048  # drawn by the sampling losses, shared by the batch; 2048
    calibration: Share = 0.75  # gbce's t
    elu: float = 0.5  # bpr_max: alpha of the ELU, the lower bound of a score is -elu; .5
    score_penalty: float = 1.0  # bpr_max: weight of the negatives' squared scores; 1.95


class GRU4Rec(nn.Module):
    """`h_t = GRU(h_{t-1}, E of item t)`; the score of item i is `h_t . E_i`."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.items = IdEmbedding(n_items, config.dim)
        self.dropout = Dropout(config.dropout)
        self.recurrences = nn.ModuleList(GRU(config.dim) for _ in range(config.layers))
        self.hidden = nn.ModuleList(Tap("hidden", "user event dim") for _ in range(config.layers))
        initialization.normal(self.items)

    def encode(self, batch: Batch) -> Tensor:
        """The state after every event: (B, T, D). Padding is on the right, so it reaches no state of an event."""
        x = self.dropout(self.items.lookup(batch.items) * self.config.dim**0.5)
        for recurrence, hidden in zip(self.recurrences, self.hidden, strict=True):
            x = self.dropout(hidden(recurrence(x)))
        return x  # (B, T, D)

    def item_vectors(self) -> Tensor:
        return self.items.table()  # (N + 1, D)

    def loss(self, batch: Batch) -> Loss:
        has_target = batch.targets > 0
        hidden, targets = self.encode(batch)[has_target], batch.targets[has_target]  # (M, D), (M,)
        table, config = self.items.table(), self.config
        if config.loss == "bpr_max":
            negatives = torch.randint(1, len(table), (config.negatives,), device=hidden.device)
            return Loss(bpr_max(hidden, table, targets, negatives, config.elu, config.score_penalty))
        return Loss(losses.next_item_loss(config.loss, hidden, table, targets, config.negatives, config.calibration))

    def score(self, batch: Batch) -> Tensor:
        return batch.last(self.encode(batch)) @ self.items.table().T  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)


def bpr_max(hidden: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, elu: float, penalty: float) -> Tensor:
    """`-log sum_j w_j sigmoid(s - s_j) + penalty sum_j w_j s_j^2`, w the softmax of the negatives' scores (CIKM 2018).

    hidden (M, D), targets (M,), negatives (K,) shared by the rows, where the target of a row does not count; an ELU is
    applied to scores first.
    """
    positive = F.elu((hidden * table[targets]).sum(-1, keepdim=True), elu)  # (M, 1)
    negative = F.elu(hidden @ table[negatives].T, elu)  # (M, K)
    is_target = negatives == targets[:, None]
    log_weights = negative.masked_fill(is_target, -1e4).log_softmax(1)  # finite: the gradient of 0 * inf is NaN
    gain = (log_weights + F.logsigmoid(positive - negative)).logsumexp(1)
    return (penalty * (log_weights.exp() * negative**2).sum(1) - gain).mean()
