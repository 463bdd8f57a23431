"""The layers of a model in one forward pass: what goes in at the first one, and what comes out at each "hidden" tap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from seqlab import tracing
from seqlab.tracing import Tap

Change = Callable[[int, int, Tensor], Tensor]
"""From the number of the pass (from 0), the layer (0: the input of the first one) and its tensor to the tensor to use
instead."""


@dataclass(frozen=True, eq=False)
class Layers:
    """The layers that a forward pass goes through, in its order.

    taps: the paths of their "hidden" taps. modules: those whose output the taps see; None where no module with an input
    (B, L, D) has that output. passes: how often they are gone through, such as once per reasoning step. width: D.
    """

    taps: tuple[str, ...]
    modules: tuple[nn.Module | None, ...]
    passes: int
    width: int

    @property
    def has_input(self) -> bool:
        """Whether the input of the first layer is known."""
        return self.modules[0] is not None

    @property
    def labels(self) -> list[str]:
        """The names of the states: "input", "layer 1", "layer 2", ...; without an input from "layer 1"."""
        return [*["input"] * self.has_input, *(f"layer {at}" for at in range(1, len(self.taps) + 1))]

    @property
    def mixers(self) -> list[nn.Module | None]:
        """What mixes the positions in each layer: the mixer of a block, or the whole layer."""
        return [getattr(module, "mixer", module) for module in self.modules]

    @contextmanager
    def changed(self, model: nn.Module, change: Change) -> Iterator[None]:
        """Replace the input of the first layer and the output of every layer while the block runs."""
        passed = 0

        def before(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return (change(passed, 0, given[0]), *given[1:])

        def after(layer: int, x: Tensor) -> Tensor:
            nonlocal passed
            x = change(passed, layer, x)
            passed += layer == len(self.taps)
            return x

        with ExitStack() as stack:
            if self.has_input:
                stack.callback(self.modules[0].register_forward_pre_hook(before).remove)
            changes = {name: lambda x, at=at: after(at, x) for at, name in enumerate(self.taps, 1)}
            stack.enter_context(tracing.patch(model, changes))
            yield


def first(out: Any) -> Any:
    """The output of a module, or the first of several, as of `nn.GRU`."""
    return out[0] if isinstance(out, tuple) else out


def layers_of(model: nn.Module, run: Callable[[], object]) -> Layers:
    """The layers that `run()`, a forward pass of `model`, goes through.

    Raises `ValueError` if it passes no "hidden" tap, or if its layers do not follow one another.
    """
    passed: list[tuple[str, Tensor]] = []
    made: list[tuple[nn.Module, Tensor]] = []

    def note(name: str, x: Tensor) -> Tensor:
        passed.append((name, x))
        return x

    def after(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        x = first(out)
        if not (isinstance(x, Tensor) and given and isinstance(given[0], Tensor)):
            return
        if given[0].shape == x.shape and given[0] is not x:
            made.append((module, x))

    names = [name for name, tap in tracing.taps(model).items() if tap.kind == "hidden"]
    with ExitStack() as stack:
        for module in model.modules():
            if not isinstance(module, Tap):
                stack.callback(module.register_forward_hook(after).remove)
        stack.enter_context(tracing.patch(model, {name: lambda x, name=name: note(name, x) for name in names}))
        run()
    name = type(model).__name__
    if not passed:
        raise ValueError(f"{name} has no layers to look at: its scores pass no tap of the kind “hidden”")
    order = tuple(dict.fromkeys(name for name, _ in passed))
    states = dict(passed)  # of the last pass
    passes = len(passed) // len(order)
    if [name for name, _ in passed] != [*order] * passes or len({state.shape for state in states.values()}) > 1:
        raise ValueError(f"the layers of {name} do not follow one another, so their states cannot be compared")
    # a block returns after the modules inside it, of which the last may have the same output
    modules = tuple(next((module for module, x in reversed(made) if x is states[name]), None) for name in order)
    return Layers(order, modules, passes, states[order[0]].shape[-1])
