"""Personal frequency: recommended are the most frequent items of the user's history.

Paper: the "personal top" baseline of next-basket studies: Hu et al., "Modeling Personalized Item Frequency
Information for Next-basket Recommendation", SIGIR 2020; Ariannezhad et al., "A Next Basket Recommendation Reality
Check", TOIS 2023. Where users repeat items it is hard to beat; where seen items are filtered it equals popularity.

Confirmed: nothing was read in code.
Reconstructed: the count, with an optional discount per event; ties and unseen items are ranked by popularity.
Held against: no published next-item number; it is the baseline for logs with repeats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.ranking import top
from seqlab.runtime.settings import Count, NonNegativeFloat, settings

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

CARD = Card(
    claim="A floor for logs with repeats.",
    title="Modeling Personalized Item Frequency Information for Next-basket Recommendation",
    authors="Hu et al.",
    year=2020,
    venue="SIGIR",
)
TINY = {}


@settings
class Config:
    """Settings."""

    max_length: Count | None = None  # the whole history is counted
    discount: NonNegativeFloat = 1.0  # weight of an event relative to the one after it; 1: all events count equally


class PersonalFrequency(nn.Module):
    """The score of an item is its count in the history, plus a share of popularity that only breaks ties."""

    popularity: Tensor
    counts: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("popularity", torch.zeros(n_items + 1))
        self.register_buffer("counts", torch.full((n_items + 1,), -1))  # of training events, -1: not known

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """States that were saved without counts leave those of the model."""
        state_dict.setdefault(prefix + "counts", self.counts)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def prepare(self, split: Split) -> None:
        self._count(split.train.item_counts(split.n_items))

    def advance(self, split: Split) -> None:
        """Add the counts of a further training part. Raises `ValueError` for a run that was saved without counts."""
        if int(self.counts[0]) < 0:
            raise ValueError("this run of personal_frequency was saved without its counts: train it again.")
        self._count(self.counts.cpu() + split.train.item_counts(split.n_items).cpu())

    def _count(self, counts: Tensor) -> None:
        self.counts.copy_(counts)
        # below 1, the smallest difference of two counts; with a discount, weights below 1e-6 may be outweighed
        most = 1.0 if self.config.discount == 1 else 1e-6
        self.popularity.copy_(most * counts / (counts.max() + 1))

    def score(self, batch: Batch) -> Tensor:
        age = batch.lengths[:, None] - 1 - torch.arange(batch.items.shape[1], device=batch.items.device)  # (B, T)
        weights = self.config.discount ** age.clamp(min=0).float() * (batch.items > 0)
        counts = torch.zeros(len(batch), len(self.popularity), device=age.device)
        return counts.scatter_add_(1, batch.items, weights) + self.popularity  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
