"""See and change what passes inside a model, without editing it.

A model puts a `Tap`, an identity module, at every place worth looking. `watch` records what passes the taps,
`patch` replaces it. Nobody watching costs one empty loop per tap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import pandas as pd


class Tap(nn.Module):
    """Marks a tensor as worth looking at.

    `kind` is the name a `Trace` collects it under ("attention", "hidden", "gates"); `axes` names its dimensions,
    one word each, e.g. `"user head query key"`.
    """

    def __init__(self, kind: str, axes: str) -> None:
        super().__init__()
        self.kind = kind
        self.axes = tuple(axes.split())
        self._visitors: list[Callable[[Tensor], Tensor]] = []

    @property
    def active(self) -> bool:
        """Whether anybody watches or patches; a module may take a faster road when nobody does."""
        return bool(self._visitors)

    def forward(self, x: Tensor) -> Tensor:
        for visit in self._visitors:
            x = visit(x)
        return x

    def extra_repr(self) -> str:
        return f"{self.kind}: {' '.join(self.axes)}"


class Record:
    """What passed the taps of one kind during the last forward pass.

    `values` has the taps' own axes; with more than one tap it has a leading axis `layer`, one entry per tap in the
    order of the forward pass. `taps` names the modules behind the layers.
    """

    def __init__(self, kind: str, axes: tuple[str, ...], values: Tensor, taps: tuple[str, ...]) -> None:
        self.kind, self.axes, self.values, self.taps = kind, axes, values, taps

    def __repr__(self) -> str:
        shape = ", ".join(f"{axis}={size}" for axis, size in zip(self.axes, self.values.shape, strict=True))
        return f"Record({self.kind}: {shape})"

    def frame(self) -> pd.DataFrame:
        """A tidy table: one column per axis holding the index along it (from 0), and `value`."""
        import pandas as pd

        index = pd.MultiIndex.from_product([range(size) for size in self.values.shape], names=list(self.axes))
        return pd.DataFrame({"value": self.values.flatten().numpy()}, index=index).reset_index()


class Trace(Mapping[str, Record]):
    """The records of one watched forward pass, by kind ("attention") or by the tap's own name ("blocks.0.tap")."""

    def __init__(self) -> None:
        self._passed: dict[str, tuple[Tap, Tensor]] = {}

    def _write(self, name: str, tap: Tap, value: Tensor) -> None:
        self._passed.pop(name, None)  # the order of the last forward pass
        self._passed[name] = (tap, value.detach().float().cpu())

    def __getitem__(self, key: str) -> Record:
        if key in self._passed:
            tap, value = self._passed[key]
            return Record(tap.kind, tap.axes, value, (key,))
        found = {name: (tap, value) for name, (tap, value) in self._passed.items() if tap.kind == key}
        if not found:
            raise KeyError(f"nothing of kind {key!r} passed; this model showed: {', '.join(self) or 'nothing'}")
        names = tuple(found)
        first = found[names[0]][0]
        values = [value for _, value in found.values()]
        if len(values) == 1:
            return Record(key, first.axes, values[0], names)
        return Record(key, ("layer", *first.axes), torch.stack(values), names)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(tap.kind for tap, _ in self._passed.values()))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"Trace({', '.join(map(repr, self.values()))})"


def taps(model: nn.Module) -> dict[str, Tap]:
    """Every tap of a model by its module path, the name that `watch` and `patch` know it by."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Tap)}


@contextmanager
def watch(model: nn.Module, *kinds: str) -> Iterator[Trace]:
    """Record what passes the taps of `model` (of these kinds only, when any are named) while the block runs.

    The trace holds the last forward pass: copies on the CPU in float32.
    """
    trace, undo = Trace(), []
    for name, tap in taps(model).items():
        if kinds and tap.kind not in kinds:
            continue

        def see(x: Tensor, name: str = name, tap: Tap = tap) -> Tensor:
            trace._write(name, tap, x)
            return x

        tap._visitors.append(see)
        undo.append((tap, see))
    try:
        yield trace
    finally:
        for tap, see in undo:
            tap._visitors.remove(see)


@contextmanager
def patch(model: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Replace what passes a tap while the block runs: activation patching.

    `changes` maps a tap's name (see `taps`) to a function from the tensor that arrives to the one that goes on.
    Patches see a tap before the watchers do, so a trace shows the patched value. Raises `KeyError` for an unknown tap.
    """
    known, undo = taps(model), []
    for name in changes:
        if name not in known:
            raise KeyError(f"no tap is called {name!r}; this model has: {', '.join(known) or 'none'}")
    for name, change in changes.items():
        known[name]._visitors.insert(0, change)
        undo.append((known[name], change))
    try:
        yield
    finally:
        for tap, change in undo:
            tap._visitors.remove(change)
