"""Product quantisation: the vector is rotated and cut into parts, each part has a codebook of its own.

Jegou, Douze & Schmid, TPAMI 2011; the rotation is learned as in Ge et al., "Optimized Product Quantization",
CVPR 2013 (the non-parametric form, from its parametric start). The codes are parallel: no level refines
another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqlab.items.vectors import validated
from seqlab.tokenizers.clustering import feasible_sizes, kmeans, nearest


@dataclass
class PQ:
    """`c_l = argmin_k |(x R)_l - e_lk|`; a vector is the codewords side by side, rotated back.

    levels: parts, C; codes: K per part, or a tuple with one for each, at most (`clustering.feasible_sizes`); rotations:
    rounds of "codewords for this rotation, then the rotation for these codewords" (0 = the rotation that spreads the
    variance evenly, learned no further).
    """

    levels: int = 4
    codes: int | tuple[int, ...] = 256
    rotations: int = 10
    iterations: int = 25
    seed: int = 0

    ordered = False

    def fit(self, X: np.ndarray) -> PQ:
        """Learn; `notes_` mentions levels with fewer codes than wanted.

        Raises ValueError for fewer numbers per vector than parts.
        """
        X = validated(X)
        if X.shape[1] < self.levels:
            raise ValueError(
                f"{self.levels} parts need vectors of at least {self.levels} numbers (got {X.shape[1]}); take "
                f"{X.shape[1]} levels, or other vectors."
            )
        sizes, self.notes_ = feasible_sizes(self.codes, self.levels, len(X))
        self.mean_ = X.mean(0)
        X = X - self.mean_
        self.rotation_, self.parts_ = _even_parts(X, self.levels)
        self.codewords_ = self._codewords(X, sizes)
        for _ in range(self.rotations):
            flat = X @ self.rotation_
            decoded = np.empty_like(flat)
            for part, words in zip(self.parts_, self.codewords_, strict=True):
                decoded[:, part] = words[nearest(flat[:, part], words)]
            left, _, right = np.linalg.svd(X.T @ decoded)  # orthogonal Procrustes
            self.rotation_ = (left @ right).astype(np.float32)
            flat = X @ self.rotation_
            for part, words in zip(self.parts_, self.codewords_, strict=True):
                of = nearest(flat[:, part], words)
                counts = np.bincount(of, minlength=len(words))
                sums = np.stack([np.bincount(of, column, len(words)) for column in flat[:, part].T], 1)
                words[counts > 0] = (sums[counts > 0] / counts[counts > 0, None]).astype(np.float32)
        if self.rotations:
            self.codewords_ = self._codewords(X, sizes)
        self.sizes_ = sizes
        return self

    def _codewords(self, X: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
        flat = X @ self.rotation_
        return [
            kmeans(flat[:, part].copy(), sizes[at], iterations=self.iterations, seed=self.seed + at)
            for at, part in enumerate(self.parts_)
        ]

    def encode(self, X: np.ndarray) -> np.ndarray:
        """The nearest codeword of every part: (n, C)."""
        flat = (validated(X) - self.mean_) @ self.rotation_
        return np.stack(
            [nearest(flat[:, part], words) for part, words in zip(self.parts_, self.codewords_, strict=True)],
            1,
        )

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The codewords, rotated back (n, d); parts without a column stay at the mean."""
        flat = np.zeros((len(codes), len(self.mean_)), dtype=np.float32)
        for part, words, column in zip(self.parts_, self.codewords_, np.asarray(codes).T, strict=False):
            flat[:, part] = words[column]
        return flat @ self.rotation_.T + self.mean_


def _even_parts(X: np.ndarray, parts: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Principal axes (d, d), and the axes of each part: the next largest joins the part with least variance."""
    variance, axes = np.linalg.eigh(X.T @ X / len(X))
    variance, axes = variance[::-1].clip(1e-12), axes[:, ::-1]
    room = [len(one) for one in np.array_split(variance, parts)]
    chosen: list[list[int]] = [[] for _ in range(parts)]
    weight = np.zeros(parts)
    for axis, value in enumerate(np.log(variance / variance.min()) + 1e-3):
        free = [at for at in range(parts) if len(chosen[at]) < room[at]]
        least = min(free, key=lambda at: weight[at])
        chosen[least].append(axis)
        weight[least] += value
    return np.ascontiguousarray(axes, dtype=np.float32), [np.array(one) for one in chosen]
