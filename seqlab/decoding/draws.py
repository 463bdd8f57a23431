"""Tuples drawn from the model's law: ancestral sampling with a temperature, and locally typical sampling.

The law is that of a walk along the trie: at every step the model's distribution over the codes that continue an item.
Draws that agree so far share a row of the decoder. A draw is decided by its numbers in [0, 1), one per level; those of
`uniforms` depend on a seed and the user alone, so the other users of a batch and the number of draws change none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqlab.contracts import Decoder
from seqlab.decoding.beams import Beams
from seqlab.decoding.search import in_order, legal
from seqlab.tokenizers.trie import Trie

GOLDEN, FIRST, SECOND = (np.array([one], np.uint64) for one in
                         (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))  # fmt: skip


@dataclass(frozen=True)
class Draws:
    """Tuples drawn for every user, in the order of the draws, with repetitions.

    node: (B, n) their leaves; scores: (B, n) their log-probabilities by the model, as those of a beam; law: (B, n) the
    log-probabilities with which they are drawn.
    """

    trie: Trie
    node: Tensor
    scores: Tensor
    law: Tensor

    def beams(self) -> Beams:
        """Each tuple once, the most probable first by the model, not by the sampler."""
        node, order = self.node.sort(dim=1, stable=True)
        again = torch.zeros_like(node, dtype=torch.bool)
        again[:, 1:] = node[:, 1:] == node[:, :-1]
        scores = self.scores.gather(1, order).masked_fill(again, -torch.inf)
        return in_order(self.trie, node.masked_fill(again, -1), scores)

    def shares(self) -> Tensor:
        """The share of the draws that each item got, (B, N + 1): items of one tuple share it evenly."""
        first = self.trie.starts[self.trie.levels]
        leaves = torch.arange(first, self.trie.n_nodes, device=self.node.device)
        counts = torch.zeros(len(self.node), len(leaves), dtype=torch.float64, device=self.node.device)
        counts.scatter_add_(1, self.node - first, torch.ones_like(self.node, dtype=torch.float64))
        size = self.trie.size(leaves)
        result = counts.new_zeros(len(counts), len(self.trie.order) + 1)
        result[:, self.trie.order] = (counts / size / self.node.shape[1]).repeat_interleave(size, dim=1)
        return result


def sample(decoder: Decoder, trie: Trie, points: Tensor, temperature: float = 1.0, renormalise: bool = False) -> Draws:
    """Ancestral sampling: every code is drawn from the legal ones, whose log-probabilities `temperature` divides.

    points: (B, n, C) numbers in [0, 1), as from `uniforms`. Raises `ValueError` for a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0 (got {temperature}).")
    return _walk(decoder, trie, points, lambda log_p: log_p / temperature, renormalise)


def typical(decoder: Decoder, trie: Trie, points: Tensor, mass: float = 0.9, renormalise: bool = False) -> Draws:
    """Locally typical sampling (Meister et al. 2023): tuples whose codes are as surprising as one should expect.

    At every step the legal codes whose surprise is nearest to the entropy of the step are kept until they hold `mass`
    of the legal probability, and one of them is drawn; with a mass of 1 this is `sample`. points: as there. Raises
    `ValueError` for a mass outside (0, 1].
    """
    if not 0 < mass <= 1:
        raise ValueError(f"the mass must be in (0, 1] (got {mass}).")

    def kept(log_p: Tensor) -> Tensor:
        if mass == 1:
            return log_p
        p = log_p.exp()
        entropy = -(p * log_p.masked_fill(p == 0, 0)).sum(-1, keepdim=True)
        order = (-log_p - entropy).abs().argsort(dim=-1, stable=True)
        p = p.gather(-1, order)
        within = p.cumsum(-1) - p < mass  # the code that reaches the mass is the last one kept
        return log_p.masked_fill(~torch.zeros_like(within).scatter(-1, order, within), -torch.inf)

    return _walk(decoder, trie, points, kept, renormalise)


