"""Live figures share one copy of plotly.js."""

import plotly.graph_objects as go
import pytest

from seqlab.widgets.display import interactive_figure
from seqlab.widgets.shared_plotly import plotly_module

pytestmark = pytest.mark.usefixtures("live")


def figure():
    return interactive_figure(go.Figure(go.Scatter(y=[1, 2, 3])))


def test_the_figures_of_a_kernel_refer_to_one_module_that_holds_plotly():
    first, second = figure(), figure()
    assert isinstance(first, go.FigureWidget) and first.data[0].y == (1, 2, 3)
    sent = first.get_state()
    assert sent["_plotly"] == second.get_state()["_plotly"] == f"IPY_MODEL_{plotly_module().model_id}"
    assert len(sent["_esm"]) < 2_000 and len(plotly_module().get_state()["source"]) > 1_000_000


def test_it_is_sent_again_after_it_was_closed():
    before = figure().get_state()["_plotly"]
    plotly_module().close()  # as `ipywidgets.Widget.close_all` does
    assert figure().get_state()["_plotly"] != before
