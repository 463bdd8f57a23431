"""Initialization of embeddings and free parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def normal(*weights: nn.Embedding | Tensor, std: float = 0.02) -> None:
    """Draw them, in this order, from N(0, std**2); the row of padding of an embedding that has one is zero."""
    for weight in weights:
        embedding = isinstance(weight, nn.Embedding)
        nn.init.normal_(weight.weight if embedding else weight, std=std)
        if embedding and weight.padding_idx is not None:
            weight.weight[weight.padding_idx] = 0
