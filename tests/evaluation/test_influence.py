"""Leave-one-out influence and re-ranking against slow oracles."""

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.datasets.log import make_log
from seqlab.datasets.sequences import Batch
from seqlab.evaluation import influence


@pytest.fixture(scope="module")
def split():
    random = np.random.default_rng(1)
    rows = [(user, item, step) for user in range(1, 13) for step, item in enumerate(random.integers(1, 21, 3 + user))]
    events = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    return leave_one_out(make_log(events, repeats=True))


@pytest.fixture(scope="module")
def model(split):
    torch.manual_seed(0)
    built = models.build("sasrec", split.n_items, {"max_length": 10, "dim": 16})
    with torch.no_grad():
        built.items.weight.mul_(20)
    return built.eval()


def alone(model, items, times):
    """The log-probabilities after one history, by itself."""
    batch = Batch(items[None], times[None], torch.tensor([len(items)]), torch.tensor([1]))
    with torch.no_grad():
        scores = model.score(batch)[0]
    scores[0] = -torch.inf
    return scores.log_softmax(0)


@pytest.mark.parametrize("user", [1, 5, 12])
def test_leave_one_out_equals_a_loop_over_the_events(model, split, user):
    history = influence.history_of(split, user, longest=10)
    found = influence.leave_one_out(model, history)
    whole = alone(model, history.items, history.times)
    top = int(whole.argmax())
    assert found.attrs["item"] == top
    for at in range(len(history)):
        kept = torch.arange(len(history)) != at
        without = alone(model, history.items[kept], history.times[kept])
        assert found["value"][at] == pytest.approx(float(whole[top] - without[top]), abs=1e-5)


def test_batches_of_any_size_give_the_same(model, split, monkeypatch):
    history = influence.history_of(split, 12, longest=10)
    at_once = influence.leave_one_out(model, history)["value"]
    monkeypatch.setattr(influence, "POSITIONS_AT_ONCE", 25)
    assert np.allclose(influence.leave_one_out(model, history)["value"], at_once, atol=1e-5)


def test_the_watched_item_is_the_first_unseen_one_under_the_filter(model, split):
    history = influence.history_of(split, 12, longest=4)
    watched = influence.leave_one_out(model, history, seen_filter=True).attrs["item"]
    met = {*history.items.tolist(), *history.earlier.tolist()}
    assert watched not in met
    order = alone(model, history.items, history.times).argsort(descending=True).tolist()
    assert watched == next(item for item in order if item not in met)


def test_a_single_event_cannot_be_left_out(model, split):
    history = influence.history_of(split, 12, longest=1)
    with pytest.raises(ValueError, match="only event"):
        influence.leave_one_out(model, history)


def test_edits_keep_moments_in_order(split):
    history = influence.history_of(split, 12)
    assert history.move(0, 3).items.tolist() == [
        *history.items[1:4].tolist(),
        int(history.items[0]),
        *history.items[4:].tolist(),
    ]
    for edited in (history.move(0, 3), history.drop(2), history.add(7), history.reversed()):
        assert bool((edited.times.diff() >= 0).all())
        assert len(edited.items) == len(edited.times)
    assert history.reversed().reversed().items.tolist() == history.items.tolist()
    for at in (-1, len(history)):
        with pytest.raises(ValueError, match="there is no event"):
            history.move(at, 0)


@pytest.mark.parametrize("seen_filter", [False, True])
def test_rerank_equals_sorting_twice(model, split, seen_filter):
    before = influence.history_of(split, 9, longest=10)
    after = before.drop(len(before) - 1).add(3)
    found = influence.rerank(model, before, after, k=5, seen_filter=seen_filter)

    def order(history):
        scores = alone(model, history.items, history.times)
        met = {*history.items.tolist(), *history.earlier.tolist()} if seen_filter else set()
        return [item for item in scores.argsort(descending=True).tolist() if item and item not in met]

    old, new = order(before), order(after)
    listed = found[~found["status"].isin(["left", "filtered"])]
    assert listed["item"].tolist() == new[:5]
    assert listed["rank"].tolist() == [1, 2, 3, 4, 5]
    assert set(found["item"]) == set(new[:5]) | set(old[:5])
    for row in found.itertuples():
        if row.item in old:
            assert row.was == old.index(row.item) + 1
        if row.status == "filtered":
            assert row.item not in new
        else:
            assert row.rank == new.index(row.item) + 1
        assert (row.status == "new") == (row.item not in old[:5])


def test_rerank_of_the_same_history_moves_nothing(model, split):
    history = influence.history_of(split, 9, longest=10)
    found = influence.rerank(model, history, history, k=40)
    assert set(found["status"]) == {"same"}
    assert len(found) == split.n_items
    assert not found["moved"].any()


def test_history_ends_where_the_question_does(split):
    whole = split.log.events.query("user == 12")["item"].tolist()
    assert influence.history_of(split, 12).items.tolist() == whole[:-1]
    assert influence.history_of(split, 12, "valid").items.tolist() == whole[:-2]
    cut = influence.history_of(split, 12, longest=3)
    assert cut.items.tolist() == whole[-4:-1]
    assert cut.earlier.tolist() == whole[:-4]
    with pytest.raises(ValueError, match="no test question"):
        influence.history_of(split, 99)


def test_agreement_is_spearman():
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    a, b = random.normal(size=20), random.normal(size=20).round()
    frames = [pd.DataFrame({"position": range(20), "value": values}) for values in (a, b)]
    rho, words = influence.agreement(*frames)
    assert rho == pytest.approx(spearmanr(a, b).statistic)
    assert f"{rho:+.2f}" in words
    flat = frames[0].assign(value=1.0)
    assert influence.agreement(flat, frames[1])[1].startswith("cannot be compared")
