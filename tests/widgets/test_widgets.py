"""Each widget operated through its controls, and its still."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from seqlab import inspection, tasks, widgets
from seqlab.datasets.history import history_of
from seqlab.figures.theme import label
from seqlab.inspection import attention
from seqlab.widgets import views
from tests.tiny_runs import run_of
from tests.widgets.markup import assert_escaped

PLOTLY = "application/vnd.plotly.v1+json"
VIEW = "application/vnd.jupyter.widget-view+json"


SYSTEMS = ("sasrec", "tiger", "rearec")
"""Those of `all_widgets`."""

VIEWS = [view.__name__ for view in views.views() if {*SYSTEMS} & {*views.systems(view)}]
"""Views of other systems are in `test_event_times` and `test_related_items`."""


def all_widgets(run, split, tigers, rearec):
    """Widget -> how to create it: a view for a run that it fits, or for all of them together."""
    books = [tiger.model.ids.book for tiger in tigers]
    found = {
        "Selection": lambda: widgets.Selection(split),
        "UserList": lambda: widgets.UserList(split, widgets.Selection(split), run),
        "UserBrowser": lambda: widgets.UserBrowser(run, split, users=10),
        "ItemMap": lambda: widgets.ItemMap(run, split),
        "CodeTree": lambda: widgets.CodeTree(books[0], split, books[1]),
        "BeamSteps": lambda: widgets.BeamSteps(tigers[0], split, other=tigers[1], width=3),
        "Workbench": lambda: widgets.Workbench([run, tigers[0]], split, user=max_user(split)),
        "CompareSystems": lambda: widgets.CompareSystems([run, rearec], split),
    }
    for view in (getattr(widgets, name) for name in VIEWS):
        able = {f"<b>of</b> {one.system}": one for one in (run, tigers[0], rearec) if views.fits(view, one.model)}
        of = able if views.together(view) else next(iter(able.values()))
        found.setdefault(view.__name__, functools.partial(view, of, split, max_user(split)))
    return found


NAMES = [*VIEWS, "Selection", "UserList", "UserBrowser", "ItemMap", "CodeTree", "Workbench", "CompareSystems"]


@pytest.mark.parametrize("name", NAMES)
def test_a_report_shows_the_still_only_and_creates_no_control(name, run, split, tigers, rearec, report):
    shown = all_widgets(run, split, tigers, rearec)[name]()._repr_mimebundle_()
    assert VIEW not in shown
    assert (PLOTLY in shown) != ("text/html" in shown)
    if PLOTLY in shown:
        assert json.dumps(shown[PLOTLY])
        assert shown[PLOTLY]["data"]


def children(box):
    return [box, *(one for child in getattr(box, "children", ()) for one in children(child))]


@pytest.mark.parametrize("name", NAMES)
def test_an_interactive_view_has_its_still_one_figure_and_escaped_titles(name, run, split, tigers, rearec, live):
    """What plotly or a browser would read as a tag is escaped in the still and in the HTML of the view."""
    import plotly.graph_objects as go

    widget = all_widgets(run, split, tigers, rearec)[name]()
    bundle = widget._repr_mimebundle_()
    assert VIEW in bundle
    drawn = bundle["text/html"].count("Plotly.newPlot(")
    assert bundle["text/html"].count('"showSendToCloud": false') == drawn  # no figure of it can be uploaded
    figures = [one for one in children(widget.view) if isinstance(one, go.FigureWidget)]
    assert len(figures) <= 1 or name == "Workbench"  # which contains other views
    assert all(one._config["showSendToCloud"] is False for one in figures)
    if name == "ItemMap":
        for item in range(1, 11):
            widget.pick(item)
    assert_escaped(widget)


def test_users_are_browsed_by_slider_and_buttons(run, split, live):
    browser = widgets.UserBrowser(run, split, users=3)
    first = browser.card_view.value
    browser.next.click()
    second = browser.card_view.value
    assert browser.position.value == 2
    assert first != second
    browser.position.value = 1
    assert browser.card_view.value == first
    browser.previous.click()
    assert browser.position.value == 1
    assert browser.still().count("class='card'") == 3


def test_a_card_has_the_history_the_answer_and_the_rank(run, split, live):
    browser = widgets.UserBrowser(run, split)
    for row in range(len(split.test)):
        user, answer = int(split.test.user[row]), int(split.test.item[row])
        card = browser.card(user)
        history = split.test.batch(row_of(row)).items[0]
        history = history[history > 0].tolist()
        titles = ["", *split.log.items["title"]]
        assert card["history"] == [titles[item] for item in history[-10:]]
        assert card["earlier"] == max(0, len(history) - 10)
        assert card["seen"] == (answer in history)
        assert (card["hit"] > 0) == (card["rank"] <= 10)
        assert len(card["recommended"]) == 10


@pytest.mark.parametrize("system", ["run", "tigers"])
def test_a_card_filters_seen_items_as_the_evaluation_does(request, system, split, live):
    """The filter keeps the answer and removes all other seen items."""
    run = request.getfixturevalue(system)
    run = run[0] if system == "tigers" else run
    run = dataclasses.replace(run, outcome=tasks.measure(run.model, split, seen_filter=True))
    browser = widgets.UserBrowser(run, split, k=20)
    titles, cards = ["", *split.log.items["title"]], [browser.card(int(user)) for user in split.test.user]
    for row, card in enumerate(cards):
        history, answer = split.test.batch(row_of(row)).items[0].tolist(), int(split.test.item[row])
        assert not {titles[item] for item in history if item not in (0, answer)} & set(card["recommended"])
        if card["rank"] < 15:  # beyond, beams of other widths may differ
            assert card["hit"] > 0
        if system == "run":
            assert (card["hit"] > 0) == (card["rank"] <= 20) and card["hit"] in (0, card["rank"])
    assert any(card["seen"] and card["hit"] for card in cards)


def test_k_must_be_positive(run, tigers, split, live):
    makes = [
        lambda k: widgets.UserBrowser(run, split, k=k), lambda k: widgets.HistoryEditor(run, split, k=k),
        lambda k: widgets.Why(run, split, k=k), lambda k: widgets.WhatWouldChange(run, split, k=k),
        lambda k: widgets.Patching(run, split, k=k), lambda k: widgets.BeamSteps(tigers[0], split, k=k),
        lambda k: widgets.Neighbours(run, split, k=k),
        lambda k: widgets.ItemMap(run, split).neighbours(3, k), lambda k: inspection.smallest_edit(
            run.model, history_of(split, max_user(split)), 1, True, k),
    ]  # fmt: skip
    for make in makes:
        for wrong in (0, -1, 2.5):
            with pytest.raises(ValueError, match=rf"^k must be a whole number of at least 1 \(got {wrong}\)$"):
                make(wrong)


def row_of(row):
    import torch

    return torch.tensor([row])


def test_map_is_recoloured_in_place_and_rings_neighbours(run, split, live):
    item_map = widgets.ItemMap(run, split, color="shelf")
    figure = item_map.figure
    assert [len(trace.x) for trace in figure.data[:4]] == [10, 10, 10, 0]
    item_map.color.value = "training events"
    assert item_map.figure is figure
    assert len(figure.data[0].x) == 30
    item_map.picker.search.value = "thing 2"
    labels = [label for label, _ in item_map.picker.found.options]
    assert labels[0] == "Thing 20"
    item_map.picker.found.value = 25
    near = item_map.neighbours(25)
    assert list(figure.data[-1].text) == ["Thing 25"]
    assert len(figure.data[-2].x) == len(near) == 10
    vectors = run.model.items.weight[1:].detach().numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit[24]
    assert near["item"].tolist() == (np.argsort(-cosine)[1:11] + 1).tolist()
    assert "Thing" in item_map.near.value


def test_the_map_shows_an_error_as_a_sentence(run, split, live, monkeypatch):
    from seqlab.inspection import projection

    item_map = widgets.ItemMap(run, split)

    def missing(vectors, seed):
        raise ImportError("UMAP cannot be used here (<b>no numba</b>); install umap-learn, or choose 'pca'")

    monkeypatch.setattr(projection, "_umap", missing)
    item_map.method.value = "umap"
    assert "install umap-learn" in item_map.status.view.value
    assert "<b>" not in item_map.status.view.value
    item_map.method.value = "pca"
    assert not item_map.status.view.value


def test_attention_follows_its_controls(run, split, live):
    view = widgets.AttentionView(run, split)

    def shown():
        return np.array(view.figure.data[0].z, dtype=float)

    seen = {}
    for layer in (1, 2):
        for head in (1, 2):
            view.layer.value, view.head.value = layer, head
            seen[layer, head] = shown()
            columns = np.nansum(seen[layer, head], axis=0)
            assert np.allclose(columns, 1, atol=1e-5)
    assert not np.allclose(np.nan_to_num(seen[1, 1]), np.nan_to_num(seen[2, 2]))
    first = shown().shape, view.caption_view.value
    other = next(user for _, user in view.user.options if len(titles_read(split, user)) != first[0][0])
    view.user.value = other
    assert shown().shape != first[0]
    assert view.caption_view.value != first[1]
    assert len(view.figure.data[1].x) == shown().shape[0]
    assert not view.status.view.value


def titles_read(split, user, longest=8):
    row = int((split.test.user == user).nonzero()[0, 0])
    return range(min(longest, int(split.test.end[row] - split.test.start[row])))


def test_attention_still_has_every_layer_and_head(run, split):
    kinds = [trace.type for trace in widgets.AttentionView(run, split).still().data]
    assert kinds.count("heatmap") == 4
    assert kinds.count("bar") == 1


@pytest.mark.parametrize("name", views.systems(widgets.AttentionView))
def test_attention_of_every_system_labels_its_tokens(name, live):
    """By event every row is a title of the history or another kind of token; by token there is a row per token."""
    run, split = run_of(name)
    view = widgets.AttentionView(run, split, max_user(split))
    history = history_of(split, max_user(split), longest=run.model.config.max_length)
    titles = ["", *split.log.items["title"]]
    events = [label(titles[item], 24) for item in history.items.tolist()]

    def rows(figure):
        axis = next(axis for axis in figure.select_yaxes() if axis.side == "right")
        return [text.split("  ", 1) for text in axis.ticktext]

    still = view.still()
    numbered = rows(still)
    titled = [row for row in numbered if row[0]]
    assert titled == [[str(at), title] for at, title in enumerate(events, 1)]
    others = {"start", "next item?", "neighbours in the graph", *(f"reasoning step {at}" for at in range(1, 5))}
    assert {word for number, word in numbered if not number} <= others
    assert next(len(heat.z) for heat in still.data if heat.type == "heatmap") == len(numbered)
    axes = {axis.title.text for axis in still.select_xaxes() if "looking from" in (axis.title.text or "")}
    assert axes == {"looking from (event)" if titled == numbered else "looking from (token)"}
    bars = next(trace for trace in still.data if trace.type == "bar")
    assert [numbered[int(place)] for place in bars.y] == titled
    layout = attention.attention_of(run.model, history).layout
    view.by.value = "token"
    assert len(view.figure.data[0].z) == len(layout)
    bars = view.figure.data[1]
    for at, place in enumerate(bars.y):
        own = (layout.position[0] == at).nonzero()[:, 0].double()
        assert place == pytest.approx(float(own.mean())) and bars.width[at] == pytest.approx(len(own) - 0.2)
    assert not view.status.view.value


def test_a_model_without_attention_is_refused(run, split):
    import dataclasses

    from torch import nn

    with pytest.raises(ValueError, match="has a tap “attention”, which counter is not; choose one such as sasrec"):
        widgets.AttentionView(dataclasses.replace(run, model=nn.Linear(1, 1), system="counter"), split)


def test_the_influence_view_follows_the_user(run, split, live):
    view = widgets.InfluenceView({"one": run, "the same": run}, split)
    before = view.figure.data[0].x
    view.user.value = view.user.options[1][1]
    assert len(view.figure.data) == 2
    assert list(view.figure.data[0].x) == list(view.figure.data[1].x)
    assert list(view.figure.data[0].x) != list(before)
    assert "strongly agree" in view.figure.layout.annotations[1].text + view.figure.layout.annotations[-1].text


def test_history_is_edited_and_undone(run, split, live):
    editor = widgets.HistoryEditor(run, split, user=max_user(split))
    true = editor.history.items.tolist()
    original = editor.lists.value
    editor.events.index = 0
    editor.buttons["Drop"].click()
    assert editor.history.items.tolist() == true[1:]
    assert len(editor.events.options) == len(true) - 1
    editor.events.index = 0
    editor.buttons["Move later"].click()
    assert editor.history.items.tolist() == [true[2], true[1], *true[3:]]
    assert editor.events.index == 1
    editor.buttons["Move earlier"].click()
    assert editor.history.items.tolist() == true[1:]
    editor.picker.search.value = "thing 30"
    editor.picker.found.value = 30
    editor.buttons["Add"].click()
    assert editor.history.items.tolist() == [*true[1:], 30]
    assert editor.lists.value != original
    for _ in range(4):
        editor.buttons["Undo"].click()
    assert editor.history.items.tolist() == true
    editor.buttons["Undo"].click()
    assert "nothing to undo" in editor.status.message
    editor.buttons["Drop"].click()
    editor.buttons["Reset"].click()
    assert editor.history.items.tolist() == true
    assert not editor.status.message


def max_user(split):
    lengths = split.test.end - split.test.start
    return int(split.test.user[lengths.argmax()])


def test_the_last_event_cannot_be_dropped(run, split, live):
    editor = widgets.HistoryEditor(run, split, user=max_user(split))
    for _ in range(20):
        editor.buttons["Drop"].click()
    assert len(editor.history) == 1
    assert "only event" in editor.status.message


def test_the_editors_still_has_three_prepared_edits(run, split):
    from seqlab.datasets.history import history_of

    editor = widgets.HistoryEditor(run, split, user=max_user(split))
    body = editor.still()
    assert body.count("<table>") == 4
    for words in ("true history", "without the last event", "most influential", "order reversed"):
        assert words in body
    changed = editor.rankings(history_of(split, max_user(split), longest=8).reversed())["sasrec"]
    moved = int(changed["moved"].abs().max())
    assert not moved or f"▲ {moved}" in body or f"▼ {moved}" in body
