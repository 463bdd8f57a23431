"""Sources of item vectors: the tables that histories are read with and that states are matched with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from seqlab.layers import initialization
from seqlab.tracing import Tap

if TYPE_CHECKING:
    import numpy as np


class ItemSource(Protocol):
    """The vectors of a catalogue. Item 0 is padding, whose vector is zero."""

    def lookup(self, items: Tensor) -> Tensor:
        """The vectors of items (...), as the input of a model: (..., D)."""
        ...

    def table(self) -> Tensor:
        """The vectors of all items, with which states are matched: (N + 1, D)."""
        ...


class IdEmbedding(nn.Embedding):
    """A learned vector for every item, initialised as in `nn.Embedding`.

    extra: further rows, with the ids N + 1 and above, for tokens that are no items, such as [MASK].
    """

    def __init__(self, n_items: int, dim: int, extra: int = 0) -> None:
        super().__init__(n_items + 1 + extra, dim, padding_idx=0)
        self.n_items = n_items

    def lookup(self, items: Tensor) -> Tensor:
        return self(items)  # (..., D)

    def table(self) -> Tensor:
        return self.weight if len(self.weight) == self.n_items + 1 else self.weight[: self.n_items + 1]  # (N + 1, D)


class ProjectedVectors(nn.Module):
    """`E_i = id_i + W v_i`: a linear map of given vectors, such as those of item text, and a learned vector per item.

    vector_dim: the width of v at most; narrower vectors are padded with zeros. ids: whether there is id_i. Both terms
    are as large at first. The tap "side" sees W v.
    """

    vectors: Tensor

    def __init__(self, n_items: int, dim: int, vector_dim: int, ids: bool = True) -> None:
        super().__init__()
        self.ids = nn.Embedding(n_items + 1, dim, padding_idx=0) if ids else None
        self.project = nn.Linear(vector_dim, dim, bias=False)
        self.register_buffer("vectors", torch.zeros(n_items + 1, vector_dim))
        self.side = Tap("side", "user event dim")
        initialization.normal(self.project.weight, std=0.02 / vector_dim**0.5)
        if self.ids is not None:
            initialization.normal(self.ids)

    def assign(self, vectors: np.ndarray | Tensor) -> None:
        """Set v (N, d). Raises `ValueError` for a wrong shape, for vectors too wide or not finite."""
        from seqlab.items.vectors import fill

        fill(self.vectors, vectors, "vector_dim")

    def lookup(self, items: Tensor) -> Tensor:
        side = self.side(self.project(self.vectors[items]))  # (..., D)
        return side if self.ids is None else self.ids(items) + side

    def table(self) -> Tensor:
        side = self.project(self.vectors)  # (N + 1, D)
        return side if self.ids is None else self.ids.weight + side
