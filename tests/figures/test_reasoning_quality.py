"""What reasoning is worth as pictures: limits say what they are, and gains where nothing is gained."""

import pandas as pd
import pytest

from seqlab import figures


def curve():
    return pd.DataFrame({
        "epsilon": [0.0, 0.1, 1.0], "steps": [2.0, 1.5, 1.0], "early": [0.0, 0.5, 1.0],
        "ndcg@10": [0.1, 0.2, 0.15], "recall@10": [0.3, 0.4, 0.35],
    })  # fmt: skip


def outcomes():
    kinds = (("step 0", "fixed", 0), ("step 1", "fixed", 1), ("stop", "stop", 0.7), ("best", "best", 0.4))
    rows = [
        (way, kind, steps, metric, mean, mean - 0.05, mean + 0.1)
        for metric, mean in (("recall@10", 0.4), ("ndcg@10", 0.2))
        for way, kind, steps in kinds
    ]
    return pd.DataFrame(rows, columns=["way", "kind", "steps", "metric", "mean", "low", "high"])


def test_the_ceiling_is_labelled_as_using_the_answer_and_no_other_is():
    figure = figures.reasoning_tradeoff(curve(), outcomes(), {0: 0, 1: 30}, 0.1)
    names = {one.name for one in figure.data if one.name}
    assert [name for name in names if "uses the answer" in name] == ["best step of each user: uses the answer"]
    assert "stopped" in names
    best = [one for one in figure.data if one.name and "best" in one.name]
    assert [(one.x[0], one.y[0]) for one in best] == [(0.4, 0.4), (0.4, 0.2)]
    assert best[0].error_y.array[0] == pytest.approx(0.1) and best[0].error_y.arrayminus[0] == pytest.approx(0.05)


def test_users_are_counted_at_their_stops():
    figure = figures.reasoning_tradeoff(curve(), outcomes(), {0: 0, 1: 30, 2: 10}, None)
    bars = next(one for one in figure.data if one.type == "bar")
    assert list(bars.y) == [0, 0.75, 0.25]
    assert list(bars.text) == ["0", "30", "10"]


def test_a_system_without_steps_has_a_figure():
    still = curve().iloc[:1].assign(steps=0.0)
    figure = figures.reasoning_tradeoff(still, outcomes().query("way == 'step 0'"), {0: 12})
    assert next(one for one in figure.data if one.type == "bar").y[0] == 1


@pytest.mark.parametrize("sign", [-1, 1])
def test_gains_show_where_nothing_is_gained(sign):
    frame = pd.DataFrame({
        "slice": "history length", "group": ["1-4 events", "<i>5</i> events"], "users": [10, 20],
        "mean": [0.02 * sign, 0.03 * sign], "low": [0.02 * sign - 0.01] * 2, "high": [0.03 * sign + 0.01] * 2,
    })  # fmt: skip
    figure = figures.reasoning_gains({"<b>run</b>": frame})
    low, high = figure.layout.xaxis.range
    assert low < min(0, frame["low"].min()) and high > max(0, frame["high"].max())
    assert any(shape.x0 == shape.x1 == 0 for shape in figure.layout.shapes)
