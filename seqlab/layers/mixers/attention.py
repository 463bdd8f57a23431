"""Multi-head self-attention (Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from seqlab.layers.attention import attend
from seqlab.layers.kv_cache import KVCache
from seqlab.tracing import Tap


class Attention(nn.Module):
    """Multi-head self-attention. Its weights are not dropped: with dropout on them the CPU has no fused attention.

    causal: a position attends to itself and those before it, unless a mask says otherwise. over: what a position of x
    is, an event of the history, or a token that the model's `layout` describes.
    Raises `ValueError` for a width that is no multiple of the heads.
    """

    causal: bool

    def __init__(
        self, dim: int, heads: int = 2, causal: bool = True, over: Literal["event", "token"] = "event"
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} must be a multiple of heads={heads}.")
        self.heads, self.causal = heads, causal
        self.project_in = nn.Linear(dim, 3 * dim)
        self.project_out = nn.Linear(dim, dim)
        self.weights = Tap("attention", f"user head query_{over} key_{over}")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D) to (B, T, D). mask: as in `mix`; causal attention over right-padded rows needs none."""
        return self.mix(*self.project(x), mask)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (B, T, D): (B, H, T, D/H) each."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, D/H)
            for part in self.project_in(x).chunk(3, dim=-1)
        )
        return query, key, value

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention of the queries (B, H, Q, D/H): (B, Q, D).

        mask: (B, K), True for positions that are no padding, or (B or 1, Q, K), True where a query may attend to a key.
        """
        if mask is not None:
            mask = mask[:, None, None] if mask.dim() == 2 else mask[:, None]  # (B, 1, 1 or Q, K)
        mixed = attend(query, key, value, mask, self.weights, self.causal and mask is None)
        return self.project_out(mixed.transpose(1, 2).flatten(2))  # (B, Q, D)

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, KVCache]:
        """x (B, T, D) to (B, T, D), and the cache of its keys and values. mask: (B, T), True where x is no padding."""
        query, key, value = self.project(x)
        mixed = self.mix(query, key, value, None if self.causal else mask)
        return mixed, KVCache(key.contiguous(), value.contiguous(), mask)

    def step(self, x: Tensor, state: KVCache) -> tuple[Tensor, KVCache]:
        """One more position per row, x (B, D) to (B, D), and the cache with it. The tap sees `forward` alone."""
        mixed, state = self.decode_step(x[:, None], state)
        return mixed[:, 0], state

    def decode_step(
        self, x: Tensor, cache: KVCache, parent: Tensor | None = None, tap: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, KVCache]:
        """The next token x (B, W, D) of beams that continue the beams `parent` (B, W) of `cache`; None: each its own.

        tap: of the weights (B, H, W, keys).
        """
        query, key, value = self.project(x)  # (B, H, W, D/H)
        cache = cache.append(parent, key, value)
        return self.project_out(cache.mix(query, tap)), cache
