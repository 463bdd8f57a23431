"""Counts of pairs and the scores of unfinished baskets against counts made by hand, one basket at a time."""

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch

from seqlab import models
from seqlab.datasets.baskets import basket_completion, basket_items
from seqlab.items import co_purchases as module
from seqlab.training.fit import prepare
from tests.datasets.test_baskets import basket_log, found

torch.set_num_threads(1)

WEIGHTS = {
    "pmi": lambda both, one, other, total: max(math.log(both * total / (one * other)), 0),
    "lift": lambda both, one, other, total: both * total / (one * other),
    "count": lambda both, one, other, total: both,
    "confidence": lambda both, one, other, total: both / one,
    "cosine": lambda both, one, other, total: both / math.sqrt(one * other),
}


def counted(train):
    """Counters of items and ordered pairs, and the number of baskets."""
    items = basket_items(train)
    rows = [items.values[a:b].tolist() for a, b in zip(items.offsets[:-1], items.offsets[1:], strict=True)]
    singles = Counter(item for row in rows for item in row)
    return singles, Counter(pair for row in rows for pair in permutations(row, 2)), len(rows)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("support", [1, 3])
def test_scores_are_the_mean_weight_of_the_given_items(weight, support):
    split = basket_completion(basket_log(6, users=40), "0.5", columns=("basket",))
    model = models.build("basket_pmi", split.n_items, {"weight": weight, "support": support})
    prepare(model, split)
    singles, pairs, total = counted(split.train)
    scores = model.score(split.test.batch(torch.arange(len(split.test))))
    assert scores.shape == (len(split.test), split.n_items + 1)
    for row, (_, _, given) in enumerate(found(split.test).values()):
        expected = np.zeros(split.n_items + 1)
        for item in given:
            for other in range(1, split.n_items + 1):
                if pairs[item, other] >= support:
                    value = WEIGHTS[weight](pairs[item, other], singles[item], singles[other], total)
                    expected[other] += value / len(given)
        np.testing.assert_allclose(scores[row], expected, rtol=1e-5, atol=1e-6)


def test_pairs_are_the_same_in_blocks(monkeypatch):
    train = basket_completion(basket_log(7, users=40), columns=("basket",)).train
    whole = module.co_purchases(train, 7)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 20)
    blocks = module.co_purchases(train, 7)
    assert (whole.pairs != blocks.pairs).nnz == 0 and whole.baskets == blocks.baskets
    assert (whole.pairs != whole.pairs.T).nnz == 0 and not whole.pairs.diagonal().any()
    assert np.array_equal(whole.items, blocks.items)


def test_without_a_given_item_the_last_basket_counts():
    split = basket_completion(basket_log(8, users=40), columns=("basket",))
    model = models.build("basket_pmi", split.n_items, {"support": 1})
    prepare(model, split)
    batch = split.test.batch(torch.arange(len(split.test)))
    alone = type(batch)(batch.events, batch.lengths, batch.user)
    torch.testing.assert_close(model.score(alone), model.score(batch))  # the given items are the last events
