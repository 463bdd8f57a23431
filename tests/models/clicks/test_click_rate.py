"""Rates by counting, beside brute force."""

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import models
from seqlab.datasets.log import make_log
from seqlab.datasets.split_names import split
from tests.synthetic import batch_of, random_log


def rated():
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(1, 21), 15)
    rating = random.integers(1, 6, 300).astype(float)
    rating[random.random(300) < 0.1] = np.nan
    return make_log(pd.DataFrame(
        {"user": user, "item": random.integers(1, 31, 300), "timestamp": np.arange(300), "rating": rating}
    ))  # fmt: skip


def test_rates_are_shrunk_shares_and_their_log_odds_are_added():
    parts = split(rated(), "labelled rating 4 0.2", columns=("rating",))
    model = models.build("click_rate", parts.n_items, {"label_column": "rating", "item_prior": 3, "user_prior": 5})
    model.prepare(parts)
    items, users, value = parts.train.items.numpy(), parts.train.users.numpy(), parts.train.extra["rating"].numpy()
    known = ~np.isnan(value)
    rate = (value[known] >= 4).mean()

    def odds(rows, prior):
        share = ((value[rows & known] >= 4).sum() + prior * rate) / ((rows & known).sum() + prior)
        return np.log(share / (1 - share))

    batch = parts.test.batch(torch.arange(len(parts.test)))
    found = model.label_logits(batch, parts.test.candidates)
    for row in range(0, len(parts.test), 7):
        item, user = int(parts.test.candidates[row, 0]), int(parts.test.user[row])
        expected = odds(items == item, 3) + odds(users == user, 5) - np.log(rate / (1 - rate))
        assert float(found[row, 0]) == pytest.approx(expected, abs=1e-5)
    alone = models.build("click_rate", parts.n_items, {"label_column": "rating", "users": False})
    alone.prepare(parts)
    assert torch.equal(alone.label_logits(batch, parts.test.candidates)[:, 0], alone.item[parts.test.candidates[:, 0]])


def test_drawn_candidates_all_have_the_share_of_a_target():
    parts = split(random_log(1, repeats=True), "candidates 3")
    model = models.build("click_rate", parts.n_items, {"negatives": 3})
    model.prepare(parts)
    logits = model.label_logits(parts.test.batch(torch.arange(len(parts.test))), parts.test.candidates)
    assert torch.sigmoid(logits).flatten().tolist() == pytest.approx([1 / 4] * logits.numel())


def test_a_user_of_elsewhere_has_the_rate_of_all():
    parts = split(rated(), "labelled rating 4 0.2", columns=("rating",))
    model = models.build("click_rate", parts.n_items, {"label_column": "rating"})
    model.prepare(parts)
    batch = batch_of([[1], [2]])
    batch.user[:] = torch.tensor([0, 999])
    torch.testing.assert_close(model.label_logits(batch, torch.tensor([[1, 2], [3, 4]])), model.item[1:5].view(2, 2))
