"""Click rate: the share of label 1 among the training events of the item, shifted by that of the user.

Paper: none; the floor of systems that predict labels. It counts, and reads no history.

Confirmed: nothing to confirm.
Reconstructed: shares are shrunk to that of all events by pseudo-events; the log-odds of item and user are added. Without
`label_column` a target is 1 beside items drawn by popularity as 0, of those that the user has not in training; the
expected number of these draws is counted in closed form, and the user has no rate of their own.
Held against: no published number was seen; a floor beside popularity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.ranking import top
from seqlab.runtime.settings import Count, PositiveFloat, settings

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

CARD = Card(claim="A floor.", task="clicks", homes=("ml-1m",))
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
        items, users, config = split.train.items.cpu(), split.train.users.cpu(), self.config
        if config.label_column is None:
            positive = split.train.item_counts(split.n_items).cpu().double()  # (N + 1,)
            events = positive + config.negatives * expected_draws(items, users, split.n_items, split.log.repeats)
            self.user = self.user.new_zeros(split.n_users + 1)
        else:
            value = split.train.extra[config.label_column].cpu()
            label, known = (value >= config.label_least).double(), (~value.isnan()).double()
            positive, events = (torch.bincount(items, x, split.n_items + 1) for x in (label, known))
        rate = positive.sum() / events.sum().clamp(min=1)
        self.item.copy_(_shrunk(positive, events, rate, config.item_prior))
        if config.label_column is not None:
            clicked, shown = (torch.bincount(users, x, split.n_users + 1) for x in (label, known))
            own = _shrunk(clicked, shown, rate, config.user_prior) - torch.logit(rate.clamp(1e-6, 1 - 1e-6))
            self.user = (own * config.users).to(self.user)

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


def _shrunk(positive: Tensor, events: Tensor, rate: Tensor, prior: float) -> Tensor:
    """The log-odds of shares with `prior` more events of the share `rate`."""
    share = (positive + prior * rate) / (events + prior)
    return torch.logit(share.clamp(1e-6, 1 - 1e-6))


def expected_draws(items: Tensor, users: Tensor, n_items: int, repeats: bool) -> Tensor:
    """How often each item is expected where one is drawn by popularity beside each event: (N + 1,) float64.

    Items of the same user are not drawn, unless the log has repeats; then only the item of the event is not.
    """
    counts = torch.bincount(items, minlength=n_items + 1).double()  # (N + 1,)
    total, per_user = counts.sum(), torch.bincount(users).double()
    if repeats:
        weight = 1 / (total - counts).clamp(min=1)  # of an event of each item
        return counts * ((counts * weight).sum() - counts * weight)
    pairs = torch.stack([users, items]).unique(dim=1)  # each item of a user once
    left = total - torch.zeros_like(per_user).scatter_add(0, pairs[0], counts[pairs[1]])
    weight = per_user / left.clamp(min=1) * (left > 0)  # (U + 1,)
    return counts * (weight.sum() - torch.zeros_like(counts).scatter_add(0, pairs[1], weight[pairs[0]]))
