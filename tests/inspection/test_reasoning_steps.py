"""The steps of a reasoning system against loops over queries and steps."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.datasets.history import history_of
from seqlab.evaluation import metrics
from seqlab.inspection import reasoning_steps, step_states, stopping
from seqlab.tasks import measure, next_item
from seqlab.training import fit
from tests.inspection.small_models import STEPS, ReasoningModel
from tests.synthetic import random_log, small

torch.set_num_threads(1)


@pytest.mark.parametrize("step", range(STEPS + 1))
@pytest.mark.parametrize("part", ["valid", "test"])
def test_each_step_ranks_as_a_model_that_scores_with_it(split, step, part):
    model = ReasoningModel(split.n_items, answer=step)
    ranked, measured = measure(model, split, part), reasoning_steps.rank_steps(model, split, part).at(step)
    assert ranked.frame.equals(measured.frame)
    assert ranked.protocol == measured.protocol
    assert metrics(ranked) == metrics(measured)


def test_certainty_covers_the_whole_catalogue_under_each_steps_temperature(found, model, split):
    for row in found.frame.itertuples():
        batch = split.test.batch((split.test.user == row.user).nonzero()[:, 0], model.config.max_length)
        scores = model.step_scores(model.reasoning_states(batch))[0, :, 1:].double()
        probabilities = [(scores[step] / model.temperatures[step]).softmax(0) for step in range(STEPS + 1)]
        now = probabilities[row.step]
        assert row.entropy == pytest.approx(float(-(now * now.log()).sum()), abs=1e-5)
        even = (scores[row.step] / model.temperatures[-1]).softmax(0)
        assert row.entropy_even == pytest.approx(float(-(even * even.log()).sum()), abs=1e-5)
        first, second = now.sort(descending=True).values[:2]
        assert row.margin == pytest.approx(float(first - second), abs=1e-6)
        if row.step:
            before = probabilities[row.step - 1]
            assert row.kl == pytest.approx(float((before * (before / now).log()).sum()), abs=1e-5)
        else:
            assert np.isnan([row.kl, row.cosine, row.kept]).all()


def test_batches_of_any_size_give_the_same(found, model, split, monkeypatch):
    monkeypatch.setattr(next_item, "MAX_SCORES", 1)
    again = reasoning_steps.rank_steps(model, split)
    assert np.allclose(again.frame.to_numpy(float), found.frame.to_numpy(float), atol=1e-5, equal_nan=True)
    assert again.top.equal(found.top)


def test_kept_counts_the_items_shared_with_the_previous_step(found):
    for row, lists in zip(found.wide("kept"), found.top.tolist(), strict=True):
        stayed = [len(set(now) & set(before) - {0}) for before, now in pairwise(lists)]
        assert row[1:].tolist() == stayed


def test_a_system_without_steps_has_one_row_and_a_system_without_states_is_refused(split):
    plain = reasoning_steps.rank_steps(ReasoningModel(split.n_items, steps=0), split)
    assert plain.steps == 0 and len(plain.frame) == len(split.test)
    assert stopping.tradeoff(plain)["steps"].tolist() == [0]
    assert stopping.choose_threshold(plain) == 0
    with pytest.raises(ValueError, match="does not reason in steps"):
        reasoning_steps.rank_steps(nn.Linear(1, 1), split)


def test_scores_that_are_not_finite_are_an_error(split):
    model = ReasoningModel(split.n_items)
    model.turn = model.turn * torch.nan
    with pytest.raises(ValueError, match="not finite"):
        reasoning_steps.rank_steps(model, split)


SPLIT = leave_one_out(random_log(1, repeats=True))


@pytest.mark.parametrize("name", [name for name in models.names() if models.card(name).task == "next_item"])
def test_every_system_reasons_in_steps_or_is_refused(name):
    settings = {"steps": 2} if hasattr(models.module(name).Config, "steps") else {}
    model = models.build(name, SPLIT.n_items, small(name, **settings))
    fit.prepare(model, SPLIT)
    user = int(SPLIT.test.user[0])
    history, answer = history_of(SPLIT, user), int(SPLIT.test.item[0])
    if name not in ("rearec", "mancar"):
        for call in (
            lambda: reasoning_steps.rank_steps(model, SPLIT), lambda: reasoning_steps.steps_of(model, history, answer),
            lambda: step_states.step_states(model, history),
            lambda: step_states.teacher_prior(model, history, answer, 0),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="does not reason in steps; choose a system such as rearec"):
                call()
        return
    ranks = reasoning_steps.rank_steps(model, SPLIT).frame.query("user == @user")["rank"].to_numpy()
    assert reasoning_steps.steps_of(model, history, answer, False).frame["rank"].to_numpy() == pytest.approx(ranks)
    states = step_states.step_states(model, history)
    assert states.ranks(answer) == pytest.approx(ranks.tolist())
    near = set(model.near[history.items[-1]].tolist()) - {0, answer} if name == "mancar" else set()
    for step in range(3):
        prior = step_states.teacher_prior(model, history, answer, step)
        assert (prior is None) == (name == "rearec")
        if prior is not None:
            assert set(prior["item"]) == near and (prior["weight"] > 0).all() and prior["weight"].sum() < 1
