"""The gated recurrent unit (Cho et al., EMNLP 2014), as PyTorch's cell has it: it resets after the product."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.tracing import Tap


class GRU(nn.Module):
    """One GRU layer: the fused kernel, or, while `gates` is watched or patched, an unfused loop with a tap.

    gates (B, T, 2, D): 0 is the reset gate (the share of the previous state that the candidate reads), 1 the update
    gate (the share of the previous state that the candidate replaces). A patch of the gates takes effect in a second
    pass, in which all gates are given.
    """

    causal = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cell = nn.GRU(dim, dim, batch_first=True)
        self.gates = Tap("gates", "user event gate dim")
        self.register_load_state_dict_pre_hook(_rename)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D), right-padded, to (B, T, D). `mask` is not needed."""
        if not self.gates.active:
            return self.cell(x)[0]
        _, gates = self._unfused(x)
        return self._unfused(x, self.gates(gates))[0]

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward`, and the state (B, D) after the last event of each row.

        mask: (B, T), True where x is no padding; None: everywhere.
        """
        states = self(x)
        if mask is None:
            return states, states[:, -1]
        length = mask.sum(1)  # (B,)
        last = states[torch.arange(len(x), device=x.device), length - 1]  # (B, D)
        return states, last * (length > 0)[:, None]

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One more event per row: x, state (B, D) to output and state (B, D), which are the same. No tap sees it."""
        state = self.cell(x[:, None], state[None].contiguous())[0][:, 0]
        return state, state

    def _unfused(self, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The states (B, T, D) and gates (B, T, 2, D). given: gates to use instead of the computed ones."""
        cell = self.cell
        from_input = F.linear(x, cell.weight_ih_l0, cell.bias_ih_l0).unflatten(-1, (3, -1))  # (B, T, 3, D)
        state = torch.zeros_like(x[:, 0])
        states, all_gates = [], []
        for step in range(x.shape[1]):
            from_state = F.linear(state, cell.weight_hh_l0, cell.bias_hh_l0).unflatten(-1, (3, -1))  # (B, 3, D)
            if given is None:
                reset, keep = torch.sigmoid(from_input[:, step, :2] + from_state[:, :2]).unbind(1)
                update = 1 - keep
            else:
                reset, update = given[:, step].unbind(1)
            candidate = torch.tanh(from_input[:, step, 2] + reset * from_state[:, 2])
            state = (1 - update) * state + update * candidate  # (B, D)
            states.append(state)
            all_gates.append(torch.stack([reset, update], 1))
        return torch.stack(states, 1), torch.stack(all_gates, 1)


def _rename(gru: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Give the parameters of a bare `nn.GRU`, as some older runs have them, their names."""
    for name in [name for name in state if name.startswith((f"{prefix}weight_", f"{prefix}bias_"))]:
        state[f"{prefix}cell.{name.removeprefix(prefix)}"] = state.pop(name)
