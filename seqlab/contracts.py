"""The protocols of systems, and the card of a system's file; authors read this file first.

A system is an `nn.Module` that is built as `System(config, n_items)` and keeps its settings as `config`. It inherits
from no class of this file: it keeps a protocol by having its methods. `supports` and `abilities` say which it keeps.
A method that the settings of an instance rule out is set to None in `__init__` (`self.encode = None`).

Optional attribute: `needs`, the further columns that it reads: of events, by role or name ("basket", "rating"), which
batches have in `extra`; of users, such as "users.age", from `split.log`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from seqlab.datasets.sequences import Batch, Sequences
    from seqlab.datasets.splits import Split
    from seqlab.tracing import Layout


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


class Recommends(Protocol):
    """Recommends the k best items after each history.

    Without `Scores` it is evaluated by its lists. If it fills in `Ranking.tied`, no longer list is made to find where a
    tie ends.
    """

    def recommend(self, batch: Batch, k: int) -> Ranking: ...


class Scores(Protocol):
    """Scores the whole catalogue: (B, N + 1), column 0 = padding, in a new tensor, which the caller may modify."""

    def score(self, batch: Batch) -> Tensor: ...


class ScoresPairs(Protocol):
    """Scores (B, M) candidates (B, M), item ids, 0 = none, after each history; higher is better."""

    def score_pairs(self, batch: Batch, candidates: Tensor) -> Tensor: ...


class PredictsLabels(Protocol):
    """The logits (B, M) of a positive label, such as a click, of candidates (B, M), item ids, 0 = none."""

    def label_logits(self, batch: Batch, candidates: Tensor) -> Tensor: ...


class JudgesSlates(Protocol):
    """The log-probabilities (B, A + 1) of no click (column 0) and of a click on each slot of a slate.

    The slates are `batch.context["candidates"]` (B, A), 0 = none; there the log-probability is -inf.
    """

    def slate_log_probs(self, batch: Batch) -> Tensor: ...


class UserStates(Protocol):
    """The state after every event: (B, T, D); position t depends on the events up to t alone."""

    def encode(self, batch: Batch) -> Tensor: ...


class ItemVectors(Protocol):
    """The vectors of all items: (N + 1, D), row 0 = padding."""

    def item_vectors(self) -> Tensor: ...


class RelatesItems(Protocol):
    """The k items most related to an item, without itself, as a ranking of one row.

    kind: "in_out", items that go with it; "in_in", items that can replace it.
    """

    def item_neighbours(self, item: int, kind: Literal["in_out", "in_in"], k: int = 10) -> Ranking: ...


class GeneratesCodes(Protocol):
    """Generates the codes of an item one after another; the decoder encodes the histories once.

    Attributes: `ids`, the `SemanticIds` of the catalogue; `decoding`, the `decoding.Decoding` by which its lists are
    made, which may be set to another one; `config.legal_only` (optional), whether probabilities are normalised over
    legal codes only.
    """

    def decoder(self, batch: Batch) -> Decoder: ...


class ScoresExactly(Protocol):
    """The log-probability of every item, without a search: (B, N + 1), -inf at 0. For inspection; slow."""

    def exact_score(self, batch: Batch) -> Tensor: ...


class Reasons(Protocol):
    """Reasons in `config.steps` steps after the history; attribute `temperatures` (S + 1,): of each step's softmax."""

    def reasoning_states(self, batch: Batch, steps: int | None = None) -> Tensor:
        """The states before any step and after each one: (B, S + 1, D). steps: fewer than there are; None: all."""

    def step_scores(self, states: Tensor) -> Tensor:
        """The scores (B, S + 1, N + 1) of the catalogue by each of the states (B, S + 1, D)."""


class PredictsTime(Protocol):
    """Predicts when the next event comes, and its item, after each event (position t knows the events up to t)."""

    def next_time(self, batch: Batch) -> Wait:
        """The distribution of the wait."""

    def mark_log_probs(self, batch: Batch) -> Tensor:
        """The log-probabilities (B, T, N + 1) of the next event's item; -inf at 0."""


class DescribesTokens(Protocol):
    """Says what the tokens are that attention is over when the system scores a batch; without it they are events."""

    def layout(self, batch: Batch) -> Layout: ...


class Catalogues(Protocol):
    """Makes a system with the same weights for the items of another log, for evaluation; it stays as it is.

    Raises `ValueError` where its settings do not allow that.
    """

    def with_catalogue(self, split: Split) -> nn.Module: ...


class Learns(Protocol):
    """Is trained by gradient descent on batches: crops of histories, or what `draw` yields."""

    def loss(self, batch: Batch) -> Loss: ...


class Prepares(Protocol):
    """Sets buffers from the training part before training, in closed form: counts, a graph, a codebook."""

    def prepare(self, split: Split) -> None: ...


