"""Lattice: the tree of all legal code tuples where codes have no order, for whole beams at once."""

from __future__ import annotations

import torch
from torch import Tensor


class Lattice:
    """Which codes may follow when any slots are filled in: a trie of all orders at once.

    A node is a set of slots with codes that some item has there, the root is 0; there are at most 2**C N.
    """

    def __init__(self, codes: Tensor, radix: int) -> None:
        """codes: (N + 1, C), row 0 is not read; radix: more than any code."""
        codes, self.radix, self.slots = codes[1:], radix, codes.shape[1]
        at, total, keys, children = [torch.zeros_like(codes[:, 0])], 1, [], []  # the node of every item, by subset
        for filled in range(1, 1 << self.slots):
            slot = filled.bit_length() - 1
            found, place = (at[filled ^ 1 << slot] * radix + codes[:, slot]).unique(return_inverse=True)
            at.append(place + total)
            total += len(found)
        for filled in range(1 << self.slots):
            for slot in (slot for slot in range(self.slots) if not filled >> slot & 1):
                keys.append((at[filled] * self.slots + slot) * radix + codes[:, slot])
                children.append(at[filled | 1 << slot])
        self._keys, place = torch.cat(keys).unique(return_inverse=True)
        self._children = torch.empty_like(self._keys).scatter_(0, place, torch.cat(children))

    def edges(self, node: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """What may fill `slot` of `node` (...), -1 = none: codes ascending and nodes (..., F), -1 beyond the last."""
        key = (node * self.slots + slot) * self.radix
        first, end = torch.searchsorted(self._keys, key), torch.searchsorted(self._keys, key + self.radix)
        count = torch.where(node < 0, 0, end - first)[..., None]
        place = torch.arange(int(count.max()), device=node.device)  # (F,)
        at = (first[..., None] + place).clamp(max=len(self._keys) - 1)
        valid = place < count
        return torch.where(valid, self._keys[at] % self.radix, -1), torch.where(valid, self._children[at], -1)
