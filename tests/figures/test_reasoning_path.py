"""The figure of one user's reasoning: the coordinates of the steps, and escaped titles."""

import json

import numpy as np
import pandas as pd

from seqlab import figures
from seqlab.figures.reasoning_path import BLUE, LATER, MEASURES

HOSTILE = ["<script>alert(1)</script>", "<b>bold</b> & co", "שלום", "", "x" * 300, "a\nb\u202ec"]


def example(steps=2, stop=1, prior=False, other=False, seed=0):
    """The arguments of the figure of one user."""
    random = np.random.default_rng(seed)
    items = pd.DataFrame(random.normal(size=(30, 2)), columns=["x", "y"], index=range(1, 31))
    items["title"] = [HOSTILE[item % len(HOSTILE)] for item in items.index]
    near = pd.DataFrame(
        [(step, place, 3 * step + place, 0.1) for step in range(steps + 1) for place in range(1, 11)],
        columns=["step", "rank", "item", "probability"],
    )
    path = near.join(items, on="item").groupby("step")[["x", "y"]].mean().reset_index()
    measures = pd.DataFrame({"step": range(steps + 1)})
    for name in MEASURES:
        measures[name] = measures[f"typical {name}"] = random.uniform(0.1, 20, steps + 1)
    measures.loc[0, ["kl", "typical kl"]] = np.nan
    curve = pd.DataFrame({
        "epsilon": [0.0, 0.1, 1.0], "steps": [2.0, 1.5, 1.0], "early": [0.0, 0.5, 1.0],
        "ndcg@10": [0.1, 0.2, 0.15], "recall@10": [0.3, 0.4, 0.35],
    })  # fmt: skip
    rows = [
        (f"step {step}", "fixed", float(step), metric, 0.2, 0.1, 0.3)
        for step in range(steps + 1)
        for metric in ("ndcg@10", "recall@10")
    ]
    fixed = pd.DataFrame(rows, columns=["way", "kind", "steps", "metric", "mean", "low", "high"])
    return {
        "items": items, "path": path, "near": near, "measures": measures, "curve": curve, "fixed": fixed,
        "marks": {"answer": 7, "last": 9}, "stop": stop, "chosen": curve.iloc[1].to_dict(),
        "prior": pd.DataFrame({"item": [2, 8], "weight": [0.75, 0.25]}) if prior else None,
        "other": path.assign(x=0.0) if other else None, "caption": "words",
    }  # fmt: skip


def dots(figure, where="step 0, its"):
    """The trace whose hover texts contain this."""
    return next(one for one in figure.data if one.hovertext and any(where in words for words in one.hovertext))


def test_steps_are_at_their_coordinates_and_pale_after_the_stop():
    data = example(steps=3, stop=1)
    trace = dots(figures.reasoning_steps(**data))
    assert np.allclose(trace.x, data["path"]["x"]) and np.allclose(trace.y, data["path"]["y"])
    assert list(trace.text) == ["0", "1", "2", "3"]
    assert list(trace.marker.color) == [BLUE, BLUE, LATER, LATER]


def test_thin_lines_connect_each_step_to_its_best_items():
    data = example(steps=3, stop=1)
    spokes = figures.reasoning_steps(**data).data[1]
    starts, ends = np.array(spokes.x[0::3]), np.array(spokes.x[1::3])
    taken = data["near"].query("step <= 1")
    assert np.allclose(starts, data["path"].set_index("step").loc[taken["step"], "x"])
    assert np.allclose(ends, data["items"].loc[taken["item"], "x"])
    assert np.isnan(np.array(spokes.x[2::3])).all()


