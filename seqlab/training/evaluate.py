"""evaluate: a trained run measured by another decoding, with the same weights."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import torch

from seqlab import tasks
from seqlab.contracts import needs_of
from seqlab.datasets.split_names import with_columns
from seqlab.decoding.settings import identify, resolve
from seqlab.evaluation import metrics
from seqlab.runs import evaluations
from seqlab.runtime import processes

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.decoding.settings import Decoding
    from seqlab.evaluation.outcome import Outcome
    from seqlab.runs.run import Run


def evaluate(run: Run, split: Split, decoding: Decoding) -> Run:
    """The run with its lists made by another decoding: the same weights, another outcome, and nothing is trained.

    The outcome is read from the folder of the run if it was measured before (see `runs.evaluations`); else it is
    measured, on test and on the validation users of the training, and stored there. The run itself, its model and its
    own files stay as they are. split: that of the training. Several processes must all call it. Raises what
    `decoding.settings.resolve` raises.
    """
    chosen = resolve(run.model, decoding)
    identity = identify(run.model, chosen)
    if identity == run.decoding:
        return run
    model = copy.copy(run.model)  # shares the weights
    model.decoding = chosen
    found = _stored(run, identity)
    if found is None:
        started = time.perf_counter()
        split = with_columns(split, needs_of(model))
        test = tasks.measure(model, split, "test", run.seen_filter)
        seconds = time.perf_counter() - started
        valid = tasks.measure(model, validated(split, run.metrics.get("valid_users")), "valid", run.seen_filter)
        found = test, {
            "test": metrics(test), "valid": metrics(valid), "protocol": test.protocol, "test_seconds": round(seconds, 3)
        }  # fmt: skip
        if run.folder is not None and processes.index() == 0:
            evaluations.write(run.folder, identity, run.seen_filter, *found)
    return dataclasses.replace(run, model=model, outcome=found[0], metrics=run.metrics | found[1])


def validated(split: Split, users: int | None) -> Split:
    """The split with so many validation users, drawn alike for every training; all of them for None."""
    if users is None or users >= len(split.valid):
        return split
    drawn = torch.randperm(len(split.valid), generator=torch.Generator().manual_seed(0))[:users].sort().values
    return dataclasses.replace(split, valid=split.valid.select(drawn))


def _stored(run: Run, identity: dict[str, Any]) -> tuple[Outcome, dict[str, Any]] | None:
    """The evaluation in the folder of the run, if it is there for all processes."""
    found = None if run.folder is None else evaluations.read(run.folder, identity, run.seen_filter)
    everywhere = all(text == "yes" for text in processes.all_gather_text("no" if found is None else "yes"))
    return found if everywhere else None
