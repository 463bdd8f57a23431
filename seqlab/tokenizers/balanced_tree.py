"""Balanced tree: k-means that splits every cluster into children of about equal size.

With anchors="aligned" it is GAOQ of ReSID (arXiv 2602.02338, 2026): a child's code is the direction from
its parent, the same direction under every parent. With anchors="none" a child's number
means nothing outside its parent, as in hierarchical k-means (ColaRec's group ids).

Confirmed against the paper's text: centring by the parent's centroid, one set of anchors per level for all
parents, by QR of a random matrix, Hungarian matching by cosine, level 0 not aligned, the last level as wide
as it must be.
Changed on purpose: more anchors than dimensions (the paper leaves it open) are several orthonormal sets.
Reconstructed: how clusters are balanced (see clustering.py). A critique holds that the paper's argument from
information does not follow where trees are balanced; so compare, with everything else equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqlab.items.vectors import validated
from seqlab.tokenizers.clustering import balanced_kmeans, nearest


@dataclass
class BalancedTree:
    """branches: children per node at each level but the last, which is as wide as its fullest node needs; fewer where
    there are fewer items than nodes.

    anchors: what a child's code is: "none" its number, "aligned" its direction. More anchors than children
    (`spare` of them) leave the matching some choice.
    """

    branches: tuple[int, ...] = (32, 32)
    anchors: Literal["none", "aligned"] = "none"
    spare: int = 0
    iterations: int = 8
    seed: int = 0

    ordered = True

    def fit(self, X: np.ndarray) -> BalancedTree:
        """Grow the tree; `notes_` mentions fewer branches than wanted."""
        X = validated(X)
        if self.anchors not in ("none", "aligned"):
            raise ValueError(f"anchors must be 'none' or 'aligned' (got {self.anchors!r}).")
        branches, self.notes_ = _fewer(self.branches, len(X))
        self.mean_, self.anchors_ = X.mean(0), []
        # per level, by the nodes above: where a node's children start, their codes, centres, bonuses
        self._starts: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._centres: list[np.ndarray] = []
        self._bonuses: list[np.ndarray] = []
        groups, parents = [np.arange(len(X))], self.mean_[None]
        for branch in (*branches, 0):
            groups, parents = self._grow(X, groups, parents, branch)
        self.sizes_ = tuple(int(codes.max()) + 1 for codes in self._codes)
        if self.anchors == "aligned":
            wide = [len(one) for one in self.anchors_]
            self.sizes_ = (self.sizes_[0], *wide)
            if max(wide, default=0) > X.shape[1]:
                self.notes_ = (
                    *self.notes_,
                    f"{max(wide)} anchors in {X.shape[1]} dimensions cannot all be orthogonal: they are "
                    f"{-(-max(wide) // X.shape[1])} sets, each orthonormal within.",
                )
        return self

    def _grow(
        self, X: np.ndarray, groups: list[np.ndarray], parents: np.ndarray, branch: int
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Split every node of a level into at most `branch` children (0: one per different item)."""
        level = len(self._starts)
        centres, bonuses, members, counts = [], [], [], []
        for at, rows in enumerate(groups):
            points = X[rows]
            different = np.unique(points, axis=0)
            if not branch or len(different) <= branch:
                centre, bonus = different, np.zeros(len(different), dtype=np.float32)
            else:
                centre, bonus = balanced_kmeans(
                    points, branch, iterations=self.iterations, seed=self.seed + 7919 * level + at
                )
            of = nearest(points, centre, bonus)
            kept = np.unique(of)  # a cluster can end up empty where points are equal
            centres.append(centre[kept])
            bonuses.append(bonus[kept])
            counts.append(len(kept))
            members += [rows[of == child] for child in kept]
        wide = max(counts) + (self.spare if branch else 0)
        aligned = self.anchors == "aligned" and level > 0
        if aligned:
            self.anchors_.append(orthonormal(X.shape[1], wide, self.seed + level))
        self._starts.append(np.concatenate([[0], np.cumsum(counts)]))
        self._centres.append(np.concatenate(centres))
        self._bonuses.append(np.concatenate(bonuses))
        self._codes.append(
            np.concatenate(
                [
                    _align(centre - parent, self.anchors_[-1]) if aligned else np.arange(len(centre))
                    for centre, parent in zip(centres, parents, strict=True)
                ]
            )
        )
        return members, self._centres[-1]

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Down the tree, to the nearest child after its bonus: (n, C), whatever the other rows are."""
        X = validated(X)
        codes = np.empty((len(X), len(self._starts)), dtype=np.int64)
        node = np.zeros(len(X), dtype=np.int64)
        for level, starts in enumerate(self._starts):
            order = np.argsort(node, kind="stable")
            present, first = np.unique(node[order], return_index=True)
            below = np.empty(len(X), dtype=np.int64)
            for parent, rows in zip(present, np.split(order, first[1:]), strict=True):
                children = slice(starts[parent], starts[parent + 1])
                below[rows] = starts[parent] + nearest(
                    X[rows], self._centres[level][children], self._bonuses[level][children]
                )
            codes[:, level] = self._codes[level][below]
            node = below
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The centre of the node (n, d); of the last one there is, if a tuple leads out of the tree."""
        codes = np.asarray(codes)
        node, inside = np.zeros(len(codes), dtype=np.int64), np.ones(len(codes), dtype=bool)
        vectors = np.repeat(self.mean_[None], len(codes), axis=0)
        for level, column in zip(range(len(self._starts)), codes.T, strict=False):
            starts, wide = self._starts[level], self.sizes_[level]
            parent = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            keys = parent * wide + self._codes[level]
            order = np.argsort(keys)
            wanted = node * wide + column
            place = np.searchsorted(keys[order], wanted).clip(max=len(keys) - 1)
            child = order[place]
            inside &= (keys[child] == wanted) & (column >= 0) & (column < wide)
            vectors[inside] = self._centres[level][child[inside]]
            node = np.where(inside, child, 0)
        return vectors

    def coherence(self) -> list[float]:
        """Mean cosine of "child minus parent" among children with one code, by level from 1 (GAOQ)."""
        parents, coherent = self._centres[0], []
        for starts, codes, centres in zip(self._starts[1:], self._codes[1:], self._centres[1:], strict=True):
            step = centres - np.repeat(parents, np.diff(starts), axis=0)
            length = np.linalg.norm(step, axis=1, keepdims=True)
            step, codes_here = (step / length.clip(1e-12))[length[:, 0] > 1e-9], codes[length[:, 0] > 1e-9]
            counts = np.bincount(codes_here)
            sums = np.zeros((len(counts), step.shape[1]))
            np.add.at(sums, codes_here, step)
            pairs = counts * (counts - 1)
            total = (sums**2).sum(1) - counts
            coherent.append(float(total[pairs > 0].sum() / max(pairs.sum(), 1)))
            parents = centres
        return coherent


