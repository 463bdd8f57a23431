"""Residual k-means: each level clusters what the levels before it left over; no network, seconds on a CPU.

Stands in for the RQ-VAE in GRID, OneRec and others. scikit-learn does the clustering.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqlab.items.vectors import validated
from seqlab.tokenizers.clustering import feasible_sizes, kmeans, nearest


@dataclass
class RQKMeans:
    """`c_l = argmin_k |r_l - e_lk|`, `r_{l+1} = r_l - e_{l,c_l}`; a vector is the sum of its codewords.

    levels: C; codes: K per level, or a tuple with one for each, at most (`clustering.feasible_sizes`); iterations: most
    Lloyd steps per level; batch: rows per step of MiniBatchKMeans, 0 = whole steps, which are faster up to some 100,000
    items.
    """

    levels: int = 3
    codes: int | tuple[int, ...] = 256
    iterations: int = 25
    batch: int = 0
    seed: int = 0

    ordered = True

    def fit(self, X: np.ndarray) -> RQKMeans:
        """Cluster, level by level. `notes_` mentions levels with fewer codes than wanted."""
        residual = validated(X)
        sizes, self.notes_ = feasible_sizes(self.codes, self.levels, len(residual))
        self.mean_ = residual.mean(0)
        residual = residual - self.mean_
        self.codewords_: list[np.ndarray] = []  # C x (K, d)
        for level, size in enumerate(sizes):
            words = kmeans(
                residual, size, iterations=self.iterations, seed=self.seed + level, batch=self.batch
            )  # (K, d)
            self.codewords_.append(words)
            residual = residual - words[nearest(residual, words)]
        self.sizes_ = sizes
        return self

    def encode(self, X: np.ndarray) -> np.ndarray:
        """The nearest codeword of every level in turn: (n, C)."""
        residual = validated(X) - self.mean_
        codes = np.empty((len(residual), self.levels), dtype=np.int64)
        for level, words in enumerate(self.codewords_):
            codes[:, level] = nearest(residual, words)
            residual = residual - words[codes[:, level]]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The sum of the codewords (n, d); of the first columns alone if fewer are given."""
        vectors = np.repeat(self.mean_[None], len(codes), axis=0)
        for words, column in zip(self.codewords_, np.asarray(codes).T, strict=False):
            vectors += words[column]
        return vectors
