"""The still of every widget, for every system that it fits: all small trained runs there are."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from seqlab import widgets
from seqlab.datasets import leave_one_out
from seqlab.datasets.history import history_of
from seqlab.runs.run import load_run
from tests.synthetic import chain_log

BEFORE = Path(__file__).parents[1] / "runs_before"
SYSTEMS = sorted(folder.name for folder in BEFORE.iterdir() if folder.is_dir())
USER, OTHER = 3, 5


@functools.cache
def split():
    return leave_one_out(chain_log())


@functools.cache
def run(system):
    return load_run(BEFORE / system, split())


def _code_tree(one):
    if not hasattr(one.model, "ids"):
        raise ValueError(f"{one.system} writes no codes, and this test has no others; choose a system such as tiger")
    return widgets.CodeTree(one.model.ids.book, split())


MADE = {
    "Selection": lambda one: widgets.Selection(split()),
    "UserList": lambda one: widgets.UserList(split(), widgets.Selection(split()), one),
    "UserBrowser": lambda one: widgets.UserBrowser(one, split(), users=2),
    "ItemMap": lambda one: widgets.ItemMap(one, split()),
    "AttentionView": lambda one: widgets.AttentionView(one, split(), user=USER),
    "InfluenceView": lambda one: widgets.InfluenceView(one, one, split(), user=USER),
    "HistoryEditor": lambda one: widgets.HistoryEditor(one, split(), user=USER),
    "Why": lambda one: widgets.Why(one, split(), USER),
    "WhatWouldChange": lambda one: widgets.WhatWouldChange(one, split(), USER, limit=200),
    "Patching": lambda one: widgets.Patching(one, split(), USER, OTHER),
    "CodeTree": _code_tree,
    "BeamSteps": lambda one: widgets.BeamSteps(one, split(), user=USER, width=3),
    "ReasoningSteps": lambda one: widgets.ReasoningSteps(one, split(), user=USER),
    "Neighbours": lambda one: widgets.Neighbours({"a": one}, split(), history_of(split(), USER)),
    "Workbench": lambda one: widgets.Workbench([one], split(), user=USER),
    "CompareSystems": lambda one: widgets.CompareSystems({"a": one, "b": run("popularity")}, split()),
}
"""How each is made for one run."""

VECTORS = {"bert4rec", "gru4rec", "mancar", "rearec", "sasrec", "sasrec_side"}
GENERATORS = {"discrec", "recgpt", "reg4rec", "resid", "tiger"}
LISTING = {"discrec", "reg4rec", "resid", "tiger"}  # what they list is searched for, nothing is scored
ONLY = {
    "ItemMap": VECTORS,
    "AttentionView": {"bert4rec", "mancar", "rearec", "sasrec", "sasrec_side", "setrec"} | GENERATORS,
    "InfluenceView": {*SYSTEMS} - LISTING,
    "Why": {*SYSTEMS} - LISTING,
    "Patching": {"bert4rec", "gru4rec", "recgpt", "sasrec", "sasrec_side", "setrec"},
    "CodeTree": GENERATORS,
    "BeamSteps": GENERATORS - {"reg4rec"},
    "ReasoningSteps": {"mancar", "rearec"},
    "Neighbours": VECTORS,
}
"""Whom a view fits that does not fit all; the others it refuses."""

PAIRS = [
    (name, system)
    for name in MADE
    for system in SYSTEMS
    if name != "Workbench" or system in ("markov", "rearec", "sasrec", "setrec", "tiger")  # it holds all the others
]


def test_every_widget_is_tried() -> None:
    assert set(MADE) == set(widgets.__all__)


@pytest.mark.parametrize(("name", "system"), [pair for pair in PAIRS if pair[1] in ONLY.get(pair[0], SYSTEMS)])
def test_a_still_is_drawn_for_every_system_that_fits(name, system, report) -> None:
    still = MADE[name](run(system)).still()
    if hasattr(still, "markup"):
        assert len(still) > 40
        assert name == "Workbench" or "role='alert'" not in still  # there a tab may tell that it does not fit
    else:
        drawn = json.loads(still.to_json())["data"]
        assert drawn and any(size(trace) for trace in drawn)


def size(trace) -> int:
    """How many things a trace draws, whatever its kind."""
    return max((len(part) for part in trace.values() if isinstance(part, list | dict)), default=0)


@pytest.mark.parametrize(("name", "system"), [pair for pair in PAIRS if pair[1] not in ONLY.get(pair[0], SYSTEMS)])
def test_a_system_that_does_not_fit_is_refused_with_a_sentence(name, system, report) -> None:
    with pytest.raises(ValueError, match=r"choose a|influence is unknown"):
        MADE[name](run(system)).still()
