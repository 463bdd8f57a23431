"""Tables about click models, against brute force."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models, tracing
from seqlab.datasets.log import make_log
from seqlab.datasets.split_names import split
from seqlab.inspection import calibration, clicks
from seqlab.items.categories import categories_of
from tests.synthetic import chain_histories, enlarged

ITEMS = pd.DataFrame({"item": range(1, 25), "genres": [("a|b", "b", "c", "")[item % 4] for item in range(1, 25)]})


def parts():
    rows = [(user, item, float(at)) for user, items in enumerate(chain_histories(), 1) for at, item in enumerate(items)]
    log = make_log(pd.DataFrame(rows, columns=["user", "item", "timestamp"]), items=ITEMS, repeats=True)
    return split(log, "candidates 2")


@pytest.fixture(scope="module")
def ready():
    torch.manual_seed(0)
    data = parts()
    model = models.build("dare", data.n_items, models.module("dare").TINY)
    model.prepare(data)
    return data, enlarged(model)


def test_categories_are_numbered_by_frequency():
    log = parts().log
    found, names = categories_of(log)
    genres = log.items["genres"]
    assert names == ["b", "a", "c"]  # 12, 6 and 6 items; equal ones by name
    for item in range(1, log.n_items + 1):
        assert {names[code - 1] for code in found[item].tolist() if code} == set(genres[item].split("|")) - {""}
    assert categories_of(log, most=1)[1] == ["b"] and int(categories_of(log, most=1)[0].max()) == 1


def test_the_reliability_table_by_hand(ready):
    data, model = ready
    frame = calibration.reliability(model, data, bins=4)
    logits = model.label_logits(data.test.batch(torch.arange(len(data.test)), 8), data.test.candidates)
    p, y = torch.sigmoid(logits).flatten().detach().numpy(), data.test.labels.flatten().numpy()
    order = np.argsort(p)
    for row, chosen in zip(frame.itertuples(), np.array_split(order, 4), strict=True):
        assert row.count == len(chosen)
        assert (row.predicted, row.observed) == pytest.approx((p[chosen].mean(), y[chosen].mean()), abs=1e-5)
        spread = math.sqrt((p[chosen] * (1 - p[chosen])).sum()) / len(chosen)
        assert row.low < row.predicted < row.high and row.high - row.low == pytest.approx(4 * spread, rel=0.2)


def test_attention_is_summed_by_label_category_and_recency(ready):
    data, model = ready
    frame = clicks.attention_by_recency(model, data).set_index(["label", "same", "recency"])
    genres, expected = [set(), *(set(one.split("|")) - {""} for one in data.log.items["genres"])], {}
    for row in range(len(data.test)):
        batch = data.test.batch(torch.tensor([row]), 8)
        with torch.no_grad(), tracing.watch(model) as trace:
            model.label_logits(batch, data.test.candidates[[row]])
        weights = trace["candidate_attention"].values[0]
        for column in range(3):
            for at, item in enumerate(batch.items[0].tolist()):
                from_end = len(batch.items[0]) - at
                recency = next(name for name, most in (("1", 1), ("2", 2), ("3-4", 4), ("5-8", 8)) if from_end <= most)
                same = bool(genres[item] & genres[int(data.test.candidates[row, column])])
                key = int(data.test.labels[row, column]), same, recency
                expected.setdefault(key, []).append(float(weights[column, at]))
    assert set(frame.index) == set(expected)
    for key, found in expected.items():
        assert frame.loc[key, "events"] == len(found)
        assert frame.loc[key, "weight"] == pytest.approx(np.mean(found), abs=1e-6)
    assert frame["mass"].groupby("label").sum().tolist() == pytest.approx([1, 1], abs=1e-5)


def test_mutual_information_by_hand(ready):
    data, _ = ready
    found = clicks.mutual_information(data, 8)
    first = categories_of(data.log)[0][:, 0].tolist()
    ours, theirs, recency = 1, 3, 2  # the positions 3 and 4 from the end
    table = np.zeros((2, 2))
    for row in range(len(data.valid)):
        history = data.valid.batch(torch.tensor([row]), 8).items[0].tolist()
        for column in range(3):
            if first[int(data.valid.candidates[row, column])] == ours:
                for item in history[-4:-2]:
                    table[int(data.valid.labels[row, column]), int(first[item] == theirs)] += 1
    share = table / table.sum()
    product = share.sum(0, keepdims=True) * share.sum(1, keepdims=True)
    assert found[ours, theirs, recency] == pytest.approx((share * np.log2(share / product)).sum())
    assert found.min() > -1e-12


def test_the_search_is_compared_with_the_best_events(ready):
    data, model = ready
    frame = clicks.search_accuracy(model, data)
    assert set(frame["events"]) == {"searched", "recent", "random"} and frame["k"].max() == 3
    assert frame["hits"].between(0, 1).all() and frame["quality"].between(0, 1 + 1e-9).all()
    information = clicks.mutual_information(data, 8)
    first, quality = categories_of(data.log)[0][:, 0].tolist(), []
    for row in range(len(data.test)):
        history = data.test.batch(torch.tensor([row]), 8).items[0].tolist()
        for candidate in data.test.candidates[row].tolist():
            value = [
                information[first[candidate], first[item], math.ceil(math.log2(len(history) - at))]
                for at, item in enumerate(history)
            ]
            quality.append(value[-1] / max(value))
    recent = frame[(frame["events"] == "recent") & (frame["k"] == 1)]["quality"].item()
    assert recent == pytest.approx(np.mean(quality))


def test_the_gradients_of_two_roles_on_one_table():
    data = parts()
    model = models.build("dare", data.n_items, models.module("dare").TINY | {"tables": "one"})
    model.prepare(data)
    frame = clicks.role_gradients(model, data, batches=3, tokens=64)
    assert len(frame) == 9 and set(frame["table"]) == {"item", "category", "time"}
    assert (frame["ratio"] > 0).all() and frame["cosine"].between(-1, 1).all() and frame["conflict"].between(0, 1).all()


def test_recencies_are_powers_of_two():
    assert clicks.recencies(8) == ["1", "2", "3-4", "5-8"] and clicks.recencies(1) == ["1"]
    assert clicks.recencies(9)[-1] == "9-16"
