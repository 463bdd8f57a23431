"""Recommendations of a system that generates codes: beam search over its catalogue, and exact scores."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqlab.contracts import ScoresExactly, supports
from seqlab.decoding.beams import Beams, best_items
from seqlab.decoding.scoring import exact
from seqlab.decoding.search import beam

if TYPE_CHECKING:
    from seqlab.contracts import GeneratesCodes, Ranking
    from seqlab.datasets.sequences import Batch


@torch.no_grad()
def generate(model: GeneratesCodes, batch: Batch, width: int | None = None, keep: int = 0) -> Beams:
    """The beam search with all its steps, `config.width` wide by default.

    keep: of every step, also this many of the best prefixes that were pruned. The tap `beam` of a model that has one
    records the log-probabilities that each step kept.
    """
    search_width, renormalise = width or model.config.width, getattr(model.config, "legal_only", False)
    found = beam(model.decoder(batch), model.ids.book.trie, search_width, renormalise, keep)
    tap = getattr(model, "beam", None)
    if tap is not None and tap.active:
        tap(found.kept())
    return found


def recommend(model: GeneratesCodes, batch: Batch, k: int) -> Ranking:
    """The k best items by a beam at least as wide as the list; scores are log-probabilities of the tuples."""
    return best_items(partial(generate, model, batch), k, model.config.width)


@torch.no_grad()
def scores(model: GeneratesCodes, batch: Batch) -> Tensor:
    """The log-probability of every item, without a search: (B, N + 1). For inspection; costs a pass over the catalogue.

    A system whose codes have no fixed order has an `exact_score` of its own.
    """
    if supports(model, ScoresExactly):
        return model.exact_score(batch)
    return exact(model.decoder(batch), model.ids.book.trie, getattr(model.config, "legal_only", False))
