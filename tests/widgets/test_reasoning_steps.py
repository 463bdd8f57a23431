"""ReasoningSteps operated through its controls, and compared with the model and the evaluation."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seqlab import tracing, widgets
from seqlab.contracts import name_of
from seqlab.datasets import history
from seqlab.figures.reasoning_path import BLUE, LATER
from seqlab.inspection import reasoning_steps, stopping
from tests.widgets.markup import assert_escaped


@pytest.fixture
def steps(rearec, split, live):
    return widgets.ReasoningSteps(rearec, split, epsilon=0.0)


def path_of(steps, words="its best item"):
    return next(one for one in steps.figure.data if one.hovertext and words in one.hovertext[0])


def curve_of(steps):
    return next(one for one in steps.figure.data if one.hovertemplate and "stop below" in one.hovertemplate)


def test_the_rank_shown_is_that_of_the_evaluation(steps, rearec, split):
    last = steps.measures()["rank"].iloc[-1]
    frame = rearec.outcome.frame  # of the test part, by the last state
    assert last == frame.loc[frame["user"] == steps._history.user, "rank"].item()
    assert f"{steps.measures()['rank'].iloc[0]:,.10g} at first" in steps.caption()


def test_the_figure_follows_the_user(steps):
    before, words = list(path_of(steps).x), steps.figure.layout.annotations[-1].text
    steps.user.value = steps.user.options[3][1]
    assert list(path_of(steps).x) != before
    assert steps.figure.layout.annotations[-1].text != words
    assert not steps.status.view.value


def test_fewer_steps_shorten_the_path_the_lists_and_the_curve(steps):
    assert list(path_of(steps).text) == ["0", "1", "2"]
    assert max(curve_of(steps).x) == 2
    steps.steps.value = 1
    assert list(path_of(steps).text) == ["0", "1"]
    assert max(curve_of(steps).x) == 1
    assert steps.listed.value.count("the next item has rank") == 2
    steps.steps.value = 0
    assert list(path_of(steps).text) == ["0"]
    assert not steps.status.view.value
    steps.steps.value = 2
    assert list(path_of(steps).text) == ["0", "1", "2"]


def test_a_threshold_moves_this_users_stop_and_the_point_of_all_users(steps):
    def chosen():
        return next(one.x[0] for one in steps.figure.data if one.hovertemplate and "that is set" in one.hovertemplate)

    assert steps.stop == 2 and chosen() == 2
    assert list(path_of(steps).marker.color) == [BLUE] * 3
    steps.threshold.value = steps.thresholds[-1]
    assert steps.stop == 1 and chosen() == 1
    assert list(path_of(steps).marker.color) == [BLUE, BLUE, LATER]
    middle = steps.thresholds[len(steps.thresholds) // 2]
    steps.threshold.value = middle
    table = stopping.tradeoff(steps.step_ranks, [middle])
    assert chosen() == table["steps"].item()
    assert f"{table['ndcg@10'].item():.3f}" in steps.caption()


def test_the_threshold_is_chosen_on_validation(rearec, split, report):
    valid = reasoning_steps.rank_steps(rearec.model, split, "valid")
    assert widgets.ReasoningSteps(rearec, split).epsilon == stopping.choose_threshold(valid)


def test_a_patched_state_is_the_other_users(steps, rearec, split):
    other = steps._users[5]
    longest = rearec.model.config.max_length
    batch = history.batch_of([history.history_of(split, other, longest=longest)], longest)
    with torch.no_grad(), tracing.watch(rearec.model, "reasoning_step") as trace:
        rearec.model.reasoning_states(batch)
    theirs = trace["reasoning_step"].values[:, 0]  # (S + 1, D)
    after = steps.patched(1, other).states
    before = steps._states.states
    assert torch.allclose(after[0], before[0], atol=1e-5)
    assert torch.allclose(after[1], theirs[1], atol=1e-5)
    assert not torch.allclose(after[2], before[2], atol=1e-3)  # it goes on from there
    assert not torch.allclose(after[2], theirs[2], atol=1e-3)  # with its own history before its eyes
    assert steps.patched(2, other).ranks(steps.answer) != steps._states.ranks(steps.answer)


def test_patching_with_the_same_user_changes_nothing(steps):
    assert torch.allclose(steps.patched(1, steps._history.user).states, steps._states.states, atol=1e-5)
    ranks = steps.patched_ranks(1, steps._history.user)
    assert (ranks["before"] == ranks["after"]).all()


def test_a_patch_is_shown_until_it_is_removed(steps):
    yellow = next(one for one in steps.figure.data if one.hovertext is not None and one.line.color == "#E69F00")
    assert not len(yellow.x)
    steps.patch_user.value = steps.patch_user.options[4][1]
    steps.patch_step.value = 1
    assert len(yellow.x) == 3 and list(yellow.hovertext) == ["step 0", "step 1", "step 2"]
    assert yellow.hoverinfo != "skip"
    assert np.allclose(yellow.x[0], path_of(steps).x[0])
    assert "state of step 1" in steps.message.value
    first = steps.message.value
    steps.patch_user.value = steps.patch_user.options[6][1]
    assert steps.message.value != first
    steps.patch_step.value = None
    assert not steps.message.value and not len(yellow.x)
    assert not steps.status.view.value


def test_lists_show_the_best_items_of_every_step(steps):
    markup = steps.lists(5).markup
    assert "Before any step" in markup and "Step 2" in markup
    near = steps.nearest(5)
    for step, part in near.groupby("step"):
        scores = steps._states.scores[step]
        assert part["item"].tolist() == scores.topk(5).indices.tolist()


def run_of(model):
    return SimpleNamespace(model=model, system=name_of(model), seen_filter=None)


def test_a_system_without_steps_is_refused(run, split, report):
    with pytest.raises(ValueError, match=r"needs a system that .* reasons .*, which sasrec is not"):
        widgets.ReasoningSteps(run, split)


def test_a_system_with_no_steps_has_a_figure_of_one_state(split, live):
    from seqlab import models

    plain = models.build("rearec", split.n_items, {"dim": 16, "layers": 1, "max_length": 8, "steps": 0})
    shown = widgets.ReasoningSteps(run_of(plain), split)
    assert list(path_of(shown).text) == ["0"]
    assert shown.steps.disabled and shown.threshold.disabled
    assert shown.still().data


@pytest.fixture(scope="session")
def mancar(split):
    """A small ManCAR, trained for one epoch."""
    from seqlab import models
    from seqlab.optimization.options import Options
    from seqlab.training.fit import fit

    settings = {"max_length": 8, "dim": 16, "layers": 1, "heads": 2, "steps": 2}
    return fit(models.build("mancar", split.n_items, settings), split, Options(epochs=1, tokens=128))


def test_the_teacher_of_a_system_is_drawn(mancar, rearec, split, report):
    shown = widgets.ReasoningSteps(mancar, split)
    last, model = int(shown._history.items[-1]), mancar.model
    near = [item for item in model.near[last, : model.config.taught].tolist() if item > 0 and item != shown.answer]
    assert shown.teacher_prior()["item"].tolist() == near
    assert shown.teacher_prior()["weight"].is_monotonic_decreasing and shown.teacher_prior()["weight"].sum() < 1
    squares = next(one for one in shown.still().data if one.hovertext and "the prior gives it" in one.hovertext[0])
    assert np.allclose(squares.x, shown._coordinates[np.array(near) - 1, 0])
    assert "the prior" in json.dumps(shown.probability_shares().to_plotly_json(), default=str)
    assert widgets.ReasoningSteps(rearec, split).teacher_prior() is None


def test_the_threshold_of_a_model_is_used(mancar, split, report, monkeypatch):
    monkeypatch.setattr(mancar.model, "epsilon", torch.tensor(0.25))
    assert widgets.ReasoningSteps(mancar, split).epsilon == 0.25


def test_titles_stay_text(steps):
    for _, user in steps.user.options[:2]:
        steps.user.value = user
        steps.patch_step.value = 1
        assert_escaped(steps, steps.lists(), steps.patched_list(1, steps._users[0]), steps.probability_shares())
