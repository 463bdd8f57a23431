"""The protocols of systems, and the card of a system's file; authors read this file first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

if TYPE_CHECKING:
    import torch

    from seqlab.datasets.sequences import Batch


@dataclass(frozen=True)
class Loss:
    """A training objective: `total` is minimised; `parts` are its named terms (unweighted, detached) for display.

    total: a mean over `count` targets (None: all targets of the batch), by which several processes weight their means.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    count: int | None = None


@dataclass(frozen=True)
class Ranking:
    """The best items first: items (B, k) int64 and scores (B, k); item 0 with score -inf where there are fewer than k.

    k is at most the number of items. Items with equal scores tie; their order has no meaning.
    tied: (B, M) further items that tie with the last one of the list, 0 = none; None: unknown.
    """

    items: Tensor
    scores: Tensor
    tied: Tensor | None = None


@runtime_checkable
class Recommender(Protocol):
    """A system: an `nn.Module` that is built as `System(config, n_items)` and recommends items.

    Optional methods:
    `prepare(split) -> None` computes buffers from the training part before training (counts, a graph, a codebook);
    `stages(split, checkpoint) -> None` trains what the loss needs (a tokenizer), by `optimization.stage.train`, with
    checkpoints in the folder `checkpoint`; None: without;
    `loss(batch) -> Loss` is for training by gradient descent;
    `draw(train, tokens, seed, shard) -> Iterator` yields the batches of an epoch, for a loss that learns from something
    else than crops of histories; train: the training `Sequences`, the rest as in `Sequences.training_batches`;
    `calibrate(split, seen_filter) -> None` chooses buffers on the validation part after training;
    `score(batch) -> (B, N + 1)` scores all items (column 0 is padding) in a new tensor, which the caller may modify.
    A system without `score` is evaluated by its lists. If it fills in `Ranking.tied`, no longer list is made to find
    where a tie ends.
    Optional attribute: `needs`, the further columns that it reads: of events, by role or name ("basket", "rating"),
    which batches have in `extra`; of users, such as "users.age", from `split.log`.
    """

    config: Any

    def recommend(self, batch: Batch, k: int) -> Ranking: ...


class ScoresPairs(Protocol):
    """A system that scores given candidates."""

    def score_pairs(self, batch: Batch, candidates: Tensor) -> Tensor:
        """The scores (B, M) of candidates (B, M), item ids, 0 = none, after each history; higher is better."""
        ...


class PredictsLabels(Protocol):
    """A system that predicts the probability of a positive label, such as a click, of given candidates."""

    def label_logits(self, batch: Batch, candidates: Tensor) -> Tensor:
        """The logits (B, M) of a positive label of candidates (B, M), item ids, 0 = none, after each history."""
        ...


class JudgesSlates(Protocol):
    """Predicts what is clicked in a slate that is shown, or that nothing is."""

    def slate_log_probs(self, batch: Batch) -> Tensor:
        """The log-probabilities (B, A + 1) of no click (column 0) and of a click on each slot.

        The slates are `batch.context["candidates"]` (B, A), 0 = none; there the log-probability is -inf.
        """
        ...


class Wait(Protocol):
    """The distribution of the time to the next event, in days, after each event of a batch (B, T)."""

    def log_prob(self, days: Tensor) -> Tensor:
        """The log-density (B, T), nats, of waits (B, T) in days."""
        ...

    def log_survival(self, days: Tensor) -> Tensor:
        """The log-probability (B, T), nats, that no event comes for these days (B, T)."""
        ...

    def quantile(self, share: Tensor | float) -> Tensor:
        """The wait (B, T) in days that the next event does not exceed with this probability; inf where none is."""
        ...

    def mean(self, limit: float) -> Tensor:
        """The expectation (B, T) of the wait, cut off at `limit` days."""
        ...

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Waits (B, T, count) in days, drawn from the distribution; inf where no event comes."""
        ...

    def __getitem__(self, index: tuple[Tensor, ...]) -> Wait:
        """The distributions after some of the events, by indices of rows and positions."""
        ...


class PredictsTime(Protocol):
    """A system that predicts when the next event comes, and its item."""

    def next_time(self, batch: Batch) -> Wait:
        """The distribution of the wait after each event of the histories (position t knows the events up to t)."""
        ...

    def mark_log_probs(self, batch: Batch) -> Tensor:
        """The log-probabilities (B, T, N + 1) of the next event's item; -inf at 0."""
        ...


