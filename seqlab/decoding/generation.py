"""Recommendations of a system that generates codes, by any decoding, and exact scores of its catalogue."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqlab.contracts import Ranking, Scores, ScoresExactly, supports
from seqlab.decoding import draws
from seqlab.decoding.beams import Beams, best_items
from seqlab.decoding.scoring import exact
from seqlab.decoding.search import beam, diverse
from seqlab.decoding.settings import Decoding, SearchesPaths, methods, resolve
from seqlab.ranking import check_k, top

if TYPE_CHECKING:
    from torch import nn

    from seqlab.contracts import GeneratesCodes
    from seqlab.datasets.sequences import Batch


@torch.no_grad()
def generate(model: GeneratesCodes, batch: Batch, width: int | None = None, keep: int = 0) -> Beams:
    """The beam search with all its steps, as wide as the model's decoding has it by default.

    keep: of every step, also this many of the best prefixes that were pruned. The tap `beam` of a model that has one
    records the log-probabilities that each step kept.
    """
    width = beam_of(model).width if width is None else width
    found = beam(model.decoder(batch), model.ids.book.trie, width, _renormalise(model), keep)
    tap = getattr(model, "beam", None)
    if tap is not None and tap.active:
        tap(found.kept())
    return found


@torch.no_grad()
def draw(model: GeneratesCodes, batch: Batch, decoding: Decoding) -> draws.Draws:
    """The tuples that decoding=sample or typical draws for every user, with repetitions."""
    chosen, trie = resolve(model, decoding), model.ids.book.trie
    points = draws.uniforms(chosen.draw_seed, batch.user, chosen.draws, trie.levels)
    if chosen.method == "sample":
        return draws.sample(model.decoder(batch), trie, points, chosen.temperature, _renormalise(model))
    return draws.typical(model.decoder(batch), trie, points, chosen.mass, _renormalise(model))


@torch.no_grad()
def recommend(model: nn.Module, batch: Batch, k: int, decoding: Decoding | None = None) -> Ranking:
    """The k best items by a decoding (None: the model's); scores are log-probabilities of the tuples.

    exact: of the whole catalogue. beam, diverse: by a search at least as wide as the list. typical, sample: of the
    tuples drawn, each once; where they are fewer than k for every user, the list is as long as the longest.
    Raises what `settings.resolve` raises.
    """
    chosen, k = resolve(model, decoding or _own(model)), check_k(k)
    if chosen.method == "exact":
        return top(scores(model, batch), k)
    if chosen.method in ("beam", "diverse"):
        return best_items(lambda width: found(model, batch, replace(chosen, width=width)), k, chosen.width)
    ranking = found(model, batch, chosen).ranking(k)
    longest = max(int((ranking.items > 0).sum(1).max()), 1) if len(ranking.items) else k
    return replace(ranking, items=ranking.items[:, :longest], scores=ranking.scores[:, :longest])


@torch.no_grad()
def found(model: nn.Module, batch: Batch, decoding: Decoding) -> Beams:
    """The tuples that a search or draws find, each once: of any decoding but exact."""
    chosen = resolve(model, decoding)
    if chosen.method == "diverse":
        width = -(-chosen.width // chosen.groups) * chosen.groups
        decoder, trie = model.decoder(batch), model.ids.book.trie
        return diverse(decoder, trie, width, chosen.groups, chosen.strength, _renormalise(model))
    if chosen.method != "beam":
        return draw(model, batch, chosen).beams()
    if supports(model, SearchesPaths):
        return model.paths(batch, chosen.width, chosen.prune).beams
    return generate(model, batch, chosen.width)


@torch.no_grad()
def scores(model: nn.Module, batch: Batch) -> Tensor:
    """The log-probability of every item, without a search: (B, N + 1). Costs a pass over the catalogue.

    By `score` or `exact_score` of a system that has one, else by its decoder.
    """
    if supports(model, Scores):
        return model.score(batch)
    return model.exact_score(batch) if supports(model, ScoresExactly) else exact_scores(model, batch)


@torch.no_grad()
def exact_scores(model: GeneratesCodes, batch: Batch) -> Tensor:
    """`exact` of the model's decoder over its catalogue: (B, N + 1)."""
    return exact(model.decoder(batch), model.ids.book.trie, _renormalise(model))


@torch.no_grad()
def law(model: GeneratesCodes, batch: Batch) -> Tensor:
    """The probability of every item under the walk along the trie, (B, N + 1), 0 for padding; a row sums to 1.

    At every step the codes that continue an item share all probability. Items of one tuple share its evenly.
    """
    trie = model.ids.book.trie
    found = exact(model.decoder(batch), trie, renormalise=True).double().exp()
    leaves = torch.arange(trie.starts[trie.levels], trie.n_nodes, device=found.device)
    size = trie.size(leaves)
    found[:, trie.order] /= size.repeat_interleave(size)
    return found


def beam_of(model: nn.Module) -> Decoding:
    """The beam search of a model: its decoding if that is a beam, else a beam with the default settings."""
    own = _own(model)
    return resolve(model, own if (own.method or methods(model)[0]) == "beam" else Decoding("beam"))


def _own(model: nn.Module) -> Decoding:
    """The decoding that a model is set to."""
    return getattr(model, "decoding", None) or Decoding()


def _renormalise(model: nn.Module) -> bool:
    """Whether the model's probabilities are shared among legal codes alone."""
    return getattr(model.config, "legal_only", False)
