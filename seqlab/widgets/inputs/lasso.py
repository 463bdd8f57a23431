"""Lasso: what is drawn around on a live map, and what is marked there, as numbers of items; imports the widget stack.

A live figure of plotly's would tell a lasso once per trace, send every trace back, and redraw for each: five seconds at
12,101 dots. This says it once, as numbers.

To mark, it does what plotly does at the end of its own lasso: it chooses the dots of each trace and paints the canvas,
and computes nothing anew. plotly's public `restyle` is no way there: every live figure brings its own copy of plotly,
and `window.Plotly` is whichever came last; another copy gives a figure a new emitter of events, and all who listened to
it, the figure's own widget among them, hear nothing more.

A figure of this lasso has `newselection.mode` "gradual": plotly's "immediate" lays the outline over the dots for good,
where it swallows the mouse (a lasso begun inside the last one never begins) and brings its dots back at every redraw.
"""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import numpy as np
import traitlets

IN_THE_PAGE = """
// calls `listen(plot)` with the figure of the same panel, again whenever that is rendered anew and has lost who
// listened to it; gives the function that ends this
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
  let at = null, told = null;
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
      if (!stash.xpx) {  // nothing was ever drawn around here
        stash.xpx = Array.from(stash.x, (x) => xaxis.c2p(x));
        stash.ypx = Array.from(stash.y, (y) => yaxis.c2p(y));
      }
      const asked = { contains: (spot, omit, place) => items.has(numbers[place]) };
      trace._module.selectPoints({ cd, xaxis, yaxis }, marks ? asked : false);
    }
    canvases.data().forEach(({ regl }) => { if (regl) regl.clear({ color: true, depth: true }); });
    if (xy._scene) xy._scene.draw();  // none where the legend has hidden every group
    xy.selection = undefined;  // Shift adds to the last lasso only as long as that is what is marked
  };
  const mark = () => {
    const items = wanted();
    const own = items.size && told && told.size === items.size && [...items].every((item) => told.has(item));
    told = null;
    if (!own) show(items);  // plotly has marked its own lasso
  };
  const tell = (points) => {
    const items = Int32Array.from(points, (one) => one.customdata);
    told = new Set(items);
    model.send({ items: items.length }, undefined, [items.buffer]);
    if (!items.length) show(told);
  };
  const selected = (event) => {
    if (!event) return;  // a click beside all dots
    at._fullLayout._outlining = false;  // else the next lasso would leave this outline lying over the dots for good
    at.querySelectorAll(".select-outline").forEach((outline) => outline.remove());
    tell(event.points.filter((one) => one.customdata !== undefined));
  };
  const listen = (plot) => {
    at = plot;
    at.removeAllListeners("plotly_selected");
    at.removeAllListeners("plotly_deselect");
    at.on("plotly_selected", selected);
    at.on("plotly_deselect", () => tell([]));
    if (model.get("marked").byteLength) mark();
  };
  const again = () => { told = null; mark(); };
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
    """Of the figure in the same panel: dots with `customdata` are items; the others are neither told nor marked.

    To be made before the figure. `on_items(items)` is called for what a person draws around, ascending.
    """

    _esm = IN_THE_PAGE
    marked = traitlets.Bytes(b"").tag(sync=True)
    """The items that are marked, as int32; the others are faint. None: all as they are."""
    drawn = traitlets.Int(0).tag(sync=True)
    """How often the dots were drawn anew: each time they are marked again."""

    def __init__(self, on_items: Callable[[np.ndarray], None]) -> None:
        super().__init__()
        self.on_msg(lambda page, told, buffers: on_items(np.unique(np.frombuffer(buffers[0], dtype=np.int32))))

    def mark(self, items: np.ndarray) -> None:
        """Leave these items in colour and the others faint; no items: all in colour."""
        self.marked = items.astype(np.int32).tobytes()
