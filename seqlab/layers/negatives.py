"""Negatives drawn by popularity."""

from __future__ import annotations

import torch
from torch import Tensor

REDRAWS = 4
"""How often an item that may not be a negative is drawn again; after that it does not count."""


def by_popularity(cumulative: Tensor, targets: Tensor, count: int, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`count` items for each target (B, T), drawn by popularity: (B, T, count), and whether they count as negatives.

    cumulative: (N + 1,) float64 cumulative counts of the items, 0 at padding. seen: (B, S) items of each row, 0 = none,
    that are no negatives; None: only the target of the same position is none.
    """
    row = torch.arange(len(targets), device=targets.device)[:, None, None]
    if seen is not None:
        barred = torch.zeros(len(targets), len(cumulative), dtype=torch.bool, device=row.device)
        barred = barred.scatter(1, seen, True)
    items = targets[..., None].repeat(1, 1, count)  # (B, T, count)
    right = torch.zeros_like(items, dtype=torch.bool)
    for _ in range(1 + REDRAWS):
        point = torch.rand(items.shape, dtype=torch.float64, device=row.device) * cumulative[-1]
        drawn = torch.searchsorted(cumulative, point, right=True).clamp(max=len(cumulative) - 1)
        items = torch.where(right, items, drawn)
        right = (items != targets[..., None]) if seen is None else ~barred[row, items]
    return items, right
