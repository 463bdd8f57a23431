"""Next-item losses over a tied item table, without the full matrix of logits.

Every loss takes the hidden states that have a target, `hidden (M, D)`, the item table `(N + 1, D)` whose row 0 is
padding and never scored, and the targets `(M,)` in 1..N; it returns the mean over the M targets.
"""

from __future__ import annotations

import math
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
    if torch.compiler.is_compiling():  # a compiler would unroll the chunks and fuse none of their products
        # not as a decorator, which imports the compiler: 1.5 s for every process that reads a model
        return torch.compiler.disable(_softmax)(hidden, table, targets)
    return _softmax(hidden, table, targets)


def _softmax(hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        hidden, table = hidden.to(dtype), table.to(dtype)
    return _ChunkedSoftmax.apply(hidden.to(table.dtype), table, targets, rows_at_once(table))


LOG2_E = 1 / math.log(2)
EXP_IS_SAFE = 40.0
"""A sum of exp(+-40) over a catalogue stays far from float32's ends; beyond, the row's highest logit is taken off."""


class _ChunkedSoftmax(torch.autograd.Function):
    """d loss / d logits = softmax - one_hot, so both gradients are accumulated chunk by chunk."""

    @staticmethod
    def forward(ctx, hidden: Tensor, padded: Tensor, targets: Tensor, rows: int) -> Tensor:
        total, table = len(targets), padded[1:]  # (N, D)
        d_hidden, d_padded = torch.empty_like(hidden), torch.zeros_like(padded, dtype=torch.float32)
        d_table, logits = d_padded[1:], hidden.new_empty(min(rows, total), len(table))
        log_sums = hidden.new_empty(total, 1, dtype=torch.float32)
        scaled = hidden * LOG2_E  # 2**(x log2 e) is e**x, and powers of 2 are a third cheaper
        bound = hidden.norm(dim=1).amax() * table.norm(dim=1).amax()  # no logit is larger (Cauchy-Schwarz)
        may_overflow = hidden.dtype == torch.float16 or not bool(bound < EXP_IS_SAFE)  # also where it is not a number
        for first in range(0, total, rows):
            chunk = hidden[first : first + rows]
            weights = logits[: len(chunk)]
            torch.mm(scaled[first : first + rows], table.T, out=weights)  # (rows, N)
            highest = weights.amax(1, keepdim=True) if may_overflow else 0.0
            if may_overflow:
                weights.sub_(highest)
            sums = weights.exp2_().sum(1, keepdim=True, dtype=torch.float32)
            log_sums[first : first + rows] = sums.log() + highest / LOG2_E
            scale = (sums * total).to(chunk.dtype)
            d_hidden[first : first + rows] = (weights @ table) / scale
            if d_table.dtype == chunk.dtype:
                d_table.addmm_(weights.T, chunk / scale)
            else:
                d_table += weights.T @ (chunk / scale)
        wanted = padded[targets]
        loss = (log_sums[:, 0] - (hidden * wanted).sum(1, dtype=torch.float32)).mean()
        d_hidden.sub_(wanted, alpha=1 / total)
        d_padded.index_add_(0, targets, hidden.float(), alpha=-1 / total)
        ctx.save_for_backward(d_hidden, d_padded.to(table.dtype))
        return loss

    @staticmethod
    def backward(ctx, grad: Tensor):
        d_hidden, d_padded = ctx.saved_tensors
        return d_hidden * grad.to(d_hidden.dtype), d_padded * grad.to(d_padded.dtype), None, None


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
