"""Distributions of the wait: mass, survival, samples, quantiles, means and units by quadrature and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.mixture import GaussianMixture

from seqlab.layers import event_heads
from seqlab.layers.clock import DAY, MONDAY, WeeklyProfile
from seqlab.layers.event_heads import (
    Gompertz,
    GompertzHead,
    LogNormalHead,
    LogNormals,
    OperationalWait,
    log_normal_mixture,
)

torch.set_num_threads(1)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def log_normals() -> LogNormals:
    weights = double([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [1 / 3] * 3])
    locations = double([[0.1, 1.0, 2.0], [-1.0, 0.5, 1.5], [-2.0, 0.0, 1.0]])
    return LogNormals(weights.log(), locations, double([[0.5, 0.2, 0.8], [1.0, 0.3, 0.4], [0.2, 0.6, 0.3]]))


def gompertz() -> Gompertz:
    return Gompertz(double([-1.0, -0.5, -1.5]), double([0.3, 0.0, -0.2]))


def clocked(base) -> OperationalWait:
    generator = torch.Generator().manual_seed(0)
    rates = torch.rand(168, generator=generator).repeat_interleave(20)
    hours = torch.arange(168).repeat_interleave(20)[rates > 0.4]
    profile = WeeklyProfile().fit(MONDAY + 3600.0 * hours, 4.0)
    start = 1.49e9 + double([0.0, 1.3, 9.9]) * DAY
    return OperationalWait(base, profile, start, double([1.0, 0.7, 2.0]))


DISTRIBUTIONS = {
    "log-normals": log_normals, "gompertz": gompertz, "log-normals on the clock": lambda: clocked(log_normals()),
    "gompertz on the clock": lambda: clocked(gompertz()),
}  # fmt: skip
every = pytest.mark.parametrize("make", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)


def grid(last: float, count: int = 400_001) -> torch.Tensor:
    """Waits (count, 1), closer together after a short wait."""
    return (torch.linspace(0, 1, count, dtype=torch.float64) ** 2 * last)[1:, None]


@every
def test_the_density_integrates_to_the_mass_that_does_not_survive(make):
    wait, days = make(), grid(300.0)
    mass = torch.trapezoid(wait.log_prob(days).exp(), days, dim=0)
    survived = wait.log_survival(days[-1]).exp()
    torch.testing.assert_close(mass, 1 - survived, atol=2e-4, rtol=0)
    defect = gompertz().defect if "gompertz" in str(type(getattr(wait, "base", wait))).lower() else torch.zeros(3)
    torch.testing.assert_close(survived, defect.double(), atol=2e-4, rtol=0)


@every
def test_density_over_survival_is_the_intensity_whose_integral_is_minus_log_survival(make):
    wait, days = make(), grid(6.0)
    rate = wait.intensity(days)
    torch.testing.assert_close(rate, (wait.log_prob(days) - wait.log_survival(days)).exp())
    torch.testing.assert_close(torch.trapezoid(rate, days, dim=0), -wait.log_survival(days[-1]), atol=2e-4, rtol=1e-4)


def test_the_closed_integral_of_gompertz_is_its_quadrature_also_for_small_slopes():
    for log_rate, slope, days in (
        (-1.0, 0.3, 4.0),
        (0.2, -0.7, 9.0),
        (0.5, 1e-7, 3.0),
        (0.1, -3e-4, 3.0),
        (0.0, 0.0, 2.0),
    ):
        expected, _ = integrate.quad(lambda s, a=log_rate, w=slope: math.exp(a + w * s), 0, days, epsabs=1e-12)
        found = -Gompertz(double(log_rate), double(slope)).log_survival(double(days))
        assert float(found) == pytest.approx(expected, rel=1e-6)
    single = -Gompertz(torch.tensor(0.5), torch.tensor(1e-5)).log_survival(torch.tensor(3.0))
    assert float(single) == pytest.approx(math.exp(0.5) * 3 * (1 + 1.5e-5), rel=1e-6)


def test_the_defect_is_the_limit_of_survival():
    torch.testing.assert_close(gompertz().defect, gompertz().log_survival(double(1e6)).exp() * double([0, 0, 1]))
    assert gompertz().mean()[2] == torch.inf and gompertz().quantile(0.999)[2] == torch.inf


@every
def test_quantiles_invert_the_survival_function(make):
    wait = make()
    for share in (0.05, 0.25, 0.5, 0.6):
        torch.testing.assert_close(wait.log_survival(wait.quantile(share)).exp(), torch.full((3,), 1 - share).double())


@every
def test_the_mean_is_that_of_the_wait_cut_off(make):
    wait, days = make(), grid(40.0)
    expected = torch.trapezoid(wait.log_survival(days).exp(), days, dim=0)
    torch.testing.assert_close(wait.mean(40.0), expected, atol=0.01, rtol=2e-3)


def test_means_without_a_limit():
    assert float(Gompertz(double([-1.0]), double([0.0])).mean()) == pytest.approx(math.e, rel=1e-3)
    one = LogNormals(double([[0.0]]), double([[0.3]]), double([[0.5]]))
    assert float(one.mean()) == pytest.approx(math.exp(0.3 + 0.125))
    assert float(one.mean(1e9)) == pytest.approx(math.exp(0.3 + 0.125))


@every
def test_samples_follow_the_survival_function(make):
    wait = make()
    drawn = wait.sample(4000, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 4000)
    for row in range(3):
        days = drawn[row]
        levels = 1 - wait[row : row + 1].log_survival(days[:, None])[:, 0].exp()  # uniform, where an event comes
        came = days.isfinite()
        share = float(1 - gompertz().defect[row]) if bool((~came).any()) else 1.0
        assert float(came.double().mean()) == pytest.approx(share, abs=0.03)
        assert stats.kstest(levels[came].numpy() / share, "uniform").pvalue > 0.003


@every
def test_hours_instead_of_days_shift_the_nats_by_log_24(make):
    wait = make()
    base = getattr(wait, "base", wait)
    if isinstance(base, LogNormals):
        other = LogNormals(base.log_weights, base.locations + math.log(24), base.scales)
    else:
        other = Gompertz(base.log_rate - math.log(24), base.slope / 24)
    days = double([0.7, 3.0, 11.0])
    torch.testing.assert_close(other.log_prob(days * 24), base.log_prob(days) - math.log(24))


def test_rows_are_selected():
    for wait in (make() for make in DISTRIBUTIONS.values()):
        picked, days = torch.tensor([2, 0]), double([1.5, 2.5])
        torch.testing.assert_close(wait[picked].log_prob(days), wait.log_prob(double([2.5, 0.1, 1.5]))[picked])


@pytest.mark.parametrize("head", [LogNormalHead(8, 4), GompertzHead(8)])
def test_a_head_starts_at_the_waits_it_was_fitted_to_and_has_gradients(head):
    waits = torch.from_numpy(np.random.default_rng(0).gamma(0.7, 5.0, 4000)).float()
    head.fit(waits)
    nats = head(torch.zeros(4000, 8)).log_prob(waits).mean()
    exponential = -1 - math.log(float(waits.mean()))
    assert float(nats) > exponential - 1e-3
    (-head(torch.randn(4000, 8)).log_prob(waits).mean()).backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0 for parameter in head.parameters())


def test_em_is_that_of_scikit_learn_from_the_same_start():
    x = np.log(np.random.default_rng(0).gamma(0.8, 4.0, 3000))
    start = np.sort(x)[((np.arange(3) + 0.5) / 3 * len(x)).astype(int)]
    theirs = GaussianMixture(
        3, max_iter=40, tol=0, reg_covar=0, weights_init=[1 / 3] * 3, means_init=start[:, None],
        precisions_init=np.full((3, 1, 1), 1 / x.var()),
    )  # fmt: skip
    with pytest.warns(Warning, match="converge"):
        theirs.fit(x[:, None])
    weight, mean, deviation = log_normal_mixture(torch.from_numpy(x), 3, 40)
    np.testing.assert_allclose(weight, theirs.weights_, rtol=1e-6)
    np.testing.assert_allclose(mean, theirs.means_[:, 0], rtol=1e-6)
    np.testing.assert_allclose(deviation, theirs.covariances_.ravel() ** 0.5, rtol=1e-6)


def test_em_of_grouped_values_is_that_of_all_of_them(monkeypatch):
    x = torch.from_numpy(np.log(np.random.default_rng(0).gamma(0.8, 4.0, 5003)))
    whole = log_normal_mixture(x, 3, 40)
    monkeypatch.setattr(event_heads, "GROUPS", 1000)
    for found, expected in zip(log_normal_mixture(x, 3, 40), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
