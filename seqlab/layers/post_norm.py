"""The layer of post-norm encoders: a mixer and a feed-forward layer, each before a LayerNorm."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from seqlab.layers.dropout import Dropout
from seqlab.tracing import Tap


class PostNormBlock(nn.Module):
    """`x = LN(x + mixer(x))`, then `LN(x + feed_forward(x))`, with dropout before each sum.

    mixer: (B, T, D) to (B, T, D), with a padding mask as second argument. residual: whether the mixer's input is added
    to its output.
    """

    def __init__(
        self,
        mixer: nn.Module,
        dim: int,
        dropout: float,
        widen: int = 4,
        residual: bool = True,
        over: Literal["event", "token"] = "event",
    ) -> None:
        super().__init__()
        self.mixer, self.residual = mixer, residual
        self.after_mixer = nn.LayerNorm(dim, eps=1e-12)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, widen * dim), nn.GELU(), Dropout(dropout), nn.Linear(widen * dim, dim)
        )
        self.after_feed_forward = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = Dropout(dropout)
        self.hidden = Tap("hidden", f"user {over} dim")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D) to (B, T, D). mask: (B, T), True where a position is no padding."""
        mixed = self.dropout(self.mixer(x, mask))
        x = self.after_mixer(x + mixed if self.residual else mixed)
        return self.hidden(self.after_feed_forward(x + self.dropout(self.feed_forward(x))))
