"""What an evaluation saw: one row per query, and how the numbers were made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ranks:
    """What an evaluation saw.

    frame: one row per query: user, item (the answer), rank (1 = best, ties at their mean), history_length,
    seen (whether the answer is in the user's history), item_count (training events of the answer).
    exposure: (N + 1,) how many top-10 lists each item stood in (where items tie for the last places, which of them
    stand there is arbitrary); train_counts: (N + 1,) its training events.
    seen_filter: whether items of the user's history were kept out of the ranking (the answer never is).
    """

    frame: pd.DataFrame
    exposure: Tensor
    train_counts: Tensor
    seen_filter: bool
    n_items: int

    @property
    def protocol(self) -> str:
        """How the numbers were made, in a line to print beside them."""
        shown = "seen items filtered" if self.seen_filter else "seen items kept"
        return f"full ranking of {self.n_items:,} items, {shown}, ties at mean rank, {len(self.frame):,} users"