def test_the_items_at_the_stop_the_target_and_the_prior_are_marked():
    data = example(stop=2, prior=True)
    figure = figures.reasoning_steps(**data)
    ringed = dots(figure, "at step 2")
    assert np.allclose(ringed.x, data["items"].loc[data["near"].query("step == 2")["item"], "x"])
    assert np.allclose(dots(figure, "what really came next").x, data["items"].loc[[7], "x"])
    assert np.allclose(dots(figure, "the last item read").x, data["items"].loc[[9], "x"])
    prior = dots(figure, "the prior gives it 75.0%")
    assert np.allclose(prior.x, data["items"].loc[[2, 8], "x"])
    assert prior.marker.size[0] > prior.marker.size[1]
    assert "prior" in figure.layout.annotations[-1].text
    assert "prior" not in figures.reasoning_steps(**example()).layout.annotations[-1].text


def test_three_items_are_named_beside_their_dots():
    data = example(stop=1)
    named = [one for one in figures.reasoning_steps(**data).layout.annotations if one.xref == "x" and one.yref == "y"]
    assert [(one.x, one.y) for one in named] == [tuple(data["items"].loc[item, ["x", "y"]]) for item in (4, 7, 9)]
    assert named[1].text == "&lt;b&gt;bold&lt;/b&gt; &amp; co"


def test_all_marked_items_are_in_the_first_view_of_the_map():
    data = example(prior=True, other=True)
    data["other"] = data["other"].assign(x=40.0)
    figure = figures.reasoning_steps(**data)
    involved = data["items"].loc[[*data["near"]["item"], 7, 9, 2, 8]]
    low, high = figure.layout.xaxis.range
    assert low < involved["x"].min() and high > 40
    low, high = figure.layout.yaxis.range
    assert low < involved["y"].min() and high > involved["y"].max()


def test_the_legend_explains_the_positions():
    assert "states are not projected" in figures.reasoning_steps(**example()).layout.annotations[-1].text


def test_the_threshold_is_a_line_across_the_kl():
    data = example()
    figure = figures.reasoning_steps(**data)
    line = next(one for one in figure.data if one.hovertemplate and "stops below" in one.hovertemplate and len(one.x))
    assert set(line.y) == {data["chosen"]["epsilon"]}
    chosen = [one for one in figure.data if one.hovertemplate and "threshold that is set" in one.hovertemplate]
    assert [(one.x[0], one.y[0]) for one in chosen] == [(1.5, 0.2), (1.5, 0.4)]


def test_traces_are_the_same_for_every_user_stop_and_patch():
    pictures = [
        figures.reasoning_steps(**example(*settings))
        for settings in ((2, 1), (2, 2, True), (0, 0, False, True), (5, 3, True, True, 4))
    ]
    assert len({tuple(one.type for one in picture.data) for picture in pictures}) == 1
    assert len({len(one.layout.annotations) for one in pictures}) == 1


def test_a_kl_of_zero_is_drawn_on_the_logarithmic_axis():
    data = example()
    data["measures"]["kl"] = [np.nan, 0.0, 0.0]
    data["chosen"]["epsilon"] = 0.0
    figure = figures.reasoning_steps(**data)
    assert np.isfinite(figure.layout.yaxis5.range).all()
    assert figure.layout.yaxis5.range[0] < figure.layout.yaxis5.range[1]


def test_the_shares_of_a_step_add_up_to_its_bar():
    rows = [(step, part, share) for step in (0, 1) for part, share in (("<b>next</b>", 0.2), ("rest", 0.8))]
    figure = figures.reasoning_masses(pd.DataFrame(rows, columns=["step", "part", "share"]))
    assert figure.layout.barmode == "stack"
    assert np.allclose(sum(np.array(one.x) for one in figure.data), 1)
    assert "&lt;b&gt;" in figure.data[0].name


def test_no_title_becomes_markup():
    rows = [(0, "<b>bold", 1.0)]
    for figure in (
        figures.reasoning_steps(**example(prior=True, other=True)),
        figures.reasoning_masses(pd.DataFrame(rows, columns=["step", "part", "share"])),
    ):
        text = json.dumps(figure.to_plotly_json(), default=lambda array: array.tolist(), ensure_ascii=False)
        for tag in ("<script", "<b>bold"):
            assert tag not in text
        assert "&lt;" in text
        assert "\u202e" not in text
