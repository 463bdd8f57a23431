"""The click metrics against scikit-learn, their influence values against derivatives and a bootstrap over users."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from seqlab.datasets import leave_one_out
from seqlab.datasets.split_names import split
from seqlab.evaluation.calibration import equal_mass_bins
from seqlab.evaluation.outcome import Outcome
from seqlab.runtime.text import DataError
from seqlab.tasks import clicks
from tests.synthetic import chain_log, random_log

NAMES = ("auc", "gauc", "log_loss", "calibration_error")


def drawn(seed, users=30, ties=True):
    """Candidates of 1 to 4 queries per user, 1 to 3 per query; some users have one label only."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users) * 7 + 1, random.integers(1, 5, users))
    query = np.repeat(np.arange(len(user)), random.integers(1, 4, len(user)))
    logit = random.normal(size=len(query)) + random.normal(size=users)[user[query] // 7]
    logit = logit.round(1 if ties else 9)
    label = random.random(len(query)) < 1 / (1 + np.exp(-2 * logit - random.normal(size=users)[user[query] // 7]))
    return logit, label, query, user


def values(logit, label, query, user):
    """All four numbers and their columns."""
    return {
        "auc": clicks.auc(logit, label, query, len(user)),
        "gauc": clicks.gauc(logit, label, query, user),
        "log_loss": clicks.log_loss(logit, label, query, len(user)),
        "calibration_error": clicks.calibration_error(logit, label, query, len(user), bins=5),
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_they_are_those_of_scikit_learn_and_the_means_of_their_columns(seed, ties):
    logit, label, query, user = drawn(seed, ties=ties)
    found = values(logit, label, query, user)
    assert found["auc"][0] == pytest.approx(reference.roc_auc_score(label, logit))
    assert found["log_loss"][0] == pytest.approx(reference.log_loss(label, 1 / (1 + np.exp(-logit))))
    within, weight = [], []
    for one in np.unique(user):
        own = user[query] == one
        if 0 < label[own].sum() < own.sum():
            within.append(reference.roc_auc_score(label[own], logit[own]))
            weight.append(own.sum())
    assert found["gauc"][0] == pytest.approx(np.average(within, weights=weight))
    for value, column in found.values():
        assert column.shape == (len(user),) and column.mean() == pytest.approx(value)


def test_the_calibration_error_by_hand():
    logit = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])
    label = np.array([0, 1, 0, 1, 1, 1]) > 0
    gap = (label - 1 / (1 + np.exp(-logit))).reshape(3, 2)
    value, _ = clicks.calibration_error(logit, label, np.arange(6), 6, bins=3)
    assert value == pytest.approx(np.abs(gap.sum(1)).sum() / 6)
    tied = equal_mass_bins(np.array([1.0, 1.0, 1.0, 2.0]), 2)
    assert tied.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_a_column_holds_the_derivatives_by_the_weights_of_the_queries(seed):
    """A query that is there n + 1 times instead of n times has the weight 1 + 1/n."""
    logit, label, query, user = drawn(seed, users=8)
    copies = 4000

    def weighted(more):
        """The numbers where each candidate of query `more` weighs 1 + 1 / copies."""
        weight = 1 + (query == more) / copies
        within = [
            (weight[own].sum(), reference.roc_auc_score(label[own], logit[own], sample_weight=weight[own]))
            for own in (user[query] == one for one in np.unique(user))
            if 0 < label[own].sum() < own.sum()
        ]
        probability = 1 / (1 + np.exp(-logit))
        bins = equal_mass_bins(logit, 5)
        gaps = np.abs(np.bincount(bins, weight * (label - probability))).sum() / weight.sum()
        return {
            "auc": reference.roc_auc_score(label, logit, sample_weight=weight),
            "gauc": np.average([value for _, value in within], weights=[size for size, _ in within]),
            "log_loss": reference.log_loss(label, probability, sample_weight=weight),
            "calibration_error": gaps,
        }

    found, start = values(logit, label, query, user), weighted(-1)
    for more in range(0, len(user), 3):
        for name, value in weighted(more).items():
            slope = (value - start[name]) * copies
            assert found[name][1][more] - found[name][0] == pytest.approx(len(user) * slope, abs=2e-2)


def test_the_interval_of_a_column_is_that_of_a_bootstrap_over_users():
    """2,000 samples of the users with replacement, each measured anew; the calibration error has a bias upwards."""
    logit, label, query, user = drawn(0, users=300)
    found = values(logit, label, query, user)
    ids, group = np.unique(user, return_inverse=True)
    of, random = group[query], np.random.default_rng(1)
    again = {name: [] for name in NAMES}
    for _ in range(400):
        times = np.bincount(random.integers(0, len(ids), len(ids)), minlength=len(ids))[of]
        kept = np.repeat(np.arange(len(of)), times)
        number = np.arange(len(kept)) - np.repeat(times.cumsum() - times, times)  # copies of a user are other users
        some, copy = of[kept], number
        user_of = np.unique(np.stack([some, copy]), axis=1, return_inverse=True)[1].ravel()
        measured = values(logit[kept], label[kept], user_of, np.arange(user_of.max() + 1))
        for name in NAMES:
            again[name].append(measured[name][0])
    for name in ("auc", "gauc", "log_loss"):
        value, column = found[name]
        sums = np.bincount(group, column - value)
        spread = math.sqrt((sums**2).sum()) / len(column)
        assert spread == pytest.approx(np.std(again[name]), rel=0.12), name
        assert np.mean(again[name]) == pytest.approx(value, abs=0.2 * spread)


class Scores(torch.nn.Module):
    """Scores by a table of the items, and a little by the last item."""

    def __init__(self, n_items):
        super().__init__()
        self.config = SimpleNamespace(max_length=5)
        self.register_buffer("table", torch.linspace(-1, 2, n_items + 1)[torch.randperm(n_items + 1)])

    def score(self, batch):
        return self.table.expand(len(batch), -1) + 0.01 * batch.last(batch.items)[:, None]


class Known(Scores):
    """The same, as logits."""

    def label_logits(self, batch, candidates):
        return self.score(batch).gather(1, candidates)


def test_a_system_is_measured_by_its_logits_or_only_ordered_by_its_scores():
    parts = split(chain_log(), "candidates 2")
    torch.manual_seed(0)
    model = Known(parts.n_items)
    outcome = clicks.measure(model, parts)
    assert isinstance(outcome, Outcome) and outcome.task == "clicks" and outcome.primary == "auc"
    queries, logits = parts.test, []
    for row in range(len(queries)):
        batch = queries.batch(torch.tensor([row]), 5)
        logits.append(model.label_logits(batch, queries.candidates[[row]])[0])
    label, logit = queries.labels.flatten() > 0, torch.stack(logits).flatten().double().numpy()
    assert outcome.frame["auc"].mean() == pytest.approx(reference.roc_auc_score(label, logit))
    assert outcome.frame["log_loss"].mean() == pytest.approx(reference.log_loss(label, 1 / (1 + np.exp(-logit))))
    one = queries.labels[0] > 0
    own = np.mean(logit[:3][one.numpy()] > logit[:3][~one.numpy()])
    assert outcome.frame["gauc"][0] == pytest.approx(own)  # as many candidates in each query
    scores = Scores(parts.n_items)
    scores.table = model.table
    only = clicks.measure(scores, parts)
    assert {one.name for one in only.metrics} == {"auc", "gauc"} and "log_loss" not in only.frame
    assert only.frame["auc"].to_numpy() == pytest.approx(outcome.frame["auc"].to_numpy())


def test_what_is_missing_is_named():
    log = random_log(0, repeats=True)
    with pytest.raises(DataError, match=r"queries of leave-one-out have no candidates with labels.*'candidates 2'"):
        clicks.check(Known(3), leave_one_out(log))
    with pytest.raises(DataError, match="linear has no scores of given candidates"):
        clicks.check(torch.nn.Linear(1, 1), split(chain_log(), "candidates 2"))
