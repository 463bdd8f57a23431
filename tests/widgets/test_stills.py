"""The still of every view for every system that it fits, of the other widgets for every run, and what does not fit."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

from seqlab import contracts, models, tracing, widgets
from seqlab.datasets.history import history_of
from seqlab.figures.html import Html
from seqlab.widgets import views
from seqlab.widgets.code_tree import book_of
from tests.tiny_runs import run_of

SYSTEMS = models.names()
VIEWS = views.views()
NAMES = [one.__name__ for one in VIEWS]

PLOT_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Of a figure in HTML; it is random."""

every_system = pytest.mark.parametrize("system", SYSTEMS)


def drawn(still) -> bool:
    """Whether a still shows something, and no error."""
    if isinstance(still, Html):
        return len(still) > 40 and "role='alert'" not in still
    return any(has_values(part) for trace in still.to_plotly_json()["data"] for part in trace.values())


def has_values(part) -> bool:
    """Whether a part of a trace is an array with elements; plotly keeps some of them encoded."""
    return bool(
        part.get("bdata") if isinstance(part, dict) else isinstance(part, list | tuple | np.ndarray) and len(part)
    )


def view_of(view, system, **further):
    """A view of the user of the first query."""
    run, split = run_of(system)
    return view(run, split, user=int(split.test.user[0]), seed=1, **further)


@every_system
def test_the_still_of_every_view_that_fits_is_drawn(system, report) -> None:
    fitting = widgets.fitting(run_of(system)[0])
    assert not [view.__name__ for view in fitting if not drawn(view_of(view, system).still())]


@pytest.mark.parametrize("name", NAMES)
def test_a_history_that_is_shown_later_is_shown_as_from_the_start(name, report) -> None:
    view, system = getattr(widgets, name), views.systems(getattr(widgets, name))[-1]
    run, split = run_of(system)
    history = history_of(split, int(split.test.user[-1]), longest=6)
    further = {"source": int(split.test.user[1])} if views.accepts(view, "source") else {}
    later = view_of(view, system, **further)
    before = str(later.still())
    later.show(history)
    stills = later.still(), view(run, split, seed=1, history=history, **further).still()
    now, expected = (PLOT_ID.sub("", str(still)) for still in stills)
    assert now == expected != PLOT_ID.sub("", before)


def test_as_many_stills_are_drawn_as_systems_and_views_fit() -> None:
    """The test above draws all of them: of many systems, and at least one of each view."""
    pairs = [(system, view.__name__) for system in SYSTEMS for view in widgets.fitting(run_of(system)[0])]
    print(f"{len(pairs)} stills: {len(SYSTEMS)} systems, {len(VIEWS)} views")
    assert {view for _, view in pairs} == {*NAMES}
    alone = {system for system in SYSTEMS if not contracts.needs_of(run_of(system)[0].model)}
    recommending = {system for system in alone if contracts.supports(models.system(system), contracts.Recommends)}
    assert {system for system, view in pairs if view == "HistoryEditor"} == recommending
    assert len(pairs) > 5 * len(recommending)


EXPECTED = {
    "popularity": {"HistoryEditor", "Why", "WhatWouldChange", "InfluenceView"},
    "gru4rec": {"HistoryEditor", "Why", "WhatWouldChange", "Patching", "InfluenceView", "Neighbours"},
    "tiger": {"HistoryEditor", "WhatWouldChange", "AttentionView", "BeamSteps"},
    "complements": {"RelatedItems"},
    "basket_pmi": set(),
}


@pytest.mark.parametrize("system", EXPECTED)
def test_the_views_of_a_system_are_those_that_it_has_the_parts_for(system) -> None:
    assert {view.__name__ for view in widgets.fitting(run_of(system)[0])} >= EXPECTED[system]
    some = {"BeamSteps", "ReasoningSteps", "IntensityOverTime", "AfterEvent", "RelatedItems", "CandidateAttention"}
    assert {view.__name__ for view in widgets.fitting(run_of(system)[0])} & some == EXPECTED[system] & some


@pytest.mark.parametrize("name", NAMES)
def test_a_system_that_does_not_fit_is_refused_in_a_sentence(name, report) -> None:
    view = getattr(widgets, name)
    if not (others := [system for system in SYSTEMS if not views.fits(view, run_of(system)[0].model)]):
        pytest.skip("it fits every system")
    for system in others[:: max(1, len(others) // 3)]:
        with pytest.raises(ValueError, match=r"needs a system that .*; choose one such as|an edited history does not"):
            view_of(view, system)


def test_data_that_are_not_enough_for_a_view_are_answered_with_a_sentence(report) -> None:
    run, split = run_of("dare")
    history = history_of(split, int(split.test.user[0]))
    assert isinstance(widgets.answer(widgets.CandidateAttention, run, split, history), widgets.CandidateAttention)
    without = widgets.answer(widgets.CandidateAttention, run, run_of("sasrec")[1], history)
    assert str(without).startswith("<p>The queries of this split have no candidates; choose a split such as")


# what every widget declares


@pytest.mark.parametrize("name", [name for name in widgets.__all__ if inspect.isclass(getattr(widgets, name))])
def test_every_widget_declares_its_question_and_its_needs(name) -> None:
    widget = getattr(widgets, name)
    assert widget.question.endswith("?") and widget.question[0].isupper() and "\n" not in widget.question
    assert not [need for need in widget.needs if not isinstance(need, str) and not getattr(need, "_is_protocol", False)]
    kinds = {tap.kind for system in SYSTEMS for tap in tracing.taps(run_of(system)[0].model).values()}
    assert {need for need in widget.needs if isinstance(need, str)} <= kinds


def test_a_widget_that_shows_a_history_is_a_view() -> None:
    """Its parameters begin with (run, split, user, seed, history), or the tabs and the report would leave it out."""
    classes = [one for name in widgets.__all__ if inspect.isclass(one := getattr(widgets, name))]
    assert {one.__name__ for one in classes if callable(getattr(one, "show", None))} == {*NAMES}


# widgets that are not about one user


def tree_of(run, split):
    return widgets.CodeTree(book_of(run.model), split)


def browser(run, split):
    return widgets.UserBrowser(run, split, users=2)


def compared(run, split):
    return widgets.CompareSystems({"a": run, "b": run}, split)


OTHERS = {
    "Selection": (lambda run, split: widgets.Selection(split), lambda run: True),
    "UserList": (lambda run, split: widgets.UserList(split, widgets.Selection(split), run), lambda run: True),
    "UserBrowser": (browser, lambda run: "rank" in run.outcome.frame),
    "ItemMap": (widgets.ItemMap, lambda run: views.fits(widgets.ItemMap, run.model)),
    "CodeTree": (tree_of, lambda run: book_of(run.model) is not None),
    "CompareSystems": (compared, lambda run: True),
    "ChosenUser": (lambda run, split: widgets.ChosenUser(split), lambda run: True),
    "RunMenu": (lambda run, split: widgets.RunMenu(split, known=[run]), lambda run: True),
    "Workbench": (lambda run, split: widgets.Workbench([run], split), lambda run: run.system in ("rearec", "tiger")),
}
"""Widget -> how to create it for a run, and for which."""


def test_every_other_widget_is_tested() -> None:
    assert {*OTHERS, *NAMES, "fitting", "answer"} == {*widgets.__all__}


@every_system
def test_the_stills_of_widgets_about_many_users_are_drawn(system, report) -> None:
    run, split = run_of(system)
    fitting = [name for name, (_, fits) in OTHERS.items() if fits(run)]
    assert not [name for name in fitting if not drawn(OTHERS[name][0](run, split).still())]