def _fewer(branches: tuple[int, ...], items: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Branches whose nodes above the last level are no more than the items, and a note if they are fewer."""
    wanted, branches = branches, tuple(int(one) for one in branches)
    most = max(2, int(items ** (1 / (len(branches) + 1))))
    while np.prod(branches) > items:
        branches = tuple(min(one, most) for one in branches)
        most -= 1
    if branches == tuple(wanted):
        return branches, ()
    wanted_text, made = (" x ".join(map(str, one)) for one in (wanted, branches))
    note = f"{wanted_text} branches were wanted, there are {made}: no more nodes than the {items:,} items fit."
    return branches, (note,)


def orthonormal(dim: int, count: int, seed: int) -> np.ndarray:
    """Anchors (count, dim): orthonormal, by QR of a random matrix; in several such sets where count > dim."""
    rng = np.random.default_rng(seed)
    sets = [np.linalg.qr(rng.normal(size=(dim, min(dim, count - at))))[0].T for at in range(0, count, dim)]
    return np.concatenate(sets).astype(np.float32)


def _align(steps: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """A different anchor for each child, with the largest sum of cosines: (children,)."""
    from scipy.optimize import linear_sum_assignment

    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    cosine = (steps / np.maximum(lengths, 1e-12)) @ anchors.T
    child, anchor = linear_sum_assignment(-cosine)
    code = np.empty(len(steps), dtype=np.int64)
    code[child] = anchor
    return code
