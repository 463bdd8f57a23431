"""The Transformer block: a mixer of positions and a feed-forward layer, each behind a LayerNorm."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from seqlab.layers.dropout import Dropout
from seqlab.layers.mlp import mlp
from seqlab.tracing import Tap

RENAMED = {"before_attention.": "before_mixer.", "attention.": "mixer."}
"""Parameter names of blocks in older runs, and the names they have now."""


class Block(nn.Module):
    """A mixer, then a feed-forward layer; LayerNorm before each, dropout and a residual after each (pre-norm).

    mixer: a `seqlab.layers.mixers.Mixer`. widen: how many times `dim` the feed-forward layer is wide inside. over: what
    a position is, an event of the history, or a token that the model's `layout` describes.
    """

    def __init__(
        self, mixer: nn.Module, dim: int, dropout: float, widen: int = 4, over: Literal["event", "token"] = "event"
    ) -> None:
        super().__init__()
        self.before_mixer = nn.LayerNorm(dim)
        self.mixer = mixer
        self.before_feed_forward = nn.LayerNorm(dim)
        self.feed_forward = mlp((dim, widen * dim, dim), nn.GELU)
        self.dropout = Dropout(dropout)
        self.hidden = Tap("hidden", f"user {over} dim")
        self.register_load_state_dict_pre_hook(_rename)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D) to (B, T, D). mask: as the mixer takes it; one that is not causal needs the padding mask."""
        return self.feed(x + self.dropout(self.mixer(self.before_mixer(x), mask)))

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        """`forward`, and the state after the last event of each row. mask: (B, T), True where x is no padding."""
        mixed, state = self.mixer.prefill(self.before_mixer(x), mask)
        return self.feed(x + self.dropout(mixed)), state

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One more event per row: x (B, D) to (B, D), and the state after it. The taps see `forward` alone."""
        mixed, state = self.mixer.step(self.before_mixer(x), state)
        return self.transform(x + self.dropout(mixed)), state

    def feed(self, x: Tensor) -> Tensor:
        """The second half of the block, and its tap."""
        return self.hidden(self.transform(x))

    def transform(self, x: Tensor) -> Tensor:
        """The second half of the block, which treats each position separately."""
        return x + self.dropout(self.feed_forward(self.before_feed_forward(x)))


def _rename(block: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Give the parameters of a block from an older run their names."""
    for old, new in RENAMED.items():
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)
