"""The residual stream of a pre-norm Transformer, split into what each head, value and feed-forward layer adds to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqlab import tracing
from seqlab.inspection.layers import Layers
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.transformer import Block


@dataclass
class ResidualStream:
    """What passes through the blocks of a model, of one row, in float64 on the CPU; lists have an entry per block.

    inputs, mixed, outputs: (L, D), the state before a block, what its mixer adds, the state after it. weights (H, L, L)
    and values (H, L, D / H): of attention; None for another mixer.
    """

    blocks: list[Block]
    inputs: list[Tensor]
    mixed: list[Tensor]
    outputs: list[Tensor]
    weights: list[Tensor | None]
    values: list[Tensor | None]

    def parts(self, slope: Tensor) -> list[tuple[str, int, int, int, float]]:
        """The parts of `(slope * outputs[-1]).sum()`, slope (L, D): (part, layer, head, token, value).

        See `attribution.Attribution.parts`.
        """
        tokens = slope.any(1).nonzero()[:, 0]  # (R,) that are read
        along = slope[tokens]  # (R, D)
        first = (self.inputs[0][tokens] * along).sum(1)  # (R,)
        rows = [("input", 0, 0, token, value) for token, value in zip(tokens.tolist(), first.tolist(), strict=True)]
        for at, block in enumerate(self.blocks):
            layer, mixed, fed = at + 1, self.mixed[at], self.outputs[at] - self.inputs[at] - self.mixed[at]  # (L, D)
            if self.weights[at] is None:
                rows.append(("mixer", layer, 0, -1, float((mixed[tokens] * along).sum())))
            else:
                out = block.mixer.project_out
                project = out.weight.double().cpu().unflatten(1, (len(self.weights[at]), -1))  # (D, H, D / H)
                back = torch.einsum("rd,dhe->hre", along, project)
                heads = torch.einsum("hrk,hke,hre->hk", self.weights[at][:, tokens], self.values[at], back)
                for head, values in enumerate(heads.tolist(), 1):
                    rows += [("attention", layer, head, token, value) for token, value in enumerate(values)]
                rows.append(("constant", layer, 0, -1, float((along @ out.bias.double().cpu()).sum())))
            rows.append(("feed-forward", layer, 0, -1, float((fed[tokens] * along).sum())))
        return rows


@contextmanager
def recorded(model: nn.Module, layers: Layers) -> Iterator[ResidualStream]:
    """Record the first row of the last pass that the block runs through these layers, which must be `Block`s."""
    blocks = [*layers.modules]
    stream = ResidualStream(blocks, *([None] * len(blocks) for _ in range(5)))

    def keep(rows: list[Tensor | None], at: int, x: Tensor) -> Tensor:
        rows[at] = x[0].double().cpu()
        return x

    def mixes(at: int, mixer: nn.Module, given: tuple[Any, ...], mixed: Tensor) -> None:
        keep(stream.mixed, at, mixed)
        if isinstance(mixer, Attention):
            keep(stream.values, at, mixer.project(given[0])[2])

    def change(passed: int, layer: int, x: Tensor) -> Tensor:
        if layer:
            keep(stream.outputs, layer - 1, x)
        if layer < len(blocks):
            keep(stream.inputs, layer, x)
        return x

    with ExitStack() as stack:
        for at, block in enumerate(blocks):
            hook = block.mixer.register_forward_hook(lambda mixer, given, mixed, at=at: mixes(at, mixer, given, mixed))
            stack.callback(hook.remove)
        places = {block.mixer.weights: at for at, block in enumerate(blocks) if isinstance(block.mixer, Attention)}
        heads = {
            name: lambda x, at=places[tap]: keep(stream.weights, at, x)
            for name, tap in tracing.taps(model).items() if tap in places
        }  # fmt: skip
        stack.enter_context(tracing.patch(model, heads))
        stack.enter_context(layers.changed(model, change))
        yield stream
