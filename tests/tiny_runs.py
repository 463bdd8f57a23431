"""A run of every system with its TINY settings on a small split of its task: built and measured, hardly trained."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
import torch

from seqlab import datasets, models, tasks
from seqlab.contracts import needs_of
from seqlab.datasets import simulated
from seqlab.datasets.log import make_log
from seqlab.datasets.split_names import with_columns
from seqlab.runs.run import Run
from seqlab.training.fit import prepare
from tests.synthetic import chain_log, small


def trips():
    """Users who come back after some days, at different rates; the item is a mark of the trip."""
    random, rows = np.random.default_rng(0), []
    for user in range(1, 13):
        times = 1.49e9 + np.cumsum(random.lognormal(user / 12, 0.6, 14 + user) * 86_400)
        rows += [(user, int(random.integers(1, 5)), time) for time in times]
    log = make_log(pd.DataFrame(rows, columns=["user", "item", "timestamp"]), repeats=True)
    users = log.users.assign(observed_until=float(log.events["timestamp"].max()))
    return dataclasses.replace(log, users=users, declared=("observed_until",))


def shopping():
    """Baskets of two to five of 12 items; items of one half are bought together."""
    random, rows, basket = np.random.default_rng(0), [], 0
    for user in range(1, 16):
        for visit in range(5):
            basket += 1
            half = 6 * int(random.integers(0, 2))
            for item in random.choice(np.arange(1, 7), int(random.integers(2, 6)), replace=False):
                rows.append((user, item + half, 100.0 * basket + visit, basket))
    return make_log(pd.DataFrame(rows, columns=["user", "item", "timestamp", "basket"]), ties="shuffle", repeats=True)


@functools.cache
def split_of(task: str) -> datasets.Split:
    """A small split whose queries are for a task."""
    if task == "event_time":
        return datasets.split(trips(), "within-user 0.2")
    if task == "baskets":
        return datasets.split(shopping(), "basket-completion 0.5")
    if task == "clicks":
        return datasets.split(chain_log(), "candidates 2")
    if task == "slates":
        return datasets.split(simulated.slates(0, users=30, items=20)[0], "slates 0.2")
    return datasets.leave_one_out(chain_log())


@functools.cache
def run_of(name: str) -> tuple[Run, datasets.Split]:
    """A small system of any task after its look at the training part, as a run, and its split."""
    torch.manual_seed(0)
    split = split_of(models.card(name).task)
    model = models.build(name, split.n_items, small(name, **QUICK.get(name, {})))
    split = with_columns(split, needs_of(model))
    prepare(model, split)
    outcome = tasks.measure(model.eval(), split)
    means = outcome.means()
    metrics = {"test": means, "valid": means, "parameters": 1, "seconds": 1.0, "best_epoch": 1}
    return Run(name, model, metrics, outcome), split


QUICK = {"resid": {"field_epochs": 1}}
"""Settings with which the stages of a system take less time."""