class Decoder(Protocol):
    """Autoregressive decoding of the next item's codes, for the B users of a batch.

    The state is the model's KV cache; a search passes it on unread. Logits cover the whole vocabulary of a level; the
    search masks illegal codes.
    """

    def start(self) -> tuple[Tensor, Any]:
        """Prefill: the logits of the first code (B, 1, K_0), and the state."""
        ...

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        """Decode step: beam w of user b extends beam `parent[b, w]` of `state` by `code[b, w]`, both (B, W).

        Returns the logits of the next code (B, W, K) and the new state; `state` is not modified.
        """
        ...


class Identifiers(Protocol):
    """The legal code tuples of a catalogue, as a prefix tree; node 0 is the empty prefix. `Trie` implements it."""

    def children(self, node: Tensor, level: int) -> Tensor:
        """Whether each code of `level` is legal after the prefixes `node` (...): (..., K) bool."""
        ...

    def step(self, node: Tensor, code: Tensor) -> Tensor:
        """The nodes (...) after extending the prefixes `node` (...) by legal codes (...)."""
        ...


class GeneratesCodes(Protocol):
    """A system that generates the codes of an item one after another.

    config.legal_only (optional): whether probabilities are normalised over legal codes only. ids: the `SemanticIds` of
    the catalogue. decoding: the `decoding.Decoding` by which its lists are made, which may be set to another one.
    """

    config: Any
    ids: Any

    def decoder(self, batch: Batch) -> Decoder:
        """A decoder of the next item's codes for these users; it encodes the histories once."""
        ...


@dataclass(frozen=True)
class Measurement:
    """Arms that are measured on datasets, each one compared with each control.

    An arm is a system with settings, in the form of `seqlab leaderboard`: `rearec:steps=1`. A part without "=" is a
    name of `Card.named`.

    datasets: () = the homes of the card. arms: () = the system itself. against: the controls, () = none.
    seeds, seen_filter, split: () and None and "" = those of the card.
    """

    datasets: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    seen_filter: bool | None = None
    split: str = ""


@dataclass(frozen=True)
class Published:
    """A published result. The leaderboard shows it beside measurements under the same protocol.

    dataset: a named dataset, or the title of another one. values: by metric, such as {"ndcg@10": 0.0384}.
    differs: how the training differs from ours. variant: of the system, "" = the system itself.
    seen_filter, split: the protocol; None and "" = unknown.
    """

    dataset: str
    values: Mapping[str, float]
    source: str
    differs: str = ""
    variant: str = ""
    seen_filter: bool | None = None
    split: str = "leave-one-out"


@dataclass(frozen=True)
class Card:
    """The facts about a system, declared as `CARD` in its file; all lists of systems are generated from them.

    title, authors, year, venue: of the paper; "" and None without a paper. claim: the paper's claim, in one sentence.
    task: a module of `seqlab.tasks`.
    controls: the arms that the claim is tested against (see `Measurement`). control_names: a description of some
    controls, by arm.
    homes: the datasets on which the system is measured and tuned. split: the name of their split there, as
    `datasets.split` takes it. seen_filter: whether seen items are removed from its
    rankings there; None: unless the log has repeats. seeds: of its trainings.
    named: abbreviations for parts of an arm: with {"brief": "epochs=20:dropout=0"}, `sasrec:brief:layers=3` is an arm.
    measured: for `make leaderboard`; () = the system on its homes, compared with its controls.
    tuned: for `make tune`; () = the system on its homes, if it is trained.
    published: published results; they are stored here only.
    """

    claim: str
    title: str = ""
    authors: str = ""
    year: int | None = None
    venue: str = ""
    task: str = "next_item"
    controls: tuple[str, ...] = ()
    control_names: Mapping[str, str] = field(default_factory=dict)
    homes: tuple[str, ...] = ("complete-journey",)
    split: str = "leave-one-out"
    seen_filter: bool | None = None
    seeds: tuple[int, ...] = (0,)
    named: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[Measurement, ...] = ()
    tuned: tuple[Measurement, ...] = ()
    published: tuple[Published, ...] = ()

    @property
    def paper(self) -> str:
        """Authors and title; "" without a paper."""
        return ", ".join(part for part in (self.authors, self.title) if part)

    @property
    def control_words(self) -> str:
        """The controls with their descriptions, such as "sasrec, a third layer"."""
        return ", ".join(self.control_names.get(arm, arm) for arm in self.controls)


def needs_of(model: nn.Module) -> tuple[str, ...]:
    """The further columns that a system reads, its `needs`: event columns by role or name, "users.age" of the users."""
    return tuple(getattr(model, "needs", ()))


def name_of(model: nn.Module) -> str:
    """The name of a system: the name of its file."""
    return type(model).__module__.rpartition(".")[2]
