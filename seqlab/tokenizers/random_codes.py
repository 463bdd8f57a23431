"""Random codes, the control of semantic IDs: a generator's quality with them does not come from their meaning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqlab.items.vectors import validated
from seqlab.tokenizers.clustering import sizes_by_level


@dataclass
class RandomCodes:
    """Uniform codes by row number; only the number of vectors matters.

    levels: C; codes: K per level, or a tuple of one for each.
    """

    levels: int = 3
    codes: int | tuple[int, ...] = 256
    seed: int = 0

    ordered = False

    def fit(self, X: np.ndarray) -> RandomCodes:
        """Only the mean vector is learned."""
        self.mean_ = validated(X).mean(0)
        self.sizes_ = sizes_by_level(self.codes, self.levels)
        return self

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Codes (n, C); row i gets the same ones however many rows there are, and whatever is in them."""
        even = len(set(self.sizes_)) == 1
        return np.random.default_rng(self.seed).integers(
            0, self.sizes_[0] if even else self.sizes_, (len(X), self.levels)
        )

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The mean vector, whatever the codes."""
        return np.repeat(self.mean_[None], len(codes), axis=0)
