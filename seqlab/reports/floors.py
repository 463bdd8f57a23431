"""The floors of a report: systems without training, measured by the same task as the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqlab import models, tasks
from seqlab.contracts import Learns, name_of, supports
from seqlab.runtime.text import DataError, listed
from seqlab.training.fit import fit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run


def fit_floors(names: Iterable[str], run: Run, split: Split) -> tuple[list[Run], str]:
    """These floors under the protocol of a run, the best first, and a sentence about those left out ("": none are).

    Left out are those that the task of the run cannot measure; where it can measure none, all systems of that task
    without a loss take their place.
    """
    names, task = list(names), run.outcome.task
    floors = [model for name in names if (model := _measurable(name, task, split)) is not None]
    left_out = [name for name in names if name not in {name_of(model) for model in floors}]
    sentence = f"{listed(left_out, 9)} cannot be measured by {task}." if left_out else ""
    if not floors:
        of_task = [name for name in models.names() if models.card(name).task == task and name != run.system]
        untrained = [name for name in of_task if not supports(models.system(name), Learns)]
        floors = [model for name in untrained if (model := _measurable(name, task, split)) is not None]
        sentence += f" In their place: {listed([name_of(one) for one in floors], 9)}." if floors else ""
    runs = [fit(model, split, seen_filter=_seen_filter(run)) for model in floors]
    primary = run.outcome.metric(run.outcome.primary)
    runs.sort(key=lambda one: one.metrics["test"][primary.name], reverse=primary.higher)
    return runs, sentence.strip()


def _measurable(name: str, task: str, split: Split) -> nn.Module | None:
    """A new system, if it is measured by this task on this split."""
    model = models.create(name, split)
    chosen = tasks.task_of(model, split)
    if chosen is not tasks.task(task):
        return None
    try:
        chosen.check(model, split)
    except DataError:
        return None
    return model


def _seen_filter(run: Run) -> bool | None:
    """The seen filter of a run; None for a task on which it has no effect."""
    return run.seen_filter if "seen_filter" in run.outcome.about else None
