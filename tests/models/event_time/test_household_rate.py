"""Household rate against counts made by hand."""

import itertools
import math

import numpy as np
import pytest
import torch

from seqlab import models
from seqlab.datasets.within_user import within_user
from seqlab.layers.clock import DAY
from tests.synthetic import log_of

torch.set_num_threads(1)

START = 1.49e9


def split_of(seed=0, users=12, until=None, valid=0.0, lengths=(12, 40)):
    """Users with rates of their own; until: days after the start up to which they are observed."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(*lengths, users)
    times = [(START + DAY * np.cumsum(rng.gamma(1.5, rng.uniform(0.5, 4), n))).tolist() for n in counts]
    log = log_of([rng.integers(1, 5, n).tolist() for n in counts], times, repeats=True)
    if until is not None:
        log = type(log)(**{**vars(log), "users": log.users.assign(observed_until=START + DAY * until)})
    return within_user(log, 0.25, valid)


def training(split):
    ends = split.train.offsets.tolist()
    times = [split.train.times[a:b].numpy() / DAY for a, b in itertools.pairwise(ends)]
    return times, [split.train.items[a:b].tolist() for a, b in itertools.pairwise(ends)]


def ready(split, **settings):
    model = models.build("household_rate", split.n_items, settings)
    model.prepare(split)
    return model


def nats(model, split):
    """The log-density of every test wait, from one pass per query, and the days."""
    found = []
    for row in range(len(split.test)):
        batch = split.test.batch(torch.tensor([row]))
        days = ((split.test.answer.times[row] - batch.times[0, -1]) / DAY).float()
        found.append((float(model.next_time(batch).log_prob(days)[0, -1]), float(days)))
    return np.array(found).T


def test_one_rate_is_a_poisson_process():
    split = split_of()
    gaps = np.concatenate([np.diff(times) for times in training(split)[0]])
    rate = 1 / gaps.mean()
    found, days = nats(ready(split, household="none", weekly=False, mixture=0), split)
    np.testing.assert_allclose(found, math.log(rate) - rate * days, rtol=1e-4)


def test_a_rate_per_user_is_shrunk_to_that_of_all():
    split = split_of()
    gaps = [np.diff(times) for times in training(split)[0]]
    rate = 1 / np.concatenate(gaps).mean()
    own = np.array([(len(one) + 7) / (one.sum() + 7 / rate) for one in gaps])
    model = ready(split, weekly=False, mixture=0, shrinkage=7)
    np.testing.assert_allclose(model.scale[1:], own, rtol=1e-5)
    assert float(model.scale[0]) == pytest.approx(rate)


def test_one_log_normal_with_a_location_per_user():
    split = split_of()
    logs = [np.log(np.diff(times)) for times in training(split)[0]]
    mean = np.concatenate(logs).mean()
    own = np.array([(one.sum() + 10 * mean) / (len(one) + 10) for one in logs])
    rest = np.concatenate([one - at for one, at in zip(logs, own, strict=True)])
    found, days = nats(ready(split, household="location", weekly=False, mixture=1, shrinkage=10), split)
    z = (np.log(days) - own[split.test.user.numpy() - 1] - rest.mean()) / rest.std()
    np.testing.assert_allclose(found, -np.log(days) - np.log(rest.std() * math.sqrt(2 * math.pi)) - z**2 / 2, rtol=1e-3)


def test_a_running_rate_counts_the_history_only():
    split = split_of()
    model = ready(split, weekly=False, mixture=0, shrinkage=5, running=True)
    batch = split.test.batch(torch.arange(len(split.test)))
    scale = model.next_time(batch).scale
    for row in (0, 3, -1):
        for at in (0, 2, int(batch.lengths[row]) - 1):
            passed = float(batch.times[row, at] - batch.times[row, 0]) / DAY
            assert float(scale[row, at]) == pytest.approx((at + 5) / (passed + 5 / float(model.scale[0])), rel=1e-4)


def test_a_user_who_stopped_coming_has_a_smaller_rate_with_the_tail():
    """Only users all of whose events are in training have one: what follows the others' training is not known."""
    rng = np.random.default_rng(0)
    times = [(START + DAY * np.cumsum(rng.gamma(1.5, 2, n))).tolist() for n in (30, 6, 30)]
    log = log_of([[1, 2] * (len(one) // 2) for one in times], times, repeats=True)
    log = type(log)(**{**vars(log), "users": log.users.assign(observed_until=START + DAY * 300)})
    split = within_user(log, 0.25, 0)
    with_tail, without = (ready(split, weekly=False, mixture=0, tail=tail).scale for tail in (True, False))
    assert with_tail[2] < 0.8 * without[2]
    gaps = np.diff(training(split)[0][0])
    own = (len(gaps) + 20) / (gaps.sum() + 20 / float(with_tail[0]))
    assert float(with_tail[1]) == pytest.approx(own, rel=1e-5)


def test_items_are_the_counts_of_the_history_with_pseudo_events_at_the_popularity():
    split = split_of()
    every = np.bincount(np.concatenate(training(split)[1]), minlength=5)[1:] + 1.0
    model, batch = ready(split, shrinkage=6), split.test.batch(torch.arange(len(split.test)))
    shares, scores = model.mark_log_probs(batch).exp(), model.score(batch)
    for row in range(0, len(split.test), 5):
        for at in (0, 4, int(batch.lengths[row]) - 1):
            counts = np.bincount(batch.items[row, : at + 1], minlength=5)[1:] + 6 * every / every.sum()
            np.testing.assert_allclose(shares[row, at, 1:], counts / counts.sum(), rtol=1e-4)
    torch.testing.assert_close(scores, batch.last(shares).log())


def test_a_running_rate_needs_a_rate():
    with pytest.raises(ValueError, match="running needs household=rate"):
        models.build("household_rate", 3, {"running": True, "household": "none"})
