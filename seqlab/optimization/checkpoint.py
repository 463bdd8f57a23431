"""How far a training is, and the file on disk from which it goes on."""

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
    """How far training is; with the weights and the optimiser's moments, all that resuming needs."""

    epoch: int = 0
    best_epoch: int = 0
    valid: dict[str, float] = field(default_factory=dict)  # all metrics of validation after the best epoch
    seconds: float = 0.0
    targets: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


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
        """Write everything aside, then rename. Raises `OSError` where it cannot be; the state before is whole then."""
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
        for index, parameter in enumerate(_parameters(optimizer)):
            tensors |= {f"optimizer.{index}.{name}": value for name, value in optimizer.state[parameter].items()}
        scalars = dataclasses.asdict(dataclasses.replace(state, best={}))
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path,
            {"state": json.dumps(scalars), "settings": self.settings},
        )  # fmt: skip

    def restore(self, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Go on from the file, if there is one; the first process reads it for all.

        Raises `ValueError` where it belongs to other settings or data.
        """
        with processes.propagate_errors():
            tensors, scalars = self._read() if processes.index() == 0 else ({}, "")
        tensors, scalars = processes.broadcast(tensors, scalars)
        if not scalars:
            return
        for name, value in json.loads(scalars).items():
            setattr(state, name, value)
        state.best = _under("best.", tensors)
        model.load_state_dict(_under("model.", tensors))
        for index, parameter in enumerate(_parameters(optimizer)):
            moments = _under(f"optimizer.{index}.", tensors)
            optimizer.state[parameter] = {name: tensor.to(parameter.device) for name, tensor in moments.items()}

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


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
