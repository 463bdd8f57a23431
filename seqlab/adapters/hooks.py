"""Forward hooks that pass the output of a module, or the weights of its attention heads, through a tap."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.tracing import Tap

SAME_SIZE = (("event", "query_event", "key_event"), ("token", "query_token", "key_token"))
"""Axes that have one size in one tensor."""


class _FastPath:
    """Switches the fused inference kernels of PyTorch's Transformer off while any tap is attached.

    They compute a whole layer without calling the modules in it, and pack padded batches into nested tensors.
    """

    def __init__(self) -> None:
        self._attached, self._before = 0, True

    def off(self) -> None:
        if not self._attached:
            self._before = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        self._attached += 1

    def restore(self) -> None:
        self._attached -= 1
        if not self._attached:
            torch.backends.mha.set_fastpath_enabled(self._before)


FAST_PATH = _FastPath()


@dataclass(frozen=True, eq=False)
class Output:
    """Passes an output of a module through a tap; see `Tap.attach`.

    path: of the module, for messages. part: the index or name of one of several outputs; None: the only one that has as
    many dimensions as there are axes. axes: of the output, in its own order; the tap has `user` first.
    """

    module: nn.Module
    path: str
    part: str | None
    axes: tuple[str, ...]

    def __call__(self, tap: Tap) -> Callable[[], None]:
        def after(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
            return self._passed(tap, output)

        return _attached(self.module.register_forward_hook(after))

    def through(self, tap: Tap, x: Any, name: str) -> Tensor:
        """The tensor that the tap makes of x; x itself if it replaces nothing. name: of the output, for messages.

        Raises `ValueError` for what is no tensor, or has not these axes.
        """
        if not isinstance(x, Tensor):
            fused = "; a fused kernel computes no weights: choose plain (“eager”) attention" if x is None else ""
            raise ValueError(f"{name} is {_described(x)}, not a tensor, so there is nothing to watch{fused}.")
        self._check(x, name)
        at = self.axes.index("user") if "user" in self.axes else 0
        seen = x.movedim(at, 0) if at else x
        found = tap(seen)
        if found is seen:
            return x
        if not isinstance(found, Tensor) or found.shape != seen.shape:
            raise ValueError(f"{name} is {_described(seen)}, so it cannot be replaced by {_described(found)}.")
        return found.movedim(0, at).clone()  # the model may modify it in place

    def _check(self, x: Tensor, name: str) -> None:
        axes = " ".join(self.axes)
        if x.dim() != len(self.axes):
            raise ValueError(f"{name} is {_described(x)}, which has not the {len(self.axes)} axes “{axes}”.")
        size = dict(zip(self.axes, x.shape, strict=True))
        for family in SAME_SIZE:
            same = [axis for axis in family if axis in size]
            if len({size[axis] for axis in same}) > 1:
                raise ValueError(
                    f"{name} is {_described(x)}, which cannot have the axes “{axes}”: {' and '.join(same)} have one "
                    "size."
                )

    def _passed(self, tap: Tap, output: Any) -> Any:
        """The output of the module, with what the tap makes of the tensor in its place."""
        if isinstance(output, Tensor) and self.part is None:
            return self.through(tap, output, self.path)
        key = self._key(output)
        value = output[key]
        found = self.through(tap, value, f"{self.path}[{key}]")
        if found is value:
            return output
        if key != next(iter(_parts(output))) and any(axis.startswith("key_") for axis in self.axes):
            raise ValueError(
                f"{self.path} returns its attention weights beside its output, so it has used them already and they "
                "cannot be patched; tap the module that computes them, such as a softmax."
            )
        return _replaced(output, key, found)

    def _key(self, output: Any) -> int | str:
        """The index or the name of the tensor among several outputs."""
        parts = _parts(output)
        if not parts:
            why = f"which has no part [{self.part}]" if isinstance(output, Tensor) else "so there is nothing to watch"
            raise ValueError(f"the output of {self.path} is {_described(output)}, {why}.")
        if self.part is not None:
            key = int(self.part) if self.part.isdecimal() else self.part
            if key in parts:
                return key
            raise ValueError(f"{self.path} has no output [{self.part}]; it returns {_several(parts)}.")
        fitting = [key for key, x in parts.items() if isinstance(x, Tensor) and x.dim() == len(self.axes)]
        if len(fitting) == 1:
            return fitting[0]
        which = "several of them have" if fitting else "none of them has"
        raise ValueError(
            f"{self.path} returns {_several(parts)}: {which} the {len(self.axes)} axes “{' '.join(self.axes)}”; name "
            f"one, such as {self.path}[{next(iter(fitting or parts))}]."
        )


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """Passes the weights (B, H, L, S) of each head of an `nn.MultiheadAttention` through a tap; see `Tap.attach`.

    The module returns what its caller requested: no weights, their mean, or those of each head. If the tap replaces the
    weights, the output is computed from the new ones.
    """

    output: Output

    def __call__(self, tap: Tap) -> Callable[[], None]:
        signature = inspect.signature(self.output.module.forward)
        requests: list[tuple[bool, bool]] = []  # a stack, as for a module that calls itself

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            requests.append((bound.arguments["need_weights"], bound.arguments["average_attn_weights"]))
            bound.arguments |= {"need_weights": True, "average_attn_weights": False}
            return bound.args, bound.kwargs

        def after(module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
            needed, averaged = requests.pop()
            attended, weights = out
            found = self.output.through(tap, weights, f"{self.output.path}[1]")
            if found is not weights:
                attended = attend(module, signature.bind(*args, **kwargs).arguments["value"], found)
            return attended, (found.mean(-3) if averaged else found) if needed else None

        first = self.output.module.register_forward_pre_hook(before, with_kwargs=True)
        return _attached(first, self.output.module.register_forward_hook(after, with_kwargs=True))


def attend(module: nn.MultiheadAttention, value: Tensor, weights: Tensor) -> Tensor:
    """The output of a module from its weights (B, H, L, S), or (H, L, S), and the value of its call.

    value: (B, S, E), or (S, B, E) where the module is not `batch_first`, or (S, E).
    """
    width, turned = module.embed_dim, weights.dim() == 4 and not module.batch_first
    value = value.transpose(0, 1) if turned else value  # (B, S, E)
    weight = module.in_proj_weight[2 * width :] if module._qkv_same_embed_dim else module.v_proj_weight
    bias = None if module.in_proj_bias is None else module.in_proj_bias[2 * width :]
    value = F.linear(value, weight, bias)  # (B, S, D)
    if module.bias_v is not None:
        value = torch.cat([value, module.bias_v.view(-1).expand(*value.shape[:-2], 1, width)], -2)
    if module.add_zero_attn:
        value = F.pad(value, (0, 0, 0, 1))
    heads = value.unflatten(-1, (module.num_heads, -1)).transpose(-3, -2)  # (B, H, S, D / H)
    mixed = (weights @ heads).transpose(-3, -2).flatten(-2)  # (B, L, D)
    mixed = F.linear(mixed, module.out_proj.weight, module.out_proj.bias)
    return mixed.transpose(0, 1) if turned else mixed


def _attached(*handles: Any) -> Callable[[], None]:
    """Switch the fused kernels off; returns the function that removes the hooks and restores the kernels."""
    FAST_PATH.off()

    def undo() -> None:
        for handle in handles:
            handle.remove()
        FAST_PATH.restore()

    return undo


def _parts(output: Any) -> dict[int | str, Any]:
    """Several outputs by index or name; {} for one."""
    if isinstance(output, Mapping):
        return dict(output)
    return dict(enumerate(output)) if isinstance(output, tuple | list) else {}


def _replaced(output: Any, key: int | str, value: Tensor) -> Any:
    """A copy of several outputs with another one in its place."""
    if isinstance(output, tuple):
        parts = [value if at == key else one for at, one in enumerate(output)]
        return output._make(parts) if hasattr(output, "_make") else type(output)(parts)
    changed = copy.copy(output)
    changed[key] = value
    return changed


def _several(parts: Mapping[int | str, Any]) -> str:
    return ", ".join(f"[{key}] {_described(x)}" for key, x in parts.items())


def _described(x: Any) -> str:
    """A value in words: its shape if it is a tensor, else its type."""
    if isinstance(x, Tensor):
        return f"a tensor {tuple(x.shape)}"
    return "None" if x is None else f"of the type {type(x).__name__}"
