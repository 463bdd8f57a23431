"""The state of a training, and its checkpoint: a file from which the training resumes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from seqlab.runtime import processes


@dataclass
class State:
    """Where a training is; with the weights and the moments of the optimizer, all that resuming needs."""

    epoch: int = 0
    best_epoch: int = 0
    valid: dict[str, float] = field(default_factory=dict)  # all metrics of validation after the best epoch
    seconds: float = 0.0
    targets: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)  # the weights after the best epoch
    random: dict[str, Tensor] = field(default_factory=dict)  # of the generators, where epochs have no own seeds


@dataclass(frozen=True)
class Checkpoint:
    """The last state of one training, a single file in `folder`.

    settings: JSON of the settings and data of that training; a checkpoint of others is refused.
    """

    folder: Path
    settings: str

    @property
    def file(self) -> Path:
        return self.folder / "state.safetensors"

    def save(self, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write the file atomically. Raises `OSError` where it cannot be written; the checkpoint before it stays."""
        from safetensors import SafetensorError

        unfinished = self.file.with_name("state.safetensors.new")
        try:
            self._write(unfinished, state, model, optimizer)
            os.replace(unfinished, self.file)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise OSError(
                f"{self.folder} could not be written ({error}). The checkpoint before, if there is one, is whole: "
                "make room, then go on from it with resume=True."
            ) from error

    def _write(self, path: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        from safetensors.torch import save_file

        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
        tensors |= {f"random.{name}": tensor for name, tensor in state.random.items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        scalars = dataclasses.asdict(dataclasses.replace(state, best={}, random={}))
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path,
            {"state": json.dumps(scalars), "settings": self.settings},
        )  # fmt: skip

    def restore(self, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Read the file, if there is one, into state, model and optimizer; process 0 reads it for all.

        Raises `ValueError` where the file belongs to other settings or data.
        """
        with processes.propagate_errors():
            tensors, scalars = self._read() if processes.index() == 0 else ({}, "")
        tensors, scalars = processes.broadcast(tensors, scalars)
        if not scalars:
            return
        for name, value in json.loads(scalars).items():
            setattr(state, name, value)
        state.best, state.random = _under("best.", tensors), _under("random.", tensors)
        model.load_state_dict(_under("model.", tensors))
        described = optimizer.state_dict()
        indices = [index for group in described["param_groups"] for index in group["params"]]
        moments = {index: _under(f"optimizer.{index}.", tensors) for index in indices}
        optimizer.load_state_dict(described | {"state": moments})

    def _read(self) -> tuple[dict[str, Tensor], str]:
        """The tensors, and the state as JSON; nothing where there is no file."""
        from safetensors import safe_open

        if not self.file.exists():
            return {}, ""
        with safe_open(self.file, "pt") as file:
            described = file.metadata()
            if described["settings"] != self.settings:
                raise ValueError(
                    f"{self.folder} was made with other settings or data; use the same ones, or another folder."
                )
            return {name: file.get_tensor(name) for name in file.keys()}, described["state"]  # noqa: SIM118 (no mapping)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
