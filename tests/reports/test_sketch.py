"""A figure as a small picture: what is drawn lies where the figure has it, and nothing of the data is markup."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from seqlab.reports.sketch import HEIGHT, WIDTH, sketch


def drawn(figure: go.Figure, kind: str) -> list[dict[str, str]]:
    root = ElementTree.fromstring(sketch(json.loads(figure.to_json())))
    return [one.attrib for one in root.iter(f"{{http://www.w3.org/2000/svg}}{kind}")]


def test_dots_lie_where_the_axes_put_them() -> None:
    figure = go.Figure(go.Scatter(x=np.array([1.0, 10.0, 100.0]), y=[0, 1, None], mode="markers"))
    figure.update_xaxes(type="log", range=[0, 2]).update_yaxes(range=[1, 0])
    dots = [(float(dot["cx"]), float(dot["cy"])) for dot in drawn(figure, "circle")]
    assert dots == [(0, 0), (WIDTH / 2, HEIGHT)]  # 0 is at the top: the axis is turned round


def test_a_line_breaks_where_a_value_is_missing() -> None:
    assert len(drawn(go.Figure(go.Scatter(y=[1, 2, None, 3, 4])), "polyline")) == 2


def test_bars_begin_at_the_base_stand_on_one_another_or_beside_one_another() -> None:
    x = ["a", "b"]
    stacked = go.Figure([go.Bar(x=x, y=[1, 2]), go.Bar(x=x, y=[3, 2])]).update_layout(barmode="stack")
    stacked.update_yaxes(range=[0, 4])
    heights = [(float(bar["y"]), float(bar["height"])) for bar in drawn(stacked, "rect")]
    assert heights == [(112.5, 37.5), (75, 75), (0, 112.5), (0, 75)]
    beside = drawn(go.Figure([go.Bar(x=x, y=[1, 2]), go.Bar(x=x, y=[3, 2])]), "rect")
    left = sorted(float(bar["x"]) for bar in beside)
    assert left == sorted({*left}) and len(left) == 4
    floating = go.Figure(go.Bar(y=[0], x=[2], base=[1], orientation="h")).update_xaxes(range=[0, 4])
    (bar,) = drawn(floating, "rect")
    assert (float(bar["x"]), float(bar["width"])) == pytest.approx((WIDTH / 4, WIDTH / 2))


def test_a_heat_map_has_a_colour_for_every_value_and_panels_stay_apart() -> None:
    figure = make_subplots(1, 2)
    figure.add_trace(go.Heatmap(z=[[0, 1], [1, np.nan]]), 1, 1).add_trace(go.Scatter(y=[1, 2]), 1, 2)
    cells = drawn(figure, "rect")
    assert len(cells) == 3 and len({cell["fill"] for cell in cells}) == 2
    panels = [one for one in drawn(figure, "svg") if "x" in one]
    assert float(panels[0]["x"]) + float(panels[0]["width"]) < float(panels[1]["x"])


def test_what_cannot_be_drawn_gives_no_picture_and_a_colour_from_data_is_no_markup() -> None:
    assert sketch({"data": [{"type": "sankey"}], "layout": {}}) == ""
    assert sketch({"data": [], "layout": {}}) == ""
    hostile = '"/><script>alert(1)</script>'
    trace = {"y": [1, 2], "mode": "lines+markers", "marker": {"color": [hostile] * 2}, "line": {"color": hostile}}
    made = sketch({"data": [trace], "layout": {}})
    assert "script" not in made and "<circle" in made
