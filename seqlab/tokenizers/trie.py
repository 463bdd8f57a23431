"""Trie: the tree of all legal code tuples, for whole beams at once, on any device."""

from __future__ import annotations

import torch
from torch import Tensor


class Trie:
    """The legal continuations of a prefix of codes, and the items of a prefix.

    Nodes are integers in order of level, then of their codes: the root is 0, the children of a node have
    consecutive numbers, and so have all nodes of one level. -1 means "no such prefix"; its children are -1.
    The items below a node are consecutive in `order`. So everything is CSR: a few flat tensors, no pointers.

    levels: C, codes per item. sizes: codes per level. starts[l]: the first node of level l (root: level 0),
    starts[C]: the first leaf, starts[C + 1]: how many nodes there are. widest[l]: the most children a node of
    level l has.
    """

    def __init__(self, codes: Tensor, sizes: tuple[int, ...]) -> None:
        """codes: (N + 1, C) of any integer type, row 0 (padding) is not read; sizes: codes per level.

        Raises ValueError naming the level and the first item whose code is not in 0..size-1.
        """
        if codes.dim() != 2 or codes.shape[1] != len(sizes) or not len(sizes) or len(codes) < 2:
            raise ValueError(
                f"codes must be (items + 1, levels) with at least one item and one size per level "
                f"(got {tuple(codes.shape)} and {len(sizes)} sizes)."
            )
        self.sizes = tuple(int(size) for size in sizes)
        self.levels = len(self.sizes)
        codes = codes[1:].long()
        for level, size in enumerate(self.sizes):
            wrong = ((codes[:, level] < 0) | (codes[:, level] >= size)).nonzero()
            if len(wrong):
                item = int(wrong[0])
                raise ValueError(
                    f"item {item + 1} has code {int(codes[item, level])} at level {level}, "
                    f"which has codes 0 to {size - 1}."
                )
        self._radix = max(self.sizes)
        below = torch.zeros_like(codes[:, 0])  # the node of every item so far
        self.starts, self.widest, keys, first = [0, 1], [], [], []
        at = [below]
        for level in range(self.levels):
            key, inverse = torch.unique(below * self._radix + codes[:, level], return_inverse=True)
            parents = key // self._radix - self.starts[level]
            children = torch.bincount(parents, minlength=self.starts[level + 1] - self.starts[level])
            self.widest.append(int(children.max()))
            first.append(self.starts[level + 1] + children.cumsum(0) - children)
            below = inverse + self.starts[level + 1]
            keys.append(key)
            at.append(below)
            self.starts.append(self.starts[level + 1] + len(key))
        nodes = self.starts[-1]
        leaves = nodes - self.starts[-2]
        end = torch.full((leaves + 1,), nodes, device=codes.device)
        # (nodes + 1,) the first child; the next node's first child ends the children
        self._first = torch.cat([*first, end])
        # position i holds the key of node i + 1, for the root has no edge into it
        self._keys = torch.cat(keys)  # (nodes - 1,) ascending
        self.order = below.argsort(stable=True) + 1  # (N,) items by their codes, equal tuples by their number
        counts = torch.stack([torch.bincount(one, minlength=nodes) for one in at]).sum(0)  # (nodes,)
        level_starts = torch.tensor(self.starts, device=codes.device)
        low = counts.cumsum(0) - counts
        level_of = torch.bucketize(torch.arange(nodes, device=codes.device), level_starts, right=True) - 1
        self._low = low - level_of * len(codes)  # every level holds all N items, so each restarts at 0
        self._counts = counts

    @property
    def device(self) -> torch.device:
        return self._keys.device

    @property
    def n_nodes(self) -> int:
        """Prefixes there are, of every length, the empty one and the full tuples included."""
        return self.starts[-1]

    def __repr__(self) -> str:
        shape = " > ".join(str(self.starts[level + 1] - self.starts[level]) for level in range(self.levels + 1))
        return f"Trie({len(self.order):,} items, prefixes per level {shape}, {self.device})"

    def to(self, device: torch.device | str) -> Trie:
        """The same trie on another device (itself if it is there)."""
        if torch.device(device) == self.device:
            return self
        moved = object.__new__(Trie)
        moved.__dict__ = {
            name: value.to(device) if isinstance(value, Tensor) else value for name, value in self.__dict__.items()
        }
        return moved

    def step(self, node: Tensor, code: Tensor) -> Tensor:
        """The node reached from `node` by `code` (shapes broadcast); -1 where that is no legal prefix."""
        known = (node >= 0) & (code >= 0) & (code < self._radix)
        key = torch.where(known, node * self._radix + code, -1)
        place = torch.searchsorted(self._keys, key.contiguous()).clamp(max=len(self._keys) - 1)
        return torch.where(self._keys[place] == key, place + 1, -1)

    def find(self, codes: Tensor) -> Tensor:
        """The node of prefixes (..., l), l <= C, in one go; -1 where no item has that prefix: (...)."""
        node = torch.zeros(codes.shape[:-1], dtype=torch.long, device=codes.device)
        for level in range(codes.shape[-1]):
            node = self.step(node, codes[..., level])
        return node

    def count(self, node: Tensor) -> Tensor:
        """How many codes may follow each node; 0 for leaves and for -1."""
        safe = node.clamp(min=0)
        return torch.where(node >= 0, self._first[safe + 1] - self._first[safe], 0)

    def edges(self, node: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """The children of nodes (...) of one level as lists: codes (..., F) ascending, and nodes (..., F).

        F = widest[level]; both are -1 beyond the last child. A node of another level counts as -1.
        """
        there = (node >= self.starts[level]) & (node < self.starts[level + 1])
        safe = torch.where(there, node, self.starts[level])
        place = torch.arange(self.widest[level], device=node.device)
        child = self._first[safe].unsqueeze(-1) + place  # (..., F)
        valid = there.unsqueeze(-1) & (child < self._first[safe + 1].unsqueeze(-1))
        codes = self._keys[(child - 1).clamp(max=len(self._keys) - 1)] % self._radix
        return torch.where(valid, codes, -1), torch.where(valid, child, -1)

    def children(self, node: Tensor, level: int) -> Tensor:
        """Which codes may follow nodes (...) of one level: bool (..., sizes[level]), all False for -1."""
        codes, _ = self.edges(node, level)
        mask = torch.zeros(*node.shape, self.sizes[level] + 1, dtype=torch.bool, device=node.device)
        return mask.scatter_(-1, torch.where(codes < 0, self.sizes[level], codes), True)[..., :-1]  # (..., K)

    def path(self, node: Tensor) -> Tensor:
        """The codes that lead to nodes (...): (..., C), -1 after the end of a shorter prefix."""
        codes = torch.full((*node.shape, self.levels), -1, dtype=torch.long, device=node.device)
        for level in reversed(range(self.levels)):
            here = node >= self.starts[level + 1]
            key = self._keys[(node - 1).clamp(min=0)]
            codes[..., level] = torch.where(here, key % self._radix, -1)
            node = torch.where(here, key // self._radix, node)
        return codes

    def size(self, node: Tensor) -> Tensor:
        """How many items have each prefix; 0 for -1."""
        return torch.where(node >= 0, self._counts[node.clamp(min=0)], 0)

    def items(self, node: Tensor) -> Tensor:
        """The first item (lowest number) at each leaf, or of the first leaf below; 0 for -1."""
        return torch.where(node >= 0, self.order[self._low[node.clamp(min=0)]], 0)

    def items_at(self, node: Tensor) -> tuple[Tensor, Tensor]:
        """All items with the prefixes (...), as CSR: items, offsets; node i of the flattened input has
        items[offsets[i]:offsets[i + 1]]. Items with equal tuples are all there, by their number."""
        node = node.reshape(-1)
        sizes = self.size(node)
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        starts = self._low[node.clamp(min=0)] - offsets[:-1]
        at = torch.arange(int(offsets[-1]), device=node.device) + torch.repeat_interleave(starts, sizes)
        return self.order[at], offsets
