"""Exact scores of the whole catalogue without a search: the reference for the errors of a search."""

from __future__ import annotations

import torch
from torch import Tensor

from seqlab.contracts import Decoder
from seqlab.decoding.search import legal
from seqlab.tokenizers.trie import Trie

ROWS_AT_ONCE = 1 << 13
"""Users times prefixes that are in a decoder at a time."""


@torch.no_grad()
def exact(decoder: Decoder, trie: Trie, renormalise: bool = False) -> Tensor:
    """The log-probability of every item, its tuple forced through the decoder: (B, N + 1), column 0 is -inf.

    Prefixes that tuples share are computed once; the catalogue goes through in chunks, so memory does not grow with
    it. What a score is, and `renormalise`, are `search.beam`'s. Items with equal tuples have equal scores.
    """
    logits, start = decoder.start()
    users, first_leaf = len(logits), trie.starts[trie.levels]
    leaves = trie.n_nodes - first_leaf
    scores = logits.new_empty(users, leaves, dtype=torch.float32)
    chunk = max(1, ROWS_AT_ONCE // users)
    for begin in range(0, leaves, chunk):
        leaf = torch.arange(first_leaf + begin, first_leaf + min(begin + chunk, leaves), device=logits.device)
        tuples = trie.path(leaf)  # (n, C), neighbours share prefixes
        nodes = leaf.new_zeros(1)  # the prefixes of this chunk at this level, and their scores (B, P)
        total, step_logits, state = logits.new_zeros(users, 1, dtype=torch.float32), logits, start
        for level in range(trie.levels):
            reached, place = trie.find(tuples[:, : level + 1]).unique_consecutive(return_inverse=True)
            one = torch.zeros_like(reached).scatter_(0, place, torch.arange(len(place), device=place.device))
            code = tuples[one, level]  # (P',) of the longer prefixes, from one tuple each
            parent = torch.searchsorted(nodes, trie.find(tuples[one, :level]))
            gain = step_logits.float().log_softmax(-1)[:, parent, code]  # (B, P')
            if renormalise:
                gain = gain - legal(step_logits, nodes.expand(users, -1), trie, level, True)[3][:, parent]
            total = total[:, parent] + gain
            nodes = reached
            if level + 1 < trie.levels:
                step_logits, state = decoder.step(state, parent.expand(users, -1), code.expand(users, -1))
        scores[:, begin : begin + len(leaf)] = total
    result = scores.new_full((users, len(trie.order) + 1), -torch.inf)
    per_leaf = trie.size(torch.arange(first_leaf, trie.n_nodes, device=logits.device))
    result[:, trie.order] = scores.repeat_interleave(per_leaf, dim=1)
    return result


def parallel(log_p: Tensor | list[Tensor], codes: Tensor) -> Tensor:
    """Exact scores where the slots are independent: the sum over slots of the item's code there, (B, N + 1).

    log_p: (B, C, K), or one (B, K_c) per slot, log-probabilities; codes: (N + 1, C). Column 0 is -inf. The scores
    are those of the model over all tuples, legal or not.
    """
    slots = log_p if isinstance(log_p, list) else list(log_p.unbind(1))
    if len(slots) != codes.shape[1]:
        raise ValueError(f"items have {codes.shape[1]} codes, but there are {len(slots)} slots of log-probabilities.")
    scores = sum(slot.index_select(1, codes[:, place]) for place, slot in enumerate(slots))  # (B, N + 1)
    scores[:, 0] = -torch.inf
    return scores
