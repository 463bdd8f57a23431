"""FigureWidget: plotly's, but all figures of a page run one copy of plotly.js; imports the widget stack.

Plotly's own sends its five megabytes with every figure, and the page runs each copy anew, which takes a second.
"""

from __future__ import annotations

from pathlib import Path

import anywidget
import ipywidgets
import plotly
import plotly.graph_objects as go
import traitlets

PAGE = f"""
const shared = (globalThis.seqlabPlotly ??= {{}})["{plotly.__version__}"] ??= (() => {{
  let load;
  const module = new Promise((resolve) => {{ load = resolve; }});
  return {{ module, load }};
}})();
"""
"""What figures wait for: a promise of plotly's module, which the first `PlotlyModule` of the page keeps; one for each
version, because the notebooks of a page may run in different environments."""


class PlotlyModule(anywidget.AnyWidget):
    """Sends plotly's widget module to the page, once for a kernel."""

    _esm = f"""{PAGE}
export default {{ initialize({{ model }}) {{
  if (shared.loading) return;
  shared.loading = true;
  const url = URL.createObjectURL(new Blob([model.get("source")], {{ type: "text/javascript" }}));
  shared.load(import(url).finally(() => URL.revokeObjectURL(url)));
}} }};
"""
    source = traitlets.Unicode("").tag(sync=True)


class FigureWidget(go.FigureWidget):
    """A `plotly.graph_objects.FigureWidget` that shares plotly.js with the other figures of the page."""

    _esm = f"""{PAGE}
export default () => {{
  let widget;
  return {{
    async initialize(given) {{
      // some pages make a widget only where another refers to it
      await given.model.widget_manager.get_model(given.model.get("_plotly").slice("IPY_MODEL_".length));
      const made = (await shared.module).default;
      widget = typeof made === "function" ? await made() : made;
      return widget.initialize?.(given);
    }},
    render: (given) => widget.render(given),
  }};
}};
"""
    _plotly = traitlets.Instance(PlotlyModule).tag(sync=True, **ipywidgets.widget_serialization)

    @traitlets.default("_plotly")
    def _module(self) -> PlotlyModule:
        return plotly_module()


_sent: list[PlotlyModule] = []


def plotly_module() -> PlotlyModule:
    """The widget that sends plotly.js to the page: made with the first figure, and again if all widgets were closed."""
    if not _sent or _sent[-1].comm is None:
        bundle = Path(plotly.__file__).parent / "package_data" / "widgetbundle.js"
        _sent[:] = [PlotlyModule(source=bundle.read_text(encoding="utf-8"))]
    return _sent[-1]
