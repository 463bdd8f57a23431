"""The Transformer block: attention that can be watched, and a feed-forward layer, each behind a LayerNorm."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.layers.dropout import Dropout
from seqlab.tracing import Tap


class Attention(nn.Module):
    """Multi-head softmax attention (Vaswani et al. 2017, section 3.2).

    Runs fused while nobody watches; watched, it computes the same weights in the open, and `attention` taps them.
    over: what a position of x is, an event of the history, or a token that the model's `layout` tells of.
    """

    def __init__(self, dim: int, heads: int, causal: bool, over: Literal["event", "token"] = "event") -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} must be a multiple of heads={heads}.")
        self.heads, self.causal = heads, causal
        self.project_in = nn.Linear(dim, 3 * dim)
        self.project_out = nn.Linear(dim, dim)
        self.weights = Tap("attention", f"user head query_{over} key_{over}")

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """x: (B, T, D). `real` (B, T) marks positions that may be looked at; causal attention over
        right-padded rows needs none. Returns (B, T, D)."""
        return self.mix(*self.project(x), real)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (B, T, D): (B, H, T, D/H) each."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, D/H)
            for part in self.project_in(x).chunk(3, dim=-1)
        )
        return query, key, value

    def mix(self, query: Tensor, key: Tensor, value: Tensor, real: Tensor | None = None) -> Tensor:
        """What the queries find: (B, T, D)."""
        mask = None if real is None else real[:, None, None, :]  # (B, 1, 1, T)
        if self.weights.active:
            mixed = self._in_the_open(query, key, value, mask)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, mask, is_causal=self.causal)
        return self.project_out(mixed.transpose(1, 2).flatten(2))  # (B, T, D)

    def _in_the_open(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, H, T, T)
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        if self.causal:
            ahead = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
            logits = logits.masked_fill(ahead, -torch.inf)
        return self.weights(logits.softmax(-1)) @ value  # (B, H, T, D/H)


class Block(nn.Module):
    """Attention, then a feed-forward layer; LayerNorm before each, dropout and a residual after each (pre-norm).

    Attention weights are not dropped: with dropout on them the CPU has no fused attention. `over` as in `Attention`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float,
        causal: bool,
        widen: int = 4,
        over: Literal["event", "token"] = "event",
    ) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, causal, over)
        self.before_feed_forward = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, widen * dim), nn.GELU(), nn.Linear(widen * dim, dim))
        self.dropout = Dropout(dropout)
        self.hidden = Tap("hidden", f"user {over} dim")

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        return self.feed(x + self.dropout(self.attention(self.before_attention(x), real)))

    def feed(self, x: Tensor) -> Tensor:
        """The second half of the block, and its tap."""
        return self.hidden(self.transform(x))

    def transform(self, x: Tensor) -> Tensor:
        """The second half of the block, which knows one position at a time."""
        return x + self.dropout(self.feed_forward(self.before_feed_forward(x)))
