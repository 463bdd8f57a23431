"""S4D: a diagonal linear state-space layer, a convolution in training and a recurrence in decoding.

Gu, Gupta, Goel & Re, "On the Parameterization and Initialization of Diagonal State Space Models", NeurIPS 2022.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.layers.dropout import Dropout
from seqlab.tracing import Tap


class S4D(nn.Module):
    """`h' = A h + x, y = 2 Re(C h) + D x` for each channel, with zero-order hold; then GELU, dropout and a GLU.

    A is diagonal and complex, one of each conjugate pair (S4D-Lin: `A_n = -1/2 + i pi n`); the step dt is learned per
    channel, and log-uniform between `fastest` and `slowest` at first. states: S, a multiple of 2. The layer is the same
    at every position, so what it keeps of an event depends on its age only. Complex numbers are stored as two reals.
    """

    causal = True
    undecayed = slow = ("log_dt", "log_decay", "frequency")

    def __init__(
        self, dim: int, states: int = 64, dropout: float = 0.0, slowest: float = 1e-3, fastest: float = 0.1
    ) -> None:
        super().__init__()
        if states % 2:
            raise ValueError(f"states={states} must be a multiple of 2.")
        pairs = states // 2
        self.log_dt = nn.Parameter(torch.empty(dim).uniform_(math.log(slowest), math.log(fastest)))
        self.log_decay = nn.Parameter(torch.full((dim, pairs), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(1.0 * pairs).repeat(dim, 1))
        self.output = nn.Parameter(torch.randn(dim, pairs, 2) * 0.5**0.5)  # C
        self.skip = nn.Parameter(torch.randn(dim))  # D
        self.dropout = Dropout(dropout)
        self.project_out = nn.Linear(dim, 2 * dim)
        self.mixing = Tap("kernel", "user dim query_event key_event")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D), right-padded, to (B, T, D). mask: (B, T), not needed."""
        # positions stay last, as the convolution has them: copying (B, D, T) to (B, T, D) costs more than the product
        mixed = F.gelu(self._matrix(x) if self.mixing.active else self._convolve(x))  # (B, D, T)
        weight = self.project_out.weight.expand(len(x), -1, -1)
        wide = torch.baddbmm(self.project_out.bias[:, None], weight, self.dropout(mixed))  # (B, 2 D, T)
        return F.glu(wide, 1).transpose(1, 2)  # (B, T, D)

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward`, and the state (B, D, S/2), complex, after the last event of each row.

        mask: (B, T), True where an event is no padding; None: everywhere.
        """
        users, length = x.shape[:2]
        lengths = mask.sum(1) if mask is not None else torch.full((users,), length, device=x.device)
        age = torch.arange(length, device=x.device)
        at = lengths[:, None] - 1 - age  # (B, T)
        x_by_age = x.to(self.skip.dtype).take_along_dim(at.clamp(min=0)[..., None], 1) * (at >= 0)[..., None]
        decay, _ = self._discrete()
        parts = (torch.einsum("btd,dst->bds", x_by_age, part) for part in _powers(decay, age))
        return self(x, mask), torch.complex(*parts)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next event of each row: x (B, D) and the state (B, D, S/2) to the output (B, D) and the new state."""
        decay, output = self._discrete()
        mixed, state = self._advance(x, state, decay.exp(), output)
        return self._transform(mixed), state

    def kernel(self, length: int) -> Tensor:
        """The convolution kernel (D, length): what is left of an event after so many steps, D x included.

        `K_l = 2 Re sum_n C_n exp(dt A_n l)`. With l = i J + j the exponentials are products of those of i J and of j,
        so only 2 sqrt(length) of them are computed for each state.
        """
        inner = math.isqrt(length - 1) + 1
        outer = -(-length // inner)
        decay, output = self._discrete()
        steps = torch.arange(max(inner, outer), device=decay.device)
        real, imaginary = _powers(decay, inner * steps[:outer])  # (D, S/2, I)
        c, s = output.real[..., None], output.imag[..., None]
        left = torch.cat([c * real - s * imaginary, -(c * imaginary + s * real)], 1)  # (D, S, I)
        right = torch.cat(_powers(decay, steps[:inner]), 1)  # (D, S, J)
        with torch.autocast(left.device.type, enabled=False):
            kernel = (left.mT @ right).flatten(1)[:, :length]  # (D, T)
        return torch.cat([kernel[:, :1] + self.skip[:, None], kernel[:, 1:]], 1)

    def convolve(self, x: Tensor) -> Tensor:
        """The causal convolution of x (B, T, D) with the kernel, (B, T, D)."""
        return self._convolve(x).transpose(1, 2)  # (B, T, D)

    def _convolve(self, x: Tensor) -> Tensor:
        """`convolve` with the positions last, (B, D, T), by FFTs that are long enough for nothing to wrap."""
        from scipy.fft import next_fast_len

        length = x.shape[1]
        size = next_fast_len(2 * length - 1, real=True)
        kernel = torch.fft.rfft(self.kernel(length), size)  # (D, F)
        spectrum = torch.fft.rfft(x.to(self.skip.dtype).transpose(1, 2).contiguous(), size)  # (B, D, F)
        return torch.fft.irfft(spectrum * kernel, size)[..., :length]

    def recur(self, x: Tensor) -> Tensor:
        """`convolve`, step by step."""
        decay, output = self._discrete()
        decay, outputs = decay.exp(), []
        state = torch.zeros(len(x), *decay.shape, dtype=decay.dtype, device=x.device)  # (B, D, S/2)
        for event in x.unbind(1):
            mixed, state = self._advance(event, state, decay, output)
            outputs.append(mixed)
        return torch.stack(outputs, 1)

    def _discrete(self) -> tuple[Tensor, Tensor]:
        """dt A and 2 C (exp(dt A) - 1) / A, complex (D, S/2): zero-order hold."""
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        decay = a * self.log_dt.exp()[:, None]
        return decay, 2 * torch.view_as_complex(self.output) * torch.expm1(decay) / a

    def _advance(self, x: Tensor, state: Tensor, decay: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        state = decay * state + x[..., None]
        return (output * state).sum(-1).real + self.skip * x, state

    def _matrix(self, x: Tensor) -> Tensor:
        """`_convolve` as a product with a matrix of events by events, which the tap may change."""
        length = x.shape[1]
        position = torch.arange(length, device=x.device)
        lag = position[:, None] - position  # (T, T)
        matrix = self.kernel(length)[:, lag.clamp(min=0)].masked_fill(lag < 0, 0.0)  # (D, T, T)
        return torch.einsum("bdqk,bkd->bdq", self.mixing(matrix.expand(len(x), -1, -1, -1)), x.to(self.skip.dtype))

    def _transform(self, x: Tensor) -> Tensor:
        """The gate of one event per row, (B, D)."""
        return F.glu(self.project_out(self.dropout(F.gelu(x))))


def _powers(decay: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of `exp(decay steps)`, decay (D, S/2), steps (L,): (D, S/2, L); not complex for speed."""
    size = torch.exp(decay.real[..., None] * steps)
    angle = decay.imag[..., None] * steps
    return size * angle.cos(), size * angle.sin()
