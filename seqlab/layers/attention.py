"""Softmax attention, fused unless a tap is active."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

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
