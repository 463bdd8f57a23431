"""The semantic IDs of a model: made for its split, kept with its weights."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement
from math import prod
from typing import TYPE_CHECKING, Any, Protocol, get_args

import torch
from torch import Tensor, nn

from seqlab.tokenizers.codebook import CodeBook
from seqlab.tokenizers.resolve import How

if TYPE_CHECKING:
    from pathlib import Path

    from seqlab.datasets.splits import Split

HOWS = get_args(How)


class Choices(Protocol):
    """What a system's Config says of its codes."""

    tokenizer: str
    vectors: str | None
    levels: tuple[int, ...]
    resolve: How


class SemanticIds(nn.Module):
    """A code book as part of a model: `codes` (N + 1, C) is a buffer, so it is saved, loaded and moved with it.

    So is what was done about equal tuples, `resolved`, and the share of the vectors' variance left after 0, 1, ...
    levels, `residual`. ordered: False where the model reads the levels as parallel; resolve: what the model does about
    equal tuples, if not what `choices` says. Before `assign` the codes are -1 and `book` raises `RuntimeError`.
    """

    def __init__(self, n_items: int, choices: Choices, ordered: bool = True, resolve: How | None = None) -> None:
        super().__init__()
        self.choices, self.levels, self.ordered = choices, tuple(choices.levels), ordered
        self.register_buffer("codes", torch.full((n_items + 1, len(self.levels)), -1))  # (N + 1, C)
        self.register_buffer("resolved", torch.tensor(HOWS.index(resolve or choices.resolve)))  # () a place in HOWS
        self.register_buffer("residual", torch.full((len(self.levels) + 1,), -1.0))  # (C + 1,) -1: not known
        self._book: tuple[Tensor, int, CodeBook] | None = None

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """A model that was saved without them keeps what its settings say of `resolved`, and no `residual`."""
        for name in ("resolved", "residual"):
            state_dict.setdefault(prefix + name, getattr(self, name).detach().clone())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def known(self) -> bool:
        """Whether there are codes."""
        return int(self.codes[1:].min()) >= 0

    def assign(self, book: CodeBook) -> None:
        """Set the semantic IDs. Raises `ValueError` where they do not fit the model's levels or catalogue."""
        n_items = len(self.codes) - 1
        fits = len(book.sizes) == len(self.levels) and book.n_items == n_items
        if not fits or any(size > most for size, most in zip(book.sizes, self.levels, strict=True)):
            raise ValueError(
                f"the codes are {book.n_items:,} items x {book.sizes}, the model was built for {n_items:,} items and "
                f"at most {self.levels}; set levels={','.join(map(str, book.sizes))}."
            )
        self.codes.copy_(book.codes)
        self.resolved.fill_(HOWS.index(book.resolved))
        self.residual.fill_(-1)[: len(book.residual)] = torch.tensor(book.residual)
        self._keep(replace(book, codes=self.codes, sizes=self.levels, ordered=self.ordered))

    @property
    def book(self) -> CodeBook:
        """The semantic IDs as a CodeBook, with their trie.

        Of codes that were loaded the tokenizer's settings and notes are not known, which the book's own note says.
        """
        codes, kept = self.codes, self._book
        if kept is None or kept[0] is not codes or kept[1] != codes._version:
            if not self.known:
                raise RuntimeError(
                    "this model has no codes yet: call prepare(model, split) of seqlab.training.fit, or "
                    "ids.assign(codebook)."
                )
            if kept is not None and torch.equal(kept[2].codes[1:].cpu(), codes[1:].cpu()):
                self._keep(replace(kept[2], codes=codes))  # written anew, moved or read back: the same codes
            else:
                self._keep(self._derived())
        return self._book[2]

    def _keep(self, book: CodeBook) -> None:
        self._book = self.codes, self.codes._version, book

    def _derived(self) -> CodeBook:
        """What buffers and settings tell of codes whose making nobody here has seen."""
        left, choices = self.residual[self.residual >= 0].tolist(), self.choices
        return CodeBook(
            self.codes, self.levels, f"codes of a saved model, by its settings {choices.tokenizer}",
            resolved=HOWS[int(self.resolved)], vectors=choices.vectors or "", ordered=self.ordered,
            notes=("The codes were saved with a model: the settings of their tokenizer and its notes are not known"
                   + ("." if left else ", and neither is how much of the vectors they leave unexplained."),),
            residual=tuple(left),
        )  # fmt: skip


