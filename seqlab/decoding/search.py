"""Searches for the best tuples of a trie: beam search and Diverse Beam Search.

The score. The log-probability of a tuple is the sum over its codes of the model's log-softmax over its whole
vocabulary of the level: probability the model gives to codes that continue no item is lost, not shared out (as in
Hugging Face's `generate` with `prefix_allowed_tokens_fn`). With `renormalise=True` every step is divided by its legal
mass instead, so that the tuples of the catalogue sum to 1: right for models trained on legal codes alone.
`scoring.exact` takes the same switch and gives the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqlab.contracts import Decoder
from seqlab.decoding.beams import Beams, Step
from seqlab.tokenizers.trie import Trie


def legal(logits: Tensor, node: Tensor, trie: Trie, level: int, renormalise: bool) -> tuple[Tensor, ...]:
    """The legal continuations of nodes (B, W) at a level, whose logits are (B, W, K).

    Returns codes, nodes and log-probabilities, all (B, W, F) (-1 and -inf beyond the last), and the log of the legal
    mass (B, W). Raises `ValueError` where a prefix has no legal continuation: searching on without the trie would
    silently invent items. Raises `FloatingPointError` where the logits are not finite.
    """
    if logits.shape[-1] < trie.sizes[level]:
        known, given = trie.sizes[level], logits.shape[-1]
        raise ValueError(f"level {level} has {known} codes, but the model has logits for {given}.")
    codes, nodes = trie.edges(node, level)  # (B, W, F)
    known = nodes >= 0
    stuck = (node >= 0) & ~known.any(-1)
    if bool(stuck.any()):
        user, rank = stuck.nonzero()[0].tolist()
        raise ValueError(
            f"no code may follow the prefix of user row {user}, rank {rank + 1} at level {level}: the trie and the "
            "search do not belong together."
        )
    log_p = logits.float().log_softmax(-1).gather(-1, codes.clamp(min=0)).masked_fill(~known, -torch.inf)
    mass = log_p.logsumexp(-1)  # (B, W)
    if not bool((mass.isfinite() | (node < 0)).all()):
        raise FloatingPointError(f"the model's logits at level {level} are not finite; training may have diverged.")
    if renormalise:
        log_p = torch.where(known, log_p - mass[..., None], log_p)
    return codes, nodes, log_p, mass


@torch.no_grad()
def beam(decoder: Decoder, trie: Trie, width: int, renormalise: bool = False, keep: int = 0) -> Beams:
    """The `width` most probable prefixes of every length, users and beams at once; a step costs one decoder step.

    Exact where `width` is at least the number of prefixes of every level; else a good prefix may be dropped early.
    `keep`: how many of the best dropped prefixes every `Step` shows. Raises `ValueError` for a width below 1 and
    where no continuation is legal.
    """
    if width < 1:
        raise ValueError(f"a beam needs a width of at least 1 (got {width}).")
    logits, state = decoder.start()
    node, scores = _root(logits)
    parent = code = node
    steps = []
    for level in range(trie.levels):
        if level:
            logits, state = decoder.step(state, parent, code.clamp(min=0))
        codes, nodes, log_p, mass = legal(logits, node, trie, level, renormalise)
        totals = scores[..., None] + log_p  # (B, W, F)
        width_here = min(width, trie.starts[level + 2] - trie.starts[level + 1], totals[0].numel())
        found = _best(codes, nodes, totals, width_here + keep)
        before, illegal = scores.exp(), -mass.expm1().clamp(max=0)  # (B, W)
        node, parent, code, scores = (column[:, :width_here] for column in found)
        live = scores.exp().sum(1)
        steps.append(
            Step(node, parent, code, scores, *(column[:, width_here:] for column in found), live=live,
                 pruned=(totals.exp().sum((1, 2)) - live).clamp(min=0), illegal=(before * illegal).nansum(1))
        )  # fmt: skip
    return Beams(trie, node, scores, tuple(steps))


@torch.no_grad()
def diverse(
    decoder: Decoder, trie: Trie, width: int, groups: int, strength: float = 0.5, renormalise: bool = False
) -> Beams:
    """Diverse Beam Search (Vijayakumar et al. 2018, Hamming diversity): `groups` beams of `width / groups` each.

    Groups choose in turn: a code that earlier groups chose n times at the same level is penalised by n `strength` in
    the choice, not in the score. Groups may share prefixes; a finished tuple belongs to the group that took it
    first. Returned in the order of their log-probabilities; one group is `beam`. A step costs one decoder step.
    """
    if groups < 1 or width < groups or width % groups:
        raise ValueError(f"width={width} must be a multiple of groups={groups}, and both at least 1.")
    logits, state = decoder.start()
    node, scores = _root(logits, groups)
    logits, parent, code = logits.expand(-1, groups, -1), node, node
    for level in range(trie.levels):
        if level:
            logits, state = decoder.step(state, parent, code.clamp(min=0))
        codes, nodes, log_p, _ = legal(logits, node, trie, level, renormalise)
        totals = scores[..., None] + log_p  # (B, G w, F)
        size, choices = trie.sizes[level], totals[0].numel() // groups
        slots, ends = torch.where(codes < 0, size, codes).flatten(1), nodes.flatten(1)
        taken = totals.new_zeros(len(totals), size + 1)  # (B, K + 1) how often each code was; the last stands for none
        at, none = [], []
        for group in range(groups):
            mine = slice(group * choices, (group + 1) * choices)
            worth = totals.flatten(1)[:, mine] - strength * taken.gather(1, slots[:, mine])
            if level == trie.levels - 1 and at:
                gone = ends.gather(1, torch.cat(at, 1)).masked_fill(torch.cat(none, 1), -2)
                worth = worth.masked_fill((ends[:, mine, None] == gone[:, None]).any(-1), -torch.inf)
            best, place = worth.topk(min(width // groups, choices), dim=1)
            at.append(place + mine.start)
            none.append(best == -torch.inf)
            taken.scatter_add_(1, slots.gather(1, at[-1]), torch.ones_like(best))
        node, parent, code, scores = _pick(codes, nodes, totals, torch.cat(at, 1), torch.cat(none, 1))
        if not level:
            parent = torch.zeros_like(parent)  # all groups grow from the one root
    return in_order(trie, node, scores)


def _root(logits: Tensor, width: int = 1) -> tuple[Tensor, Tensor]:
    """The root with log-probability 0 for every user: nodes and scores (B, W)."""
    node = torch.zeros(len(logits), width, dtype=torch.long, device=logits.device)
    return node, node.float()


def _best(codes: Tensor, nodes: Tensor, totals: Tensor, amount: int) -> tuple[Tensor, ...]:
    """The best of the candidates (B, W, F): node, parent, code, score (B, amount); -1 and -inf beyond the last."""
    best, at = totals.flatten(1).topk(min(amount, totals[0].numel()), dim=1)
    return _pick(codes, nodes, totals, at, best == -torch.inf)


def _pick(codes: Tensor, nodes: Tensor, totals: Tensor, at: Tensor, none: Tensor) -> tuple[Tensor, ...]:
    node, code = (column.flatten(1).gather(1, at).masked_fill(none, -1) for column in (nodes, codes))
    return node, at // totals.shape[-1], code, totals.flatten(1).gather(1, at).masked_fill(none, -torch.inf)


def in_order(trie: Trie, node: Tensor, scores: Tensor) -> Beams:
    """Tuples (B, W), each once or -1, as beams: the best first."""
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return Beams(trie, node.gather(1, order), scores)
