"""open_model: a run in memory of a model that was not trained here, for every widget and for comparisons."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from seqlab import tasks
from seqlab.adapters.functions import ScoringFunction
from seqlab.contracts import Recommends, Scores, name_of, needs_of, supports
from seqlab.datasets.split_names import with_columns
from seqlab.evaluation import metrics
from seqlab.runs.run import Run

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.splits import Split


def open_model(model: nn.Module, split: Split, name: str = "", seen_filter: bool | None = None) -> Run:
    """A run of a model that was not trained here: measured on the test queries of `split`, in memory, without a folder.

    model: what `wrap` makes, or any module that keeps `Scores` or `Recommends` (see `contracts`) and has
    `config.max_length`; it is set to evaluation mode. name: of the system in tables (default: that of `wrap`, else of
    the model's file). seen_filter: as in `tasks.measure`. Its `metrics` have "test" alone; what is not known, such as
    the seconds of training, is NaN.
    Raises `ValueError` for a module that is no system, and what the task raises for one that it cannot measure.
    """
    check(model)
    bar, parameters = contextlib.nullcontext(), sum(parameter.numel() for parameter in model.parameters())
    if isinstance(model, ScoringFunction):
        model.bind(split.n_items)
        bar, parameters = model.measured(len(split.test)), parameters or float("nan")
    started = time.perf_counter()
    with bar:
        outcome = tasks.measure(model.eval(), with_columns(split, needs_of(model)), seen_filter=seen_filter)
    summary = {
        "test": metrics(outcome),
        "protocol": outcome.protocol,
        "parameters": parameters,
        "seconds": float("nan"),
        "test_seconds": round(time.perf_counter() - started, 3),
        "targets_per_second": None,
        "epochs": 0,
        "best_epoch": 0,
    }
    return Run(name or name_of(model), model, summary, outcome)


def check(model: nn.Module) -> None:
    """Raise `ValueError` for what is no system: a function, and a module without `score`, `recommend` or `config`."""
    kind = type(model).__name__
    if not hasattr(model, "named_modules"):
        raise ValueError(f"open_model takes a module (got {kind}); make one of a function by seqlab.wrap.")
    if not (supports(model, Scores) or supports(model, Recommends)):
        raise ValueError(
            f"{kind} has no score(batch) with the scores of all items; write such a function of item ids and wrap it: "
            "seqlab.wrap(score, module=model)."
        )
    if not hasattr(getattr(model, "config", None), "max_length"):
        raise ValueError(
            f"{kind} has no config.max_length, the number of events that it reads (None: all); set it, or use "
            "seqlab.wrap(score, max_length=50, module=model)."
        )
