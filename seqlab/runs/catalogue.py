"""A trained system on the items of another log, where it has `with_catalogue`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from seqlab import models, tasks
from seqlab.contracts import Catalogues, name_of, needs_of, supports
from seqlab.datasets.split_names import with_columns
from seqlab.runtime.text import listed

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.outcome import Outcome


def with_catalogue(model: nn.Module, split: Split) -> nn.Module:
    """A system with the same weights on the items of another log. Raises `ValueError` for one that cannot have them."""
    if not supports(model, Catalogues):
        able = [name for name in models.names() if supports(models.system(name), Catalogues)]
        raise ValueError(
            f"{name_of(model)} has learned about each item of its own catalogue, so it cannot rank those of "
            f"{split.log.name}: choose the data it was trained on. Other catalogues are for {listed(able)}."
        )
    return model.with_catalogue(split)


def measure(
    model: nn.Module, split: Split, trained_on: str, part: str = "test", seen_filter: bool | None = None
) -> Outcome:
    """The outcome of a trained system on another log; its protocol names both logs.

    trained_on: the name of the data of its training. seen_filter: None as in `tasks.measure`, by the other log. Raises
    what `with_catalogue` does.
    """
    other = with_catalogue(model, split)
    outcome = tasks.measure(other, with_columns(split, needs_of(other)), part, seen_filter)
    words = f"{outcome.protocol}; the items of {split.log.name}, weights learned on {trained_on}"
    return dataclasses.replace(outcome, protocol=words)
