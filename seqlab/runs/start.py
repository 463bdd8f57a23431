"""The run whose weights a training begins from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqlab.runs.store import tensors

if TYPE_CHECKING:
    from torch import nn


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


def fingerprint(model: nn.Module) -> str:
    """SHA-256 (hex) of the weights and buffers of a system: that of the file model.safetensors of its run."""
    from safetensors.torch import save

    return hashlib.sha256(save(tensors(model))).hexdigest()
