"""The semantic IDs of a model, saved with its weights, and their making from a split."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement
from math import prod
from typing import TYPE_CHECKING, Any, Protocol, get_args

import torch
from torch import Tensor, nn

from seqlab.tokenizers.codebook import CodeBook
from seqlab.tokenizers.resolve import CollisionRule

if TYPE_CHECKING:
    from pathlib import Path

    from seqlab.datasets.splits import Split

RULES = get_args(CollisionRule)


class CodeSettings(Protocol):
    """The settings of a system that its codes depend on."""

    tokenizer: str
    vectors: str | None
    levels: tuple[int, ...]
    resolve: CollisionRule


class SemanticIds(nn.Module):
    """A code book as part of a model: `codes` (N + 1, C) is a buffer, so it is saved, loaded and moved with it.

    So are the rule for equal tuples, `resolved`, and the share of the vectors' variance left after 0, 1, ...
    levels, `residual`. ordered: False where the model reads the levels as parallel; resolve: the model's rule for
    equal tuples, if not that of `settings`. Before `assign` the codes are -1 and `book` raises `RuntimeError`.
    """

    def __init__(
        self, n_items: int, settings: CodeSettings, ordered: bool = True, resolve: CollisionRule | None = None
    ) -> None:
        super().__init__()
        self.settings, self.levels, self.ordered = settings, tuple(settings.levels), ordered
        self.register_buffer("codes", torch.full((n_items + 1, len(self.levels)), -1))  # (N + 1, C)
        self.register_buffer("resolved", torch.tensor(RULES.index(resolve or settings.resolve)))  # () a place in RULES
        self.register_buffer("residual", torch.full((len(self.levels) + 1,), -1.0))  # (C + 1,) -1: not known
        self._book: tuple[Tensor, int, CodeBook] | None = None

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Models saved without `resolved` and `residual` keep the rule of their settings, and no residual."""
        for name in ("resolved", "residual"):
            state_dict.setdefault(prefix + name, getattr(self, name).detach().clone())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def assigned(self) -> bool:
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
        self.resolved.fill_(RULES.index(book.resolved))
        self.residual.fill_(-1)[: len(book.residual)] = torch.tensor(book.residual)
        self._keep(replace(book, codes=self.codes, sizes=self.levels, ordered=self.ordered))

    @property
    def book(self) -> CodeBook:
        """The semantic IDs as a CodeBook, with their trie.

        Of codes that were loaded the tokenizer's settings and notes are not known, which a note of the book mentions.
        """
        codes, kept = self.codes, self._book
        if kept is None or kept[0] is not codes or kept[1] != codes._version:
            if not self.assigned:
                raise RuntimeError(
                    "this model has no codes yet: call prepare(model, split) of seqlab.training.fit, or "
                    "ids.assign(codebook)."
                )
            if kept is not None and torch.equal(kept[2].codes[1:].cpu(), codes[1:].cpu()):
                self._keep(replace(kept[2], codes=codes))  # copied, moved or loaded: the same codes
            else:
                self._keep(self._restored())
        return self._book[2]

    def _keep(self, book: CodeBook) -> None:
        self._book = self.codes, self.codes._version, book

    def _restored(self) -> CodeBook:
        """A CodeBook of loaded codes, from buffers and settings."""
        left, settings = self.residual[self.residual >= 0].tolist(), self.settings
        return CodeBook(
            self.codes, self.levels, f"codes of a saved model, by its settings {settings.tokenizer}",
            resolved=RULES[int(self.resolved)], vectors=settings.vectors or "", ordered=self.ordered,
            notes=("The codes were saved with a model: the settings of their tokenizer and its notes are not known"
                   + ("." if left else ", and neither is how much of the vectors they leave unexplained."),),
            residual=tuple(left),
        )  # fmt: skip


