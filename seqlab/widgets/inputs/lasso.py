"""Lasso: the items selected on a scatter plot, sent to and from the page as item ids; imports the widget stack.

A `FigureWidget` sends one selection event per trace, returns every trace to the page, and redraws for each: five
seconds at 12,101 points. This widget sends one array of ids.

To mark items it repeats the end of plotly's lasso: it sets the selected points of each trace and paints the canvas,
without computing anything anew. The public `restyle` does not work here: `window.Plotly` may be another copy of plotly
than that of the FigureWidgets, and another copy replaces the figure's event emitter, which drops all listeners, those
of the FigureWidget included.

The figure needs `newselection.mode` "gradual": plotly's "immediate" leaves the outline over the points, where it
captures the mouse (a lasso started inside the last one does not start) and selects its points again at every redraw.
"""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import numpy as np
import traitlets

IN_THE_PAGE = """
// calls `listen(plot)` with the figure of the same panel, again after every render, which drops listeners; returns a
// function that stops this
const besidePlot = (el, listen) => {
  let gone = false, panel = null;
  const found = () => {
    const plot = panel.querySelector(".js-plotly-plot");
    if (plot && plot.on) listen(plot);
  };
  const rendered = (event) => { if (panel && panel.contains(event.detail.element)) found(); };
  const settle = () => {
    if (gone) return;
    panel = el.closest(".seqlab-panel");
    if (panel) found(); else requestAnimationFrame(settle);
  };
  document.addEventListener("plotlywidget-after-render", rendered);
  settle();
  return () => { gone = true; document.removeEventListener("plotlywidget-after-render", rendered); };
};
export default { render({ model, el }) {
  el.style.display = "none";
  let at = null, reported = null;
  const wanted = () => {
    const raw = model.get("marked");
    return new Set(new Int32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength)));
  };
  const show = (items) => {
    if (!at || !at.calcdata) return;
    const { _plots: { xy }, _glcanvas: canvases } = at._fullLayout;
    const { xaxis, yaxis } = xy;
    for (const cd of at.calcdata) {
      const { trace, t: stash } = cd[0], numbers = trace.customdata, marks = items.size > 0 && numbers;
      if (marks) {
        const inside = [];
        numbers.forEach((item, place) => { if (items.has(item)) inside.push(place); });
        trace.selectedpoints = trace._input.selectedpoints = inside;
      } else {
        delete trace.selectedpoints;
        delete trace._input.selectedpoints;
      }
      if (trace.visible !== true) continue;
      if (!stash.xpx) {  // this trace had no selection yet
        stash.xpx = Array.from(stash.x, (x) => xaxis.c2p(x));
        stash.ypx = Array.from(stash.y, (y) => yaxis.c2p(y));
      }
      const selector = { contains: (spot, omit, place) => items.has(numbers[place]) };
      trace._module.selectPoints({ cd, xaxis, yaxis }, marks ? selector : false);
    }
    canvases.data().forEach(({ regl }) => { if (regl) regl.clear({ color: true, depth: true }); });
    if (xy._scene) xy._scene.draw();  // undefined if the legend hides every group
    xy.selection = undefined;  // Shift must add to the last lasso only while that is marked
  };
  const mark = () => {
    const items = wanted();
    const same = reported && reported.size === items.size && [...items].every((item) => reported.has(item));
    reported = null;
    if (!items.size || !same) show(items);  // plotly has already marked a lasso of its own
  };
  const report = (points) => {
    const items = Int32Array.from(points, (one) => one.customdata);
    reported = new Set(items);
    model.send({ items: items.length }, undefined, [items.buffer]);
    if (!items.length) show(reported);
  };
  const selected = (event) => {
    if (!event) return;  // a click beside all dots
    at._fullLayout._outlining = false;  // else the next lasso would leave this outline over the points
    at.querySelectorAll(".select-outline").forEach((outline) => outline.remove());
    report(event.points.filter((one) => one.customdata !== undefined));
  };
  const listen = (plot) => {
    at = plot;
    at.removeAllListeners("plotly_selected");
    at.removeAllListeners("plotly_deselect");
    at.on("plotly_selected", selected);
    at.on("plotly_deselect", () => report([]));
    if (model.get("marked").byteLength) mark();
  };
  const again = () => { reported = null; mark(); };
  model.on("change:marked", mark);
  model.on("change:drawn", again);
  const stop = besidePlot(el, listen);
  return () => {
    stop();
    model.off("change:marked", mark);
    model.off("change:drawn", again);
  };
} };
"""


class Lasso(anywidget.AnyWidget):
    """The lasso of the figure in the same panel. Points with `customdata` are items; others are ignored.

    It must be created before the figure. `on_items(items)` is called for every selection, with ascending ids.
    """

    _esm = IN_THE_PAGE
    marked = traitlets.Bytes(b"").tag(sync=True)
    """The marked items as int32; the others are faint. Empty: no item is faint."""
    drawn = traitlets.Int(0).tag(sync=True)
    """Counts redraws of the points; each marks the items again."""

    def __init__(self, on_items: Callable[[np.ndarray], None]) -> None:
        super().__init__()
        self.on_msg(lambda page, content, buffers: on_items(np.unique(np.frombuffer(buffers[0], dtype=np.int32))))

    def mark(self, items: np.ndarray) -> None:
        """Show these items in colour and the others faint; no items: all in colour."""
        self.marked = items.astype(np.int32).tobytes()
