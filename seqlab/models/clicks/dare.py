"""DARE: one embedding table decides which events matter to a candidate, another one says what they are.

Paper: Feng et al., "Long-Sequence Recommendation Models Need Decoupled Embeddings", ICLR 2025. A candidate attends to
a long history: its best `top_k` events are searched, and their weighted sum is compared with it. In TWIN, the control
`tables=one`, the same vectors serve attention and representation; the gradients of the two roles conflict, and that of
the representation is larger. Here each role has tables of its own, for items, categories and time.

Confirmed against the authors' code (thuml/DARE c72e087): the score, q.k of item and category over sqrt(2 d) plus q.k of
time over sqrt(d); softmax; a second softmax over the `top_k` best; the features v, o, v * o of candidate and sum, and
their like for the mean over n + 1 events, an option that their scripts leave off; an MLP 200-80 with PReLU; a second
MLP that learns from the sum before the search, its loss added; time as the position from the end, the candidate with
a row of its own; `projection`: one table and a linear map per field, role and side.
Their code departs from the paper's search where fewer than `top_k` events are known: its second softmax gives weight
to padding, ours does not.
Changed on purpose: all targets of a crop are learned at once, each from the events before it (`targets`: some of them;
theirs are every fifth of a user's last 91); features are normalised by running statistics, theirs by those of the
batch; one logit for two; an L2 penalty of 1e-6 is left out; with `label_column` the target itself is the candidate,
and its value the label. Events that tie at the end of the search are all kept.
Reconstructed: the mean over several categories of an item; `time=gap` for distances in seconds; negatives are outside
of the crop, theirs outside of the user's whole history.
Held against: TWIN and TWIN with projections on the same split. A plot of the authors' repository shows a validation
accuracy of some .883 against TWIN's .872 on Taobao after 2,250 steps, read off the plot; data that are not here.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Ranking
from seqlab.datasets.events import Events
from seqlab.datasets.sequences import Batch
from seqlab.items.categories import categories_of
from seqlab.layers import initialization
from seqlab.layers.dropout import Dropout
from seqlab.layers.negatives import by_popularity
from seqlab.layers.running_norm import NormalizedMLP
from seqlab.ranking import top
from seqlab.runtime.settings import Count, Share, settings
from seqlab.tracing import Tap

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

GAPS = 40
"""Classes of gaps in time: powers of 2 in seconds, and one for unknown times."""

CELLS_AT_ONCE = 1 << 22
"""Scores (rows x candidates x events) at a time where the whole catalogue is scored: 16 MB."""

CARD = Card(
    claim="Two tables, one for attention and one for representation, beat one table for both (AUC up to .009).",
    title="Long-Sequence Recommendation Models Need Decoupled Embeddings",
    authors="Feng et al.",
    year=2025,
    venue="ICLR",
    task="clicks",
    controls=("dare:twin", "dare:projected"),
    control_names={"dare:twin": "TWIN (one table)", "dare:projected": "TWIN with projections"},
    homes=("ml-1m",),
    split="candidates 2",
    seeds=(0, 1, 2),
    named={"twin": "tables=one", "projected": "tables=one:projection=true", "rated": "label_column=rating"},
    measured=(
        Measurement(arms=("dare", "dare:projected"), against=("dare:twin",)),
        Measurement(arms=("dare", "item_knn", "popularity", "click_rate"), against=("sasrec",), seeds=(0,)),
        Measurement(("ml-100k",), ("dare:rated", "dare:rated:projected"), ("dare:rated:twin",), (0, 1, 2, 3, 4),
                    split="labelled rating 4 0.2"),
        Measurement(("ml-100k",), ("dare:rated", "popularity"), ("click_rate:rated", "click_rate:rated:items"), (0,),
                    split="labelled rating 4 0.2"),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "attention_dim": 8, "representation_dim": 8, "top_k": 3, "hidden": (16, 8)}


@settings
class Config:
    """Settings; the defaults are the authors'."""

    max_length: Count = 200  # most recent events read
    tables: Literal["two", "one"] = "two"  # two: attention and representation have their own; one: TWIN
    projection: bool = False  # with one table: a linear map per field, role and side
    attention_dim: Count = 16  # of each of item, category and time; the paper goes down to 4 in two tables
    representation_dim: Count = 16
    top_k: Count = 20  # events that the search keeps
    time: Literal["position", "gap"] = "position"  # from the end, in events; or in seconds, by powers of 2
    category: str | None = None  # column of the item table, values separated by |; none: genres and the like, if any
    categories: Count = 512  # the most frequent ones have a vector
    mean: bool = True  # features of the mean over the history as well
    hidden: tuple[Count, ...] = (200, 80)  # widths of the MLP
    dropout: Share = 0.0  # of its input; the authors have none
    targets: Count | None = None  # learned per crop, drawn at random; none: all; the authors take 19
    negatives: Count = 2  # per target, drawn by popularity
    label_column: str | None = None  # of the events; none: what came next is 1, drawn items are 0
    label_least: float = 4.0  # the label of an event is 1 where its value is at least this


