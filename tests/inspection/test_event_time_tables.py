"""Tables of event time against the distributions they are made of."""

import math

import numpy as np
import pytest
import torch

from seqlab.inspection import event_time
from seqlab.layers.clock import DAY
from seqlab.tasks.event_time import measure
from tests.models.event_time.test_household_rate import ready, split_of

torch.set_num_threads(1)

SPLIT = split_of(users=8)
MODELS = {"one rate": ready(SPLIT, household="none", weekly=False, mixture=0), "weekly": ready(SPLIT)}


def history(user=3):
    events = SPLIT.log.events
    return events[events["user"] == user]["timestamp"].to_numpy()


def test_the_events_of_a_window():
    times = history()
    table = event_time.events_of(SPLIT, 3, times[4], times[7])
    assert table["event"].tolist() == [4, 5, 6, 7]
    np.testing.assert_allclose(table["wait"], np.diff(times[3:8]) / DAY)


def test_the_intensity_knows_the_events_before_each_time_and_no_others():
    times, table = history(), event_time.intensity_over_time(MODELS, SPLIT, 3, days=9, last=10, steps=8)
    assert table.groupby("model").size().tolist() == [73, 73]
    assert table["time"].max() == pytest.approx(times[10])
    for row in table.iloc[::7].itertuples():
        assert row.event == max(np.searchsorted(times, row.time) - 1, 0)
        assert row.since == pytest.approx((row.time - times[row.event]) / DAY)
    rate = table[table["model"] == "one rate"]["intensity"]
    np.testing.assert_allclose(rate, math.exp(float(MODELS["one rate"].log_rate)), rtol=1e-5)
    shares = table[[f"item {item}" for item in range(1, SPLIT.n_items + 1)]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)


def test_after_an_event_density_is_intensity_times_survival_and_integrates():
    table = event_time.after_event(MODELS, SPLIT, 3, event=5, days=200, points=20_000)
    np.testing.assert_allclose(table["density"], table["intensity"] * table["survival"], rtol=1e-3, atol=1e-7)
    for _, one in table.groupby("model"):
        mass = np.trapezoid(one["density"], one["days"])
        assert mass == pytest.approx(1 - one["survival"].iloc[-1], abs=0.02)


def test_a_changed_wait_moves_earlier_events_only():
    running = {"running": ready(SPLIT, weekly=False, mixture=0, running=True)}
    usual, longer = (event_time.after_event(running, SPLIT, 3, event=6, factor=factor) for factor in (1.0, 50.0))
    assert usual["time"].tolist() == longer["time"].tolist()
    assert longer["intensity"].iloc[0] < usual["intensity"].iloc[0]


def test_the_fan_holds_the_share_of_waits_that_lasted_longer():
    fan = event_time.survival_fan(MODELS, SPLIT, 3, days=20, points=10)
    waits = np.diff(history()) / DAY
    assert fan["observed"].iloc[1] == pytest.approx((waits > 4).mean())
    assert (fan["10 %"] <= fan["90 %"] + 1e-6).all()
    flat = fan[fan["model"] == "one rate"]
    rate = math.exp(float(MODELS["one rate"].log_rate))
    np.testing.assert_allclose(flat["50 %"], np.exp(-rate * flat["days"]), rtol=1e-4)


def test_points_of_the_pit():
    outcome = measure(MODELS["weekly"], SPLIT)
    table = event_time.pit_points({"weekly": outcome}, 9)
    pit = outcome.frame["pit"]
    assert table["share"].iloc[4] == pytest.approx((pit <= 0.5).mean())
    np.testing.assert_allclose(table["rescaled"], -np.log(1 - np.quantile(pit, table["level"])))
    np.testing.assert_allclose(table["expected"], -np.log(1 - table["level"]))
