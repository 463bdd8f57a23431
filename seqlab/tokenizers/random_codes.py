"""Random codes: the control; what a generator reaches with these it does not owe to their meaning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqlab.items.vectors import validated
from seqlab.tokenizers.clustering import per_level


@dataclass
class RandomCodes:
    """Uniform codes by row number; the vectors are counted and not read.

    levels: C; codes: K per level, or a tuple of one for each.
    """

    levels: int = 3
    codes: int | tuple[int, ...] = 256
    seed: int = 0

    ordered = False

    def fit(self, X: np.ndarray) -> RandomCodes:
        """Nothing is learned but what a vector looks like on average."""
        self.mean_ = validated(X).mean(0)
        self.sizes_ = per_level(self.codes, self.levels)
        return self

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Codes (n, C); row i gets the same ones however many rows there are, and whatever is in them."""
        even = len(set(self.sizes_)) == 1
        return np.random.default_rng(self.seed).integers(
            0, self.sizes_[0] if even else self.sizes_, (len(X), self.levels)
        )

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The mean vector: these codes say nothing."""
        return np.repeat(self.mean_[None], len(codes), axis=0)
