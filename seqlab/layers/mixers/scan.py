"""The selective scan of state-space models over time, with a backward pass of its own.

Autograd over a loop keeps every state and every decay, and copies each gradient of a slice into a tensor of the size of
the whole. Here the recurrence runs in place, one operation per step, through time in blocks that fit into the
processor's cache; it keeps one state per block, and computes the rest again in the backward pass. It is sequential in
the decays, so nothing is divided by a product of decays, which underflows where they are strong. The plain form
(`selective_loop`) is the definition.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 1 << 16
"""Numbers in each of the three buffers of a block of steps, on a CPU."""


def selective_loop(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`selective_scan`, step by step."""
    decay = torch.exp(dt[..., None] * A)  # (B, T, D, S)
    inputs = (dt * x)[..., None] * B[:, :, None]  # (B, T, D, S)
    state = torch.zeros_like(inputs[:, 0]) if initial is None else initial
    outputs = []
    for a, b, c in zip(decay.unbind(1), inputs.unbind(1), C.unbind(1), strict=True):
        state = a * state + b  # (B, D, S)
        outputs.append((state @ c[..., None])[..., 0])  # (B, D)
    return torch.stack(outputs, 1), state


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The outputs (B, T, D) and the last state (B, D, S) of a selective state-space model (Gu & Dao 2023, section 3).

    Per channel d and state s: `h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t`, `y_t = sum over s of C_t h_t`.
    x, dt: (B, T, D), dt >= 0; where dt is 0 the state stays. A: (D, S), below 0. B, C: (B, T, S). initial: the state
    (B, D, S) before the first step; None: 0. Half precision is computed in single precision. Differentiable once.
    """
    if x.dtype in (torch.bfloat16, torch.float16):
        x = x.float()
    dt, A, B, C = (part.to(x.dtype) for part in (dt, A, B, C))
    initial = x.new_zeros(len(x), *A.shape) if initial is None else initial.to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return _SelectiveScan.apply(x, dt, A, B, C, initial)


class _SelectiveScan(torch.autograd.Function):
    """Buffers are (time, users, states, channels): channels are innermost, for vector instructions."""

    @staticmethod
    def forward(ctx, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        length = x.shape[1]
        inputs, dt_, B_, C_ = (part.transpose(0, 1).contiguous() for part in (dt * x, dt, B, C))
        A_ = A.T.contiguous()  # (S, D)
        block = _Block(A_, len(x), length)
        outputs = torch.empty_like(inputs)  # (T, B, D)
        starts = x.new_empty(len(range(0, length, block.steps)), len(x), *A_.shape)
        state = block.states[0].copy_(initial.transpose(1, 2))  # (B, S, D)
        for start, first in zip(starts, range(0, length, block.steps), strict=True):
            start.copy_(state)
            part = slice(first, first + block.steps)
            steps = block.run(dt_[part], inputs[part], B_[part])
            torch.bmm(_rows(C_[part]), _matrices(block.states[1 : steps + 1]), out=_rows(outputs[part]))
            state.copy_(block.states[steps])
        ctx.save_for_backward(x, A_, inputs, dt_, B_, C_, starts)
        return outputs.transpose(0, 1), state.transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, grad_state: Tensor) -> tuple[Tensor, ...]:
        x, A, inputs, dt, B, C, starts = ctx.saved_tensors
        length, users = inputs.shape[:2]
        grad = grad.transpose(0, 1).contiguous()  # (T, B, D)
        to_inputs, to_dt, to_B, to_C = (torch.empty_like(part) for part in (inputs, dt, B, C))
        to_A = torch.zeros_like(A)
        block = _Block(A, users, length)
        grads = torch.empty_like(block.decays)
        at, decay_at = grads.unbind(), block.decay_at
        carry = grad_state.transpose(1, 2).contiguous()  # (B, S, D): from the steps after the block
        for index in range(len(starts) - 1, -1, -1):
            part = slice(index * block.steps, (index + 1) * block.steps)
            block.states[0].copy_(starts[index])
            steps = block.run(dt[part], inputs[part], B[part])
            decays, states, g = block.decays[:steps], block.states[: steps + 1], grads[:steps]
            torch.mul(C[part][..., None], grad[part][:, :, None], out=g)
            at[steps - 1].add_(carry)
            for t in range(steps - 2, -1, -1):
                at[t].addcmul_(decay_at[t + 1], at[t + 1])
            torch.mul(decay_at[0], at[0], out=carry)
            torch.bmm(_rows(grad[part]), _matrices(states[1:]).mT, out=_rows(to_C[part]))
            torch.bmm(_rows(inputs[part]), _matrices(g).mT, out=_rows(to_B[part]))
            torch.bmm(_rows(B[part]), _matrices(g), out=_rows(to_inputs[part]))
            g.mul_(states[:-1]).mul_(decays)  # the gradient of dt A
            torch.sum(torch.mul(g, A, out=decays), 2, out=to_dt[part])
            to_A += g.mul_(dt[part][:, :, None]).sum((0, 1))
        to_inputs, to_dt, to_B, to_C = (part.transpose(0, 1) for part in (to_inputs, to_dt, to_B, to_C))
        dt = dt.transpose(0, 1)
        return to_inputs * dt, to_dt.addcmul_(to_inputs, x), to_A.T, to_B, to_C, carry.transpose(1, 2)


class _Block:
    """Decays and states of some consecutive steps, in buffers that the blocks share."""

    def __init__(self, A: Tensor, users: int, length: int) -> None:
        size = BLOCK if A.device.type == "cpu" else 64 * BLOCK
        self.A = A * math.log2(math.e)  # exp2 takes a third of the time of exp on a CPU
        self.steps = min(length, max(1, size // max(users * A.numel(), 1)))
        self.decays = A.new_empty(self.steps, users, *A.shape)  # (K, B, S, D)
        self.states = A.new_empty(self.steps + 1, users, *A.shape)  # [0] is the state before the block
        self.state_at, self.decay_at = self.states.unbind(), self.decays.unbind()

    def run(self, dt: Tensor, inputs: Tensor, B: Tensor) -> int:
        """Fill the buffers from dt, inputs = dt x (K, B, D) and B (K, B, S); the number of steps K."""
        steps = len(dt)
        torch.mul(dt[:, :, None], self.A, out=self.decays[:steps]).exp2_()
        torch.mul(B[..., None], inputs[:, :, None], out=self.states[1 : steps + 1])
        for t in range(steps):
            self.state_at[t + 1].addcmul_(self.decay_at[t], self.state_at[t])
        return steps


def _matrices(x: Tensor) -> Tensor:
    """(K, B, S, D) as a batch of matrices (K B, S, D)."""
    return x.flatten(0, 1)


def _rows(x: Tensor) -> Tensor:
    """(K, B, X) as a batch of matrices with one row (K B, 1, X); with one column, bmm takes six times as long."""
    return x.flatten(0, 1).unsqueeze(1)
