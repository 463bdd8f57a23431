"""Relatedness against brute force on a small log, the factors of a symmetric table, and switching households."""

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models
from seqlab.datasets import DataError
from seqlab.datasets.baskets import last_basket
from seqlab.datasets.log import make_log
from seqlab.inspection import complements
from seqlab.training.fit import prepare

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def split():
    """Baskets of items of two kinds and three groups."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(1, 61):
        for basket in range(random.integers(3, 8)):
            for item in random.choice(12, random.integers(1, 5), replace=False) + 1:
                rows.append((user, int(item), f"{user}-{basket}", basket))
    items = pd.DataFrame({"item": range(1, 13), "kind": ["a", "b"] * 6, "group": ["x", "y", "z"] * 4})
    frame = pd.DataFrame(rows, columns=["user", "item", "basket", "timestamp"])
    return last_basket(make_log(frame, items=items, ties="shuffle", repeats=True), ("basket",))


def test_every_measure_by_brute_force(split):
    model = models.build("item_knn", split.n_items, {})
    prepare(model, split)
    table = complements.relatedness(split, {"knn": model}, "kind", "group", k=3, dim=4, samples=50)
    kinds, groups = split.log.items["kind"], split.log.items["group"]
    events = split.log.events
    held = events[events.groupby("user").cumcount() >= split.train.lengths[events["user"].to_numpy() - 1].numpy()]
    baskets = [set(items) for _, items in held.groupby("basket")["item"]]
    pairs = {(i, j): sum({i, j} <= one for one in baskets) for i in kinds.index for j in kinds.index if i != j}
    sums = {i: sum(count for (one, _), count in pairs.items() if one == i) for i in kinds.index}
    expected = {(i, j): sums[i] * sums[j] / sum(sums.values()) for i, j in pairs}
    sizes = {i: len(set(events["basket"][events["item"] == i]) - set(held["basket"])) for i in kinds.index}
    same, lifts, popular, seen, chance = [], [], [], 0, 0
    scores = complements.item_scores(model, torch.arange(1, 13))
    for i in kinds.index:
        near = sorted((j for j in kinds.index if j != i), key=lambda j, i=i: -float(scores[i - 1, j]))[:3]
        same += [kinds[j] == kinds[i] for j in near]
        popular += [sizes[j] / np.mean([*sizes.values()]) for j in near]
        lifts += [pairs[i, j] / expected[i, j] for j in near if groups[j] != groups[i]]
        seen += sum(pairs[i, j] for j in near if groups[j] != groups[i])
        chance += sum(expected[i, j] for j in near if groups[j] != groups[i])
    found = table[table["method"] == "knn"].set_index("measure")["value"]
    assert found["same_kind"] == pytest.approx(np.mean(same)) and found["lift"] == pytest.approx(np.mean(lifts))
    assert found["pooled_lift"] == pytest.approx(seen / chance)
    assert found["popularity"] == pytest.approx(np.mean(popular))
    assert set(table["method"]) == {*complements.COUNTED, "knn"} and set(table["measure"]) == {*complements.MEASURES}
    one = table[(table["method"] == "factors in_out") & (table["measure"] != "switching")]  # nobody switches
    assert (one[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    with pytest.raises(ValueError, match="against must be one of"):
        complements.relatedness(split, {}, "kind", "group", against="nothing")
    with pytest.raises(DataError, match="no column 'brand'"):
        complements.relatedness(split, {}, "brand", "group")


def test_households_that_switch():
    user = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    basket = np.array([0, 1, 1, 2, 3, 4, 4, 5])
    item = np.array([0, 1, 2, 0, 1, 0, 1, 1])
    apart, together = complements.switched(user, basket, item, np.array([7, 7, 8]))
    assert apart.tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]  # users 0 and 1 have 0 and 1 in different baskets
    assert together.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("dim", [3, 9])
def test_factors_are_those_of_the_largest_eigenvalues(dim):
    random = np.random.default_rng(0)
    table = random.normal(size=(9, 9))
    table = table + table.T
    factors = complements.factorise(table, dim)
    values, vectors = np.linalg.eigh(table)
    order = np.argsort(-np.abs(values))[:dim]
    np.testing.assert_allclose(factors.eigenvalues, values[order], atol=1e-8)
    best = vectors[:, order] * values[order] @ vectors[:, order].T
    np.testing.assert_allclose(factors.inputs @ factors.outputs.T, best, atol=1e-8)
    positive = factors.inputs @ factors.inputs.T
    np.testing.assert_allclose(np.linalg.eigvalsh(positive)[-dim:], np.sort(np.abs(values[order])), atol=1e-8)
    both = complements.eigenvalues(torch.from_numpy(factors.inputs), torch.from_numpy(factors.outputs))
    np.testing.assert_allclose(both[both.abs() > 1e-9], np.sort(values[order]), atol=1e-8)


def test_pmi_of_pairs_by_hand():
    pairs = np.array([[0.0, 6, 2], [6, 0, 0], [2, 0, 0]])
    table = complements.pair_pmi(pairs, unseen=-2)
    assert table[0, 1] == pytest.approx(np.log(6 * 16 / (8 * 6))) and table[1, 2] == -2 and table[0, 0] == 0
    assert complements.pair_pmi(pairs, support=3)[0, 2] == -np.inf
