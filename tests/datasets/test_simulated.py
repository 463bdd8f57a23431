"""Simulated slates follow the law that their truth states, and their best predictions are what they claim to be."""

import dataclasses

import numpy as np
import pytest

from seqlab.datasets.exposures import Exposures
from seqlab.datasets.simulated import slates

SMALL = {"users": 60, "items": 12, "slates": 10, "shown": 4, "groups": 3, "dim": 2}


def test_equal_arguments_make_equal_logs():
    (one, truth), (other, same), (third, _) = slates(3, **SMALL), slates(3, **SMALL), slates(4, **SMALL)
    assert one.fingerprint() == other.fingerprint() != third.fingerprint()
    shown = [Exposures.of_log(log).fingerprint() for log in (one, other, third)]
    assert shown[0] == shown[1] != shown[2]
    assert np.array_equal(truth.log_probs, same.log_probs)


def test_the_events_are_the_clicks_and_the_catalogue_is_whole():
    log, truth = slates(0, **SMALL)
    shown = Exposures.of_log(log)
    clicked = shown.clicked > 0
    assert (log.n_users, log.n_items, log.n_events) == (60, 12, clicked.sum())
    assert log.events["item"].tolist() == shown.item[clicked].tolist()
    assert log.events["user"].tolist() == shown.user[clicked].tolist()
    assert log.events["timestamp"].tolist() == shown.times[clicked].tolist()
    assert len(np.unique(shown.times)) == len(shown) == 600
    order = np.random.default_rng(0).permutation(600)
    assert truth.at(shown.times[order]).tolist() == order.tolist()


def test_the_probabilities_are_the_softmax_of_the_utilities():
    log, truth = slates(1, **SMALL, position=0.3, no_click=0.7, sharpness=1.5)
    shown = Exposures.of_log(log)
    for row in (0, 17, 599):
        items, interest = shown.padded()[row], truth.interest[row // 10, row % 10]
        utility = [0.7] + [
            1.5 * interest @ truth.items[item] + truth.quality[item] - 0.3 * slot for slot, item in enumerate(items)
        ]
        p = np.exp(utility) / np.exp(utility).sum()
        np.testing.assert_allclose(np.exp(truth.log_probs[row]), p, rtol=1e-12)
        assert truth.nats[row] == pytest.approx((p * np.log(p)).sum())
    np.testing.assert_allclose(np.linalg.norm(truth.items[1:], axis=1), 1)


def test_what_is_clicked_follows_the_probabilities():
    log, truth = slates(0, users=2_000, items=12, slates=10, shown=4)
    shown = Exposures.of_log(log)
    p = np.exp(truth.log_probs)
    happened = np.eye(5)[shown.clicked]
    error = (happened - p).mean(0) / (p * (1 - p)).mean(0) ** 0.5 * len(p) ** 0.5
    assert np.abs(error).max() < 4
    realised = truth.log_probs[np.arange(len(p)), shown.clicked]
    assert abs((realised - truth.nats).mean()) < 4 * realised.std() / len(p) ** 0.5


def test_slates_are_drawn_by_their_propensities():
    log, _ = slates(0, users=4_000, items=5, slates=5, shown=2, skew=1.0)
    shown = Exposures.of_log(log)
    slate = shown.padded()
    weight = {}
    for first, p in zip(slate[:, 0], shown.propensity[::2], strict=True):
        weight.setdefault(int(first), p)
    assert sorted(weight.values(), reverse=True) == pytest.approx((1 / np.arange(1, 6)) / (1 / np.arange(1, 6)).sum())
    for first in weight:
        seconds = slate[slate[:, 0] == first, 1]
        assert len(seconds) / len(slate) == pytest.approx(weight[first], abs=4 * (0.25 / len(slate)) ** 0.5)
        for second in set(weight) - {first}:
            p = weight[second] / (1 - weight[first])
            assert (seconds == second).mean() == pytest.approx(p, abs=4 * (0.25 / len(seconds)) ** 0.5)
            at = (slate[:, 0] == first) & (slate[:, 1] == second)
            np.testing.assert_allclose(shown.propensity[1::2][at], p)
    uniform = Exposures.of_log(slates(0, **SMALL, skew=0.0)[0])
    np.testing.assert_allclose(uniform.propensity.reshape(-1, 4), np.tile([1 / 12, 1 / 11, 1 / 10, 1 / 9], (600, 1)))


def test_interest_has_variance_one_and_the_stated_memory():
    _, truth = slates(0, users=4_000, items=5, slates=6, shown=1, dim=2, drift=0.4, memory=0.8)
    first, second = truth.interest[:, 2], truth.interest[:, 3]
    assert np.var(first) == pytest.approx(1, abs=0.06)
    assert (first * second).mean() == pytest.approx(0.6 + 0.4 * 0.8, abs=0.06)
    still = slates(0, **SMALL, drift=0.0)[1].interest
    assert np.array_equal(still[:, 0], still[:, -1])


def test_an_observer_of_histories_is_between_the_average_user_and_the_truth():
    log, truth = slates(0, users=150)
    shown = Exposures.of_log(log)
    seen, row = truth.given_history(shown, draws=50), np.arange(len(shown))
    np.testing.assert_allclose(np.exp(seen).sum(1), 1, rtol=1e-9)
    nats = seen[row, shown.clicked].reshape(150, -1).mean(0)
    assert nats[0] < nats[5:].mean() - 0.15 and nats.mean() < truth.nats.mean() - 0.1
    nothing = dataclasses.replace(truth, sharpness=0.0)
    utility = np.insert(truth.quality[shown.padded()] + truth.position, 0, truth.no_click, axis=1)
    alone = utility - np.log(np.exp(utility).sum(1, keepdims=True))
    np.testing.assert_allclose(nothing.given_history(shown, draws=2), alone, rtol=1e-9)


def test_the_observer_is_close_to_the_exact_posterior():
    """One dimension and a constant taste, where the posterior is a sum over a grid."""
    log, truth = slates(0, users=100, items=20, slates=12, shown=3, dim=1, drift=0.0, no_click=0.5)
    shown = Exposures.of_log(log)
    grid = np.linspace(-4, 4, 161)
    found = truth.given_history(shown, draws=400).reshape(100, 12, 4)
    utility = truth.sharpness * grid[:, None, None] * truth.items[shown.padded()][..., 0]
    utility = utility + truth.quality[shown.padded()] + truth.position  # (grid, S, A)
    utility = np.insert(utility, 0, 0.5, axis=2)
    log_p = (utility - np.log(np.exp(utility).sum(2, keepdims=True))).reshape(161, 100, 12, 4)
    belief = np.tile(-(grid[:, None] ** 2) / 2, (1, 100))
    for step in range(12):
        weight = np.exp(belief - belief.max(0))
        exact = (weight[..., None] * np.exp(log_p[:, :, step])).sum(0) / weight.sum(0)[:, None]
        lost = (exact * (np.log(exact) - found[:, step])).sum(1)  # the KL divergence: nats that the approximation costs
        assert lost.mean() < 0.01 and lost.max() < 0.1
        belief += log_p[:, np.arange(100), step, shown.clicked.reshape(100, 12)[:, step]]


@pytest.mark.parametrize("wrong", [{"shown": 13}, {"shown": 0}, {"drift": 1.5}, {"memory": 1.0}, {"users": 0}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="slates: "):
        slates(0, **SMALL | wrong)
