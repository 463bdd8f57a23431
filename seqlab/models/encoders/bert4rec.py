"""BERT4Rec: a bidirectional Transformer predicts masked items; the next item is a mask at the end.

Paper: Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer",
CIKM 2019. Random masks make many queries of one history, and every prediction attends to both sides.

Confirmed against the authors' code and its replications (Petrov & Macdonald, RecSys 2022): item plus learned
position, GELU blocks four times as wide, the head LN(GELU(W h + b)) against the tied table with a bias per item,
every item masked with probability `mask`, and histories of which only the last item is masked; [MASK] is never scored.
Changed on purpose: pre-norm blocks and a norm before the head; histories right-padded; a new crop and a new mask every
epoch instead of ten masked copies made beforehand and sliding windows; whether only the last item of a row is
masked is sampled per row.
Reconstructed: the LayerNorm after the embeddings.
Held against: Petrov & Macdonald, and RecTools, on ml-1m (`CARD`): full ranking, seen items filtered. Most published
failures are trainings that stopped up to 30 times too early.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Published, Ranking
from seqlab.datasets.events import Events
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.item_sources import IdEmbedding
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.transformer import Block
from seqlab.ranking import top
from seqlab.runtime.settings import Count, Share, settings
from seqlab.tracing import KINDS, Layout

CARD = Card(
    claim="Masked training beats SASRec.",
    title="BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer",
    authors="Sun et al.",
    year=2019,
    venue="CIKM",
    controls=("sasrec",),
    homes=("complete-journey", "amazon-beauty"),
    measured=(Measurement(), Measurement(("amazon-beauty", "amazon2018-games", "ml-1m"), against=("sasrec",))),
    published=(
        Published("amazon-beauty", {"recall@10": 0.0347, "ndcg@10": 0.017}, seen_filter=False,
                  source="as TIGER's paper has it", differs="Masked training, stopped early."),
        Published("ml-1m", {"recall@10": 0.2821, "ndcg@10": 0.1516}, seen_filter=True,
                  source="Petrov & Macdonald 2022, length 100",
                  differs="Up to 30 times the training of earlier papers."),
        Published("ml-1m", {"recall@10": 0.2921, "ndcg@10": 0.1618}, seen_filter=True, source="RecTools",
                  differs="Its settings."),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the paper's beside them."""

    max_length: Count = 50  # most recent events read; paper 50, 200 on ml-1m
    dim: Count = 64  # paper 64
    layers: Count = 2  # paper 2
    heads: Count = 2  # paper 2
    dropout: Share = 0.2  # paper .2, .5 on beauty
    mask: Share = 0.2  # probability that an item is masked; paper .2 on ml-1m, .6 on beauty
    last_only: Share = 0.3  # share of rows of which only the last item is masked; RecBole .5


class BERT4Rec(nn.Module):
    """`z_t` = head(Transformer(items, some masked)); the score of item i is `z_t . E_i + b_i`."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config, self.n_items = config, n_items
        self.items = IdEmbedding(n_items, config.dim, extra=1)  # the last row is [MASK]
        self.positions = nn.Embedding(config.max_length + 1, config.dim)  # one more: the mask after the last item
        self.before = nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(Attention(config.dim, config.heads, False, "token"), config.dim, config.dropout, over="token")
            for _ in range(config.layers)
        )
        self.after = nn.LayerNorm(config.dim)
        self.head = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.LayerNorm(config.dim))
        self.bias = nn.Parameter(torch.zeros(n_items + 1))
        initialization.normal(self.items, self.positions)

    def token_states(self, batch: Batch) -> Tensor:
        """The state at every event, which depends on those before and after it: (B, T, D). Item N + 1 is [MASK]."""
        positions = torch.arange(batch.items.shape[1], device=batch.items.device)
        x = self.dropout(self.before(self.items.lookup(batch.items) + self.positions(positions)))  # (B, T, D)
        for block in self.blocks:
            x = block(x, batch.items > 0)
        return self.after(x)

    def item_vectors(self) -> Tensor:
        return self.items.table()  # (N + 1, D)

    def layout(self, batch: Batch) -> Layout:
        """The tokens that `score` reads: the events, and after the last one a mask, whose state is read out."""
        found = Layout.of_events(F.pad(batch.items, (0, 1)))  # (B, T + 1)
        mask = torch.arange(len(found), device=batch.items.device) == batch.lengths[:, None]
        return replace(found, kind=found.kind.masked_fill(mask, KINDS.index("query")), readout=mask)

    def loss(self, batch: Batch) -> Loss:
        whole = append_event(batch, batch.last(batch.targets))
        mask = self._sample_mask(whole)  # (B, T + 1)
        masked = replace(whole, events=replace(whole.events, items=whole.items.masked_fill(mask, self.n_items + 1)))
        z = self.head(self.token_states(masked)[mask])  # (M, D)
        # the bias is one more dimension, so that a loss over an embedding table includes it
        table = torch.cat([self.items.table(), self.bias[:, None]], 1)
        return Loss(losses.softmax(F.pad(z, (0, 1), value=1.0), table, whole.items[mask]), count=len(z))

    def _sample_mask(self, batch: Batch) -> Tensor:
        """Which items to mask (B, T): each with its probability, at least one per row; or only the last one."""
        shape, device = batch.items.shape, batch.items.device
        uniform = torch.rand(shape, device=device).masked_fill(batch.items == 0, 2.0)
        some = (uniform < self.config.mask) | (uniform == uniform.amin(1, keepdim=True))
        last = torch.arange(shape[1], device=device) == batch.lengths[:, None] - 1
        last_only = torch.rand(shape[0], 1, device=device) < self.config.last_only
        return torch.where(last_only, last, some)

    def score(self, batch: Batch) -> Tensor:
        with_mask = append_event(batch, torch.full_like(batch.user, self.n_items + 1))
        z = self.head(with_mask.last(self.token_states(with_mask)))  # (B, D)
        return z @ self.items.table().T + self.bias  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)


def append_event(batch: Batch, item: Tensor) -> Batch:
    """The batch with one more event, `item` (B,), after the last of each history; its time is NaN."""
    items = F.pad(batch.items, (0, 1)).scatter(1, batch.lengths[:, None], item[:, None])  # (B, T + 1)
    times = F.pad(batch.times, (0, 1)).scatter(1, batch.lengths[:, None], torch.nan)
    return Batch(Events(items, times), batch.lengths + 1, batch.user)
