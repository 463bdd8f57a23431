"""The semantic IDs of a model: made for its split, kept with its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from seqlab.tokenizers.codebook import CodeBook

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.tokenizers.resolve import How


class Choices(Protocol):
    """What a system's Config says of its codes."""

    tokenizer: str
    vectors: str | None
    levels: tuple[int, ...]
    resolve: How


class SemanticIds(nn.Module):
    """A code book as part of a model: `codes` (N + 1, C) is a buffer, so it is saved, loaded and moved with it.

    ordered: False where the model reads the levels as parallel. Before `adopt` the codes are -1 and `book` raises
    `RuntimeError`.
    """

    def __init__(self, n_items: int, levels: tuple[int, ...], ordered: bool = True) -> None:
        super().__init__()
        self.levels, self.ordered = tuple(levels), ordered
        self.register_buffer("codes", torch.full((n_items + 1, len(levels)), -1))  # (N + 1, C)
        self._book: tuple[Tensor, int, CodeBook] | None = None

    @property
    def known(self) -> bool:
        """Whether there are codes."""
        return int(self.codes[1:].min()) >= 0

    def adopt(self, book: CodeBook) -> None:
        """Take these semantic IDs. Raises `ValueError` where they do not fit the model's levels or catalogue."""
        n_items = len(self.codes) - 1
        fits = len(book.sizes) == len(self.levels) and book.n_items == n_items
        if not fits or any(size > most for size, most in zip(book.sizes, self.levels, strict=True)):
            raise ValueError(
                f"the codes are {book.n_items:,} items x {book.sizes}, the model was built for {n_items:,} items and "
                f"at most {self.levels}; set levels={','.join(map(str, book.sizes))}."
            )
        self.codes.copy_(book.codes)
        book = replace(book, codes=self.codes, sizes=self.levels, ordered=self.ordered)
        self._book = self.codes, self.codes._version, book

    @property
    def book(self) -> CodeBook:
        """The semantic IDs as a CodeBook, with their trie; of loaded codes the tokenizer is not known any more."""
        codes = self.codes
        if self._book is None or self._book[0] is not codes or self._book[1] != codes._version:
            if not self.known:
                raise RuntimeError("this model has no codes yet: call prepare(split), or ids.adopt(codebook).")
            book = CodeBook(codes, self.levels, "codes of a saved model", ordered=self.ordered)
            self._book = codes, codes._version, book
        return self._book[2]


def semantic_ids(split: Split, choices: Choices, letter: bool = False) -> CodeBook:
    """The semantic IDs that a system's settings ask for, from item text and training events alone.

    Without `vectors`, those of `datasets.text.usual`.
    `letter` adds LETTER's collaborative and diversity terms, of the strengths of its scripts; `ValueError` where the
    tokenizer has no such training.
    """
    from seqlab import tokenizers
    from seqlab.datasets import text

    source = choices.vectors or text.usual(split.log)
    own = choices.levels[:-1] if choices.resolve in ("index", "popularity") else choices.levels
    evenly = max(2, int(split.n_items ** (1 / len(own))))  # children per node of a tree with as many leaves as items
    wanted = {
        "levels": len(own),
        "codes": max(2, min(*own, split.n_items // 2)),
        "branches": tuple(min(size, evenly) for size in own[:-1]),
    }
    if letter:
        wanted |= {"collaborative": 0.02, "diversity": 1e-4}
    kind = tokenizers.create(choices.tokenizer)
    if letter and not hasattr(kind, "diversity"):
        raise ValueError(f"letter=true adds terms to the training of rq_vae; {choices.tokenizer} has no such training.")
    tokenizer = tokenizers.create(choices.tokenizer, {key: wanted[key] for key in wanted if hasattr(kind, key)})
    X = text.item_vectors(split, source)
    if letter:
        tokenizer.fit(X, text.collaborative(split, tokenizer.latent))
    counts = split.train.item_counts(split.n_items).numpy()
    return tokenizers.make_codebook(tokenizer, X, resolve=choices.resolve, popularity=counts, vectors=source)
