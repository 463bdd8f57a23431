"""The selective state-space layer of Mamba, in pure PyTorch.

Gu & Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", COLM 2024.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.layers.mixers.scan import selective_scan
from seqlab.tracing import Tap

State = tuple[Tensor, Tensor]
"""The inputs of the convolution at the last events (B, width - 1, D'), and the state of the scan (B, D', S)."""


class SelectiveSSM(nn.Module):
    """`h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t, y_t = C_t h_t + D x_t`, where dt, B and C depend on x_t.

    x is the first half of a projection of the input to 2 D', after a causal depthwise convolution and SiLU; the second
    half gates y. A step dt near 0 ignores the event and keeps the state; a large one replaces the state.
    states: S per channel. width: of the convolution. expand: D' / D. The bias of dt is such that softplus(bias) is
    log-uniform between `slowest` and `fastest`; an initialization of all linear layers would undo it.

    Taps: gates (B, T, D') is dt; kernel (B, D', T, T) is how much of each event's x is in each y.
    """

    causal = True
    undecayed = ("log_decay", "skip")

    def __init__(
        self,
        dim: int,
        states: int = 16,
        width: int = 4,
        expand: int = 2,
        slowest: float = 1e-3,
        fastest: float = 0.1,
    ) -> None:
        super().__init__()
        inner, rank = expand * dim, math.ceil(dim / 16)
        self.sizes = rank, states, states
        self.project_in = nn.Linear(dim, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, width, groups=inner)
        self.select = nn.Linear(inner, sum(self.sizes), bias=False)
        self.dt = nn.Linear(rank, inner)
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))  # (D', S) log(-A)
        self.skip = nn.Parameter(torch.ones(inner))  # D
        self.project_out = nn.Linear(inner, dim, bias=False)
        self.gates = Tap("gates", "user event dim")
        self.mixing = Tap("kernel", "user dim query_event key_event")
        with torch.no_grad():
            dt = torch.empty(inner).uniform_(math.log(slowest), math.log(fastest)).exp()
            self.dt.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
            self.dt.weight.uniform_(-(rank**-0.5), rank**-0.5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D), right-padded, to (B, T, D). mask: (B, T), not needed."""
        return self._run(x, None)[0]

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        """`forward`, and the state after the last event of each row.

        mask: (B, T), True where an event is no padding; None: everywhere.
        """
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        y, inputs, state = self._run(x, mask)
        before = self.conv.kernel_size[0] - 1
        padded = F.pad(inputs, (0, 0, before, 0))  # (B, T + W - 1, D'): its row t ends with event t - W + 1
        at = mask.sum(1)[:, None] + torch.arange(before, device=x.device)  # (B, W - 1)
        return y, (padded.take_along_dim(at[..., None], 1), state)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The next event of each row: x (B, D) and the state to the output (B, D) and the new state."""
        window, hidden = state
        x, gate = self.project_in(x).chunk(2, -1)  # (B, D')
        window = torch.cat([window, x[:, None]], 1)  # (B, W, D')
        x = F.silu((window * self.conv.weight[:, 0].T).sum(1) + self.conv.bias)
        dt, B, C = self._selection(x)
        hidden = torch.exp(dt[..., None] * self._A()) * hidden + (dt * x)[..., None] * B[:, None]  # (B, D', S)
        y = (hidden @ C[..., None])[..., 0] + self.skip * x
        return self.project_out(y * F.silu(gate)), (window[:, 1:], hidden)

    def _run(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs, the inputs of the convolution, and the last state, which padding changes without a mask."""
        inputs, gate = self.project_in(x).chunk(2, -1)  # (B, T, D')
        x = F.silu(self._convolve(inputs))
        dt, B, C = self._selection(x)
        dt = self.gates(dt)
        if mask is not None:
            dt = dt * mask[..., None]  # a step of 0 keeps the state
        y, state = selective_scan(x, dt, self._A(), B, C)
        if self.mixing.active:
            y = torch.einsum("bdqk,bkd->bqd", self.mixing(self._matrix(dt, B, C)), x)
        else:
            y = y + self.skip * x
        return self.project_out(y * F.silu(gate)), inputs, state

    def _A(self) -> Tensor:
        return -self.log_decay.exp()

    def _convolve(self, x: Tensor) -> Tensor:
        """The causal depthwise convolution of x (B, T, D')."""
        padded = F.pad(x.transpose(1, 2), (self.conv.kernel_size[0] - 1, 0))  # (B, D', T + W - 1)
        return self.conv(padded).transpose(1, 2)  # (B, T, D')

    def _selection(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dt (..., D'), B and C (..., S) of x (..., D'), not in half precision."""
        kind = self.skip.dtype
        rank, B, C = self.select(x).split(self.sizes, -1)
        return F.softplus(self.dt(rank).to(kind)), B.to(kind), C.to(kind)

    def _matrix(self, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """The scan and the skip as a matrix of events by events (B, D', T, T) (Ali et al. 2024, section 3)."""
        length = dt.shape[1]
        before = torch.ones(length, length, dtype=torch.bool, device=dt.device).tril()  # (T, T)
        since = dt.transpose(1, 2).cumsum(-1)  # (B, D', T)
        since = (since[..., None] - since[:, :, None]).masked_fill(~before, 0.0)  # (B, D', T, T) time from key to query
        matrix = torch.zeros_like(since)
        for decay, b, c in zip(self._A().unbind(1), B.unbind(2), C.unbind(2), strict=True):  # over the states
            matrix += torch.exp(decay[:, None, None] * since) * (c[:, :, None] * b[:, None])[:, None]
        matrix = (matrix * dt.transpose(1, 2)[:, :, None]).masked_fill(~before, 0.0)
        return matrix + torch.diag_embed(self.skip[:, None].expand(-1, length))
