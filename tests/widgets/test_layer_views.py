"""The logit lens, direct attribution and the weight of events, operated through their controls."""

import dataclasses

import pytest

from seqlab import models, widgets
from seqlab.datasets.history import typed_history
from seqlab.inspection import influence
from seqlab.optimization.options import Options
from seqlab.training.fit import fit
from tests.widgets.markup import Page, assert_escaped


@pytest.fixture(scope="module")
def others(split):
    """A recurrent and a bidirectional system, barely trained."""
    sizes = {"max_length": 8, "dim": 16}
    return {
        name: fit(models.build(name, split.n_items, sizes | more), split, Options(epochs=1, tokens=128))
        for name, more in {"gru4rec": {}, "bert4rec": {"layers": 1}}.items()
    }


def test_a_pressed_item_is_watched_and_an_earlier_event_read(run, split, live):
    lens = widgets.LogitLens(run, split, k=4)
    page = Page(lens.listed.markup)
    assert {int(key) for key in page.buttons} == set(lens.lens.top(4)["item"])
    assert "layer 2" in page.words and "input" in page.words
    item = next(int(key) for key in page.buttons if int(key) not in (lens.watched, lens.first))
    lens.listed._handle_custom_msg({"press": str(item)}, [])
    assert lens.watched == item and lens.figure.data[1].y[-1] == lens.lens.watch(item)["rank"].iloc[-1]
    lens.watch_next.click()
    assert lens.watched != item
    whole = lens.events.max
    lens.events.value = 2
    assert "after event 2" in lens.caption_view.value and "what came next" in lens.caption_view.value
    lens.user.value = lens.user.options[1][1]
    assert lens.events.value == lens.events.max and not lens.status.view.value
    assert whole > 2


def test_the_lens_of_a_typed_history_watches_the_first_recommendation(run, split):
    lens = widgets.LogitLens(run, split, history=typed_history(split, ["11", "12"]))
    assert lens.watched == lens.first
    with pytest.raises(ValueError, match="2 events"):
        lens.read_to(3)
    with pytest.raises(ValueError, match="no item 99"):
        lens.watch(99)
    assert_escaped(lens)


def test_a_lens_of_a_reasoning_system_has_the_layers_of_every_step(rearec, split, report):
    still = str(widgets.LogitLens(rearec, split).still())
    assert all(f"<h4>{step}</h4>" in still for step in ("no step", "step 1", "step 2"))


def test_another_item_is_explained_and_compared(run, split, live):
    view = widgets.DirectAttribution(run, split)
    first = view.attribution.item
    view.item.value = view.item.options[3][1]
    assert view.attribution.item != first and "has rank 4" in view.caption()
    view.other.value = first
    assert view.attribution.other == first and "and not" in view.caption()
    scores = influence.scores_of(run.model, [view._history])[0]
    assert view.figure.data[0].x[-1] == pytest.approx(float(scores[view.attribution.item] - scores[first]), abs=1e-3)
    view.user.value = view.user.options[2][1]
    assert view.attribution.other == 0 and view.item.value == view.attribution.item
    assert not view.status.view.value
    assert_escaped(view)


def test_where_a_logit_is_no_sum_the_view_says_why(split, live):
    settings = {"objective": "erl", "steps": 1, "max_length": 8, "dim": 16, "layers": 1}
    model = models.build("rearec", split.n_items, settings)
    view = widgets.DirectAttribution(fit(model, split, Options(epochs=1, tokens=128)), split)
    assert view.attribution is None and "several passes" in view.refusal
    assert view.refusal in view.still() and view.refusal in view.view.children[1].value
    view.show(typed_history(split, ["11", "12"]))
    with pytest.raises(ValueError, match="needs a system"):
        widgets.DirectAttribution(fit(models.build("markov", split.n_items), split), split)


def test_the_weights_of_several_systems_share_one_axis(run, others, split, report):
    view = widgets.EventWeights({"a <b>": run, **others}, split)
    figure = view.still()
    assert "a &lt;b&gt;: " in view.caption()
    (ages,) = {tuple(trace.x) for trace in figure.data}
    assert ages[-1] == 0
    assert sum(trace.type == "bar" for trace in figure.data) == 6
    measured = view.weights().groupby("run")["measure"].unique()
    assert set(measured["gru4rec"]) == {"sensitivity", "response"}
    assert set(measured["bert4rec"]) == {"sensitivity", "attention"}
    assert_escaped(view)


def test_a_history_of_one_event_has_weights_and_no_influence(run, split, live):
    view = widgets.EventWeights(run, split, history=typed_history(split, ["11"]))
    assert view.weights()["value"].tolist() == pytest.approx([1.0] * len(view.weights()))
    view.show(typed_history(split, ["11", "12", "13"]))
    assert len(view.figure.data[0].x) == 3


def test_an_item_that_was_filtered_can_be_explained(run, split, report):
    about = run.outcome.about | {"seen_filter": True}
    filtered = dataclasses.replace(run, outcome=dataclasses.replace(run.outcome, about=about))
    view = widgets.DirectAttribution(filtered, split)
    seen = int(view._history.items[0])
    assert view.attribution.item not in view._history.items.tolist()
    view.explain(seen)
    assert view.attribution.item == seen
