"""Weights and buffers put into a model."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn


def read_state(model: nn.Module, state: dict[str, Tensor], origin: Path | str) -> None:
    """Parameters must fit; buffers, whose size may come from data (counts, codes), are taken as they are.

    Raises `ValueError` that names the `origin` of the state where the parameters do not fit.
    """
    for name in [name for name, _ in model.named_buffers()]:
        if name in state:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, state[name])
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{origin}: weights and configuration do not fit: {error}") from error