def semantic_ids(
    split: Split, settings: CodeSettings, letter: bool = False, checkpoint: Path | None = None
) -> CodeBook:
    """The semantic IDs by a system's settings, from item text and training events alone.

    checkpoint: a folder; a tokenizer that is trained keeps its checkpoint in `tokenizer` there.

    Without `vectors`, those of `items.vectors.default_source`.
    `letter` adds LETTER's collaborative and diversity terms, with the weights of its scripts; `ValueError` where the
    tokenizer has no such training.
    """
    from seqlab import tokenizers
    from seqlab.items.vectors import collaborative, default_source, item_vectors

    source = settings.vectors or default_source(split.log)
    content = settings.levels[:-1] if settings.resolve in ("index", "popularity") else settings.levels
    evenly = max(2, int(split.n_items ** (1 / len(content))))  # children per node, for as many leaves as items
    most = max(2, split.n_items // 2)
    kind = tokenizers.create(settings.tokenizer)
    if letter and not hasattr(kind, "diversity"):
        raise ValueError(
            f"letter=true adds terms to the training of rq_vae; {settings.tokenizer} has no such training."
        )
    sizes, branches = (tuple(min(size, limit) for size in content) for limit in (most, evenly))
    tokenizer = replace(
        resized(kind, content, sizes, branches[:-1]),
        **({"collaborative": 0.02, "diversity": 1e-4} if letter else {}),
    )
    X, folder = item_vectors(split, source), None if checkpoint is None else checkpoint / "tokenizer"
    if letter:
        tokenizer.fit(X, collaborative(split, tokenizer.latent), folder)
    counts = split.train.item_counts(split.n_items).numpy()
    book = tokenizers.make_codebook(
        tokenizer, X, resolve=settings.resolve, popularity=counts, vectors=source, most=settings.levels[-1],
        checkpoint=folder,
    )  # fmt: skip
    return with_size_note(book, content, split.n_items)


def resized(kind: Any, allowed: tuple[int, ...], codes: tuple[int, ...], branches: tuple[int, ...]) -> Any:
    """The tokenizer with levels of these sizes, as far as its settings allow.

    allowed: codes that the levels may have; codes: that they should have; branches: of a tree. FSQ has one grid for all
    levels, of more codes than items if need be. Raises `ValueError` where that does not fit `allowed`.
    """
    wanted = {"levels": len(allowed), "codes": codes[0] if len(set(codes)) == 1 else codes, "branches": branches}
    if hasattr(kind, "values"):
        name = type(kind).__name__
        if len(set(allowed)) > 1:
            raise ValueError(
                f"{name} has one grid for all levels: it cannot make levels of {', '.join(map(str, allowed))} codes; "
                "give them one size, or take another tokenizer."
            )
        wanted["values"] = kind.values if prod(kind.values) <= allowed[0] else fsq_grid(allowed[0])
    return replace(kind, **{key: value for key, value in wanted.items() if hasattr(kind, key)})


def fsq_grid(size: int) -> tuple[int, ...]:
    """The grid of at most three numbers with 3 to 8 values each that has most cells, but no more than `size`.

    Raises `ValueError` for fewer than 3.
    """
    if size < 3:
        raise ValueError(f"FSQ needs levels of at least 3 codes (got {size}).")
    every = (one for count in (3, 2, 1) for one in combinations_with_replacement(range(8, 2, -1), count))
    return max((one for one in every if prod(one) <= size), key=prod)


def with_size_note(book: CodeBook, allowed: tuple[int, ...], n_items: int) -> CodeBook:
    """The code book with a note if its levels have fewer codes than the settings allow, `allowed`."""
    sizes = book.sizes[: len(allowed)]
    if sizes == allowed:
        return book
    most, made = (" x ".join(f"{size:,}" for size in one) for one in (allowed, sizes))
    note = f"The settings allow {most} codes; there are {made}, as suits {n_items:,} items and the tokenizer."
    return replace(book, notes=(*book.notes, note))
