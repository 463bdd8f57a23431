"""The cross-entropy over a whole catalogue, computed chunk by chunk; `losses.softmax` is its public form."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.compiler.disable  # a compiler would unroll the chunks and fuse none of their products
def softmax(hidden: Tensor, table: Tensor, targets: Tensor, rows: int) -> Tensor:
    """As `losses.softmax`, `rows` of the logits at a time."""
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        hidden, table = hidden.to(dtype), table.to(dtype)
    return _ChunkedSoftmax.apply(hidden.to(table.dtype), table, targets, rows)


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
