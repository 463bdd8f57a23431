"""Nearest neighbours of item vectors, and their projection to two dimensions."""

from __future__ import annotations

from typing import Literal

import numpy as np

from seqlab.ranking import check_k
from seqlab.runtime.cache import cached

Method = Literal["pca", "tsne", "umap"]

MANY = 50
"""t-SNE reads so many principal components, as its authors recommend."""


def coordinates(vectors: np.ndarray, method: Method = "pca", seed: int = 0) -> np.ndarray:
    """Project vectors (N, D) to (N, 2) float32.

    method: "pca" is fast and linear, so far apart means different. "tsne" (van der Maaten and Hinton, JMLR 2008) and
    "umap" keep neighbours together, while distances between groups mean little; they take seconds and up to a minute,
    and their results are cached under a hash of the vectors. Raises `ValueError` for fewer than 3 vectors or an unknown
    method, `ImportError` without umap-learn.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if len(vectors) < 3:
        raise ValueError(f"a map needs at least 3 items (got {len(vectors)})")
    if method == "pca":
        return _pca(vectors, 2)
    if method not in ("tsne", "umap"):
        raise ValueError(f"the projections are 'pca', 'tsne' and 'umap' (got {method!r})")
    project = _umap if method == "umap" else _tsne
    return cached("projections", (method, "cosine", seed), [vectors], lambda: {"spots": project(vectors, seed)})[
        "spots"
    ]


def _pca(vectors: np.ndarray, count: int) -> np.ndarray:
    """The first principal components (N, count), with the same signs on every machine."""
    left, sizes, right = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    up = np.sign(right[:count][range(len(right[:count])), np.abs(right[:count]).argmax(1)])
    return left[:, :count] * sizes[:count] * up


def neighbours(vectors: np.ndarray, row: int, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The k rows nearest to `row` by cosine, without `row`: indices (k,) and cosines (k,), nearest first."""
    length = np.linalg.norm(vectors, axis=1)
    cosine = vectors @ vectors[row] / np.maximum(length * length[row], 1e-12)
    cosine[row] = -np.inf
    k = min(check_k(k), len(vectors) - 1)
    order = np.argsort(-cosine, kind="stable")[:k]
    return order, cosine[order]


def _tsne(vectors: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    wide = _pca(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), MANY)
    if np.ptp(wide, axis=0).max(initial=0.0) < 1e-9:  # equal vectors: scikit-learn divides by 0, and crashes
        return np.zeros((len(vectors), 2), np.float32)
    near = min(30.0, (len(vectors) - 1) / 3)
    return TSNE(perplexity=near, init="pca", random_state=seed).fit_transform(wide).astype(np.float32)


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
