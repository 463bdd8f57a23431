"""Popularity, personal frequency, Markov and item k-NN against counts made by hand, one event at a time."""

import math
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.evaluation import metrics
from seqlab.tasks import measure
from seqlab.training import fit
from tests.synthetic import batch_of, chain_histories, log_of, random_histories, random_log

torch.set_num_threads(1)

SEEDS = pytest.mark.parametrize("seed", range(4))


def ready(name, split, **settings):
    model = models.build(name, split.n_items, settings)
    fit.prepare(model, split)
    return model


def training(split):
    return [split.train.history(user).tolist() for user in range(1, split.n_users + 1)]


@SEEDS
def test_popularity_counts_only_training_events(seed):
    split = leave_one_out(random_log(seed))
    counts = Counter(item for history in training(split) for item in history)
    scores = ready("popularity", split).score(batch_of([[1], [2, 3]]))
    expected = [counts[item] for item in range(split.n_items + 1)]
    assert scores.tolist() == [expected, expected]


@SEEDS
def test_markov_weighs_transitions_by_gap_and_the_history_by_age(seed):
    split = leave_one_out(random_log(seed))
    followers = defaultdict(Counter)
    for history in training(split):
        for at, item in enumerate(history):
            for gap, after in enumerate(history[at + 1 : at + 4], 1):
                followers[item][after] += 1 / gap
    history = [4, 2, 2, 7]
    expected = np.zeros(split.n_items + 1)
    for age, item in enumerate(reversed(history)):
        total = sum(followers[item].values())
        for after, weight in followers[item].items():
            expected[after] += 0.5**age * weight / total
    scores = ready("markov", split, gaps=3, discount=0.5).score(batch_of([history]))
    np.testing.assert_allclose(scores[0].numpy(), expected, rtol=1e-5, atol=1e-7)


def test_markov_has_no_score_after_an_item_without_followers():
    split = leave_one_out(log_of([[1, 2, 3, 4, 5], [1, 2, 3, 5, 4]]))
    assert ready("markov", split).score(batch_of([[5]])).count_nonzero() == 0


@SEEDS
def test_personal_frequency_ranks_by_count_then_popularity(seed):
    split = leave_one_out(random_log(seed))
    popularity = Counter(item for history in training(split) for item in history)
    history = [4, 2, 2, 7, 4, 2, 9]
    counts = Counter(history)
    scores = ready("personal_frequency", split).score(batch_of([history]))[0]
    for one in range(1, split.n_items + 1):
        for other in range(1, split.n_items + 1):
            by_hand = (counts[one], popularity[one]) > (counts[other], popularity[other])
            assert bool(scores[one] > scores[other]) == by_hand


def test_personal_frequency_with_a_discount_prefers_the_recent():
    split = leave_one_out(log_of([[1, 2, 3, 1, 1], [2, 1, 3]]))
    scores = ready("personal_frequency", split, discount=0.5).score(batch_of([[1, 2, 3], [3, 3, 1]]))
    assert scores.argsort(dim=1, descending=True)[:, :2].tolist() == [[3, 2], [1, 3]]


def test_personal_frequency_is_best_where_users_repeat_items():
    random = np.random.default_rng(0)
    favourites = [random.choice(30, 2, replace=False) for _ in range(60)]
    histories = [
        [int(random.choice(mine)) + 1 if random.random() < 0.8 else int(random.integers(30)) + 1 for _ in range(12)]
        for mine in favourites
    ]
    split = leave_one_out(log_of(histories, repeats=True))
    recall = [metrics(measure(ready(name, split), split))["recall@5"] for name in ("popularity", "personal_frequency")]
    assert recall[1] > recall[0] + 0.3


@SEEDS
def test_item_knn_is_cosine_over_users_summed_over_the_history(seed):
    split = leave_one_out(random_log(seed))
    people = defaultdict(set)
    for user, history in enumerate(training(split)):
        for item in history:
            people[item].add(user)
    history = [4, 2, 7, 2]
    expected = np.zeros(split.n_items + 1)
    for item in history:
        alike = {
            other: len(people[item] & people[other]) / (math.sqrt(len(people[item]) * len(people[other])) + 2)
            for other in range(1, split.n_items + 1)
            if other != item and people[item] & people[other]
        }
        for other, similarity in alike.items():
            expected[other] += similarity
    scores = ready("item_knn", split, shrink=2.0).score(batch_of([history]))
    np.testing.assert_allclose(scores[0, 1:].numpy(), expected[1:], rtol=1e-5, atol=1e-6)


def test_item_knn_keeps_the_nearest_only():
    histories = [[1, 2, 9, 9], [1, 2, 9, 9], [1, 3, 9, 9], [4, 5, 9, 9]]  # all but the last two events are trained on
    split = leave_one_out(log_of(histories + [[item, 9] for item in range(1, 10)]))
    scores = ready("item_knn", split, neighbours=1, shrink=0.0).score(batch_of([[1]]))[0, 1:]
    assert scores.count_nonzero() == 1 and int(scores.argmax()) + 1 == 2


@pytest.mark.parametrize("at_once", [11, 40, 1 << 24])
def test_item_knn_is_the_same_in_blocks(at_once, monkeypatch):
    split = leave_one_out(random_log(0))
    whole = ready("item_knn", split)
    monkeypatch.setattr(models.module("item_knn"), "SIMILARITIES_AT_ONCE", at_once)
    blocks = ready("item_knn", split)
    batch = batch_of(random_histories(5))
    torch.testing.assert_close(blocks.score(batch), whole.score(batch))


@pytest.mark.parametrize("name", ["popularity", "personal_frequency", "markov", "item_knn"])
@pytest.mark.parametrize("histories", [random_histories(3, users=30), chain_histories(2)], ids=["random", "chain"])
def test_renaming_the_items_changes_no_rank(name, histories):
    size = max(map(max, histories))
    renamed = np.random.default_rng(9).permutation(size) + 1
    ranks = []
    for names in (np.arange(1, size + 1), renamed):
        log = log_of([[int(names[item - 1]) for item in items] for items in histories], repeats=False)
        split = leave_one_out(log)
        ranks.append(measure(ready(name, split), split).frame["rank"])
    pd.testing.assert_series_equal(*ranks, check_exact=True)
