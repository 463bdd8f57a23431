"""The Transformer block: attention and a feed-forward layer, each behind a LayerNorm."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from seqlab.layers.attention import Attention
from seqlab.layers.dropout import Dropout
from seqlab.layers.mlp import mlp
from seqlab.tracing import Tap


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
        self.feed_forward = mlp((dim, widen * dim, dim), nn.GELU)
        self.dropout = Dropout(dropout)
        self.hidden = Tap("hidden", f"user {over} dim")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D) to (B, T, D). mask: as in `Attention.mix`."""
        return self.feed(x + self.dropout(self.attention(self.before_attention(x), mask)))

    def feed(self, x: Tensor) -> Tensor:
        """The second half of the block, and its tap."""
        return self.hidden(self.transform(x))

    def transform(self, x: Tensor) -> Tensor:
        """The second half of the block, which treats each position separately."""
        return x + self.dropout(self.feed_forward(self.before_feed_forward(x)))
