"""Next-item losses over a tied item table, without the full matrix of logits.

Every loss takes the hidden states that have a target, `hidden (M, D)`, the item table `(N + 1, D)` whose row 0 is
padding and never scored, and the targets `(M,)` in 1..N; it returns the mean over the M targets.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Name = Literal["softmax", "sampled_softmax", "bce", "gbce"]


def rows_at_once(table: Tensor) -> int:
    """Rows of logits over `table` per chunk: fewer multiply more slowly, more leave a CPU's cache."""
    if table.device.type == "cpu":
        return min(256, max(64, (1 << 21) // len(table)))
    return max(64, (1 << 27) // len(table))


def softmax(hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the whole catalogue without ever holding the (M, N) logits.

    Loss and gradients come out of one pass over chunks of rows, so nothing is computed twice. Under autocast the
    products have its precision.
    """
    from seqlab.layers.chunked_softmax import softmax as chunked  # imports torch's compiler: a second

    return chunked(hidden, table, targets, rows_at_once(table))


def sampled_softmax(hidden: Tensor, table: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Cross-entropy over the target and `negatives (K,)`, one uniform draw shared by the whole batch.

    Negatives that equal a row's target are left out of that row. Draws that are not uniform would need the logarithm of
    their probability taken off the logits (Bengio & Senécal 2008; Yi et al. 2019).
    """
    positive = (hidden * table[targets]).sum(-1, keepdim=True)  # (M, 1)
    negative = hidden @ table[negatives].T  # (M, K)
    negative = negative.masked_fill(negatives == targets[:, None], -torch.inf)
    logits = torch.cat([positive, negative], 1)  # (M, 1 + K)
    return F.cross_entropy(logits, torch.zeros_like(targets))


def bce(hidden: Tensor, table: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Binary cross-entropy against `negatives` (M, K), drawn for every row (SASRec 2018, equation 7, with K = 1)."""
    return gbce(hidden, table, targets, negatives, calibration=0.0)


def gbce(hidden: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, calibration: float = 0.75) -> Tensor:
    """Generalised binary cross-entropy: the positive's probability raised to beta (gSASRec, RecSys 2023, equation 6).

    `negatives`: (M, K). `calibration` is the paper's t: 0 is plain BCE, 1 gives calibrated probabilities.
    """
    drawn = negatives.shape[1]
    share = drawn / (len(table) - 2)  # alpha = K / (N - 1); the table has a padding row
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    positive = (hidden * table[targets]).sum(-1)  # (M,)
    negative = torch.einsum("md,mkd->mk", hidden, table[negatives])  # (M, K)
    return (-beta * F.logsigmoid(positive) + F.softplus(negative).sum(1)).mean() / (drawn + 1)


def next_item_loss(
    name: Name, hidden: Tensor, table: Tensor, targets: Tensor, negatives: int, calibration: float = 0.75
) -> Tensor:
    """The loss of that name, with `negatives` uniform draws where it samples.

    "softmax" reads the whole catalogue; "sampled_softmax" shares its draws in the batch; "bce" and "gbce" draw for
    every row. Raises `ValueError` for another name.
    """
    if name == "softmax":
        return softmax(hidden, table, targets)
    shape = (negatives,) if name == "sampled_softmax" else (len(targets), negatives)
    drawn = torch.randint(1, len(table), shape, device=hidden.device)
    if name == "sampled_softmax":
        return sampled_softmax(hidden, table, targets, drawn)
    if name == "bce":
        return bce(hidden, table, targets, drawn)
    if name == "gbce":
        return gbce(hidden, table, targets, drawn, calibration)
    raise ValueError(f"loss {name!r} is unknown; there are softmax, sampled_softmax, bce and gbce.")
