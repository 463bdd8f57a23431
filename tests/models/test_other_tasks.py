"""What every system of another task than next_item promises; a new file in seqlab/models is tested here by itself."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import datasets, models, tasks, tracing
from seqlab.contracts import ItemVectors, Learns, PredictsLabels, Scores, UserStates, needs_of, supports
from seqlab.datasets.log import make_log
from seqlab.datasets.split_names import with_columns
from seqlab.optimization.options import Options
from seqlab.runs.run import load_run
from seqlab.tasks import next_item
from seqlab.training.fit import fit, prepare
from tests.models.promises import every_axis_fits, states_know_the_past_alone
from tests.synthetic import chain_log, random_log, small
from tests.tiny_runs import split_of

torch.set_num_threads(1)

SYSTEMS = [name for name in models.names() if models.card(name).task != "next_item"]
QUICK = Options(epochs=2, tokens=128, learning_rate=1e-2, warmup=5)

every_system = pytest.mark.parametrize("name", SYSTEMS)


def ready(name):
    """A small system of a task after its look at the training part, and its split."""
    torch.manual_seed(0)
    split = split_of(models.card(name).task)
    model = models.build(name, split.n_items, small(name))
    split = with_columns(split, needs_of(model))
    prepare(model, split)
    return model.eval(), split


@every_system
def test_the_defaults_are_measured_by_the_task_of_the_card(name):
    split = split_of(models.card(name).task)
    model = models.build(name, split.n_items)
    split = with_columns(split, needs_of(model))
    prepare(model, split)
    outcome = tasks.measure(model.eval(), split)
    assert outcome.task == models.card(name).task and len(outcome.frame) == len(split.test)
    assert outcome.values().notna().to_numpy().all()
    assert set(outcome.headline) <= {one.name for one in outcome.metrics} and outcome.primary in outcome.headline
    assert set(outcome.slices) <= set(outcome.frame)


@every_system
def test_a_value_depends_on_neither_other_queries_nor_batches(name, monkeypatch):
    model, split = ready(name)
    whole = tasks.measure(model, split).by_query()
    module = tasks.task(models.card(name).task)
    for where in (module, next_item):
        monkeypatch.setattr(where, "MAX_TOKENS", 40, raising=False)
    monkeypatch.setattr(next_item, "MAX_SCORES", 3 * (split.n_items + 1))
    order = torch.randperm(len(split.test), generator=torch.Generator().manual_seed(0))
    turned = tasks.measure(model, dataclasses.replace(split, test=split.test.select(order)))
    assert turned.frame["query"].tolist() == split.test.id[order].tolist()
    turned = turned.by_query()
    pd.testing.assert_frame_equal(turned.values(), whole.values(), atol=1e-4, rtol=1e-4)
    assert turned.frame["user"].tolist() == whole.frame["user"].tolist()


@every_system
def test_states_know_the_past_alone(name):
    model, split = ready(name)
    if not supports(model, UserStates):
        pytest.skip("has no states after every event")
    rows = (split.test.end - split.test.start > 3).nonzero()[:2, 0]
    batch = split.test.batch(rows, 4)
    assert bool((batch.lengths == 4).all())
    states_know_the_past_alone(model, batch, split.n_items)


@every_system
def test_every_axis_is_as_long_as_its_name_says(name):
    model, split = ready(name)
    batch = split.test.batch(torch.arange(5), model.config.max_length)
    with torch.no_grad(), tracing.watch(model) as trace:
        if supports(model, PredictsLabels):
            model.label_logits(batch, batch.context["candidates"])
        elif supports(model, Scores):
            model.score(batch)
    every_axis_fits(model, batch, trace, split.n_items)


@every_system
def test_the_item_vectors_have_a_row_for_every_item_and_one_for_padding(name):
    model, split = ready(name)
    if not supports(model, ItemVectors):
        pytest.skip("has no table of item vectors")
    assert model.item_vectors().shape == (split.n_items + 1, model.config.dim)


@every_system
def test_a_training_repeats_with_its_seed_and_reads_back(name, tmp_path):
    split = split_of(models.card(name).task)

    def trained(seed, out=None):
        torch.rand(seed)  # whatever was drawn before
        model = models.build(name, split.n_items, small(name), seed)
        return fit(model, split, dataclasses.replace(QUICK, seed=seed), out)

    one, same, other = trained(1, tmp_path / "run"), trained(1), trained(2)
    states = [run.model.state_dict() for run in (one, same, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    if supports(one.model, Learns):
        assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])
    again = load_run(tmp_path / "run", split)
    assert again.metrics == one.metrics and again.outcome.description() == one.outcome.description()
    split = with_columns(split, needs_of(again.model))
    measured = tasks.measure(again.model, split, seen_filter=again.seen_filter)
    pd.testing.assert_frame_equal(measured.values(), one.outcome.values(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("name", "split", "message"), [
    ("sasrec", "within-user 0.2", None), ("neural_tpp", "leave-one-out", "event_time cannot measure this log"),
    ("complements", "leave-one-out", "the events have no column 'basket'"),
])  # fmt: skip
def test_a_task_refuses_data_that_it_cannot_measure(name, split, message):
    parts = datasets.split(chain_log() if message is None else random_log(0, moments=4), split)
    model = models.build(name, parts.n_items, small(name))
    if message is None:
        assert fit(model, parts, QUICK).outcome.task == "next_item"
    else:
        with pytest.raises(datasets.DataError, match=message):
            fit(model, parts, QUICK)


@pytest.mark.parametrize("name", ["dare", "click_rate"])
def test_labels_of_the_data_are_not_replaced_by_drawn_items_in_silence(name):
    random = np.random.default_rng(0)
    rows = [(user, item, float(step), int(random.integers(1, 6))) for user in range(20)
            for step, item in enumerate(random.permutation(12) + 1)]  # fmt: skip
    log = make_log(pd.DataFrame(rows, columns=["user", "item", "timestamp", "rating"]), repeats=False)
    split = datasets.split(log, "labelled rating 4 0.2")
    with pytest.raises(datasets.DataError, match="set label_column=rating and label_least=4"):
        fit(models.build(name, split.n_items, small(name)), split, QUICK)
    labelled = models.build(name, split.n_items, {**small(name), "label_column": "rating"})
    assert fit(labelled, split, QUICK).outcome.task == "clicks"
