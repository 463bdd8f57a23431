"""A model in a folder: written as config.json and model.safetensors, read back with a stranger's files in mind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from seqlab import models
from seqlab.optimization.state import read_state

if TYPE_CHECKING:
    from collections.abc import Iterator


PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz"}
"""Endings of files that may be read by running what they hold."""


HARMLESS = 1 << 30
"""Bytes that may be built from a description before its weights are read, however few those are."""

RENAMED = {"recgpt": {".attention.inner.": ".attention."}}
"""By system, parts of parameters' names in runs written before, and what they are called."""


def save(model: nn.Module, folder: Path, system: str, n_items: int) -> None:
    """Write `config.json` and `model.safetensors`: all that `load` needs to build the model again."""
    from safetensors.torch import save_file

    described = {"system": system, "n_items": n_items, "config": dataclasses.asdict(model.config)}
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    # clone: a tied or sliced tensor shares memory, which safetensors refuses
    save_file(
        {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()},
        folder / "model.safetensors",
    )


def load(folder: str | Path) -> nn.Module:
    """Build the model that `save` (or `fit`) wrote to `folder`, in evaluation mode on the CPU.

    Raises `FileNotFoundError` where a file is missing, `ValueError` where the files do not fit together or one of them
    could hold code, or leads out of the folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    for needed in ("config.json", "model.safetensors"):
        if not (folder / needed).is_file():
            raise FileNotFoundError(f"{folder} is not a finished run: {needed} is missing.")
    for path in folder.iterdir():
        if path.suffix in PICKLES:
            raise ValueError(f"{path} can hold code, which seqlab never writes and never runs; take it away.")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path} is a link to another place; a run is read from its own folder alone.")
    weights = folder / "model.safetensors"
    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} cannot be read: {error}.") from error
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = dataclasses.asdict(models.configure(described["system"], described["config"]))  # numbers for text
        what = described["system"], described["n_items"], config
        _must_fit(*what, weights.stat().st_size, len(state))
        model = models.build(*what)
    except Exception as error:  # a stranger's numbers may upset any constructor
        raise ValueError(f"{folder / 'config.json'} describes no system: {error or type(error).__name__}.") from error
    for old, new in RENAMED.get(described["system"], {}).items():
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    read_state(model, state, folder)
    return model.eval()


def _must_fit(system: str, n_items: int, config: dict[str, Any], size: int, tensors: int) -> None:
    """Raise `ValueError` where a stranger's numbers would build far more than the weights hold, in bytes or tensors."""
    depth = max([config.get("layers", 0), *(len(one) for one in config.values() if isinstance(one, tuple))])
    if depth > tensors:  # each layer or level has some of its own, and takes its time to build
        raise ValueError(f"it promises {depth:,} layers or levels, but the weights have {tensors:,} tensors")
    largest = max((abs(one) for one in _numbers(config)), default=0)
    if 4 * largest * max(n_items, largest) > HARMLESS:
        with torch.device("meta"):  # builds for nothing, but takes seconds to import
            promised = sum(tensor.nbytes for tensor in models.build(system, n_items, config).state_dict().values())
        if promised > size + HARMLESS:
            raise ValueError(f"it promises {promised:,} bytes of weights, but they have {size:,}")


def _numbers(value: Any) -> Iterator[int]:
    """All whole numbers in a configuration."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
