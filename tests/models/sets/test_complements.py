"""Skip-grams of baskets: what is drawn, the optimum, and the two-block toy in which two tables are needed."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models
from seqlab.datasets.baskets import basket_items, last_basket
from seqlab.datasets.events import Ragged, offsets_of
from seqlab.datasets.log import make_log
from seqlab.inspection.complements import eigenvalues
from seqlab.models.sets.complements import Config, skip_grams, subsample
from tests.datasets.test_baskets import basket_log
from tests.synthetic import small

torch.set_num_threads(1)


def ragged(rows):
    return Ragged(torch.tensor([*chain(*rows)]), offsets_of(torch.tensor([len(row) for row in rows])))


def drawn(rows, n_items, seed=0, tokens=64, **settings):
    """One epoch as (center, context, negatives) of all pairs."""
    generator = torch.Generator().manual_seed(seed)
    batches = [*skip_grams(ragged(rows), n_items + 1, Config(**settings), tokens, generator)]
    return [torch.cat([getattr(one, name) for one in batches]) for name in ("center", "context", "negatives")]


def trained(rows, n_items, steps, **settings):
    """A model after some passes over `rows`."""
    model = models.build("complements", n_items, settings)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    generator, baskets = torch.Generator().manual_seed(0), ragged(rows)
    for _ in range(steps):
        (batch,) = skip_grams(baskets, n_items + 1, model.config, 10**6, generator)
        optimizer.zero_grad()
        model.loss(batch).total.backward()
        optimizer.step()
    return model


def test_pairs_are_distinct_items_of_a_basket_drawn_uniformly_and_no_negative_is_in_it():
    rows = [[1, 2], [3, 4, 5, 6, 7, 8], [9]] * 300
    center, context, negatives = drawn(rows, 10, negatives=3)
    assert len(center) == 8 * 300 and bool((center != context).all())
    small_basket = center <= 2
    assert torch.equal(small_basket, context <= 2) and bool((center < 9).all())
    assert float(small_basket.float().mean()) == pytest.approx(0.5, abs=0.04)  # of the two baskets, not of their pairs
    assert bool((negatives[small_basket] > 2).all()) and bool((negatives <= 9).all())
    inside = (negatives > 2) & (negatives < 9)
    assert not bool(inside[~small_basket].any())


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.75])
def test_negatives_follow_the_power_of_counts(alpha):
    rows = [[1, 2]] * 80 + [[3, 4]] * 20 + [[5, 6]] * 5
    _, _, negatives = drawn(rows, 7, tokens=10**6, negatives=500, alpha=alpha, exclude=False)
    share = torch.bincount(negatives.flatten(), minlength=8).double() / negatives.numel()
    counts = np.array([0, 80, 80, 20, 20, 5, 5, 0.0])
    expected = np.where(counts > 0, np.maximum(counts, 1) ** alpha, 0)
    np.testing.assert_allclose(share, expected / expected.sum(), atol=0.01)


def test_a_basket_of_the_whole_catalogue_has_no_negatives_and_shards_share_the_pairs():
    assert not drawn([[1, 2, 3]] * 5, 3)[2].any()
    model = models.build("complements", 7, small("complements"))
    train = last_basket(basket_log(0), ("basket",)).train
    whole, *parts = ([*model.draw(train, 8, 0, 3, shard)] for shard in ((0, 1), (0, 2), (1, 2)))
    for one, even, odd in zip(whole, *parts, strict=True):
        assert torch.equal(one.center[::2], even.center) and torch.equal(one.negatives[1::2], odd.negatives)


def test_subsampling_leaves_out_frequent_items():
    rows = ragged([[1, 2]] * 1000 + [[3, 4]] * 20)
    counts = torch.bincount(rows.values)
    kept = subsample(rows, counts, 0.03, torch.Generator().manual_seed(0))
    share = counts / counts.sum()
    left = torch.bincount(kept.values, minlength=5)[1:] / counts[1:]
    torch.testing.assert_close(left, (0.03 / share[1:]).sqrt().clamp(max=1), atol=0.03, rtol=0)
    assert len(kept) == len(rows) and set(kept.padded(torch.arange(1000, 1020)).flatten().tolist()) == {3, 4}


@pytest.mark.parametrize("exclude", [False, True])
def test_the_optimum_is_the_log_ratio_of_pairs_and_noise(exclude):
    """Without exclusion and with as many dimensions as items: PMI - log K, where noise is the unigram distribution."""
    rows = [[1, 2], [1, 3], [2, 3], [1, 2, 4], [3, 4], [2, 4], [1, 2], [3, 4, 5], [1, 5], [2, 5], [4, 5]] * 150
    model = models.build("complements", 5, {"dim": 6, "negatives": 2, "alpha": 1.0, "exclude": exclude}).double()
    (batch,) = skip_grams(ragged(rows), 6, model.config, 10**6, torch.Generator().manual_seed(0))
    expected, drawn = (np.zeros((2, 6, 6)) for _ in range(2))  # of positive and negative pairs
    unigram = np.bincount([*chain(*rows)], minlength=6) / sum(map(len, rows))
    for basket in rows:
        outside = unigram.copy()
        outside[basket] *= not exclude
        for center in basket:
            expected[1, center] += 2 * outside / outside.sum() / len(basket) / len(rows)
            for context in basket:
                expected[0, center, context] += (center != context) / len(basket) / (len(basket) - 1) / len(rows)
    np.add.at(drawn[0], (batch.center, batch.context), 1 / len(batch))
    np.add.at(drawn[1], (batch.center[:, None], batch.negatives), 1 / len(batch))
    np.testing.assert_allclose(drawn, expected, atol=0.02)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = model.loss(batch).total
        loss.backward()
        return loss

    optimizer.step(closure)
    score = (model.inputs.weight @ model.outputs.weight.T).detach().numpy()
    seen = drawn[0] > 0
    np.testing.assert_allclose(score[seen], np.log(drawn[0][seen] / drawn[1][seen]), atol=0.03)


def test_two_blocks_that_pair_across_need_two_tables():
    """The claim in a toy: IN.OUT finds all complements, IN.IN all substitutes, with a negative eigenvalue."""
    random = np.random.default_rng(0)
    rows = [[int(random.integers(1, 6)), int(random.integers(6, 11))] for _ in range(200)]
    model = trained(rows, 10, steps=150, dim=4)
    block = torch.arange(1, 11) > 5
    for item in range(1, 11):
        complements = model.item_neighbours(item, "in_out", 5).items[0]
        substitutes = model.item_neighbours(item, "in_in", 4).items[0]
        assert bool((block[complements - 1] != block[item - 1]).all())
        assert bool((block[substitutes - 1] == block[item - 1]).all())
    values = eigenvalues(model.inputs.weight[1:].detach(), model.outputs.weight[1:].detach())
    assert values[0] < 0 and abs(values[0]) > 0.9 * values[-1]
    model.outputs.weight.data.copy_(model.inputs.weight)  # tied tables cannot: their score is positive semi-definite
    tied = eigenvalues(model.inputs.weight[1:].detach(), model.outputs.weight[1:].detach())
    assert float(tied.min()) > -1e-6


def test_an_unfinished_basket_has_the_mean_score_of_its_items_whatever_their_order():
    torch.manual_seed(0)
    split = last_basket(basket_log(1), ("basket",))
    model = models.build("complements", split.n_items, small("complements", similarity="cosine"))
    batch = split.test.batch(torch.arange(len(split.test)))
    scores = model.score(batch)
    source, target = model.tables("in_out")
    for row, given in enumerate(([1, 4], [4, 1])):
        known = replace(batch, context={"given": torch.tensor([given]).expand(len(batch), 2)})
        expected = (source[1] + source[4]) / 2 @ target.T
        torch.testing.assert_close(model.score(known)[row], expected)
    assert scores.shape == (len(batch), split.n_items + 1) and not bool(scores[:, 0].any())
    with pytest.raises(ValueError, match="there is no item 99"):
        model.item_neighbours(99, "in_out")


def test_baskets_of_one_item_only_train_nothing():
    rows = [(user, item, item, item) for user in (1, 2) for item in (1, 2, 3)]
    log = make_log(pd.DataFrame(rows, columns=["user", "item", "basket", "timestamp"]))
    train = last_basket(log, ("basket",)).train
    assert bool((basket_items(train).lengths == 1).all())
    assert not [*models.build("complements", 3, {}).draw(train, 8, 0, 0)]
