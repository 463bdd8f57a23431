"""Sequence mixers: modules through which the positions of a sequence exchange information. One file = one mixer, except
`scan`, which holds what some of them compute with.

A `Block` takes any of them. A class of this package that has `causal` is a mixer, and the contract tests of
`tests/layers/mixers` build it as `Mixer(dim)`, with each value of `causal` where the constructor takes it.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Mixer(Protocol):
    """Maps a sequence (B, T, D) to one of the same shape; rows are right-padded.

    causal: whether the output at a position depends on the positions up to it only. A causal mixer over rows padded on
    the right needs no padding mask; one that is not causal needs it.
    """

    causal: bool

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, D) to (B, T, D). mask: (B, T), True where a position is no padding; None: everywhere.

        The outputs at padding have no meaning. Attention also takes a mask (B or 1, Q, K), see there.
        """
        ...


class CausalMixer(Mixer, Protocol):
    """A mixer that can go on from a state: T steps equal one forward pass over T positions."""

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        """`forward`, and the state after the last position of each row that is no padding; of an empty row, the first.

        The state is read by `step` alone.
        """
        ...

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One more position per row: x (B, D) to (B, D), and the state after it; `state` is not modified."""
        ...
