"""Tasks: how a system is measured on the queries of a split. A module here is a task.

It has `METRICS`, `PRIMARY` (the metric that validation, tuning and tables go by), `HEADLINE` (those that a table
shows), `check(model, split)`, which raises `DataError` for what it cannot measure, and
`measure(model, split, part, seen_filter) -> Outcome`.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import types
from typing import TYPE_CHECKING

from seqlab.runtime.text import DataError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.outcome import Metric, Outcome

DEFAULT = "next_item"


def names() -> list[str]:
    """The names of all tasks, which are the names of the files here."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def task(name: str) -> types.ModuleType:
    """The module of a task. Raises `DataError` with the nearest name for an unknown one."""
    if name not in names():
        raise DataError(f"there is no task {name!r}.{did_you_mean(name, names())} There are: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")


def task_of(model: nn.Module, split: Split | None = None) -> types.ModuleType:
    """The task by which a system is measured: that of the split's queries, else that of the system's card."""
    file = sys.modules.get(type(model).__module__)
    return task((split.task if split else "") or getattr(getattr(file, "CARD", None), "task", DEFAULT))


def measure(model: nn.Module, split: Split, part: str = "test", seen_filter: bool | None = None) -> Outcome:
    """The outcome of a system on the queries of `part` ("valid" or "test"), by the task of `task_of`.

    seen_filter: whether rankings leave out the items of the history; None: unless the log has repeats. Raises
    `DataError` where the task cannot measure the system or the queries.
    """
    return task_of(model, split).measure(model, split, part, seen_filter)


def check(model: nn.Module, split: Split) -> None:
    """Raise `DataError` where the task of this system and split cannot measure it on these queries."""
    task_of(model, split).check(model, split)


def primary(name: str) -> Metric:
    """The primary metric of a task."""
    found = task(name)
    return next(one for one in found.METRICS if one.name == found.PRIMARY)


def metric_of(model: nn.Module, split: Split, name: str = "") -> Metric:
    """A metric of the task of this system and split; "": the primary one. Raises `ValueError` for an unknown name."""
    found = task_of(model, split)
    known = {one.name: one for one in found.METRICS}
    name = name or found.PRIMARY
    if name not in known:
        raise ValueError(f"metric must be one of {', '.join(known)} (got {name!r}).")
    return known[name]
