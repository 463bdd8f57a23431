"""The Swing graph against its formula written out, both roads, and what it may and may not read."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch

from seqlab.datasets import leave_one_out
from seqlab.items import swing_graph as module
from seqlab.items.swing_graph import swing
from seqlab.runtime.text import DataError
from tests.synthetic import chain_histories, log_of, random_histories

torch.set_num_threads(1)

ROADS = pytest.mark.parametrize("road", ["table", "pairs"])
SMALL_PARTS = pytest.mark.parametrize("at_once", [300, 1 << 22])


def take(road, monkeypatch, at_once=1 << 22):
    monkeypatch.setattr(module, "DENSE_LIMIT", 1 << 13 if road == "table" else 0)
    monkeypatch.setattr(module, "CHUNK", at_once)


def by_hand(split, active=5.0, common=1.0, power=0.3):
    """sim (N + 1, N + 1), user by user and item by item."""
    read = {user: set(split.train.history(user).tolist()) for user in range(1, split.n_users + 1)}
    users = defaultdict(set)
    for user, items in read.items():
        for item in items:
            users[item].add(user)
    weight = {user: (len(items) + active) ** -power for user, items in read.items() if items}
    sim = np.zeros((split.n_items + 1, split.n_items + 1))
    for i, j in itertools.permutations(range(1, split.n_items + 1), 2):
        for u, v in itertools.permutations(users[i] & users[j], 2):
            sim[i, j] += weight[u] * weight[v] / (len(read[u] & read[v]) + common)
        sim[i, j] /= max(len(users[j]), 1) ** 0.5
    return sim


def dense(graph, n_items):
    found = torch.zeros(n_items + 1, n_items + 1)
    return found.scatter_add_(1, graph.neighbours, graph.weights)


def crowd(seed, users=40, items=30):
    """A few items in nearly all histories, and many in few."""
    random = np.random.default_rng(seed)
    often = 1 / np.arange(1, items + 1)
    return [[*range(1, items + 1)]] + [
        random.choice(items, random.integers(3, 12), p=often / often.sum()).__add__(1).tolist() for _ in range(users)
    ]


@ROADS
@SMALL_PARTS
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_the_formula_written_out(road, at_once, seed, monkeypatch):
    take(road, monkeypatch, at_once)
    split = leave_one_out(log_of(crowd(seed)))
    expected = by_hand(split)
    graph = swing(split, keep=split.n_items)
    assert graph.neighbours.dtype == torch.long and graph.weights.dtype == torch.float32
    np.testing.assert_allclose(dense(graph, split.n_items).numpy(), expected, rtol=1e-4, atol=1e-7)
    assert (expected > 0).sum() > 100 and (expected == 0).sum() > 100


@ROADS
def test_every_setting_enters_as_the_formula_has_it(road, monkeypatch):
    take(road, monkeypatch)
    split = leave_one_out(log_of(crowd(5)))
    for settings in ({"active": 0.5, "common": 3.0, "power": 0.9}, {"active": 1.0, "common": 0.0, "power": 0.0}):
        graph = swing(split, keep=split.n_items, **settings)
        np.testing.assert_allclose(
            dense(graph, split.n_items).numpy(), by_hand(split, **settings), rtol=1e-4, atol=1e-7
        )


@ROADS
def test_neighbours_are_sorted_and_limited(road, monkeypatch):
    take(road, monkeypatch)
    split = leave_one_out(log_of(crowd(1)))
    expected, graph = by_hand(split), swing(split, keep=4)
    assert graph.neighbours.shape == graph.weights.shape == (split.n_items + 1, 4)
    np.testing.assert_allclose(graph.weights.numpy(), -np.sort(-expected, 1)[:, :4], rtol=1e-4, atol=1e-7)
    assert bool(((graph.neighbours > 0) == (graph.weights > 0)).all())
    assert not bool((graph.neighbours == torch.arange(split.n_items + 1)[:, None])[1:].any()), "none is its own"
    assert not bool(graph.neighbours[0].any())


@ROADS
def test_two_users_must_have_both_items(road, monkeypatch):
    take(road, monkeypatch)
    pad = [9, 8]  # validation and test
    split = leave_one_out(log_of([[1, 2, *pad], [1, 2, 3, *pad], [3, 4, *pad], [5, 6, 7, *pad]]))
    graph = swing(split)
    assert graph.neighbours[1].tolist()[:2] == [2, 0] and graph.neighbours[2].tolist()[:2] == [1, 0]
    for item in (3, 4, 5, 6, 7, 8, 9):  # one common user, or none
        assert not bool(graph.neighbours[item].any()) and not bool(graph.weights[item].any())


@ROADS
def test_training_events_alone_are_read(road, monkeypatch):
    take(road, monkeypatch)
    histories = random_histories(3, users=40)
    answers = [[*items[:-2], items[-2] % 9 + 1, items[-1] % 9 + 1] if len(items) > 2 else items for items in histories]
    trained = [[*(item * 5 % 9 + 1 for item in items[:-2]), *items[-2:]] for items in histories]
    one, same, other = (swing(leave_one_out(log_of(rows, repeats=True))) for rows in (histories, answers, trained))
    assert torch.equal(one.neighbours, same.neighbours) and torch.equal(one.weights, same.weights)
    assert not torch.equal(one.weights, other.weights)


@ROADS
def test_repeated_events_count_once(road, monkeypatch):
    take(road, monkeypatch)
    histories = crowd(2)
    often = [[*items[:-2], *items[:-2], *items[-2:]] for items in histories]
    once, twice = (swing(leave_one_out(log_of(rows, repeats=True))) for rows in (histories, often))
    torch.testing.assert_close(once.weights, twice.weights)
    assert torch.equal(once.neighbours, twice.neighbours)


def test_an_item_of_all_users_is_handled_and_both_ways_agree(monkeypatch):
    random = np.random.default_rng(0)
    rows = [[1, *(random.integers(2, 60, 6)).tolist(), 2, 3] for _ in range(1500)]
    split, found = leave_one_out(log_of(rows, repeats=True)), []
    for road in ("table", "pairs"):
        take(road, monkeypatch)
        found.append(dense(swing(split, keep=70), split.n_items))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-6)
    assert int((found[0][1] > 0).sum()) > 50


def test_a_sample_of_users_is_right_on_average_the_same_for_a_seed_and_exact_when_it_is_everybody():
    split = leave_one_out(log_of(crowd(4, users=60)))
    exact = dense(swing(split, keep=split.n_items), split.n_items)
    everybody = swing(split, keep=split.n_items, users=61)
    torch.testing.assert_close(dense(everybody, split.n_items), exact, rtol=1e-4, atol=1e-6)
    drawn = [dense(swing(split, keep=split.n_items, users=8, seed=seed), split.n_items) for seed in range(60)]
    assert torch.equal(drawn[0], dense(swing(split, keep=split.n_items, users=8), split.n_items))
    assert not torch.equal(drawn[0], drawn[1])
    popular = split.train.item_counts(split.n_items).topk(3).indices
    mean = torch.stack(drawn).mean(0)[popular].sum(1)
    torch.testing.assert_close(mean, exact[popular].sum(1), rtol=0.1, atol=0)


def test_renaming_the_items_renames_the_graph():
    histories = chain_histories(2)
    names = np.random.default_rng(9).permutation(24) + 1
    plain = leave_one_out(log_of(histories, repeats=True))
    other = leave_one_out(log_of([[int(names[item - 1]) for item in items] for items in histories], repeats=True))
    renamed = torch.tensor([0, *names.tolist()])
    one, two = dense(swing(plain), 24), dense(swing(other), 24)
    torch.testing.assert_close(two[renamed][:, renamed], one)


def test_a_large_graph_is_made_once(alone, monkeypatch):
    monkeypatch.setattr(module, "CACHED_EVENTS", 10)
    split = leave_one_out(log_of(crowd(0)))
    first = swing(split, keep=5)
    assert len(list(alone.glob("graphs/*.safetensors"))) == 1
    with monkeypatch.context() as once:
        once.setattr(module, "_build", lambda *_: pytest.fail("made again"))
        again = swing(split, keep=5)
    assert torch.equal(first.neighbours, again.neighbours) and torch.equal(first.weights, again.weights)
    swing(split, keep=6)
    swing(leave_one_out(log_of(crowd(1))), keep=5)
    kept = list(alone.glob("graphs/*.safetensors"))
    assert len(kept) == 3
    for path in kept:
        path.write_bytes(b"spoiled")
    assert torch.equal(swing(split, keep=5).weights, first.weights)


@pytest.mark.parametrize("settings", [{"keep": 0}, {"users": 1}, {"active": -1.0}, {"active": 0.0, "common": 0.0}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(DataError, match="swing: keep must be 1 or more"):
        swing(leave_one_out(log_of(crowd(0))), **settings)


def test_work_of_hours_is_refused_before_it_starts(monkeypatch):
    take("pairs", monkeypatch)
    monkeypatch.setattr(module, "MAX_PAIRS", 100)
    split = leave_one_out(log_of(crowd(0)))
    with pytest.raises(DataError, match=r"would take hours.*users="):
        swing(split)
    assert bool(swing(split, users=2).weights.any())
