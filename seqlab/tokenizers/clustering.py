"""k-means for the tokenizers: plain, and balanced (all clusters have about the same size)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

INIT_ROWS = 8  # rows per cluster that k-means++ looks at: on all of them it costs more than the clustering
SOFT = (0.03, 0.01, 0.003)  # temperatures of a balancing step, of the mean squared distance to the mean
SHARP = (0.02, 0.01, 0.005, 0.002, 0.001)  # and of the last one; fewer leave buckets several times too full
ROUNDS = 20  # Sinkhorn rounds at each
BALANCED_ROWS = 32_768  # most points that balanced clusters are learned from; the rule then places all


def kmeans(X: np.ndarray, clusters: int, *, iterations: int, seed: int, batch: int = 0) -> np.ndarray:
    """Cluster centres (clusters, d) by scikit-learn: whole Lloyd steps, or MiniBatchKMeans where batch > 0.

    Raises ValueError if there are fewer rows than clusters: initialising from too few rows only memorises
    them.
    Runs on as many threads as torch: with more of them than free cores it gets 15 times slower.
    """
    import torch
    from sklearn.cluster import KMeans, MiniBatchKMeans, kmeans_plusplus
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    require_rows(len(X), clusters)
    rng = np.random.default_rng(seed)
    sample = X[np.sort(rng.permutation(len(X))[: INIT_ROWS * clusters])]
    with threadpool_limits(torch.get_num_threads()):
        # one draw per start (n_local_trials=1) leaves 4 % less error, and codes that serve TIGER worse (LOG.md)
        start, _ = kmeans_plusplus(sample, clusters, random_state=seed)
        if batch:
            means = MiniBatchKMeans(clusters, init=start, n_init=1, max_iter=iterations, batch_size=batch)
        else:
            means = KMeans(clusters, init=start, n_init=1, max_iter=iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters
            means.set_params(random_state=seed).fit(X)
    return np.ascontiguousarray(means.cluster_centers_, dtype=np.float32)


def require_rows(rows: int, clusters: int) -> None:
    """ValueError if there are fewer rows than clusters."""
    if rows < clusters:
        raise ValueError(f"{clusters} codes need at least {clusters} different items to start from (got {rows}).")


def sizes_by_level(codes: int | Sequence[int], levels: int) -> tuple[int, ...]:
    """How many codes each level gets: `codes` is a number for all, or one for each.

    Raises `ValueError` for another count of numbers than `levels`, and for a number below 1.
    """
    sizes = (int(codes),) * levels if isinstance(codes, int | np.integer) else tuple(int(one) for one in codes)
    if len(sizes) != levels or min(sizes, default=0) < 1:
        raise ValueError(f"codes must be one number from 1 on, or one for each of the {levels} levels (got {codes}).")
    return sizes


def codes_hint(levels: Sequence[int], n_items: int) -> str:
    """What to compare where the codes of all levels outnumber the items; "" where they do not."""
    if sum(levels) <= n_items:
        return ""
    count = 2 if n_items <= 4096 else 3
    size = next(size for size in (4 * 2**step for step in range(20)) if size**count >= 2 * n_items)
    shape = f"{len(levels)} x {levels[0]}" if len(set(levels)) == 1 else " x ".join(map(str, levels))
    return (
        f"{shape} codes for {n_items:,} items: there are more codes than items, so items share few of them, which is "
        "what semantic IDs are for. Compare with a system of item ids (sasrec), and with fewer codes: "
        f"--set levels={','.join([str(size)] * count)}."
    )


def feasible_sizes(codes: int | Sequence[int], levels: int, rows: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """`sizes_by_level`, with no more codes than rows to learn them from, and a note if they are fewer than wanted.

    A level with more codes than there are rows would only number them: it gets half as many codes as there are rows.
    """
    wanted, most = sizes_by_level(codes, levels), max(min(2, rows), rows // 2)
    sizes = tuple(most if size > rows else size for size in wanted)
    if sizes == wanted:
        return sizes, ()
    wanted_text, made = (" x ".join(map(str, one)) for one in (wanted, sizes))
    return sizes, (
        f"{wanted_text} codes were wanted, there are {made}: a level has half as many codes as the {rows:,} items.",
    )


def nearest(points: np.ndarray, words: np.ndarray, bonus: np.ndarray | float = 0.0, rows: int = 16_384) -> np.ndarray:
    """The word with the least `|point - word|^2 - bonus` for each point: (n,). By blocks of rows."""
    offset = (words**2).sum(1) - bonus
    return np.concatenate(
        [np.argmin(offset - 2 * points[at : at + rows] @ words.T, axis=1) for at in range(0, len(points), rows)]
    )


def balanced_kmeans(X: np.ndarray, clusters: int, *, iterations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres (clusters, d) and bonuses (clusters,): with them `nearest` fills all clusters about equally.

    The best balanced assignment is a power diagram: nearest centre after a bonus for unpopular ones. The
    bonuses are the dual variables of that transport problem, found by Sinkhorn rounds at falling
    temperatures; so a new point is assigned by the same rule, whatever the other points are. Equal points
    share a cluster, so balance can be imperfect.
    """
    X = np.ascontiguousarray(X, dtype=np.float32)
    if len(X) > BALANCED_ROWS:
        X = X[np.sort(np.random.default_rng(seed).permutation(len(X))[:BALANCED_ROWS])]
    centres = kmeans(X, clusters, iterations=3, seed=seed)
    bonus = np.zeros(clusters, dtype=np.float32)
    for _ in range(iterations):
        bonus = _bonuses(X, centres, bonus, SOFT)
        of = nearest(X, centres, bonus)
        counts = np.bincount(of, minlength=clusters)
        centres[counts > 0] = (_sums(X, of, clusters) / counts.clip(1)[:, None])[counts > 0]
    return centres, _bonuses(X, centres, bonus, SHARP)


def _sums(X: np.ndarray, of: np.ndarray, clusters: int) -> np.ndarray:
    from scipy.sparse import csr_matrix

    return csr_matrix((np.ones(len(X), np.float32), (of, np.arange(len(X)))), (clusters, len(X))) @ X


def column_potentials(cost: Tensor, temperature: float, rounds: int, start: Tensor) -> Tensor:
    """Sinkhorn's iteration for equal column sums (Cuturi 2013): potentials (K,) of cost (n, K), from `start` (K,).

    The transport plan is `softmax((potentials - cost) / temperature)` over the columns; each row has mass 1. Double
    precision sums in logarithms, which hold where exp vanishes; single precision sums directly, which is faster.
    """
    share, scaled, exact = float(np.log(len(cost) / cost.shape[1])), cost / -temperature, cost.element_size() == 8
    for _ in range(rounds):
        plan = scaled + start / temperature  # (n, K), not yet normalised
        log_mass = plan.log_softmax(1).logsumexp(0) if exact else plan.softmax(1).sum(0).clamp(min=1e-30).log()
        start = start + temperature * (share - log_mass)
    return start


def _bonuses(X: np.ndarray, centres: np.ndarray, bonus: np.ndarray, temperatures: tuple[float, ...]) -> np.ndarray:
    """`column_potentials` of squared distances, at falling temperatures: (clusters,), with mean 0."""
    import torch

    cost = torch.from_numpy((centres**2).sum(1)[None] - 2 * X @ centres.T)  # (n, clusters)
    variance = float(((X - X.mean(0)) ** 2).sum(1).mean()) or 1.0
    potentials = torch.from_numpy(bonus)
    for temperature in temperatures:
        potentials = column_potentials(cost, temperature * variance, ROUNDS, potentials)
    return (potentials - potentials.mean()).numpy()
