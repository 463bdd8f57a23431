"""FigureWidget: plotly's, but all figures of a page run one copy of plotly.js; imports the widget stack.

Plotly's own sends its five megabytes with every figure, and the page runs each copy anew, which takes a second.
"""

from __future__ import annotations

from pathlib import Path

import anywidget
import plotly
import plotly.graph_objects as go
import traitlets

PAGE = """
const shared = globalThis.seqlabPlotly ??= (() => {
  let load;
  const module = new Promise((resolve) => { load = resolve; });
  return { module, load };
})();
"""
"""What figures wait for: a promise of plotly's module, which the first `PlotlyModule` of the page keeps."""


class PlotlyModule(anywidget.AnyWidget):
    """Sends plotly's widget module to the page, once for a kernel."""

    _esm = f"""{PAGE}
export default {{ initialize({{ model }}) {{
  const load = () => {{
    const source = model.get("source");
    if (!source || shared.loading) return;
    shared.loading = true;
    const url = URL.createObjectURL(new Blob([source], {{ type: "text/javascript" }}));
    shared.load(import(url).finally(() => URL.revokeObjectURL(url)));
  }};
  model.on("change:source", load);
  load();
}} }};
"""
    source = traitlets.Unicode("").tag(sync=True)


class FigureWidget(go.FigureWidget):
    """A `plotly.graph_objects.FigureWidget` that shares plotly.js with the other figures of the page."""

    _esm = f"""{PAGE}
export default async () => {{
  const widget = (await shared.module).default;
  return typeof widget === "function" ? widget() : widget;
}};
"""

    def __init__(self, figure: go.Figure) -> None:
        send_plotly()
        super().__init__(figure)


_sent: list[PlotlyModule] = []


def send_plotly() -> None:
    """Send the module to the page before the first figure, and again if all widgets were closed."""
    if not _sent or _sent[-1].comm is None:
        bundle = Path(plotly.__file__).parent / "package_data" / "widgetbundle.js"
        _sent.append(PlotlyModule(source=bundle.read_text(encoding="utf-8")))
