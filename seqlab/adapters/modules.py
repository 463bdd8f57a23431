"""Taps at the outputs of the parts of any `nn.Module`, by module path."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Mapping

import torch
from torch import nn

from seqlab.adapters.hooks import HeadWeights, Output
from seqlab.runtime.text import listed
from seqlab.tracing import ATTACHED, Tap

PLACE = re.compile(r"(?P<path>[^\[\]]*)(?P<suffix>\[(?P<part>\w+)\])?")
"""A module path, or one of several outputs of that module by its index or name: "blocks.0.attention[1]"."""

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def tap(module: nn.Module, places: Mapping[str, str]) -> nn.Module:
    """Mark the outputs of parts of a module, so that `watch` and `patch` work on it; returns `module` itself.

    places: by module path (see `nn.Module.get_submodule`), the axes of the output: a name of `tracing.AXES` for each
    dimension, as in {"blocks.*.attention": "user head query_event key_event", "blocks.*": "user event dim"}. A `*`
    stands for one component of a path, or a piece of one. A kind may stand before the axes: "gates: user event dim";
    without it, the kind is "attention" where there is a key axis, else "hidden" where there is `dim`, else the name of
    the last axis. Records have `user` as their first axis.

    Of several outputs, the only one with as many dimensions is meant; a path with an index or name, "attention[1]",
    chooses one. At an `nn.MultiheadAttention`, axes with a key mean the weights of each head, even if the model does
    not request them; patching them changes its output. Weights that another module returns beside its output have been
    used: they can be watched, but `patch` raises `ValueError`.

    Hooks are registered while `watch` or `patch` runs, and at no other time: the forward pass stays the same to the
    last bit. Meanwhile the fused inference kernels of PyTorch's Transformer are off (`torch.backends.mha`).

    A second tap at a path replaces the first one; `untap` removes all. Raises `ValueError` for an unknown path or axis,
    and for a part whose output hooks do not see: of a scripted or compiled module, or a container. An output that does
    not fit its axes, or is no tensor, raises `ValueError` in the forward pass.
    """
    if not places:
        raise ValueError("there is nothing to tap: name at least one module path with the axes of its output.")
    made = [one for place, axes in places.items() for one in _taps_at(module, place, axes)]
    for part, suffix, made_tap in made:
        vars(part).setdefault(ATTACHED, {})[suffix] = made_tap
    return module


def untap(module: nn.Module) -> nn.Module:
    """Remove all taps that `tap` attached to parts of a module; returns `module` itself."""
    for part in module.modules():
        vars(part).pop(ATTACHED, None)
    return module


def _taps_at(module: nn.Module, place: str, axes: str) -> list[tuple[nn.Module, str, Tap]]:
    """The parts that a path means, with what is appended to their paths, and a new tap for each."""
    match = PLACE.fullmatch(place)
    path, suffix, part = (match["path"], match["suffix"] or "", match["part"]) if match else (place, "", None)
    kind, _, words = axes.rpartition(":")
    names = tuple(words.split())
    keys = any(axis.startswith("key_") for axis in names)
    kind = kind.strip() or ("attention" if keys else "hidden" if "dim" in names else " ".join(names[-1:]))
    ordered = " ".join(sorted(names, key=lambda axis: axis != "user"))  # stable
    found = []
    for name, one in _parts(module, path).items():
        attach = Output(one, name or type(one).__name__, part, names)
        if isinstance(one, nn.MultiheadAttention) and (part == "1" or (part is None and keys)):
            attach = HeadWeights(attach)
        found.append((one, suffix, Tap(kind, ordered, attach)))
    return found


def _parts(module: nn.Module, wanted: str) -> dict[str, nn.Module]:
    """The parts of a module that a path means, by their paths. Raises `ValueError` for none, or one without hooks."""
    known = dict(module.named_modules(remove_duplicate=False))
    if "*" in wanted:
        pattern = wanted.split(".")
        found = [path for path, one in known.items() if _matches(path, pattern) and not isinstance(one, CONTAINERS)]
    else:
        found = [wanted] if wanted in known else []
    if not found:
        raise ValueError(f"{type(module).__name__} has no part {wanted!r}. {_nearest(wanted, known)}")
    for path in found:
        _check_hooks(known, path)
    return {path: known[path] for path in found}


def _matches(path: str, pattern: list[str]) -> bool:
    parts = path.split(".")
    return len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern))


def _nearest(wanted: str, known: Mapping[str, nn.Module]) -> str:
    """The paths most like an unknown one: by the whole path, else by its last component."""
    paths = [path for path, one in known.items() if path and not isinstance(one, CONTAINERS)]
    if not paths:
        return 'It has no parts; "" is its own output.'
    last = wanted.rpartition(".")[2]
    ends = [path for path in paths if difflib.get_close_matches(last, [path.rpartition(".")[2]], cutoff=0.7)]
    near = difflib.get_close_matches(wanted, paths, n=3, cutoff=0.7) or ends
    return f"The nearest: {listed(near, 3)}." if near else f"It has: {listed(paths, 8)}."


def _check_hooks(known: Mapping[str, nn.Module], path: str) -> None:
    """Raise `ValueError` for a part of a module whose output hooks do not see. known: all parts, by their paths."""
    module, name = known[path], path or "the module"
    if isinstance(module, CONTAINERS):
        first = next((f", such as {path}.{part}" for part, _ in module.named_children()), "")
        raise ValueError(f"{name} is a {type(module).__name__}, which is never called; tap one of its parts{first}.")
    components = path.split(".")
    around = [known[".".join(components[:depth])] for depth in range(len(components) + bool(path))]
    how = "scripted" if any(isinstance(one, torch.jit.ScriptModule) for one in around) else ""
    if any("_orig_mod" in one._modules or one._compiled_call_impl is not None for one in around):
        how = "compiled"
    if how:
        raise ValueError(f"{name} is {how}, so hooks do not see its output; tap the module before it is {how}.")
