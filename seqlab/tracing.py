"""See and change what passes inside a model, without editing it.

A model puts a `Tap`, an identity module, at every place worth looking. `watch` records what passes the taps,
`patch` replaces it. Nobody watching costs one empty loop per tap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import pandas as pd

AXES = (
    "user", "event", "token", "slot", "beam", "step", "head", "query_event", "key_event", "query_token", "key_token",
    "query_slot", "key_slot", "query_step", "key_step", "gate", "expert", "interest", "branch", "level", "rank", "item",
    "code", "layer", "pass", "dim",
)  # fmt: skip
"""The names an axis may have. `event`: the events of the batch, one by one; `token`: what `Layout` describes; `slot`:
the codes (or vectors) of one item; `step`: thoughts, or steps of a path; `query_` and `key_`: the two sides of
attention."""


class Tap(nn.Module):
    """Marks a tensor as worth looking at.

    `kind` is the name a `Trace` collects it under ("attention", "hidden", "gates"); `axes` names its dimensions, by
    words of `AXES`, e.g. `"user head query_event key_event"`. Raises `ValueError` for another word.
    """

    def __init__(self, kind: str, axes: str) -> None:
        super().__init__()
        self.kind = kind
        self.axes = tuple(axes.split())
        if unknown := [axis for axis in self.axes if axis not in AXES]:
            raise ValueError(f"no axis is called {unknown[0]!r}; there are: {', '.join(AXES)}.")
        self._hooks: list[Callable[[Tensor], Tensor]] = []

    @property
    def active(self) -> bool:
        """Whether anybody watches or patches; a module may take a faster road when nobody does."""
        return bool(self._hooks)

    def forward(self, x: Tensor) -> Tensor:
        for visit in self._hooks:
            x = visit(x)
        return x

    def extra_repr(self) -> str:
        return f"{self.kind}: {' '.join(self.axes)}"


KINDS = ("padding", "start", "event", "code", "part", "neighbour", "thought", "query")


@dataclass(frozen=True, eq=False)
class Layout:
    """What each token is that a model's blocks read, for every row of a batch: all tensors are (B, L).

    kind: a place in `KINDS`. An "event" is a whole event; "code" and "part" are one of several tokens of an event (a
    code, a vector); a "neighbour" is an item that is read beside the history; a "query" stands for the item that is
    asked for. item: the item that the token tells of, 0 = none. slot: which of the tokens of one event, or of the
    thoughts or queries, from 0; -1 where there is but one. position: the event of the batch that the token belongs to,
    from 0; -1 = none. readout: whether the recommendation is made of the token's state (bool; all False where another
    part of the model makes it).
    """

    item: Tensor
    slot: Tensor
    kind: Tensor
    position: Tensor
    readout: Tensor

    @classmethod
    def of_events(cls, items: Tensor, parts: int = 1, kind: str = "event") -> Layout:
        """Events (B, T), right-padded, each as so many tokens in a row; the tokens of the last event answer."""
        users, length = items.shape
        position = torch.arange(length, device=items.device).expand(users, -1)
        last = ((items > 0).sum(1, keepdim=True) - 1).clamp(min=0)
        slot = torch.arange(parts, device=items.device) if parts > 1 else items.new_full((1,), -1)
        columns = items, position.where(items > 0, -1), (position == last) & (items > 0)
        item, position, readout = (column.repeat_interleave(parts, 1) for column in columns)
        kinds = torch.where(item > 0, KINDS.index(kind), KINDS.index("padding"))
        return cls(item, slot.repeat(users, length), kinds, position, readout)

    @classmethod
    def of_tokens(cls, items: Tensor, kind: str, readout: bool = False, empty: str | None = None) -> Layout:
        """Tokens (B, L) that belong to no event, with the items that they tell of (0 = none).

        empty: the kind of those that tell of none (None: the same).
        """
        kinds = torch.where(items > 0, KINDS.index(kind), KINDS.index(empty or kind))
        width = items.shape[1]
        slot = torch.arange(width, device=items.device) if width > 1 else items.new_full((width,), -1)
        none = torch.full_like(items, -1)
        return cls(items, slot.expand_as(items), kinds, none, torch.full_like(items, readout, dtype=torch.bool))

    def concat(self, other: Layout) -> Layout:
        """These tokens and others behind them."""
        return Layout(*(torch.cat([getattr(one, field.name) for one in (self, other)], 1) for field in fields(self)))

    def truncate(self, length: int) -> Layout:
        """The first `length` tokens; if the one that readout is cut off, the last one left readout."""
        cut = self.select(torch.arange(min(length, len(self)), device=self.item.device))
        lost = self.readout.any(1) & ~cut.readout.any(1)  # (B,)
        last = torch.arange(len(cut), device=lost.device) == len(cut) - 1
        return replace(cut, readout=cut.readout | (lost[:, None] & last))

    def select(self, tokens: Tensor) -> Layout:
        """These tokens of every row, by place (L',)."""
        return Layout(*(getattr(self, field.name)[:, tokens] for field in fields(self)))

    def cpu(self) -> Layout:
        """The same on the CPU."""
        return Layout(*(getattr(self, field.name).cpu() for field in fields(self)))

    def __len__(self) -> int:
        """L, the tokens of a row."""
        return self.item.shape[1]

    def labels(self, titles: Sequence[str], row: int = 0) -> list[str]:
        """What to call the tokens of one row: titles (N + 1) by item."""
        words, columns = [], (self.item, self.slot, self.kind)
        for item, slot, kind in zip(*(column[row].tolist() for column in columns), strict=True):
            number = "" if slot < 0 else f" {slot + 1}"
            words.append({
                "event": titles[item],
                "code": f"{titles[item]} · code{number}",
                "part": f"{titles[item]} · part{number}",
                "neighbour": f"near: {titles[item]}",
                "thought": f"thought{number}",
                "query": f"next item?{number and f' · part{number}'}",
            }.get(KINDS[kind], KINDS[kind]))  # fmt: skip
        return words


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

        tap._hooks.append(see)
        undo.append((tap, see))
    try:
        yield trace
    finally:
        for tap, see in undo:
            tap._hooks.remove(see)


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
        known[name]._hooks.insert(0, change)
        undo.append((known[name], change))
    try:
        yield
    finally:
        for tap, change in undo:
            tap._hooks.remove(change)
