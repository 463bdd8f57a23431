"""The result of an evaluation: one row per query, and the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ranks:
    """The rank of the answer of every query.

    frame: one row per query: user, item (the answer), rank (1 = best, ties at their mean), history_length,
    seen (whether the answer is in the user's history), item_count (training events of the answer).
    exposure: (N + 1,) the number of top-10 lists that contain each item (among items that tie for the last places the
    choice is arbitrary). train_counts: (N + 1,) the training events of each item.
    seen_filter: whether items of the user's history were removed from the ranking (the answer never is).
    """

    frame: pd.DataFrame
    exposure: Tensor
    train_counts: Tensor
    seen_filter: bool
    n_items: int

    @property
    def protocol(self) -> str:
        """The protocol of the evaluation, as a line to print beside its numbers."""
        return f"full ranking of {self.candidates}, ties at mean rank, {len(self.frame):,} users"

    @property
    def candidates(self) -> str:
        """The ranked items in words: their number, and whether seen ones are filtered."""
        return f"{self.n_items:,} items, seen items {'filtered' if self.seen_filter else 'kept'}"
