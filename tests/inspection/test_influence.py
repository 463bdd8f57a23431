"""Leave-one-out influence and re-ranking against slow oracles."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models
from seqlab.datasets import DataError, leave_one_out
from seqlab.datasets.events import Events
from seqlab.datasets.history import batch_of, history_of, typed_history
from seqlab.datasets.log import make_log
from seqlab.datasets.sequences import Batch, Sequences
from seqlab.inspection import influence
from seqlab.ranking import ranks_of
from seqlab.training import fit
from tests.synthetic import log_of


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


def log_probabilities(model, items, times):
    """The log-probabilities (N + 1,) after one history, scored in a batch of one."""
    batch = Batch(Events(items[None], times[None]), torch.tensor([len(items)]), torch.tensor([1]))
    with torch.no_grad():
        scores = model.score(batch)[0]
    scores[0] = -torch.inf
    return scores.log_softmax(0)


@pytest.mark.parametrize("user", [1, 5, 12])
def test_leave_one_out_equals_a_loop_over_the_events(model, split, user):
    history = history_of(split, user, longest=10)
    found = influence.leave_one_out(model, history)
    whole = log_probabilities(model, history.items, history.times)
    top = int(whole.argmax())
    assert found.attrs["item"] == top
    for at in range(len(history)):
        kept = torch.arange(len(history)) != at
        without = log_probabilities(model, history.items[kept], history.times[kept])
        assert found["value"][at] == pytest.approx(float(whole[top] - without[top]), abs=1e-5)


def test_batches_of_any_size_give_the_same(model, split, monkeypatch):
    history = history_of(split, 12, longest=10)
    at_once = influence.leave_one_out(model, history)["value"]
    monkeypatch.setattr(influence, "POSITIONS_PER_PASS", 25)
    assert np.allclose(influence.leave_one_out(model, history)["value"], at_once, atol=1e-5)


def test_the_watched_item_is_the_first_unseen_one_under_the_filter(model, split):
    history = history_of(split, 12, longest=4)
    watched = influence.leave_one_out(model, history, seen_filter=True).attrs["item"]
    seen = {*history.items.tolist(), *history.earlier.tolist()}
    assert watched not in seen
    order = log_probabilities(model, history.items, history.times).argsort(descending=True).tolist()
    assert watched == next(item for item in order if item not in seen)


def test_a_single_event_cannot_be_left_out(model, split):
    history = history_of(split, 12, longest=1)
    alone = influence.leave_one_out(model, history)
    assert alone["value"].isna().tolist() == [True] and 0 < alone.attrs["item"] <= split.n_items


def test_edits_keep_moments_in_order(split):
    history = history_of(split, 12)
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
    before = history_of(split, 9, longest=10)
    after = before.drop(len(before) - 1).add(3)
    found = influence.rerank(model, before, after, k=5, seen_filter=seen_filter)

    def order(history):
        scores = log_probabilities(model, history.items, history.times)
        seen = {*history.items.tolist(), *history.earlier.tolist()} if seen_filter else set()
        return [item for item in scores.argsort(descending=True).tolist() if item and item not in seen]

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
    history = history_of(split, 9, longest=10)
    found = influence.rerank(model, history, history, k=40)
    assert set(found["status"]) == {"same"}
    assert len(found) == split.n_items
    assert not found["moved"].any()


def test_a_history_ends_before_the_answer(split):
    whole = split.log.events.query("user == 12")["item"].tolist()
    assert history_of(split, 12).items.tolist() == whole[:-1]
    assert history_of(split, 12, "valid").items.tolist() == whole[:-2]
    cut = history_of(split, 12, longest=3)
    assert cut.items.tolist() == whole[-4:-1]
    assert cut.earlier.tolist() == whole[:-4]
    with pytest.raises(ValueError, match="no test query"):
        history_of(split, 99)


def test_the_last_events_and_several_dropped_ones(split):
    whole = history_of(split, 12)
    assert whole.last(99).items.tolist() == whole.items.tolist() and not len(whole.last(99).earlier)
    twice = whole.last(6).last(2)
    assert twice.items.tolist() == whole.items[-2:].tolist() and twice.times.tolist() == whole.times[-2:].tolist()
    assert twice.earlier.tolist() == whole.items[:-2].tolist()
    assert whole.drop(3, 0).items.tolist() == [*whole.items[1:3].tolist(), *whole.items[4:].tolist()]
    assert whole.drop().items.tolist() == whole.items.tolist()
    with pytest.raises(ValueError, match="these are all events"):
        twice.drop(0, 1)


@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "gru4rec", "markov", "popularity"])
def test_surprise_equals_a_loop_over_prefixes(split, name):
    torch.manual_seed(0)
    model = models.build(name, split.n_items, {"max_length": 6})
    fit.prepare(model, split)
    history = history_of(split, 12)
    found = influence.surprise(model, history)
    assert found["position"].tolist() == list(range(1, len(history)))
    assert found["item"].tolist() == history.items[1:].tolist()
    for at, value, rank in found[["position", "value", "rank"]].itertuples(index=False):
        at = int(at)
        before = slice(max(0, at - (model.config.max_length or at)), at)
        log_p = log_probabilities(model.eval(), history.items[before], history.times[before])
        assert value == pytest.approx(-float(log_p[history.items[at]]), abs=1e-5)
        assert rank == float(ranks_of(log_p[None], history.items[at : at + 1]))
    assert found.attrs["position"] == int(found.set_index("position")["value"].idxmax())


def test_surprise_needs_two_events_and_scores(model, split):
    with pytest.raises(ValueError, match="only one event"):
        influence.surprise(model, history_of(split, 12, longest=1))
    with pytest.raises(ValueError, match="returns lists"):
        influence.surprise(models.build("tiger", split.n_items), history_of(split, 12))


def test_a_typed_history_gives_the_same_tables(model, split):
    true = history_of(split, 12, longest=10)
    typed = typed_history(split, "\n".join(map(str, true.items.tolist())))
    assert typed.user == 0 and typed.items.tolist() == true.items.tolist() and not len(typed.earlier)
    assert np.allclose(influence.leave_one_out(model, typed)["value"], influence.leave_one_out(model, true)["value"])
    assert set(influence.rerank(model, true, typed)["status"]) == {"same"}
    assert batch_of([typed, true]).user.tolist() == [0, 12]
    cut = typed_history(split, "1, 2, 3, 4", longest=3)
    assert cut.items.tolist() == [2, 3, 4] and cut.earlier.tolist() == [1] and len(cut.times) == 3
    with pytest.raises(DataError, match=r"line 2: 'nothing' is not an id"):
        typed_history(split, "1\nnothing")


def test_typed_events_are_spaced_by_the_median_gap_and_end_with_training():
    log = log_of([[1, 2, 3, 1, 2], [3, 2, 1, 4, 1]], [[0, 10, 20, 900, 901], [5, 10, 40, 2000, 2001]])
    split = leave_one_out(log)
    assert split.train.times.tolist() == [0, 10, 20, 5, 10, 40]  # gaps 10, 10, 5, 30
    assert typed_history(split, [3, 1, 3]).times.tolist() == [20, 30, 40]
    backwards = replace(split, train=Sequences(Events(torch.tensor([3, 1, 2, 1, 3, 2]), torch.tensor(
        [20.0, 0.0, 10.0, 40.0, 5.0, 10.0])), torch.tensor([0, 3, 6])))  # fmt: skip
    assert typed_history(backwards, [3, 1, 3]).times.tolist() == [20, 30, 40]
    timeless = typed_history(leave_one_out(make_log(
        log.events[["user", "item"]], time=None, order="source", repeats=True)), [3, 1])  # fmt: skip
    assert timeless.times.dtype == torch.float64 and bool(timeless.times.isnan().all())


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
