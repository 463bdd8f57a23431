"""The still of every widget for every stored run, and the refusal of systems that it does not fit."""

from __future__ import annotations

import json

import pytest

from seqlab import widgets
from seqlab.datasets.history import history_of
from tests.widgets.stored_runs import FITTING, SYSTEMS, run, split

USER, OTHER = 3, 5


def _code_tree(one):
    if not hasattr(one.model, "ids"):
        raise ValueError(f"{one.system} has no codes; choose a system such as tiger")
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
    "IntensityOverTime": lambda one: widgets.IntensityOverTime({"a": one}, split()),
    "AfterEvent": lambda one: widgets.AfterEvent({"a": one}, split()),
    "RelatedItems": lambda one: widgets.RelatedItems(one, split()),
    "CandidateAttention": lambda one: widgets.CandidateAttention(one, split()),
    "Reliability": lambda one: widgets.Reliability(one, split(), user=USER, users=40),
    "CompareSystems": lambda one: widgets.CompareSystems({"a": one, "b": run("popularity")}, split()),
}
"""Widget -> how to create it for one run."""

PAIRS = [
    (name, system)
    for name in MADE
    for system in SYSTEMS
    if name != "Workbench" or system in ("markov", "rearec", "sasrec", "setrec", "tiger")  # it contains all the others
]


def test_every_widget_is_tested() -> None:
    assert set(MADE) == set(widgets.__all__)


@pytest.mark.parametrize(("name", "system"), [pair for pair in PAIRS if pair[1] in FITTING.get(pair[0], SYSTEMS)])
def test_a_still_is_drawn_for_every_system_that_fits(name, system, report) -> None:
    still = MADE[name](run(system)).still()
    if hasattr(still, "markup"):
        assert len(still) > 40
        assert name == "Workbench" or "role='alert'" not in still  # a tab of the workbench may not fit
    else:
        drawn = json.loads(still.to_json())["data"]
        assert drawn and any(size(trace) for trace in drawn)


def size(trace) -> int:
    """The number of elements of a trace of any type."""
    return max((len(part) for part in trace.values() if isinstance(part, list | dict)), default=0)


@pytest.mark.parametrize(("name", "system"), [pair for pair in PAIRS if pair[1] not in FITTING.get(pair[0], SYSTEMS)])
def test_a_system_that_does_not_fit_is_refused(name, system, report) -> None:
    with pytest.raises(ValueError, match=r"choose a|influence is unknown"):
        MADE[name](run(system)).still()
