"""The part of a model after its last layer, as an affine map: norms and activations keep their scales and gates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqlab.datasets.history import batch_of
from seqlab.inspection.layers import Layers
from seqlab.runtime.modules import device_of

if TYPE_CHECKING:
    from seqlab.datasets.history import History

NORMS = (nn.LayerNorm, nn.RMSNorm)
ACTIVATIONS = (nn.GELU, nn.ReLU, nn.SiLU, nn.Tanh)
"""Activations that are the input times a gate, 0 at 0."""


@dataclass(frozen=True)
class Readout:
    """`score(item) = slope . states + constant`, given the scales of norms and the gates of activations.

    scores, constants: (N + 1), for every item, float64 on the CPU. slope: the gradient (L, D) of the score of an item,
    or of the difference of two, with respect to the last layer's states of the L tokens.
    """

    scores: Tensor
    constants: Tensor
    slope: Tensor


def affine_readout(model: nn.Module, history: History, layers: Layers, item: int, other: int = 0) -> Readout | None:
    """The readout of a model for one history; None where it is not affine, as with a softmax over the catalogue.

    A norm is linear given its scale, and an activation such as GELU, x times a gate, given its gate. Three rows pass
    with those of the first: the states as they are, half of them, and zeros, whose scores must lie on a line.
    """
    batch = batch_of([history] * 3, model.config.max_length).to(device_of(model))
    leaf: Tensor | None = None

    def change(passed: int, layer: int, x: Tensor) -> Tensor:
        nonlocal leaf
        if (passed, layer) != (layers.passes - 1, len(layers.taps)):
            return x
        leaf = x[:1].detach().requires_grad_()
        return torch.cat([leaf, x[1:2].detach() / 2, torch.zeros_like(x[2:])])

    with torch.enable_grad(), _frozen(model, lambda: leaf is not None), layers.changed(model, change):
        scores = model.score(batch)  # (3, N + 1)
        (slope,) = torch.autograd.grad(scores[0, item] - (scores[0, other] if other else 0), leaf)
    whole, half, none = scores.detach().double().cpu()
    if not torch.allclose(half[1:], (whole + none)[1:] / 2, rtol=0, atol=1e-4 * float(whole[1:].abs().max())):
        return None
    return Readout(whole, none, slope[0].double().cpu())


@contextmanager
def _frozen(model: nn.Module, begun: Any) -> Iterator[None]:
    """Norms and activations, once `begun()`, use for all rows of a batch the scale or the gate of the first."""

    def norm(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> Tensor:
        if not begun():
            return out
        x, eps = given[0], torch.finfo(out.dtype).eps if module.eps is None else module.eps
        if isinstance(module, nn.LayerNorm):
            x = x - x.mean(-1, keepdim=True)
        x = x * (x[:1].square().mean(-1, keepdim=True) + eps).rsqrt().detach()
        x = x if module.weight is None else x * module.weight
        return x if getattr(module, "bias", None) is None else x + module.bias  # an RMSNorm has no bias

    def activation(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> Tensor:
        x = given[0]
        return x * (out[:1] / x[:1].where(x[:1] != 0, 1.0)).detach() if begun() else out

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, NORMS + ACTIVATIONS):
                hook = norm if isinstance(module, NORMS) else activation
                stack.callback(module.register_forward_hook(hook).remove)
        yield