class Tables(nn.Module):
    """The vectors of one role: of items, of categories (several of an item are averaged), and of time."""

    def __init__(self, n_items: int, categories: int, times: int, dim: int) -> None:
        super().__init__()
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.category = nn.Embedding(categories + 1, dim, padding_idx=0)
        self.time = nn.Embedding(times + 1, dim)  # row 0 is that of the candidate
        initialization.normal(self.item, self.category, self.time, std=0.01)

    def fields(self, categories: Tensor) -> list[Tensor]:
        """The vectors of all items, of their categories (N + 1, G), and of time: (N + 1, D) twice, (K, D)."""
        count = (categories > 0).sum(-1, keepdim=True).clamp(min=1)
        return [self.item.weight, self.category(categories).sum(-2) / count, self.time.weight]


class DARE(nn.Module):
    """`logit = MLP(v, o, v * o, ..)`, `o = sum of softmax(q . k) v` over the `top_k` events of the largest q . k."""

    categories: Tensor
    cumulative: Tensor
    repeats: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        two, dim = config.tables == "two", config.representation_dim
        if two and config.projection:
            raise ValueError("dare.projection is for tables=one.")
        if not two and not config.projection and config.attention_dim != dim:
            raise ValueError("dare.attention_dim must be representation_dim with one table.")
        self.config = config
        times = config.max_length if config.time == "position" else GAPS
        self.representation = Tables(n_items, config.categories, times, dim)
        self.attention = Tables(n_items, config.categories, times, config.attention_dim) if two else None
        self.projections = nn.ModuleDict()
        if config.projection:
            for side in ("query", "key", "target", "value"):
                width = config.attention_dim if side in ("query", "key") else dim
                self.projections[side] = nn.ModuleList(nn.Linear(dim, width, bias=False) for _ in range(3))
        self.classifier = NormalizedMLP(3 * dim * (5 if config.mean else 3), config.hidden)
        self.before_search = NormalizedMLP(3 * dim * 3, config.hidden[:1])
        self.dropout = Dropout(config.dropout)
        self.weights = Tap("candidate_attention", "user item key_event")
        self.register_buffer("categories", torch.zeros(n_items + 1, 1, dtype=torch.long))  # (N + 1, G)
        self.register_buffer("cumulative", torch.arange(n_items + 1, dtype=torch.float64))  # of training events
        self.register_buffer("repeats", torch.tensor(False))

    @property
    def needs(self) -> tuple[str, ...]:
        """The event columns that training reads."""
        return () if self.config.label_column is None else (self.config.label_column,)

    def prepare(self, split: Split) -> None:
        """The categories of the items, and their popularity in training."""
        found, _ = categories_of(split.log, self.config.category, self.config.categories)
        self.categories = found.to(self.categories.device)
        self.cumulative.copy_(split.train.item_counts(split.n_items).cumsum(0))
        self.repeats.fill_(split.log.repeats)

    def decoupled(self) -> DARE:
        """A copy with two tables that hold the same vectors, so that the gradients of the two roles are apart.

        Raises `ValueError` unless it has one table without projections.
        """
        if self.attention is not None or self.projections:
            raise ValueError("only one table without projections can be decoupled.")
        copy = DARE(dataclasses.replace(self.config, tables="two"), len(self.categories) - 1).to(self.categories.device)
        copy.categories, state = self.categories, self.state_dict()
        copy.load_state_dict({name.replace("representation", "attention"): x for name, x in state.items()} | state)
        return copy.train(self.training)

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy of the labels, and that of the sum before the search; many targets of a crop at once."""
        positions = torch.arange(batch.items.shape[1], device=batch.items.device)[None]  # (1, T)
        causal, targets = positions[..., None], batch.target_events
        if self.config.targets is not None and self.config.targets < batch.items.shape[1]:
            order = torch.rand(batch.items.shape, device=positions.device).masked_fill(targets.items == 0, -1.0)
            drawn = order.topk(self.config.targets, dim=1).indices  # (B, Q)
            causal, targets = drawn[..., None], targets.map(lambda x: x.gather(1, drawn))
        has_target, known = targets.items > 0, positions[:, None] <= causal  # (B, Q), (B or 1, Q, T)
        candidates, labels, counts = self._labelled(batch, targets)  # (B, Q, M)
        target, summed, before, mean = self.attend(batch, candidates, known, self._age(batch, causal[..., 0]))
        rows = [x[has_target] for x in (target, summed, before, mean.expand_as(target))]  # (R, M, 3 D)
        labels, counts = labels[has_target], counts[has_target]
        total = counts.sum().clamp(min=1)

        def cross_entropy(logits: Tensor) -> Tensor:
            return (F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none") * counts).sum() / total

        main = cross_entropy(self._classify(rows[0], rows[1], rows[3]))
        auxiliary = cross_entropy(self._classify(rows[0], rows[2]))
        parts = {"labels": main.detach(), "before search": auxiliary.detach()}
        return Loss(main + auxiliary, parts, int(counts.any(-1).sum()))

    def label_logits(self, batch: Batch, candidates: Tensor) -> Tensor:
        """The log-odds of label 1 for candidates (B, M) after the histories: (B, M)."""
        positions = torch.arange(batch.items.shape[1], device=batch.items.device)
        known = (positions < batch.lengths[:, None])[:, None]  # (B, 1, T)
        age = self._age(batch, (batch.lengths[:, None] - 1).clamp(min=0))  # (B, 1, T)
        target, summed, _, mean = self.attend(batch, candidates[:, None], known, age, self.weights)
        return self._classify(target, summed, mean.expand_as(target))[:, 0]  # (B, M)

    def score_pairs(self, batch: Batch, candidates: Tensor) -> Tensor:
        return self.label_logits(batch, candidates)

    def score(self, batch: Batch) -> Tensor:
        items = torch.arange(len(self.categories), device=batch.items.device).expand(len(batch), -1)  # (B, N + 1)
        at_once = max(1, CELLS_AT_ONCE // batch.items.numel())
        return torch.cat([self.label_logits(batch, some) for some in items.split(at_once, 1)], 1)  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)

    def attend(
        self, batch: Batch, candidates: Tensor, known: Tensor, age: Tensor, tap: Tap | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Candidates (B, Q, M) over the events of the batch, where `known` (B or 1, Q, T); age: (B or 1, Q, T).

        Returns the candidates, the sums after and before the search, (B, Q, M, 3 D), and the mean (B, Q, 1, 3 D).
        """
        (query, query_time), (key, key_time) = (self._vectors(side) for side in ("query", "key"))
        (target, target_time), (value, value_time) = (self._vectors(side) for side in ("target", "value"))
        scores = F.embedding(candidates, query).flatten(1, 2) @ F.embedding(batch.items, key).transpose(1, 2)
        scores = (scores / math.sqrt(key.shape[1])).unflatten(1, candidates.shape[1:])  # (B, Q, M, T)
        by_age = key_time @ query_time[0] / math.sqrt(key_time.shape[1])  # (K,)
        scores = scores + by_age[age][:, :, None]
        known = known[:, :, None]  # (B or 1, Q, 1, T)
        first = scores.masked_fill(~known, torch.finfo(scores.dtype).min).softmax(-1) * known
        second = search(scores, first, known, self.config.top_k)
        if tap is not None and tap.active:
            second = tap(second[:, 0])[:, None]
        mean = (known / (known.sum(-1, keepdim=True) + 1.0)).to(first.dtype)  # (B or 1, Q, 1, T)
        weights = torch.cat([second, first, mean.expand(len(batch), -1, -1, -1)], 2)  # (B, Q, 2 M + 1, T)
        sums = weights.flatten(1, 2) @ F.embedding(batch.items, value)  # (B, Q (2 M + 1), 2 D)
        by_class = weights.new_zeros(*weights.shape[:3], len(value_time))
        by_class = by_class.scatter_add(3, age[:, :, None].expand_as(weights), weights)  # (B, Q, 2 M + 1, K)
        sums = torch.cat([sums.unflatten(1, weights.shape[1:3]), by_class @ value_time], -1)  # (B, Q, 2 M + 1, 3 D)
        own = F.embedding(candidates, target)  # (B, Q, M, 2 D)
        own = torch.cat([own, target_time[0].expand(*candidates.shape, -1)], -1)  # (B, Q, M, 3 D)
        return own, *sums.split([candidates.shape[2], candidates.shape[2], 1], 2)

    def _vectors(self, side: str) -> tuple[Tensor, Tensor]:
        """The vectors of all items (N + 1, 2 D) and of time (K, D) for a side, projected if there are projections."""
        role = self.attention if side in ("query", "key") and self.attention is not None else self.representation
        fields = role.fields(self.categories)
        if self.projections:
            fields = [linear(x) for linear, x in zip(self.projections[side], fields, strict=True)]
        return torch.cat(fields[:2], 1), fields[2]

    def _classify(self, target: Tensor, summed: Tensor, mean: Tensor | None = None) -> Tensor:
        """The logits (...) of candidates and sums (..., 3 D); those before the search where there is no mean."""
        if mean is None:
            return self.before_search(torch.cat([target, summed, target * summed], -1), self.dropout)
        sums = [summed, mean] if self.config.mean else [summed]
        return self.classifier(torch.cat([target, *sums, *(target * x for x in sums)], -1), self.dropout)

    def _age(self, batch: Batch, last: Tensor) -> Tensor:
        """The class of time, from 1, of each event as seen from positions `last` (B or 1, Q): (B or 1, Q, T)."""
        if self.config.time == "position":
            positions = torch.arange(batch.items.shape[1], device=last.device)
            return (last[..., None] - positions + 1).clamp(1, self.config.max_length)
        now = batch.times.gather(1, last.expand(len(batch), -1))
        gap = (now[..., None] - batch.times[:, None]).clamp(min=0)  # (B, Q, T)
        return (gap + 1).log2().nan_to_num(GAPS).long().clamp(max=GAPS - 1) + 1

    def _labelled(self, batch: Batch, targets: Events) -> tuple[Tensor, Tensor, Tensor]:
        """The candidates of targets (B, Q) of the batch, their labels, and whether they count: (B, Q, M)."""
        items = targets.items[..., None]  # (B, Q, 1)
        if self.config.label_column is not None:
            value = targets.extra[self.config.label_column][..., None]
            return items, (value >= self.config.label_least).float(), (~value.isnan()).float()
        seen = None if self.repeats else torch.cat([batch.items, batch.targets], 1)
        drawn, right = by_popularity(self.cumulative, targets.items, self.config.negatives, seen)
        candidates = torch.cat([items, drawn], -1)  # (B, Q, 1 + negatives)
        labels = torch.zeros_like(candidates, dtype=torch.float32)
        labels[..., 0] = 1
        return candidates, labels, F.pad(right.float(), (1, 0), value=1.0)


def search(scores: Tensor, weights: Tensor, known: Tensor, top_k: int) -> Tensor:
    """The softmax over the `top_k` known events of the largest scores; over all of them where there are fewer.

    scores (..., T); weights: the softmax over all known events; known: broadcasts to them. Events that tie with the
    last one are kept. A row without a known event has weights of 0.
    """
    if top_k >= scores.shape[-1]:
        return weights
    found = scores.detach().masked_fill(~known, -torch.inf)
    kept = weights * (found >= found.topk(top_k, dim=-1).values[..., -1:])
    return kept / kept.sum(-1, keepdim=True).clamp(min=torch.finfo(kept.dtype).tiny)
