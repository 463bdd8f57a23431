"""Figures of layers: the lens, the parts of a logit, the weight of events; their traces and escaped titles."""

import pandas as pd
import pytest

from seqlab import figures

TITLES = ["", "<b>one</b>", "two", "three & four"]
LAYERS = ("input", "layer 1")


def lens(steps=1):
    rows = [(step, layer, rank, (rank + layer) % 3 + 1, 0.5 / rank)
            for step in range(steps) for layer in range(2) for rank in (1, 2)]  # fmt: skip
    watch = [(step, layer, 1.0 + layer, 0.25) for step in range(steps) for layer in range(2)]
    return (
        pd.DataFrame(rows, columns=["step", "layer", "rank", "item", "probability"]),
        pd.DataFrame(watch, columns=["step", "layer", "rank", "probability"]),
    )


def test_the_lens_marks_the_last_first_item_wherever_it_stands_and_escapes_titles():
    top, watch = lens()
    html = str(figures.logit_lens(top, watch, LAYERS, TITLES, watched=2))
    assert "<b>one" not in html and "&lt;b&gt;one" in html and "<button" not in html
    assert html.count("item final") == 1 + int((top["item"] == 3).sum()) - 1
    assert html.count("class='item watched'") == int((top["item"] == 2).sum())
    clickable = str(figures.logit_lens(top, watch, LAYERS, TITLES, watched=3, clickable=True))
    assert clickable.count("data-press=") == len(top) and "watched:" not in clickable


@pytest.mark.parametrize("steps", [1, 3])
def test_ranks_have_two_lines_and_a_step_has_its_layers(steps):
    _, watch = lens(steps)
    figure = figures.lens_ranks({TITLES[1]: watch, TITLES[2]: watch}, LAYERS)
    assert [trace.name for trace in figure.data] == ["&lt;b&gt;one&lt;/b&gt;", "two"]
    assert len(figure.data[0].y) == 2 * steps
    assert len(figures.lens_ranks({TITLES[1]: watch}, LAYERS).data) == 2  # the same traces, to be redrawn
    assert (len(figure.data[0].x) == 2) == (steps == 1) or len(figure.data[0].x[0]) == 2 * steps


PARTS = pd.DataFrame({"layer": [0, 1, 1, 0], "part": ["input", "attention", "feed-forward", "constant"],
                      "value": [1.0, -2.5, 0.5, 0.25]})  # fmt: skip
EVENTS = pd.DataFrame([(1, head, event, head - event) for head in (1, 2) for event in (0, 1, -1)],
                      columns=["layer", "head", "event", "value"])  # fmt: skip


def test_parts_add_up_and_tokens_without_an_event_have_the_last_row():
    waterfall, heatmap, bars = figures.direct_attribution(PARTS, EVENTS, TITLES[1:3], "<b>x</b>").data
    assert waterfall.x[-1] == pytest.approx(-0.75) and waterfall.measure[-1] == "total"
    assert heatmap.z[2].tolist() == [2, 3]
    assert bars.x.tolist() == [3, 1, 5]
    assert "&lt;b&gt;one" in bars.customdata[0]


def test_a_model_without_attention_has_the_parts_alone():
    assert len(figures.direct_attribution(PARTS, EVENTS[:0], TITLES[1:3]).data) == 1


def test_the_events_of_all_systems_are_on_one_axis_with_escaped_labels():
    rows = [(run, measure, layer, 1 - at, 0.5) for run in ("a", "<i>b</i>") for measure, layer in
            (("sensitivity", 0), ("kernel", 1)) for at in (0, 1)]  # fmt: skip
    weights = pd.DataFrame(rows, columns=["run", "measure", "layer", "from_end", "value"])
    influence = weights.query("layer == 0")[["run", "from_end", "value"]]
    figure = figures.event_weights(weights, influence, TITLES[1:3])
    assert [trace.type for trace in figure.data] == ["bar", "scatter", "bar"] * 2
    assert all(list(trace.x) == [-1, 0] for trace in figure.data)
    words = " ".join(one.text for one in figure.layout.annotations)
    assert "kernel of layer 1" in words and "&lt;i&gt;b" in words
    assert figure.layout.xaxis4.ticktext == ("&lt;b&gt;one&lt;/b&gt;", "two")
