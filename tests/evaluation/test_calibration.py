"""Calibration, risk by coverage and routing against scikit-learn, closed forms and brute force."""

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics
from sklearn.isotonic import IsotonicRegression

from seqlab.evaluation import calibration, routing


def drawn(seed=0, count=600, ties=False):
    random = np.random.default_rng(seed)
    p = random.beta(1, 6, count).round(1 if ties else 9)
    return p, random.random(count) < np.clip(p + 0.05, 0, 1)


@pytest.mark.parametrize("ties", [False, True])
def test_the_diagram_is_that_of_scikit_learn_and_its_gaps_sum_to_the_error(ties):
    p, hit = drawn(ties=ties)
    table = calibration.reliability(p, hit, bins=10)
    error, values = calibration.calibration_error(p, hit, bins=10)
    gaps = (table["count"] * (table["observed"] - table["predicted"]).abs()).sum() / len(p)
    assert error == pytest.approx(gaps) == pytest.approx(values.mean())
    assert table["count"].sum() == len(p) and (table["low"] <= table["high"]).all()
    if not ties:
        observed, predicted = sklearn.calibration.calibration_curve(hit, p, n_bins=10, strategy="quantile")
        assert np.allclose(table["observed"], observed) and np.allclose(table["predicted"], predicted)


def test_the_band_holds_calibrated_probabilities_and_no_others():
    random, inside, below = np.random.default_rng(1), [], []
    for _ in range(40):
        p = random.beta(1, 6, 400)
        table = calibration.reliability(p, random.random(400) < p, bins=8, samples=200)
        inside.append(table["observed"].between(table["low"], table["high"]).mean())
        hit = random.random(400) < p
        below.append(calibration.calibration_error(p, hit, 8)[0] <= calibration.chance_error(p, 8, 200))
    assert 0.9 < np.mean(inside) < 1 and np.mean(below) >= 0.85
    p, hit = drawn(count=4000)
    assert calibration.calibration_error(p, hit)[0] > calibration.chance_error(p, samples=100)


def test_the_area_of_a_perfect_order_has_a_closed_form():
    """With h hits ahead of all misses, the risk of the first n is (n - h) / n for n > h."""
    hits, count = 30, 200
    score, loss = np.arange(count)[::-1], (np.arange(count) >= hits).astype(float)
    expected = sum((n - hits) / n for n in range(hits + 1, count + 1)) / count
    assert calibration.risk_area(score, loss)[0] == pytest.approx(expected)
    assert calibration.risk_area(np.zeros(count), loss)[0] == pytest.approx(loss.mean())
    curve = calibration.risk_coverage(score, loss)
    assert curve["risk"].mean() == pytest.approx(expected) and curve["coverage"].iloc[-1] == 1
    assert len(calibration.risk_coverage(np.zeros(count), loss)) == 1


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_the_mean_over_random_orders_of_ties_and_its_column_holds_its_derivatives(ties):
    p, hit = drawn(count=40, ties=ties)
    loss, random, areas = 1.0 - hit, np.random.default_rng(0), []
    for _ in range(3000 if ties else 1):
        order = np.lexsort((random.random(40), -p))
        areas.append((loss[order].cumsum() / np.arange(1, 41)).mean())
    area, values = calibration.risk_area(p, loss)
    assert area == pytest.approx(np.mean(areas), abs=3e-3 if ties else 1e-9) and values.mean() == pytest.approx(area)
    if not ties:
        order = np.argsort(-p)

        def weighted(weight):
            risk = (weight * loss)[order].cumsum() / weight[order].cumsum()
            return (weight[order] * risk).sum() / weight.sum()

        for row in range(0, 40, 7):
            more = 1 + 1e-6 * (np.arange(40) == row)
            slope = (weighted(more) - weighted(np.ones(40))) / 1e-6
            assert values[row] - area == pytest.approx(40 * slope, abs=1e-3)


def test_isotonic_regression_never_reverses_an_order():
    p, hit = drawn(count=300)
    fitted = IsotonicRegression(out_of_bounds="clip").fit(p, hit)
    again = fitted.predict(np.sort(np.random.default_rng(2).random(500)))
    assert (np.diff(again) >= 0).all()


def test_thresholds_are_those_of_brute_force_and_a_useless_expert_is_never_asked():
    random = np.random.default_rng(0)
    p = random.random((60, 3))
    value = (random.random((60, 3)) < p).astype(float)
    found = routing.fit_thresholds(p, value, steps=6)
    tried = [[-np.inf, *np.quantile(p[:, at], np.linspace(0, 1, 6)), np.inf] for at in range(2)]
    best = 0.0
    for one in tried[0]:
        for two in tried[1]:
            chosen = [0 if row[0] > one else 1 if row[1] > two else 2 for row in p]
            best = max(best, value[np.arange(60), chosen].mean())
    assert value[np.arange(60), routing.route(p, found)].mean() == pytest.approx(best)
    value[:, 0] = 0
    assert (routing.route(p, routing.fit_thresholds(p, value)) > 0).all()
