"""The views of event times against the system itself, through their controls; and their figures."""

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import figures, models, widgets
from seqlab.datasets import split as split_by
from seqlab.inspection import event_time
from seqlab.layers.clock import DAY
from seqlab.optimization.options import Options
from seqlab.training.fit import fit
from tests.synthetic import log_of, small
from tests.widgets.markup import assert_escaped


@pytest.fixture(scope="module")
def parts():
    random = np.random.default_rng(0)
    histories = [random.integers(1, 4, 12 + user % 7).tolist() for user in range(14)]
    times = [(1.5e9 + np.cumsum(random.gamma(2.0, DAY, len(items)))).tolist() for items in histories]
    log = log_of(histories, times, repeats=True)
    log.items["title"] = ["<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "three"]
    return split_by(log, "within-user 0.3 0.2")


@pytest.fixture(scope="module")
def waits(parts):
    counting = fit(models.create("household_rate", parts, {"mixture": 0}), parts)
    neural = fit(models.create("neural_tpp", parts, small("neural_tpp")), parts, Options(epochs=2, tokens=64))
    return {"<b>counting</b>": counting, "neural": neural}


def lines(figure, mode="lines"):
    return [one for one in figure.data if one.type == "scatter" and one.mode == mode]


def test_the_intensity_is_density_over_survival_of_the_event_before(waits, parts, live):
    view = widgets.IntensityOverTime(waits, parts, user=3, days=6)
    _, frame, events, shading = view.measure(3)
    batch = event_time._history(parts, 3)
    model = waits["neural"].model.eval()
    with torch.no_grad():
        wait = model.next_time(batch)
    for row in frame[frame["model"] == "neural"].iloc[::31].itertuples():
        one, days = wait[0, row.event], torch.tensor(row.since).float()
        expected = (one.log_prob(days) - one.log_survival(days)).exp()
        assert row.intensity == pytest.approx(float(expected), rel=1e-4)
    assert frame["time"].max() - frame["time"].min() <= 6 * DAY + 1
    assert events["time"].between(frame["time"].min(), frame["time"].max() + 1).all() and len(events)
    assert shading["rate"].min() > 0


def test_the_slider_shows_another_week_and_the_dropdown_another_user(waits, parts, live):
    view = widgets.IntensityOverTime(waits, parts, user=3)
    ribbons = lines(view.figure)
    assert [one.name for one in ribbons] == ["&lt;b&gt;counting&lt;/b&gt;", "neural"]
    before, caption = list(ribbons[0].x), view.figure.layout.annotations[-1].text
    view.week.value = view.week.options[1][1]
    assert list(lines(view.figure)[0].x) != before
    view.user.value = view.user.options[2][1]
    assert not view.status.view.value
    assert view.week.value == parts.test.sequences.lengths[view.user.value - 1] - 1
    assert view.figure.layout.annotations[-1].text != caption
    assert_escaped(view)


def test_the_still_has_users_from_few_events_to_many(waits, parts, report):
    figure = widgets.IntensityOverTime(waits, parts, users=4).still()
    counts = [int(one.text.split(" of ")[1].split()[0]) for one in figure.layout.annotations if " of " in one.text]
    assert len(counts) == 4 and counts == sorted(counts)
    assert len([one for one in figure.data if one.type == "heatmap"]) == 4


def test_a_rate_does_not_look_at_the_last_wait_and_a_network_does(waits, parts, live):
    view = widgets.AfterEvent(waits, parts, user=2)
    _, frame = view.measure(2)
    curves = frame.set_index(["model", "change", "days"])["intensity"].unstack("change")
    assert np.allclose(curves.loc["<b>counting</b>"].std(axis=1), 0, atol=1e-6)
    assert curves.loc["neural"].std(axis=1).max() > 1e-5
    assert frame.groupby(["model", "change"])["survival"].apply(lambda part: part.is_monotonic_decreasing).all()
    drawn = [list(one.y) for one in lines(view.figure)]
    view.factor.value = 3.0
    assert "3 × longer" in {one.name for one in lines(view.figure)}
    view.event.value = 4
    assert [list(one.y) for one in lines(view.figure)] != drawn
    assert "event 4 of" in view.figure.layout.annotations[-1].text
    view.user.value = view.user.options[1][1]
    assert not view.status.view.value
    assert_escaped(view)


def test_after_the_first_event_there_is_no_wait_to_change(waits, parts, report):
    assert widgets.AfterEvent(waits, parts).measure(1, 0)[1]["change"].unique().tolist() == ["as it was"]


def test_fans_hold_the_mean_and_start_at_one(waits, parts):
    plain = {name: run.model for name, run in waits.items()}
    frame = pd.concat([event_time.survival_fan(plain, parts, user).assign(panel=f"<i>{user}</i>") for user in (1, 2)])
    figure = figures.survival_fans(frame)
    expected = [one for one in lines(figure) if one.name == "expected"]
    assert len(expected) == 4 and all(one.y[0] > 0.8 for one in expected)
    assert not [one for one in figure.layout.annotations if "<i>" in one.text]


def test_a_calibrated_model_lies_on_the_line():
    levels = np.arange(1, 20) / 20
    exponential = -np.log1p(-levels)
    points = pd.DataFrame({
        "model": "<i>a</i>", "level": levels, "observed": levels, "share": levels, "expected": exponential,
        "rescaled": exponential,
    })  # fmt: skip
    above, below = figures.time_calibration(points).data
    assert np.allclose(above.y, 0) and np.allclose(below.y, below.x)
    assert above.name == "&lt;i&gt;a&lt;/i&gt;"
    assert figures.time_calibration(points.iloc[:0]).layout.annotations[0].text
