"""What a system may offer, as protocols: the file that an author reads first. Below them, the card of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

if TYPE_CHECKING:
    from seqlab.datasets.sequences import Batch


@dataclass(frozen=True)
class Loss:
    """A training objective: `total` is minimised, `parts` are its named terms (unweighted, detached) for the eye.

    `total` is a mean over `count` answers, by which several processes weigh their shares of a batch; None: over all
    targets of the batch.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    count: int | None = None


@dataclass(frozen=True)
class Ranking:
    """The best items first: items (B, k) int64, scores (B, k); item 0 with score -inf where fewer than k exist.

    No ranking is wider than the catalogue. Equal scores are a tie, in whatever order its items stand.
    tied: (B, M) the items beyond the list that tie with its last one, 0 = none; None: not known.
    """

    items: Tensor
    scores: Tensor
    tied: Tensor | None = None


@runtime_checkable
class Recommender(Protocol):
    """What a system offers. It is an `nn.Module` built as `System(config, n_items)`.

    Next to `recommend` it has what its kind needs:
    `loss(batch) -> Loss` if it is trained by gradient; `calibrate(split, seen_filter) -> None` if something is chosen
    on validation after that, and kept in buffers; `prepare(split) -> None` if it first learns something from the
    training part in one look (counts, a graph, a codebook) and keeps it in buffers; `score(batch) -> (B, N + 1)` if
    it can score the whole catalogue (column 0 is padding; a fresh tensor, which the caller may write to). Systems
    without `score` are evaluated by their lists: one that fills in `Ranking.tied` need not make a longer list
    to learn where the tie of the last item ends.
    """

    config: Any

    def recommend(self, batch: Batch, k: int) -> Ranking: ...


class Decoder(Protocol):
    """A model about to write the next item's codes for the B users of one batch.

    The state is the model's own affair (its key/value cache); a search only hands it back. Logits are over the whole
    vocabulary of a level; what is legal is the trie's affair.
    """

    def start(self) -> tuple[Tensor, Any]:
        """Logits of the first code (B, 1, K_0), and the state that goes with them."""
        ...

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        """Beam w of user b continues beam `parent[b, w]` of `state` with `code[b, w]`, both (B, W).

        Returns the logits of the following code (B, W, K) and their state; `state` itself stays as it was.
        """
        ...


class Identifiers(Protocol):
    """What code tuples are legal: those of a catalogue's items, as prefixes with a number (a node); 0 is the empty one.

    A `Trie` keeps it.
    """

    def children(self, node: Tensor, level: int) -> Tensor:
        """Which codes of `level` continue the prefixes `node` (...): (..., K) bool."""
        ...

    def step(self, node: Tensor, code: Tensor) -> Tensor:
        """The prefixes `node` (...) continued by legal codes (...): (...)."""
        ...


class GeneratesCodes(Protocol):
    """A system that writes an item's codes one after another.

    config.width: of the beam, at least; config.legal_only, where there is one: whether the probabilities are those
    among legal codes alone. ids: the `SemanticIds` of the catalogue.
    """

    config: Any
    ids: Any

    def decoder(self, batch: Batch) -> Decoder:
        """The model about to write the next item's codes for these users; the histories are encoded here, once."""
        ...


@dataclass(frozen=True)
class Measurement:
    """Arms that are measured on datasets, each one compared with each control.

    An arm is a system with its settings, as `seqlab leaderboard` takes it: `rearec:steps=1`. A word of it without "="
    is one of the names in `Card.named`.

    datasets: () = the homes of the card. arms: () = the system itself. against: the controls, () = none.
    seeds, seen_filter: () and None = those of the card.
    """

    datasets: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    seen_filter: bool | None = None


@dataclass(frozen=True)
class Published:
    """A result of the literature. The leaderboard shows it beside what was measured under the same protocol.

    dataset: a named dataset, or one that is not here, in words. values: by metric, such as {"ndcg@10": 0.0384}.
    differs: how the training differs from ours. variant: of the system, "" = the system itself.
    seen_filter, split: the protocol; None and "" = not known.
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
    """The facts about a system that its file declares as `CARD`; all lists of systems are made from these.

    title, authors, year, venue: of the paper; "" and None where there is none. claim: what the paper claims, one
    sentence. task: a module of `seqlab.tasks`.
    controls: the arms that the claim is tested against (see `Measurement`). control_names: words for those whose arm
    does not say what it controls for.
    homes: the datasets on which the system is measured and tuned. seen_filter: whether seen items are removed from its
    rankings there; None: unless the log has repeats. seeds: of its trainings.
    named: parts of an arm by name, for the cards that use them: {"brief": "epochs=20:dropout=0"} makes
    `sasrec:brief:layers=3` an arm.
    measured: for `make leaderboard`; () = the system on its homes, compared with its controls.
    tuned: for `make tune`; () = the system on its homes, if it is trained.
    published: results of the literature; they are written down here only.
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
    seen_filter: bool | None = None
    seeds: tuple[int, ...] = (0,)
    named: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[Measurement, ...] = ()
    tuned: tuple[Measurement, ...] = ()
    published: tuple[Published, ...] = ()

    @property
    def paper(self) -> str:
        """Authors and title, "" where there is no paper."""
        return ", ".join(part for part in (self.authors, self.title) if part)

    @property
    def control_words(self) -> str:
        """The controls as a reader knows them, such as "sasrec, a third layer"."""
        return ", ".join(self.control_names.get(arm, arm) for arm in self.controls)


def name_of(model: nn.Module) -> str:
    """The name of a system is that of its file."""
    return type(model).__module__.rpartition(".")[2]