class Stages(Protocol):
    """Trains what the loss needs, such as a tokenizer, before the main loop, by `optimization.stage.train`.

    checkpoint: the folder of the checkpoints; None: there are none.
    """

    def stages(self, split: Split, checkpoint: Path | None = None) -> None: ...


class Draws(Protocol):
    """Yields the batches of an epoch (from 0), for a loss that learns from something else than crops of histories.

    train: the training part; the rest as in `Sequences.training_batches`.
    """

    def draw(self, train: Sequences, tokens: int, epoch: int, seed: int, shard: tuple[int, int]) -> Iterator[Any]: ...


class BeginsEpoch(Protocol):
    """Computes buffers anew before every epoch (from 0), such as the table of encoded texts, or clusters."""

    def begin_epoch(self, train: Sequences, epoch: int) -> None: ...


class Calibrates(Protocol):
    """Chooses buffers on the validation part after training; anew in every call, since `fit` calls it on halves too."""

    def calibrate(self, split: Split, seen_filter: bool) -> None: ...


class Advances(Protocol):
    """Adds the training part of `split`, which came after what it has counted, instead of being trained again."""

    def advance(self, split: Split) -> None: ...


def supports(system: object, protocol: type) -> bool:
    """Whether a system has all methods of a protocol. Nothing is built or run.

    system: a class, an instance, or an instance in DistributedDataParallel or torch.compile. A method that is set to
    None is missing. Raises `TypeError` for a protocol without methods.
    """
    system = _unwrapped(system)
    return all(callable(inspect.getattr_static(system, name, None)) for name in _methods(protocol))


def abilities(system: object) -> frozenset[type]:
    """The protocols of this file that a system keeps; see `supports`."""
    known = (one for one in globals().values() if getattr(one, "_is_protocol", False) and one is not Protocol)
    return frozenset(one for one in known if supports(system, one))


@functools.cache
def _methods(protocol: type) -> tuple[str, ...]:
    """The public methods of a protocol, inherited ones too."""
    found = tuple(name for name in dir(protocol) if not name.startswith("_") and callable(getattr(protocol, name)))
    if not (getattr(protocol, "_is_protocol", False) and found):
        raise TypeError(f"{getattr(protocol, '__name__', protocol)} is no protocol with methods.")
    return found


def _unwrapped(system: object) -> object:
    """The module inside torch.compile and DistributedDataParallel."""
    while isinstance(system, nn.Module):
        inside = system._modules.get("_orig_mod")
        if inside is None and isinstance(system, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inside = system.module
        if inside is None:
            break
        system = inside
    return system


class Wait(Protocol):
    """The distribution of the time to the next event, in days, after each event of a batch (B, T)."""

    def log_prob(self, days: Tensor) -> Tensor:
        """The log-density (B, T), nats, of waits (B, T) in days."""

    def log_survival(self, days: Tensor) -> Tensor:
        """The log-probability (B, T), nats, that no event comes for these days (B, T)."""

    def quantile(self, share: Tensor | float) -> Tensor:
        """The wait (B, T) in days that the next event does not exceed with this probability; inf where none is."""

    def mean(self, limit: float) -> Tensor:
        """The expectation (B, T) of the wait, cut off at `limit` days."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Waits (B, T, count) in days, drawn from the distribution; inf where no event comes."""

    def __getitem__(self, index: tuple[Tensor, ...]) -> Wait:
        """The distributions after some of the events, by indices of rows and positions."""


class Decoder(Protocol):
    """Autoregressive decoding of the next item's codes, for the B users of a batch.

    The state is the model's KV cache; a search passes it on unread. Logits cover the whole vocabulary of a level; the
    search masks illegal codes.
    """

    def start(self) -> tuple[Tensor, Any]:
        """Prefill: the logits of the first code (B, 1, K_0), and the state."""

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        """Decode step: beam w of user b extends beam `parent[b, w]` of `state` by `code[b, w]`, both (B, W).

        Returns the logits of the next code (B, W, K) and the new state; `state` is not modified.
        """


class Identifiers(Protocol):
    """The legal code tuples of a catalogue, as a prefix tree; node 0 is the empty prefix. `Trie` implements it."""

    def children(self, node: Tensor, level: int) -> Tensor:
        """Whether each code of `level` is legal after the prefixes `node` (...): (..., K) bool."""

    def step(self, node: Tensor, code: Tensor) -> Tensor:
        """The nodes (...) after extending the prefixes `node` (...) by legal codes (...)."""


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
    """The name of a system: its `name` if it has one, as a wrapped function has, else the name of its file."""
    return getattr(model, "name", "") or type(model).__module__.rpartition(".")[2]
