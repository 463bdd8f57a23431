"""Examples that have something to show: an item that an edit moves, one that an event matters to, users who differ."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import nn

from seqlab.inspection.influence import lists_of, mask_seen, scores_of

if TYPE_CHECKING:
    from seqlab.datasets.history import History

MATTERS = 0.01
"""The least change of a log-probability (nats) that counts: about 1 % of the probability."""

TELLING = 0.05
"""The least change of a log-probability (nats) that makes an example."""

LISTS_PER_PASS = 64


def movable_item(model: nn.Module, history: History, k: int = 10, seen_filter: bool = False) -> int:
    """The best of the top `k` that leaves the list without one event; else the item that most often enters it.

    If no dropped event changes which items are listed: the last one of the list. The T shortened histories are
    recommended to once.
    """
    shorter = [history.drop(at) for at in range(len(history))] if len(history) > 1 else []
    histories = [history, *shorter]
    first, *others = torch.cat([
        lists_of(model, histories[at : at + LISTS_PER_PASS], k, seen_filter).items
        for at in range(0, len(histories), LISTS_PER_PASS)
    ]).tolist()  # fmt: skip
    listed = [item for item in first if item]
    leaving = [item for item in listed if any(item not in one for one in others)]
    entering = Counter(item for one in others for item in one if item and item not in listed)
    return leaving[0] if leaving else entering.most_common(1)[0][0] if entering else listed[-1]


def supported_item(model: nn.Module, history: History, listed: list[int] | tuple[int, ...]) -> int:
    """The first of the listed items to which an event matters: without it, its log-probability changes by `TELLING`.

    If there is none: the item whose log-probability a single event changes most. Raises `ValueError` for a system
    without `score`.
    """
    if len(history) < 2:
        return listed[0]
    shorter = [history.drop(at) for at in range(len(history))]
    scores = scores_of(model, [history, *shorter]).log_softmax(1)[:, list(listed)]  # (1 + T, k)
    changes = (scores[1:] - scores[0]).abs().amax(0)  # (k,)
    enough = changes >= min(TELLING, float(changes.max()))
    return listed[int(enough.int().argmax())]


def most_different(model: nn.Module, history: History, others: list[History], seen_filter: bool = False) -> int:
    """The place in `others` of the history whose first recommendation gains most over this history (log-probability).

    Histories with the same first recommendation as this one come last. Raises `ValueError` for a system without
    `score`.
    """
    scores = scores_of(model, [history, *others])
    log_p = scores.log_softmax(1)
    first = mask_seen(scores, [history, *others], seen_filter).argmax(1)  # (1 + O,)
    gain = log_p[1:].gather(1, first[1:, None])[:, 0] - log_p[0, first[1:]]  # (O,)
    return int(gain.masked_fill(first[1:] == first[0], -torch.inf).argmax())
