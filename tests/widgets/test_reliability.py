"""The view of reliability through its controls, against its own tables."""

import numpy as np
import pytest

from seqlab import widgets
from seqlab.datasets.history import history_of
from seqlab.inspection.answer_probability import FORECASTS
from tests.widgets.markup import assert_escaped


@pytest.fixture
def view(run, split, live):
    return widgets.Reliability(run, split, user=3, users=30, k=5)


def test_the_slider_moves_coverage_and_risk(view):
    p, hit = view._p, view._hit
    t = float(np.quantile(p, 0.8))
    view.threshold.value = t
    one = view.answered(view.threshold.value).iloc[0]
    chosen = p > view.threshold.value
    assert one["coverage"] == pytest.approx(chosen.mean()) and one["risk"] == pytest.approx(1 - hit[chosen].mean())
    marker = next(trace for trace in view.figure.data if trace.marker.symbol == "diamond")
    assert (marker.x[0], marker.y[0]) == pytest.approx((one["coverage"], one["risk"]))
    assert f"{one['coverage']:.0%}" in view.words.value and not view.status.view.value
    nobody = view.answered(1.0).iloc[0]
    assert nobody["coverage"] == 0 and nobody["risk"] == 0
    assert_escaped(view)


def test_another_user_and_an_edited_history_are_shown(view, split):
    name = FORECASTS[view.names[0]]
    before = view._events[name].tolist()
    view.user.value = view.user.options[1][1]
    assert view._events[name].tolist() != before and not view.status.view.value
    history = history_of(split, view.user.value)
    shorter = history.drop(len(history) - 1)
    view.show(shorter)
    assert len(view._events) == len(shorter) and "next" in view._events
    assert view._events["event"].iloc[-1] == len(shorter)
