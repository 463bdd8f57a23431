"""SETRec: an item is a set of continuous tokens, one collaborative and some semantic; all are generated at once.

Paper: Lin et al., "Order-agnostic Identifier for Large Language Model-based Generative Recommendation", 2025
(arXiv 2502.10833). A history is read as sets whose members do not see one another, learned queries generate the next
item's set in one step, and every item is scored by how well its tokens match: no codebook, no beam, no ties.

Confirmed against the authors' code: the collaborative token is a projection of a frozen vector, the n semantic ones
come from an auto-encoder of the item's text trained along; tokens of an item share their position; a token
attends to those of earlier items and itself, a query to the whole history and itself; cross-entropy over all items per
query, their mean, plus alpha times the reconstruction; score (1 - beta) s_cf + beta (sum of the semantic s).
Changed on purpose: a small Transformer from scratch instead of T5 or Qwen, so no instruction before the history; it
learns from every position of a history in one pass; scores are divided by sqrt(dim), as tokens are read and matched
at one scale; the collaborative vectors are factors of training co-occurrence (the authors' are SASRec's: give them to
`assign`, from the training part); no bias in their projection, so padding and items without training events have
no collaborative token; the queries' mask is 0 / -inf (their T5 adds 1 to the logit of itself, and so hides nothing);
beta is chosen on validation after training (their script sweeps it on the test users and keeps the best row).
Reconstructed: the auto-encoder's activations (GELU); the vectors' scale.
Held against: nothing comparable: the paper's splits are by time, with several test items per user (`CARD`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Published, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.mlp import mlp
from seqlab.layers.transformer import Block
from seqlab.ranking import ranks_of, top
from seqlab.runtime.modules import evaluating
from seqlab.runtime.settings import Count, Share, settings
from seqlab.tracing import Layout, Tap

if TYPE_CHECKING:
    import numpy as np

    from seqlab.datasets.splits import Split

BETAS = tuple(step / 10 for step in range(11))
QUERIES_AT_ONCE = 256

CARD = Card(
    claim="Sets of tokens without an order beat sequences of codes.",
    title="Order-agnostic Identifier for Large Language Model-based Generative Recommendation",
    authors="Lin et al.",
    year=2025,
    venue="arXiv 2502.10833",
    controls=("tiger",),
    homes=("complete-journey", "amazon-beauty"),
    seen_filter=False,
    measured=(
        Measurement(against=("sasrec_side", "tiger")),
        Measurement(("amazon2018-games",), against=("sasrec", "tiger"), seen_filter=True),
        Measurement(("ml-1m",), against=("sasrec", "tiger:narrow"), seen_filter=True),
    ),
    published=(
        Published("Toys, Amazon", {"recall@10": 0.0189}, "its paper", "Several test items per user.", split="by time"),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the paper's beside them."""

    max_length: Count = 50  # most recent items read; paper 50
    dim: Count = 64  # paper 512 (T5-small)
    layers: Count = 2  # paper 6 + 6
    heads: Count = 2  # paper 8
    dropout: Share = 0.3  # paper .1
    semantic: Count = 2  # tokens per item besides the collaborative one; paper 4 on Toys
    vectors: str | None = None  # of items.vectors, or random; none: tfidf, or collaborative without words
    features: Count = 64  # width of those vectors at most; sentence has 384; paper those of a language model
    factors: Count = 64  # width of the collaborative vectors at most; paper 64
    factors_from: str = "collaborative"  # or random: the control
    hidden: tuple[Count, ...] = (128,)  # of the auto-encoder; paper 512, 256, 128
    alpha: float = 0.7  # weight of the reconstruction; paper .7 on Toys
    beta: Share | None = None  # share of the semantic tokens in the score; none: by validation; paper .1 to 1, by test


