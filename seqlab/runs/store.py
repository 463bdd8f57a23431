"""A model as a folder, config.json and model.safetensors; reading treats the files as untrusted."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqlab import models
from seqlab.decoding.settings import identify, methods, stored
from seqlab.optimization.state import read_state
from seqlab.runtime import outside

if TYPE_CHECKING:
    from collections.abc import Container, Iterator


UNSAFE_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz"}
"""Suffixes of files that other programs read with pickle, which can run code."""

MAX_EXTRA_BYTES = 1 << 30
"""By how many bytes a model, as config.json describes it, may be larger than its weights."""

RENAMED = {"recgpt": {".attention.inner.": ".attention."}}
"""By system, parts of the parameter names of older runs, and the names they have now."""


def save(model: nn.Module, folder: Path, system: str, n_items: int, half: Container[str] = ()) -> None:
    """Write `config.json` and `model.safetensors`, from which `load` builds the model again.

    half: the names of weights and buffers that are stored in half precision, as small files have them.
    """
    from safetensors.torch import save_file

    described = {"system": system, "n_items": n_items, "config": dataclasses.asdict(model.config)}
    if lists := identify(model, getattr(model, "decoding", None)):
        described["decoding"] = lists
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    state = {name: tensor.half() if name in half else tensor for name, tensor in tensors(model).items()}
    save_file(state, folder / "model.safetensors")


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights and buffers of a model, on the CPU."""
    # clone: a tied or sliced tensor shares memory, which safetensors refuses
    return {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()}


def load(folder: str | Path) -> nn.Module:
    """Build the model that `save` (or `fit`) wrote to `folder`, in evaluation mode on the CPU.

    Raises `FileNotFoundError` for a missing file, `ValueError` for files that do not fit together, that can hold code,
    or that are links out of the folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    for needed in ("config.json", "model.safetensors"):
        if not (folder / needed).is_file():
            raise FileNotFoundError(f"{folder} is not a finished run: {needed} is missing.")
    for path in folder.iterdir():
        if path.suffix in UNSAFE_SUFFIXES:
            raise ValueError(f"{path} can hold code, which seqlab never writes and never runs; remove it.")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path} is a link to another place; all files of a run must be in its folder.")
    weights = folder / "model.safetensors"
    try:
        state = {name: one.float() if one.dtype is torch.half else one for name, one in load_file(weights).items()}
    except SafetensorError as error:
        raise ValueError(f"{weights} cannot be read: {error}.") from error
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not models.known(described["system"]):
            raise ValueError(_unknown(described["system"]))
        config, lists = described["config"], described.get("decoding", {})
        own = models.split_settings(described["system"], config)[0]
        lists = {key: value for key, value in config.items() if key not in own} | lists  # of older runs, then of newer
        config = dataclasses.asdict(models.configure(described["system"], own))
        described = described["system"], described["n_items"], config
        _check_size(*described, weights.stat().st_size, len(state))
        model = models.build(*described)
        if methods(model):
            model.decoding = stored(model, lists)
    except Exception as error:  # a constructor may raise anything for untrusted numbers
        raise ValueError(f"{folder / 'config.json'} describes no system: {error or type(error).__name__}.") from error
    for old, new in RENAMED.get(described[0], {}).items():
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    read_state(model, state, folder)
    return model.eval()


def _unknown(system: str) -> str:
    """Why there is no such system, for a run of one outside the package whose file is gone."""
    folder = os.environ.get(outside.VARIABLE)
    where = (
        f"the folder {outside.VARIABLE} ({folder})" if folder else f"the folder {outside.VARIABLE}, which is not set"
    )
    return (
        f"{system!r} is no system of seqlab; if it is one of your own, its file {system}.py is not in {where}, and no "
        "installed package has it"
    )


def _check_size(system: str, n_items: int, config: dict[str, Any], size: int, tensors: int) -> None:
    """Raise `ValueError` for a configuration whose model would be far larger than the weights, in bytes or tensors."""
    depth = max([config.get("layers", 0), *(len(one) for one in config.values() if isinstance(one, tuple))])
    if depth > tensors:  # every layer or level has at least one tensor
        raise ValueError(f"it promises {depth:,} layers or levels, but the weights have {tensors:,} tensors")
    largest = max((abs(one) for one in _numbers(config)), default=0)
    if 4 * largest * max(n_items, largest) > MAX_EXTRA_BYTES:
        with torch.device("meta"):  # allocates nothing, but takes seconds to import
            promised = sum(tensor.nbytes for tensor in models.build(system, n_items, config).state_dict().values())
        if promised > size + MAX_EXTRA_BYTES:
            raise ValueError(f"it promises {promised:,} bytes of weights, but they have {size:,}")


def _numbers(value: Any) -> Iterator[int]:
    """All integers in a configuration."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