def semantic_ids(split: Split, choices: Choices, letter: bool = False, checkpoint: Path | None = None) -> CodeBook:
    """The semantic IDs by a system's settings, from item text and training events alone.

    checkpoint: a folder; a tokenizer that is trained keeps its checkpoint in `tokenizer` there.

    Without `vectors`, those of `items.vectors.default_source`.
    `letter` adds LETTER's collaborative and diversity terms, of the strengths of its scripts; `ValueError` where the
    tokenizer has no such training.
    """
    from seqlab import tokenizers
    from seqlab.items.vectors import collaborative, default_source, item_vectors

    source = choices.vectors or default_source(split.log)
    own = choices.levels[:-1] if choices.resolve in ("index", "popularity") else choices.levels
    evenly = max(2, int(split.n_items ** (1 / len(own))))  # children per node of a tree with as many leaves as items
    most = max(2, split.n_items // 2)
    kind = tokenizers.create(choices.tokenizer)
    if letter and not hasattr(kind, "diversity"):
        raise ValueError(f"letter=true adds terms to the training of rq_vae; {choices.tokenizer} has no such training.")
    tokenizer = replace(
        sized(kind, own, tuple(min(size, most) for size in own), tuple(min(size, evenly) for size in own[:-1])),
        **({"collaborative": 0.02, "diversity": 1e-4} if letter else {}),
    )
    X, folder = item_vectors(split, source), None if checkpoint is None else checkpoint / "tokenizer"
    if letter:
        tokenizer.fit(X, collaborative(split, tokenizer.latent), folder)
    counts = split.train.item_counts(split.n_items).numpy()
    book = tokenizers.make_codebook(
        tokenizer, X, resolve=choices.resolve, popularity=counts, vectors=source, most=choices.levels[-1],
        checkpoint=folder,
    )  # fmt: skip
    return noted(book, own, split.n_items)


def sized(kind: Any, own: tuple[int, ...], codes: tuple[int, ...], branches: tuple[int, ...]) -> Any:
    """The tokenizer with levels of these sizes, as far as it has a say in them.

    own: codes that the levels may have; codes: that they should have; branches: of a tree. FSQ has one grid for all
    levels, of more codes than items if need be. Raises `ValueError` where that does not fit `own`.
    """
    wanted = {"levels": len(own), "codes": codes[0] if len(set(codes)) == 1 else codes, "branches": branches}
    if hasattr(kind, "values"):
        name = type(kind).__name__
        if len(set(own)) > 1:
            raise ValueError(
                f"{name} has one grid for all levels, so it cannot make levels of {', '.join(map(str, own))} codes; "
                "give them one size, or take another tokenizer."
            )
        wanted["values"] = kind.values if prod(kind.values) <= own[0] else grid(own[0])
    return replace(kind, **{key: value for key, value in wanted.items() if hasattr(kind, key)})


def grid(size: int) -> tuple[int, ...]:
    """The grid of at most three numbers with 3 to 8 values each that has most cells, but no more than `size`.

    Raises `ValueError` for fewer than 3.
    """
    if size < 3:
        raise ValueError(f"FSQ needs levels of at least 3 codes (got {size}).")
    every = (one for count in (3, 2, 1) for one in combinations_with_replacement(range(8, 2, -1), count))
    return max((one for one in every if prod(one) <= size), key=prod)


def noted(book: CodeBook, own: tuple[int, ...], n_items: int) -> CodeBook:
    """The code book with a note if its levels have fewer codes than the settings allow, `own`."""
    sizes = book.sizes[: len(own)]
    if sizes == own:
        return book
    allowed, given = (" x ".join(f"{size:,}" for size in one) for one in (own, sizes))
    note = f"The settings allow {allowed} codes; there are {given}, as suits {n_items:,} items and the tokenizer."
    return replace(book, notes=(*book.notes, note))