class SETRec(nn.Module):
    """`s(item) = (1 - beta) q_0 . t_0(item) + beta sum_k q_k . t_k(item)`, the q generated side by side."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        dim, slots = config.dim, 1 + config.semantic
        widths = (config.features, *config.hidden, config.semantic * dim)
        self.project = nn.Linear(config.factors, dim, bias=False)
        self.tokenizer, self.reconstructor = mlp(widths, nn.GELU), mlp(widths[::-1], nn.GELU)
        self.queries = nn.Parameter(torch.empty(slots, dim))
        self.positions = nn.Embedding(config.max_length + 1, dim)  # of items, the oldest first; one for the next item
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(Attention(dim, config.heads, over="token"), dim, config.dropout, over="token")
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.generated = Tap("generated", "user slot dim")
        self.slot_scores = Tap("slot scores", "user slot item")
        initialization.normal(self.queries, self.positions)
        self.register_buffer("content", torch.full((n_items + 1, config.features), torch.nan))  # nan: none yet
        self.register_buffer("collaborative", torch.full((n_items + 1, config.factors), torch.nan))
        self.register_buffer("beta", torch.tensor(0.5 if config.beta is None else config.beta))

    def prepare(self, split: Split) -> None:
        """Set the item vectors that the settings name, unless `assign` was called before."""
        if bool(self.content[0, 0].isnan()):
            config = self.config
            self.assign(_vectors(split, config.vectors, config.features, 0),
                       _vectors(split, config.factors_from, config.factors, 1))  # fmt: skip

    def assign(self, content: np.ndarray | Tensor, collaborative: np.ndarray | Tensor) -> None:
        """Set the vectors of the items 1..N, (N, features) and (N, factors) at most.

        The collaborative ones must come from the training part alone. Raises `ValueError` (a `DataError`) where
        they do not fit.
        """
        from seqlab.items.vectors import fill

        fill(self.content, content, "features")
        fill(self.collaborative, collaborative, "factors")

    def tokens(self) -> Tensor:
        """The sets of all items: (N + 1, C, D), the collaborative token first; padding has zeros."""
        if bool(self.content[0, 0].isnan()):
            raise RuntimeError(
                "setrec has no item vectors yet: call prepare(split), or assign(content, collaborative)."
            )
        semantic = self.tokenizer(self.content).unflatten(1, (self.config.semantic, -1))  # (N + 1, C - 1, D)
        tokens = torch.cat([self.project(self.collaborative)[:, None], semantic], 1)
        is_item = torch.arange(len(tokens), device=tokens.device) > 0
        return tokens * is_item[:, None, None]  # (N + 1, C, D)

    def generate(self, batch: Batch, tokens: Tensor, place: Tensor) -> Tensor:
        """The set generated after the items at `place` (B, Q), or (1, Q) for all rows: (B, Q, C, D).

        A place of -1 stands before the first item.
        """
        users, length = batch.items.shape
        at = self.positions.weight[:length, None]  # (T, 1, D)
        history = (tokens[batch.items] + at).flatten(1, 2)  # (B, T C, D)
        queries = (self.queries + self.positions(place + 1)[:, :, None]).flatten(1, 2)  # (1 or B, Q C, D)
        x = self.dropout(torch.cat([history, queries.expand(users, -1, -1)], 1))  # (B, T C + Q C, D)
        seen = attention_mask(length, tokens.shape[1], place)
        for block in self.blocks:
            x = block(x, seen)
        return self.norm(x[:, history.shape[1] :]).unflatten(1, (place.shape[1], -1))

    def layout(self, batch: Batch) -> Layout:
        """The tokens of `score`: each item's set, the collaborative part first, and the queries."""
        slots = len(self.queries)
        queries = Layout.of_tokens(batch.items.new_zeros(len(batch), slots), "query", readout=True)
        history = Layout.of_events(batch.items, slots, "part")
        return replace(history, readout=torch.zeros_like(history.readout)).concat(queries)

    def loss(self, batch: Batch) -> Loss:
        """The mean cross-entropy of the queries over all items, and alpha times the reconstruction of the content."""
        tokens, has_target = self.tokens(), batch.targets > 0
        place = torch.arange(batch.items.shape[1], device=batch.items.device)[None]
        sets = self.generate(batch, tokens, place)[has_target] / math.sqrt(self.config.dim)  # (M, C, D)
        slots = [losses.softmax(sets[:, slot].contiguous(), tokens[:, slot].contiguous(), batch.targets[has_target])
                 for slot in range(sets.shape[1])]  # fmt: skip
        parts = {"collaborative": slots[0], "semantic": torch.stack(slots[1:]).mean()}
        parts["reconstruction"] = F.mse_loss(self.reconstructor(tokens[1:, 1:].flatten(1)), self.content[1:])
        total = torch.stack(slots).mean() + self.config.alpha * parts["reconstruction"]
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    def score(self, batch: Batch) -> Tensor:
        """Every item's match, its slots weighed by beta: (B, N + 1), exact."""
        tokens = self.tokens()
        sets = self._next(batch, tokens)  # (B, C, D)
        weights = self.weights(self.beta)
        if self.slot_scores.active:
            return torch.einsum("bcn,c->bn", self.slot_scores(torch.einsum("bcd,ncd->bcn", sets, tokens)), weights)
        return (sets * weights[:, None]).flatten(1) @ tokens.flatten(1).T  # (B, N + 1)

    def weights(self, beta: float | Tensor) -> Tensor:
        """The weight of each slot in the score: (C,)."""
        semantic = torch.as_tensor(beta, dtype=self.queries.dtype, device=self.queries.device)
        return torch.cat([(1 - semantic)[None], semantic.expand(self.config.semantic)])

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)

    def calibrate(self, split: Split, seen_filter: bool) -> None:
        """Choose beta on the validation users, unless the settings fix it."""
        if self.config.beta is None:
            self.choose_beta(split, seen_filter)

    @torch.no_grad()
    def choose_beta(self, split: Split, seen_filter: bool, betas: tuple[float, ...] = BETAS) -> dict[float, float]:
        """Keep the beta with the best NDCG@10 of validation. Returns that of every beta.

        0 is the collaborative token alone, 1 the semantic ones alone. Ties count at their mean rank; of equal betas
        the first is kept.
        """
        queries = split.valid.to(self.queries.device)
        gains = dict.fromkeys(betas, 0.0)
        with evaluating(self):
            tokens = self.tokens()
            for rows, batch in queries.batches(self.config.max_length, 1 << 15, QUERIES_AT_ONCE):
                answers = queries.item[rows][:, None]
                sets = self._next(batch, tokens)
                collaborative = sets[:, 0] @ tokens[:, 0].T  # (B, N + 1)
                semantic = sets[:, 1:].flatten(1) @ tokens[:, 1:].flatten(1).T  # (B, N + 1)
                out = torch.zeros_like(collaborative, dtype=torch.bool)
                if seen_filter:
                    out.scatter_(1, queries.batch(rows).items, True).scatter_(1, answers, False)
                out[:, 0] = True
                for beta in betas:
                    scores = ((1 - beta) * collaborative + beta * semantic).masked_fill_(out, -torch.inf)
                    rank = ranks_of(scores, answers[:, 0])
                    gains[beta] += float((1 / (rank + 1).log2()).masked_fill(rank > 10, 0).sum())
        found = {beta: gain / max(len(queries), 1) for beta, gain in gains.items()}
        self.beta.fill_(max(found, key=found.__getitem__))
        return found

    def _next(self, batch: Batch, tokens: Tensor) -> Tensor:
        """The set after each history, scaled for matching: (B, C, D)."""
        sets = self.generate(batch, tokens, batch.lengths[:, None] - 1)[:, 0]  # (B, C, D)
        return self.generated(sets) / math.sqrt(self.config.dim)


def attention_mask(length: int, slots: int, place: Tensor) -> Tensor:
    """The attention mask of T items of C tokens and the queries at `place` (1 or B, Q): (1 or B, L, L) bool.

    L = T C + Q C, the history first. A token attends to the tokens of earlier items and itself, not to others of
    its item; a query to the tokens of all items up to its position and itself. Padding on the right is masked.
    """
    item = torch.arange(length, device=place.device).repeat_interleave(slots)  # (T C,)
    at = torch.cat([item.expand(len(place), -1), (place + 1).repeat_interleave(slots, 1)], 1)  # (B, L)
    before = item < at[:, :, None]  # (B, L, T C)
    itself = torch.eye(at.shape[1], dtype=torch.bool, device=place.device)
    return F.pad(before, (0, at.shape[1] - len(item))) | itself


def _vectors(split: Split, source: str | None, width: int, seed: int) -> np.ndarray:
    """Item vectors (N, at most `width` where the source lets one choose), from text and training events alone."""
    import numpy as np

    from seqlab.items.vectors import item_vectors, words_or_collaborative

    if source == "random":
        return np.random.default_rng(seed).standard_normal((split.n_items, width), dtype=np.float32)
    return item_vectors(split, source or words_or_collaborative(split.log), width)
