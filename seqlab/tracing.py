"""Record and replace intermediate tensors of a model, without editing the model.

A model passes a tensor through a `Tap`, an identity module. `watch` records the tensors of the taps, `patch` replaces
them (activation patching). An unwatched tap costs one empty loop. A tap may also be attached to the output of a module
that knows nothing of taps: see `Tap.attach`, and `seqlab.tap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
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
"""The names of tensor dimensions. `event`: the events of the batch; `token`: the tokens that `Layout` describes;
`slot`: the codes (or vectors) of one item; `step`: reasoning steps, or steps of a path; `query_` and `key_`: the two
sides of attention."""


class Tap(nn.Module):
    """An identity module whose tensor can be recorded (`watch`) and replaced (`patch`).

    kind: the name under which a `Trace` collects it ("attention", "hidden", "gates"). axes: a name of `AXES` for each
    dimension, such as "user head query_event key_event"; raises `ValueError` for another name. attach: None for a tap
    that the model calls itself; else it is called with the tap before the first hook, makes the model pass its tensors
    through the tap, and returns the function that undoes this after the last hook.
    """

    def __init__(self, kind: str, axes: str, attach: Callable[[Tap], Callable[[], None]] | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.axes = tuple(axes.split())
        if unknown := [axis for axis in self.axes if axis not in AXES]:
            raise ValueError(f"there is no axis {unknown[0]!r}. There are: {', '.join(AXES)}.")
        self.attach = attach
        self._hooks: list[Callable[[Tensor], Tensor]] = []
        self._detach: Callable[[], None] | None = None

    @property
    def active(self) -> bool:
        """Whether the tap is watched or patched; a module may use a fused kernel when it is not."""
        return bool(self._hooks)

    def forward(self, x: Tensor) -> Tensor:
        for hook in self._hooks:
            x = hook(x)
        return x

    @contextmanager
    def hooked(self, hook: Callable[[Tensor], Tensor], first: bool = False) -> Iterator[None]:
        """Call `hook` with every tensor while the block runs; it returns the tensor to use instead.

        first: before the present hooks, rather than after them.
        """
        if self.attach is not None and not self._hooks:
            self._detach = self.attach(self)
        self._hooks.insert(0 if first else len(self._hooks), hook)
        try:
            yield
        finally:
            self._hooks.remove(hook)
            if self._detach is not None and not self._hooks:
                self._detach()
                self._detach = None

    def extra_repr(self) -> str:
        return f"{self.kind}: {' '.join(self.axes)}"


KINDS = ("padding", "start", "event", "code", "part", "neighbour", "reasoning_step", "query")


@dataclass(frozen=True, eq=False)
class Layout:
    """What each input token of a model represents, for every row of a batch; all tensors are (B, L).

    kind: an index of `KINDS`. An "event" token is a whole event; a "code" or "part" token is one of several tokens of
    an event (a code, a vector); a "neighbour" is an item beside the history; a "query" stands for the item to predict.
    item: the item of the token, 0 = none. slot: the index among the tokens of one event, or among reasoning steps or
    queries, from 0; -1 for a single one. position: the event of the batch that the token belongs to, from 0; -1 = none.
    readout: whether the prediction is computed from the state of this token (bool; all False if another part of the
    model predicts).
    """

    item: Tensor
    slot: Tensor
    kind: Tensor
    position: Tensor
    readout: Tensor

    @classmethod
    def of_events(cls, items: Tensor, parts: int = 1, kind: str = "event") -> Layout:
        """Right-padded events (B, T), each as `parts` consecutive tokens; the last event is the readout."""
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
        """Tokens (B, L) that belong to no event, with their items (0 = none).

        empty: the kind of the tokens without an item (None: `kind`).
        """
        kinds = torch.where(items > 0, KINDS.index(kind), KINDS.index(empty or kind))
        width = items.shape[1]
        slot = torch.arange(width, device=items.device) if width > 1 else items.new_full((width,), -1)
        none = torch.full_like(items, -1)
        return cls(items, slot.expand_as(items), kinds, none, torch.full_like(items, readout, dtype=torch.bool))

    def concat(self, other: Layout) -> Layout:
        """These tokens followed by others, along L."""
        return Layout(*(torch.cat([getattr(one, field.name) for one in (self, other)], 1) for field in fields(self)))

    def truncate(self, length: int) -> Layout:
        """The first `length` tokens; if the readout is cut off, the last remaining token becomes the readout."""
        cut = self.select(torch.arange(min(length, len(self)), device=self.item.device))
        lost = self.readout.any(1) & ~cut.readout.any(1)  # (B,)
        last = torch.arange(len(cut), device=lost.device) == len(cut) - 1
        return replace(cut, readout=cut.readout | (lost[:, None] & last))

    def select(self, tokens: Tensor) -> Layout:
        """The tokens with these indices (L',), of every row."""
        return Layout(*(getattr(self, field.name)[:, tokens] for field in fields(self)))

    def cpu(self) -> Layout:
        """A copy on the CPU."""
        return Layout(*(getattr(self, field.name).cpu() for field in fields(self)))

    def __len__(self) -> int:
        """L, the number of tokens per row."""
        return self.item.shape[1]

    def labels(self, titles: Sequence[str], row: int = 0) -> list[str]:
        """A label for each token of one row; titles: (N + 1), by item."""
        labels, columns = [], (self.item, self.slot, self.kind)
        for item, slot, kind in zip(*(column[row].tolist() for column in columns), strict=True):
            number = "" if slot < 0 else f" {slot + 1}"
            labels.append({
                "event": titles[item],
                "code": f"{titles[item]} · code{number}",
                "part": f"{titles[item]} · part{number}",
                "neighbour": f"near: {titles[item]}",
                "reasoning_step": f"reasoning step{number}",
                "query": f"next item?{number and f' · part{number}'}",
            }.get(KINDS[kind], KINDS[kind]))  # fmt: skip
        return labels


class Record:
    """The tensors that passed the taps of one kind while a model was watched.

    axes: those of the tap; before them `pass` if it was passed several times, and `layer` if there are several taps, in
    the order of the last forward pass. taps: the module path of each tap.
    """

    def __init__(self, kind: str, axes: tuple[str, ...], recorded: Mapping[str, Sequence[Tensor]]) -> None:
        """recorded: by module path of a tap, its tensor in every pass; axes: of these tensors."""
        self.kind, self.taps, self._axes, self._recorded = kind, tuple(recorded), axes, recorded
        layers = ("layer",) if len(recorded) > 1 else ()
        passes = ("pass",) if any(len(passes) > 1 for passes in recorded.values()) else ()
        self.axes = (*layers, *passes, *axes)

    @cached_property
    def values(self) -> Tensor:
        """The tensors of all taps and passes, stacked along the axes `layer` and `pass`.

        Raises `ValueError` where they have different sizes, as when a search or reasoning grows: see `passes`.
        """
        shapes = {name: [tuple(x.shape) for x in passes] for name, passes in self._recorded.items()}
        for name, own in shapes.items():
            if len({*own}) > 1:
                sizes = ", ".join(map(str, dict.fromkeys(own)))
                raise ValueError(
                    f"the {len(own)} passes of {name} ({self.kind!r}) have different sizes: {sizes}. Take a single "
                    "pass, such as `record.passes[-1]`."
                )
        if any(own != shapes[self.taps[0]] for own in shapes.values()):
            raise ValueError(f"the taps of kind {self.kind!r} have different sizes or passes. {self._by_path()}")
        values = torch.stack([torch.stack(list(passes)) for passes in self._recorded.values()])  # (layer, pass, ...)
        values = values if "pass" in self.axes else values[:, 0]
        return values if "layer" in self.axes else values[0]

    @cached_property
    def passes(self) -> tuple[Record, ...]:
        """The record of every single pass, the last one last. Raises `ValueError` where taps were passed less often."""
        counts = {len(passes) for passes in self._recorded.values()}
        if len(counts) > 1:
            times = " and ".join(map(str, sorted(counts)))
            raise ValueError(f"the taps of kind {self.kind!r} were passed {times} times. {self._by_path()}")
        return tuple(
            Record(self.kind, self._axes, {name: passes[at : at + 1] for name, passes in self._recorded.items()})
            for at in range(*counts)
        )

    def _by_path(self) -> str:
        return f"Take one by its path, such as `trace[{self.taps[0]!r}]`."

    def __repr__(self) -> str:
        try:
            shape = ", ".join(f"{axis}={size}" for axis, size in zip(self.axes, self.values.shape, strict=True))
        except ValueError:
            shape = f"{' '.join(self.axes)}, of different sizes"
        return f"Record({self.kind}: {shape})"

    def frame(self) -> pd.DataFrame:
        """A tidy table: one column per axis with the index along it (from 0), and `value`. Raises as `values` does."""
        import pandas as pd

        index = pd.MultiIndex.from_product([range(size) for size in self.values.shape], names=list(self.axes))
        return pd.DataFrame({"value": self.values.flatten().numpy()}, index=index).reset_index()


class Trace(Mapping[str, Record]):
    """The records of a watched model, by kind ("attention") or by module path ("blocks.0.tap")."""

    def __init__(self, watched: Mapping[str, Tap]) -> None:
        """watched: by module path, the taps whose tensors are recorded."""
        self._watched = watched
        self._recorded: dict[str, tuple[Tap, list[Tensor]]] = {}

    def _record(self, name: str, tap: Tap, value: Tensor) -> None:
        _, passes = self._recorded.pop(name, (tap, []))  # in the order of the last forward pass
        self._recorded[name] = (tap, passes)
        passes.append(value.detach().to("cpu", torch.float32, copy=True))  # models modify tensors in place

    def __getitem__(self, key: str) -> Record:
        single = key in self._recorded
        found = {name: one for name, one in self._recorded.items() if (name if single else one[0].kind) == key}
        if not found:
            message = f"nothing of kind {key!r} was recorded. Recorded: {', '.join(self) or 'nothing'}"
            if silent := [name for name, tap in self._watched.items() if key in (name, tap.kind)]:
                message = f"nothing passed {silent[0]} while the model was watched. {NOT_PASSED}"
            raise KeyError(message)
        tap = next(iter(found.values()))[0]
        return Record(tap.kind, tap.axes, {name: tuple(passes) for name, (_, passes) in found.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(tap.kind for tap, _ in self._recorded.values()))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"Trace({', '.join(map(repr, self.values()))})"


NOT_PASSED = "The model was not run, or its forward pass does not call that module."

ATTACHED = "_seqlab_taps"
"""The attribute of a module that holds the taps attached to its outputs, by what is appended to its path."""


def taps(model: nn.Module) -> dict[str, Tap]:
    """Every tap of a model, by its module path; an attached tap has the path of the module whose output it sees."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, Tap):
            found[name] = module
        found |= {f"{name}{part}": tap for part, tap in vars(module).get(ATTACHED, {}).items()}
    return found


@contextmanager
def watch(model: nn.Module, *kinds: str) -> Iterator[Trace]:
    """Record the tensors at the taps of `model` (of these kinds; none: of all kinds) while the block runs.

    The trace holds float32 copies on the CPU. A tap that is passed several times, by several forward passes or several
    times in one, keeps all passes.
    """
    watched = {name: tap for name, tap in taps(model).items() if not kinds or tap.kind in kinds}
    trace = Trace(watched)
    with ExitStack() as stack:
        for name, tap in watched.items():

            def record(x: Tensor, name: str = name, tap: Tap = tap) -> Tensor:
                trace._record(name, tap, x)
                return x

            stack.enter_context(tap.hooked(record))
        yield trace


@contextmanager
def patch(model: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Replace the tensors at taps while the block runs (activation patching).

    changes: by module path (see `taps`), a function from the tensor to its replacement. A trace records the replaced
    tensor. Raises `KeyError` for an unknown tap; after the block `ValueError` for an attached tap that nothing passed,
    so that nothing was replaced.
    """
    known = taps(model)
    for name in changes:
        if name not in known:
            raise KeyError(f"there is no tap {name!r}. This model has: {', '.join(known) or 'none'}")
    silent = {name for name in changes if known[name].attach is not None}
    with ExitStack() as stack:
        for name, change in changes.items():

            def replace_by(x: Tensor, name: str = name, change: Callable[[Tensor], Tensor] = change) -> Tensor:
                silent.discard(name)
                return change(x)

            stack.enter_context(known[name].hooked(replace_by, first=True))
        yield
    if silent:
        raise ValueError(f"nothing passed {min(silent)}, so nothing was replaced. {NOT_PASSED}")