def uniforms(seed: int, user: Tensor, draws: int, levels: int) -> Tensor:
    """Numbers in [0, 1) for `draws` draws of every user (B,): (B, n, C) float64, by SplitMix64 (Steele et al. 2014).

    They depend on the seed, the user's number, the draw and the level alone.
    """
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64
        users = user.cpu().numpy().astype(np.uint64)
        start = _mix(_mix(np.array([seed], np.uint64) + GOLDEN) ^ _mix(users + FIRST))  # (B,)
        place = np.arange(1, draws * levels + 1, dtype=np.uint64)
        bits = _mix(start[:, None] + place * GOLDEN) >> np.uint64(11)  # (B, n C)
    numbers = bits.astype(np.float64) * 2.0**-53
    return torch.from_numpy(numbers.reshape(len(numbers), draws, levels)).to(user.device)


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * FIRST
    x = (x ^ (x >> np.uint64(27))) * SECOND
    return x ^ (x >> np.uint64(31))


@torch.no_grad()
def _walk(decoder: Decoder, trie: Trie, points: Tensor, weigh: Callable[[Tensor], Tensor], renormalise: bool) -> Draws:
    """Draws by `points` (B, n, C); `weigh` maps legal log-probabilities to logits of the codes to draw from."""
    if points.shape[1] < 1:
        raise ValueError("at least 1 draw is needed.")
    logits, state = decoder.start()
    users = len(logits)
    node = torch.zeros(users, 1, dtype=torch.long, device=logits.device)  # the different prefixes (B, U)
    parent = code = node
    scores = law = node.double()
    owner = node.expand(-1, points.shape[1])  # (B, n) the prefix of each draw among them
    for level in range(trie.levels):
        if level:
            logits, state = decoder.step(state, parent, code.clamp(min=0))
        codes, nodes, log_p, mass = legal(logits, node, trie, level, renormalise)  # (B, U, F)
        fair = log_p if renormalise else log_p - mass[..., None]
        fair = fair.masked_fill(nodes < 0, -torch.inf).double()
        drawn_p = weigh(fair)
        drawn_p = drawn_p - drawn_p.logsumexp(-1, keepdim=True).masked_fill(node[..., None] < 0, 0)
        at = _choose(drawn_p.exp(), owner, points[..., level])  # (B, n) of F
        chosen = owner * nodes.shape[2] + at
        taken = nodes.flatten(1).gather(1, chosen)  # (B, n)
        ordered, order = taken.sort(dim=1)
        rank = torch.zeros_like(ordered)
        rank[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).cumsum(1)
        before, chosen = owner.gather(1, order), chosen.gather(1, order)
        width = int(rank.max()) + 1

        def once(column: Tensor, fill: float, rank: Tensor = rank, width: int = width) -> Tensor:
            """A column of the draws, in `order`, for the different prefixes: (B, U)."""
            return column.new_full((users, width), fill).scatter_(1, rank, column)

        scores = once(scores.gather(1, before) + log_p.double().flatten(1).gather(1, chosen), -torch.inf)
        law = once(law.gather(1, before) + drawn_p.flatten(1).gather(1, chosen), -torch.inf)
        node, parent = once(ordered, -1), once(before, 0)
        code = once(codes.flatten(1).gather(1, chosen), -1)
        owner = torch.empty_like(rank).scatter_(1, order, rank)
    node, scores, law = (column.gather(1, owner) for column in (node, scores, law))
    return Draws(trie, node, scores.float(), law)


def _choose(p: Tensor, row: Tensor, points: Tensor) -> Tensor:
    """The place in the distribution `row` (B, n) of p (B, U, F) at which each of `points` (B, n) falls: (B, n)."""
    total = p.cumsum(-1)
    total = torch.where(total[..., -1:] > 0, total / total[..., -1:], 1.0)
    last = (torch.arange(p.shape[2], device=p.device) * (p > 0)).amax(-1)  # (B, U) of the last with probability
    first = torch.arange(p.shape[0] * p.shape[1], device=p.device).view(p.shape[0], -1)  # (B, U)
    mine = first.gather(1, row)
    place = torch.searchsorted((total + first[..., None]).flatten(), points + mine, right=True)
    return torch.minimum((place - mine * p.shape[2]).clamp(min=0), last.gather(1, row))
