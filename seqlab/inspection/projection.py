"""Nearest neighbours of item vectors, and their projection to two dimensions."""

from __future__ import annotations

from typing import Literal

import numpy as np

from seqlab.ranking import check_k
from seqlab.runtime.cache import cached

Method = Literal["pca", "umap"]


def coordinates(vectors: np.ndarray, method: Method = "pca", seed: int = 0) -> np.ndarray:
    """Project vectors (N, D) to (N, 2) float32.

    method: "pca" is fast and linear, so far apart means different. "umap" keeps neighbours together, while distances
    between groups mean little; it takes up to a minute, and its result is cached under a hash of the vectors. Raises
    `ValueError` for fewer than 3 vectors or an unknown method, `ImportError` without umap-learn.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if len(vectors) < 3:
        raise ValueError(f"a map needs at least 3 items (got {len(vectors)})")
    if method == "pca":
        left, sizes, right = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
        up = np.sign(right[:2, :][range(2), np.abs(right[:2]).argmax(1)])  # the same signs on every machine
        return left[:, :2] * sizes[:2] * up
    if method != "umap":
        raise ValueError(f"the projections are 'pca' and 'umap' (got {method!r})")
    return cached("projections", ("umap", "cosine", seed), [vectors], lambda: {"spots": _umap(vectors, seed)})["spots"]


def neighbours(vectors: np.ndarray, row: int, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The k rows nearest to `row` by cosine, without `row`: indices (k,) and cosines (k,), nearest first."""
    length = np.linalg.norm(vectors, axis=1)
    cosine = vectors @ vectors[row] / np.maximum(length * length[row], 1e-12)
    cosine[row] = -np.inf
    k = min(check_k(k), len(vectors) - 1)
    order = np.argsort(-cosine, kind="stable")[:k]
    return order, cosine[order]


def _umap(vectors: np.ndarray, seed: int) -> np.ndarray:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # UMAP warns that a seed means one thread
            import umap

            near = min(15, len(vectors) - 1)
            fitted = umap.UMAP(n_components=2, metric="cosine", n_neighbors=near, random_state=seed).fit_transform(
                vectors
            )
    except ImportError as error:
        raise ImportError(f"UMAP cannot be used here ({error}); install umap-learn, or choose 'pca'") from error
    return np.asarray(fitted, dtype=np.float32)
