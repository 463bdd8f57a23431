"""The task of baskets against brute force: ranks of several answers, their metrics, and what is not ranked."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.datasets.baskets import basket_completion, last_basket
from seqlab.evaluation.metrics import intervals
from seqlab.ranking import top
from seqlab.tasks import baskets, next_item
from seqlab.training.fit import prepare
from tests.datasets.test_baskets import basket_log, found
from tests.synthetic import chain_log

torch.set_num_threads(1)


class Rounded(nn.Module):
    """Scores with ties that depend on the history; lists only, or scores."""

    def __init__(self, n_items, lists):
        super().__init__()
        self.config = type("Config", (), {"max_length": 5})()
        self.table = torch.randint(5, (n_items + 1, n_items + 1), generator=torch.Generator().manual_seed(1)).float()
        self.table[0] = 0  # padding
        if not lists:
            self.score = self._score

    def _score(self, batch):
        return self.table[batch.items].sum(1)

    def recommend(self, batch, k):
        return top(self._score(batch), k)


def by_hand(scores, answers, removed):
    """The metrics of one query. removed: items that are not ranked."""
    candidates = [item for item in range(1, len(scores)) if item not in removed or item in answers]
    ranks = []
    for answer in answers:
        better = sum(scores[one] > scores[answer] for one in candidates)
        equal = sum(scores[one] == scores[answer] for one in candidates)
        ranks.append(1 + better + (equal - 1) / 2)
    row = {"mrr": 1 / min(ranks)}
    for k in (1, 5, 10, 20):
        hits = min(sum(rank <= k for rank in ranks), k)
        gain = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= k)
        ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(ranks)) + 1))
        row |= {f"recall@{k}": hits / len(ranks), f"precision@{k}": hits / k, f"hit@{k}": float(hits > 0)}
        row[f"ndcg@{k}"] = min(gain / ideal, 1)
    return row, ranks


@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("seen_filter", [False, True])
@pytest.mark.parametrize("rule", [last_basket, lambda log: basket_completion(log, "0.5")])
def test_metrics_of_several_answers_by_brute_force(lists, seen_filter, rule):
    log = basket_log(2, users=40, items=13)
    split = rule(log)
    model = Rounded(split.n_items, lists)
    outcome = baskets.measure(model, split, "test", seen_filter)
    rows, repeats = [], {True: [], False: []}
    for row, (history, answers, known) in enumerate(found(split.test).values()):
        batch = split.test.batch(torch.tensor([row]), 5)
        removed = set(known) | (set(history) if seen_filter else set())
        metrics, ranks = by_hand(model._score(batch)[0].tolist(), answers, removed)
        rows.append(metrics)
        for before in repeats:
            own = [rank <= 10 for rank, item in zip(ranks, answers, strict=True) if (item in history) == before]
            repeats[before] += [sum(own) / len(own)] if own else []
        facts = outcome.frame.iloc[row]
        assert facts["basket_size"] == len(answers) + len(known) and facts["answers"] == len(answers)
        assert facts["history_length"] == len(history) - len(known)
        assert facts["repeat_percent"] == pytest.approx(100 * np.mean([item in history for item in answers]))
    table = pd.DataFrame(rows)
    pd.testing.assert_frame_equal(outcome.values(list(table)), table, check_exact=False, rtol=1e-9)
    means = outcome.means()
    assert means["repeat_recall@10"] == pytest.approx(np.mean(repeats[True]))
    assert means["new_recall@10"] == pytest.approx(np.mean(repeats[False]))


def test_a_single_answer_has_the_numbers_of_next_item():
    split = leave_one_out(chain_log(users=30))
    model = Rounded(split.n_items, False)
    several, single = baskets.measure(model, split).means(), next_item.measure(model, split).means()
    for k in (1, 5, 10, 20):
        assert several[f"ndcg@{k}"] == pytest.approx(single[f"ndcg@{k}"])
        assert several[f"hit@{k}"] == several[f"recall@{k}"] == pytest.approx(single[f"recall@{k}"])
    for name in ("coverage@10", "popularity_bias@10", "novelty@10"):
        assert several[name] == pytest.approx(single[name])


def test_recall_of_a_subset_is_the_mean_over_queries_that_have_it_and_its_interval_is_that_of_them():
    ranks, query = np.array([1.0, 30, 2, 40, 50]), np.array([0, 0, 2, 2, 3])
    values = baskets.subset_recall(ranks, query, 5)
    assert values.mean() == pytest.approx(np.mean([0.5, 0.5, 0.0]))
    random = np.random.default_rng(0)
    query = np.sort(random.integers(0, 400, 600))
    ranks = np.where(random.random(600) < 0.3, 1.0, 99.0)
    values = baskets.subset_recall(ranks, query, 400)
    has = np.bincount(query, minlength=400) > 0
    share = np.bincount(query, ranks <= 10, 400)[has] / np.bincount(query, minlength=400)[has]
    weights = random.standard_exponential((4000, has.sum()))
    direct = (weights @ share) / weights.sum(1)
    weights = random.standard_exponential((4000, 400))
    linear = (weights @ values) / weights.sum(1)
    assert linear.mean() == pytest.approx(direct.mean(), abs=2e-3) and linear.std() == pytest.approx(
        direct.std(), rel=0.1
    )


def test_more_tied_answers_than_places_count_as_k():
    columns = baskets.set_metrics(np.array([2.0, 2.0, 2.0]), np.zeros(3, int), np.array([3]), (2,))
    assert columns["precision@2"] == 1 and columns["ndcg@2"] == 1 and columns["recall@2"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["popularity", "personal_frequency", "markov", "item_knn", "basket_pmi"])
def test_floors_are_measured_without_change(name):
    split = basket_completion(basket_log(4, users=40), columns=("basket",))
    model = models.build(name, split.n_items, {})
    prepare(model, split)
    table = intervals(baskets.measure(model, split))
    assert table.index[0] == "recall@1" and table["mean"].between(table["low"], table["high"]).all()


def test_what_cannot_be_measured_is_refused():
    split = last_basket(basket_log(1))
    with pytest.raises(ValueError, match="not finite"):
        model = Rounded(split.n_items, False)
        model.table.fill_(torch.nan)
        baskets.measure(model, split)
    with pytest.raises(Exception, match="recommends no items"):
        baskets.check(nn.Linear(1, 1), split)
