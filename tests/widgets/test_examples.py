"""Stills show an item that can be moved, an event that matters and two users who differ, or say that there is none."""

import numpy as np
import pandas as pd

from seqlab import figures, inspection, widgets
from seqlab.datasets.history import history_of
from seqlab.figures.html import plotly_html
from seqlab.inspection import examples, influence


def test_the_still_moves_an_item_that_one_event_decides_about(run, split, report):
    moved = 0
    for user in split.test.user[:5].tolist():
        view = widgets.WhatWouldChange(run, split, user)
        item = examples.movable_item(run.model, view.history)
        edit = inspection.smallest_edit(run.model, view.history, item, item not in view._top)
        assert (str(view.describe(edit)) in view.still()) and edit.found
        moved += len(edit.dropped) == 1
    assert moved


def test_the_still_explains_an_item_to_which_an_event_matters(run, split, report, monkeypatch):
    user = split.test.user[0].item()
    monkeypatch.setattr(examples, "TELLING", 100.0)  # no event matters so much: the item that one changes most
    view = widgets.Why(run, split, user)
    listed, first = view.found.listed, view.item
    view.still()
    assert first == listed[0]
    assert view.item == examples.supported_item(run.model, view.history, listed)
    assert widgets.Why(run, split, user, item=listed[0]).item == listed[0]
    values = influence.leave_one_out(run.model, view.history, view.item)["value"]
    without = view.found.probability * np.exp(-values.max())
    assert f"({values.max():+.2f}: without it, {without:.2%})" in view.caption()


def test_where_no_event_matters_a_sentence_says_so(run, split, report, monkeypatch):
    from seqlab.widgets import why

    monkeypatch.setattr(why, "MATTERS", 100.0)
    caption = widgets.Why(run, split, split.test.user[0].item()).caption()
    assert "No event matters" in caption and "supports" not in caption


def test_the_explanation_stands_once_above_several_systems(run, rearec, split, report):
    from seqlab.widgets.why import INTRO

    assert widgets.Why(run, split).still().count(INTRO) == 1
    user = split.test.user[0].item()
    assert widgets.Workbench([run, rearec], split, user=user, tab="History editor").still().count(INTRO) == 1


def test_the_other_user_is_the_one_who_differs_most(run, split, report):
    user = split.test.user[0].item()
    view = widgets.Patching(run, split, user)
    others = [history_of(split, one, longest=8) for one in view._users if one != user]
    assert view.other.user == others[examples.most_different(run.model, view.history, others)].user
    assert view.grid.attrs["other"] > view.grid.attrs["before"]


def test_the_users_on_whom_two_systems_differ_most(runs, split, report):
    view = widgets.CompareSystems(runs, split, users=4)
    chosen = view.examples(3)
    rows = view.users(view.best, view.metrics[-1], order="most")
    assert chosen == rows["user"].head(3).tolist()
    assert all(f">{name}<" in view.still() for name in rows["name"].head(3))


def test_a_figure_that_needs_more_room_scrolls():
    values = pd.DataFrame({"position": [0, 1], "value": [0.1, -0.4], "history": "one", "unit": "log-probability"})
    rows = pd.concat([values.assign(panel="a"), values.assign(panel="b", value=[2.0, 1.0])], ignore_index=True)
    figure = figures.influences(rows, {"one": ["x", "y"]})
    least = figure.layout.meta["least_width"]
    assert f"min-width:{least}px" in plotly_html(figure.to_plotly_json())
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range  # of one unit
    assert figure.layout.xaxis.range[0] < -0.4 and figure.layout.xaxis.range[1] > 2
