"""The states of one user equal those of the batched pass, a patch changes the later steps, probabilities sum to 1."""

import numpy as np
import pytest
import torch

from seqlab.datasets.history import history_of
from seqlab.inspection import step_states
from tests.inspection.small_models import STEPS

torch.set_num_threads(1)


def test_the_states_of_one_user_equal_those_of_the_batched_pass(found, model, split):
    for user in split.test.user.tolist()[:5]:
        history = history_of(split, user, longest=model.config.max_length)
        answer = split.test.item[split.test.user == user].item()
        single = step_states.step_states(model, history, answer, found.seen_filter)
        rows = found.frame[found.frame["user"] == user]
        assert single.ranks(answer) == rows["rank"].tolist()
        row = (split.test.user == user).nonzero()[0, 0]
        listed = single.nearest().groupby("step")["item"].apply(list)
        assert listed.tolist() == [[item for item in one if item] for one in found.top[row].tolist()]
        assert torch.allclose(single.probabilities.sum(1), torch.ones(STEPS + 1))


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_a_patched_step_changes_itself_and_later_steps(model, split, step):
    mine, other = (history_of(split, user, longest=5) for user in split.test.user.tolist()[1:3])
    before, theirs = step_states.step_states(model, mine), step_states.step_states(model, other)
    after = step_states.step_states(model, mine, patch=(step, theirs.states[step]))
    same = torch.isclose(before.states, after.states).all(1)
    assert same.tolist() == [at < step for at in range(STEPS + 1)]
    # each state of this model depends on the previous one only, so both users agree from the patch on
    assert torch.allclose(after.states[step:], theirs.states[step:], atol=1e-6)


def test_a_step_is_mapped_to_the_weighted_mean_of_its_best_items(model, split):
    near = step_states.step_states(model, history_of(split, int(split.test.user[0]), longest=5)).nearest(3)
    spots = np.random.default_rng(0).normal(size=(split.n_items, 2))
    for row in step_states.map_positions(near, spots).itertuples():
        part = near[near["step"] == row.step]
        weight = part["probability"] / part["probability"].sum()
        mean = sum(w * spots[item - 1] for w, item in zip(weight, part["item"], strict=True))
        assert (row.x, row.y) == pytest.approx(tuple(mean))


def test_group_probabilities_sum_to_one(model, split):
    states = step_states.step_states(model, history_of(split, int(split.test.user[0]), longest=5))
    shares = states.group_probabilities({"a": [1, 2, 2], "b": [2, 3]})
    assert np.allclose(shares.groupby("step")["share"].sum(), 1)
    assert np.allclose(shares.query("part == 'a'")["share"], states.probabilities[:, [1, 2]].sum(1))
    assert np.allclose(shares.query("part == 'b'")["share"], states.probabilities[:, 3])
