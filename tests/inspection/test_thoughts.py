"""The thoughts of one user are those of the whole pass, a patch changes what follows, and probability adds up."""

import numpy as np
import pytest
import torch

from seqlab.datasets.history import history_of
from seqlab.inspection import thoughts
from tests.inspection.thinker import STEPS

torch.set_num_threads(1)


def test_one_user_thinks_as_in_the_whole_pass(found, model, split):
    for user in split.test.user.tolist()[:5]:
        history = history_of(split, user, longest=model.config.max_length)
        answer = split.test.item[split.test.user == user].item()
        alone = thoughts.think(model, history, answer, found.seen_filter)
        rows = found.frame[found.frame["user"] == user]
        assert alone.ranks(answer) == rows["rank"].tolist()
        row = (split.test.user == user).nonzero()[0, 0]
        listed = alone.nearest().groupby("step")["item"].apply(list)
        assert listed.tolist() == [[item for item in one if item] for one in found.top[row].tolist()]
        assert torch.allclose(alone.chances.sum(1), torch.ones(STEPS + 1))


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_a_patched_step_changes_itself_and_what_follows(model, split, step):
    mine, other = (history_of(split, user, longest=5) for user in split.test.user.tolist()[1:3])
    before, theirs = thoughts.think(model, mine), thoughts.think(model, other)
    after = thoughts.think(model, mine, swap=(step, theirs.states[step]))
    same = torch.isclose(before.states, after.states).all(1)
    assert same.tolist() == [at < step for at in range(STEPS + 1)]
    # this model remembers nothing but the last state, so from the patch on the user thinks like the other
    assert torch.allclose(after.states[step:], theirs.states[step:], atol=1e-6)


def test_a_step_stands_at_the_weighed_mean_of_its_best_items(model, split):
    near = thoughts.think(model, history_of(split, int(split.test.user[0]), longest=5)).nearest(3)
    spots = np.random.default_rng(0).normal(size=(split.n_items, 2))
    for row in thoughts.places(near, spots).itertuples():
        part = near[near["step"] == row.step]
        weight = part["probability"] / part["probability"].sum()
        there = sum(w * spots[item - 1] for w, item in zip(weight, part["item"], strict=True))
        assert (row.x, row.y) == pytest.approx(tuple(there))


def test_all_probability_is_shared_out_once(model, split):
    thinking = thoughts.think(model, history_of(split, int(split.test.user[0]), longest=5))
    masses = thinking.masses({"a": [1, 2, 2], "b": [2, 3]})
    assert np.allclose(masses.groupby("step")["share"].sum(), 1)
    assert np.allclose(masses.query("part == 'a'")["share"], thinking.chances[:, [1, 2]].sum(1))
    assert np.allclose(masses.query("part == 'b'")["share"], thinking.chances[:, 3])
