"""The weekly profile and its operational time against sums over hours."""

import datetime

import numpy as np
import pytest
import torch

from seqlab.layers.clock import DAY, HOURS, MONDAY, WeeklyProfile, clock_features


def uneven() -> WeeklyProfile:
    generator = torch.Generator().manual_seed(0)
    hours = torch.multinomial(torch.rand(HOURS, generator=generator) ** 2, 5000, replacement=True, generator=generator)
    return WeeklyProfile().fit(MONDAY + 3600.0 * hours + 1800.0)


def test_hours_are_counted_from_monday_midnight():
    friday = datetime.datetime(2017, 6, 2, 15, 59, 59, tzinfo=datetime.UTC).timestamp()
    profile = WeeklyProfile().fit(torch.tensor([friday] * 832, dtype=torch.float64))
    assert int(profile.rate.argmax()) == 4 * 24 + 15
    assert profile.rate.mean() == pytest.approx(1)
    assert float(profile.rate.max() / profile.rate.min()) == pytest.approx(833)


def test_operational_time_is_the_integral_of_the_rate():
    profile, start = uneven(), 1_490_000_000.0
    grid = np.linspace(start, start + 17 * DAY, 2_000_001)
    rate = profile.log_rate(torch.from_numpy(grid)).exp().numpy()
    expected = np.trapezoid(rate, grid) / DAY
    passed = profile.operational(torch.tensor([start, start + 17 * DAY], dtype=torch.float64)).diff()
    assert float(passed) == pytest.approx(expected, rel=1e-5)


def test_the_inverse_undoes_it_also_at_the_edges_of_hours():
    profile, generator = uneven(), torch.Generator().manual_seed(1)
    times = torch.rand(1000, generator=generator, dtype=torch.float64) * 2e9
    times = torch.cat([times, MONDAY + 3600.0 * torch.arange(-200, 500, dtype=torch.float64)])
    torch.testing.assert_close(profile.inverse(profile.operational(times)), times, rtol=0, atol=1e-3)
    assert profile.inverse(torch.tensor([torch.inf])).isinf()


def test_a_week_lasts_seven_days_and_a_flat_profile_is_the_time():
    times = torch.tensor([1.49e9, 1.49e9 + 7 * DAY], dtype=torch.float64)
    assert float(uneven().operational(times).diff()) == pytest.approx(7, abs=1e-9)
    torch.testing.assert_close(WeeklyProfile().operational(times), (times - MONDAY) / DAY)


def test_features_repeat_every_week_and_tell_hours_apart():
    times = MONDAY + 3600 * torch.arange(2 * HOURS, dtype=torch.float64) + 1.4e9
    features = clock_features(times)
    assert features.shape == (2 * HOURS, 12) and features.dtype == torch.float32
    torch.testing.assert_close(features[:HOURS], features[HOURS:], atol=1e-5, rtol=0)
    assert torch.cdist(features[:HOURS], features[:HOURS]).fill_diagonal_(9).min() > 0.1
