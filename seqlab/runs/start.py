"""The run whose weights a training begins from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqlab.runs.store import tensors

if TYPE_CHECKING:
    from torch import nn

    from seqlab.runs.run import Run


@dataclass(frozen=True)
class Start:
    """Where the weights of a training began, as its provenance has it.

    weights: their `fingerprint`. run: the name of the folder of that run, "" = none. data, split: what it was trained
    on.
    """

    weights: str
    run: str
    data: str
    split: str

    def __str__(self) -> str:
        return f"{self.run or self.data} ({self.weights[:8]})"


def start_of(run: Run | None) -> Start | None:
    """What a training that begins from a run stores of it; None for None."""
    if run is None:
        return None
    data, split = ("", "") if run.trained_on is None else (run.trained_on.name, run.trained_on.split)
    return Start(fingerprint(run.model), "" if run.folder is None else run.folder.name, data, split)


def fingerprint(model: nn.Module) -> str:
    """SHA-256 (hex) of the weights and buffers of a system: that of the file model.safetensors of its run."""
    from safetensors.torch import save

    return hashlib.sha256(save(tensors(model))).hexdigest()
