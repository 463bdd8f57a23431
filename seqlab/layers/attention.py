"""Softmax attention, fused unless a tap is active, and the multi-head layer around it."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.tracing import Tap


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, tap: Tap | None = None, causal: bool = False
) -> Tensor:
    """Scaled dot-product attention of queries (..., Q, D) over keys and values (..., K, D): (..., Q, D).

    mask: broadcasts to (..., Q, K), True where a query may attend to a key; None: everywhere. causal: each query
    attends to the keys up to its position (without a mask only). An active `tap` receives the weights (..., Q, K) and
    may change them; without one the computation is fused (Vaswani et al. 2017, section 3.2.1).
    """
    if tap is None or not tap.active:
        return F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
    logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (..., Q, K)
    if causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()  # (Q, K)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return tap(logits.softmax(-1)) @ value


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2.2).

    causal: a position attends to itself and those before it, unless a mask says otherwise. over: what a position of x
    is, an event of the history, or a token that the model's `layout` describes.
    """

    def __init__(self, dim: int, heads: int, causal: bool, over: Literal["event", "token"] = "event") -> None:
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
