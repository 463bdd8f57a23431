"""The options of a training, whatever the model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from seqlab.runtime.settings import Count, NonNegativeFloat, NonNegativeInt, PositiveFloat, settings


@settings(kw_only=True)
class Options:
    """The options of a training, whatever the model. Raises `ValueError` for a value that its field does not allow."""

    epochs: Count = 100  # at most; early stopping usually ends sooner
    tokens: Count = 4096  # history positions in a batch
    learning_rate: PositiveFloat = 1e-3  # after the warmup
    warmup: NonNegativeInt = 100  # steps over which the learning rate rises to its value
    decay: Literal["none", "cosine"] = "none"  # cosine: the rate falls to 0 over `epochs`
    weight_decay: NonNegativeFloat = 0.0  # of the optimizer
    clip: PositiveFloat = 1.0  # norm of the gradient
    metric: str = ""  # on the validation part, "": the task's primary one; the epoch with the best is kept
    patience: Count = 10  # validations without a better metric before training stops
    validate_every: Count = 1  # epochs; a generative system runs a beam search for every user of the validation part
    validate_users: Count | None = None  # of the validation part, sampled once, the same for all trainings; none: all
    optimizer: Literal["adamw", "adam"] = "adamw"
    precision: Literal["no", "bf16", "fp16"] = "no"  # of matrix products, where the device supports it
    compile: bool = False  # torch.compile the modules that the loss calls: for GPUs; on a CPU it gains nothing
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] = 0  # as `torch.manual_seed` takes it
