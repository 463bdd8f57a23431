"""The examples of stills against brute force, one history at a time."""

import pytest
import torch

from seqlab.inspection import smallest_edit
from seqlab.inspection.examples import TELLING, most_different, movable_item, supported_item
from tests.inspection.small_models import history_of_items
from tests.inspection.test_edits import MODELS, K, N, order_of, random_history


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seen_filter", [False, True])
def test_an_item_that_one_event_decides_about(name, seen_filter):
    model, moved = MODELS[name], 0
    for seed in range(5):
        history = random_history(seed, 6)
        listed, *others = (
            order_of(model, one, seen_filter)[:K] for one in (history, *(history.drop(at) for at in range(6)))
        )
        item = movable_item(model, history, K, seen_filter)
        leaving = [one for one in listed if any(one not in other for other in others)]
        assert item == leaving[0] if leaving else item in listed
        moved += bool(leaving)
        if leaving:
            edit = smallest_edit(model, history, item, False, K, seen_filter)
            assert edit.found and len(edit.dropped) == 1
    assert moved


def test_an_item_that_no_event_moves():
    class Constant(torch.nn.Module):
        config = type("Config", (), {"max_length": 10})()

        def score(self, batch):
            return torch.arange(N + 1.0).expand(len(batch.lengths), -1).clone()

        def recommend(self, batch, k):
            from seqlab.ranking import top

            return top(self.score(batch), k)

    history = random_history(0, 4)
    assert movable_item(Constant(), history, K) == N - K + 1  # the last of the list
    assert supported_item(Constant(), history, [N, N - 1]) == N
    assert movable_item(Constant(), history_of_items(3), K) == N - K + 1  # a single event cannot be dropped


def test_the_first_item_to_which_an_event_matters(monkeypatch):
    from seqlab.inspection import examples
    from seqlab.inspection.influence import leave_one_out

    model, history = MODELS["sasrec"], random_history(1, 6)
    listed = order_of(model, history)[:K]
    changes = [leave_one_out(model, history, item)["value"].abs().max() for item in listed]
    assert max(changes) >= TELLING
    assert supported_item(model, history, listed) == next(
        item for item, change in zip(listed, changes, strict=True) if change >= TELLING
    )
    monkeypatch.setattr(examples, "TELLING", 100.0)
    assert supported_item(model, history, listed) == listed[changes.index(max(changes))]


def test_the_history_whose_first_recommendation_gains_most():
    from seqlab.inspection.influence import scores_of

    model, history, others = MODELS["gru4rec"], random_history(0, 6), [random_history(seed, 5) for seed in range(1, 8)]
    mine, *theirs = scores_of(model, [history, *others]).log_softmax(1)
    gains = [float(one.max() - mine[one.argmax()]) if one.argmax() != mine.argmax() else -torch.inf for one in theirs]
    assert most_different(model, history, others) == gains.index(max(gains))
    assert most_different(model, history, [history, others[0]]) == 1
