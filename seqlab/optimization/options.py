"""How to train, whatever the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from seqlab.evaluation import METRIC_NAMES


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train, whatever the model. Raises `ValueError` for numbers no training can have."""

    epochs: int = 100  # at most; early stopping usually ends sooner
    tokens: int = 4096  # history positions in a batch
    learning_rate: float = 1e-3
    warmup: int = 100  # steps over which the learning rate rises to its value
    decay: Literal["none", "cosine"] = "none"  # cosine: the rate falls to nothing over `epochs`
    weight_decay: float = 0.0
    clip: float = 1.0  # norm of the gradient
    metric: str = "ndcg@10"  # of validation; the best epoch by it is kept
    patience: int = 10  # validations without a better metric before training stops
    validate_every: int = 1  # epochs; a generative system writes a beam for every user of the validation part
    validate_users: int | None = None  # of the validation part, drawn once, the same for all trainings; none: all
    optimizer: Literal["adamw", "adam"] = "adamw"
    precision: Literal["no", "bf16", "fp16"] = "no"  # of the products, where the device has it
    compile: bool = False  # torch.compile what the loss needs: for GPUs; on a CPU it gains nothing
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"epochs": 1, "tokens": 1, "patience": 1, "validate_every": 1, "warmup": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least} (got {getattr(self, name)}).")
        if self.validate_users is not None and self.validate_users < 1:
            raise ValueError(f"validate_users must be at least 1, or none for all (got {self.validate_users}).")
        if not -(2**63) <= self.seed < 2**64:
            raise ValueError(f"seed must fit into 64 bits (got {self.seed}).")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number above 0 (got {getattr(self, name)}).")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be a number, 0 or more (got {self.weight_decay}).")
        if self.metric not in METRIC_NAMES:
            raise ValueError(f"{self.metric!r} is no metric of validation; there are: {', '.join(METRIC_NAMES)}.")
