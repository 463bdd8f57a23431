"""Click rate: the share of label 1 among the training events of the item, shifted by that of the user.

Paper: none; the floor of systems that predict labels. It counts, and reads no history.

Confirmed: nothing to confirm.
Reconstructed: shares are shrunk to that of all events by pseudo-events; the log-odds of item and user are added.
Without `label_column` what came next stands beside `negatives` items that are drawn by the same counts, so that the
share of every item is 1 / (1 + negatives).
Held against: no published number was seen; a floor beside popularity.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.ranking import top
from seqlab.runtime.settings import Count, PositiveFloat, settings

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

CARD = Card(
    claim="A floor.",
    task="clicks",
    homes=("ml-1m",),
    split="candidates 2",
    named={"rated": "label_column=rating", "items": "users=false"},
)
TINY = {}


@settings
class Config:
    """Settings."""

    max_length: Count | None = 1  # no event is read; 1 keeps the batches small
    label_column: str | None = None  # of the events; none: what came next is 1, drawn items are 0
    label_least: float = 4.0  # the label of an event is 1 where its value is at least this
    negatives: Count = 2  # drawn per target, without a label column
    item_prior: PositiveFloat = 10.0  # pseudo-events of the share of all events, for each item
    user_prior: PositiveFloat = 10.0  # the same for each user
    users: bool = True  # false: items only


class ClickRate(nn.Module):
    """`logit = logit(rate of the item) + logit(rate of the user) - logit(rate of all)`."""

    item: Tensor
    user: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("item", torch.zeros(n_items + 1))  # log-odds
        self.register_buffer("user", torch.zeros(1))  # (U + 1,) log-odds beyond those of all

    @property
    def needs(self) -> tuple[str, ...]:
        """The event columns that counting reads."""
        return () if self.config.label_column is None else (self.config.label_column,)

    def prepare(self, split: Split) -> None:
        config, items, users = self.config, split.train.items, split.train.users
        self.user = self.user.new_zeros(split.n_users + 1)
        if config.label_column is None:
            self.item.fill_(-math.log(config.negatives))
            return
        value = split.train.extra[config.label_column]
        label, known = (value >= config.label_least).double(), (~value.isnan()).double()
        rate = label.sum() / known.sum().clamp(min=1)

        def log_odds(of: Tensor, size: int, prior: float) -> Tensor:
            """The log-odds of the shares of items or users, with `prior` more events of the share `rate`."""
            ones, events = (torch.bincount(of, x, size + 1) for x in (label, known))
            return torch.logit(((ones + prior * rate) / (events + prior)).clamp(1e-6, 1 - 1e-6))

        self.item.copy_(log_odds(items, split.n_items, config.item_prior))
        if config.users:
            own = log_odds(users, split.n_users, config.user_prior)
            self.user.copy_(own - own[0])  # there is no user 0, so theirs are the log-odds of all

    def label_logits(self, batch: Batch, candidates: Tensor) -> Tensor:
        """The log-odds of label 1 for candidates (B, M): (B, M); a user without training events has no rate."""
        user = batch.user.where(batch.user < len(self.user), 0)
        return self.item[candidates] + self.user[user][:, None]

    def score_pairs(self, batch: Batch, candidates: Tensor) -> Tensor:
        return self.label_logits(batch, candidates)

    def score(self, batch: Batch) -> Tensor:
        return self.item.repeat(len(batch), 1)  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
