"""A training that begins from the weights of another run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from seqlab.contracts import Advances, Catalogues, Learns, name_of, supports
from seqlab.datasets.fingerprint import item_numbering
from seqlab.optimization.state import read_state
from seqlab.runs.store import tensors
from seqlab.runtime.modules import device_of
from seqlab.runtime.text import listed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run


def check(model: nn.Module, start: Run, split: Split) -> None:
    """Raise `ValueError` where a training of this system on this split cannot begin from a run."""
    name = name_of(model)
    if name_of(start.model) != name:
        raise ValueError(f"{name} cannot begin from {_called(start)}: begin from a run of {name}.")
    if not supports(model, Learns) and not supports(model, Advances):
        raise ValueError(
            f"{name} is computed from its training part and cannot add a further one, so a start would change nothing: "
            "leave it out."
        )
    if not _same_items(start, split) and not supports(model, Catalogues):
        known = start.trained_on
        other = f"the {known.n_items:,} items of {known.name}" if known else "other items"
        raise ValueError(
            f"{_called(start)} has weights for {other}, numbered otherwise than the {split.n_items:,} of "
            f"{split.log.name}. Take parts of one log, such as two splits by time, or read both logs with "
            "datasets.join, so that a number is the same item in both."
        )


def take_weights(model: nn.Module, start: Run, split: Split) -> dict[str, Tensor]:
    """Give a system the weights and buffers of a run; returns those that are parameters.

    A run on other items gives those of its `with_catalogue(split)`. Raises `ValueError` for parameters of other shapes.
    """
    source = start.model if _same_items(start, split) else start.model.with_catalogue(split)
    has, wants = (dict(one.named_parameters()) for one in (source, model))
    differ = [name for name in {**wants, **has} if _shape(has, name) != _shape(wants, name)]
    if differ:
        there, here, settings = _shape(has, differ[0]), _shape(wants, differ[0]), _differing_settings(source, model)
        raise ValueError(
            f"{name_of(model)} cannot begin from {_called(start)}: {differ[0]} is {there} there and {here} here. Take "
            f"the settings of that run{f': {listed(settings, 6)}' if settings else ''}."
        )
    device = device_of(model)
    state = {name: tensor.to(device) for name, tensor in tensors(source).items()}
    read_state(model, state, _called(start))
    return {name: state[name] for name in has}


def _called(start: Run) -> str:
    return f"the run of {start.system}" if start.folder is None else start.folder.name


def _same_items(start: Run, split: Split) -> bool:
    return start.trained_on is not None and start.trained_on.numbering == item_numbering(split.log)


def _shape(parameters: dict[str, Tensor], name: str) -> str:
    return " x ".join(map(str, parameters[name].shape)) or "a number" if name in parameters else "missing"


def _differing_settings(source: nn.Module, model: nn.Module) -> list[str]:
    """The settings of a run that a system does not have, such as "dim=16"."""
    mine = dataclasses.asdict(model.config)
    return [f"{key}={value}" for key, value in dataclasses.asdict(source.config).items() if mine.get(key) != value]
