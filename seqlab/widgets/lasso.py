"""Lasso: what is drawn around on a live map, and what is marked there, as numbers of items; imports the widget stack.

A live figure of plotly's would tell a lasso once per trace, send every trace back, and redraw for each: five seconds at
12,101 dots. This says it once, as numbers, and marks by telling plotly in the page nothing but which dots are selected.
"""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import numpy as np
import traitlets

IN_THE_PAGE = """
export default { render({ model, el }) {
  el.style.display = "none";
  let gone = false, panel = null, told = null;
  const plot = () => panel && panel.querySelector(".js-plotly-plot");
  const wanted = () => {
    const raw = model.get("marked");
    return new Set(new Int32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength)));
  };
  const show = (items) => {
    const at = plot();
    if (!at || !at.data || !window.Plotly) return;
    const traces = [], points = [];
    at.data.forEach((trace, number) => {
      if (!trace.customdata) return;
      const inside = [];
      trace.customdata.forEach((item, place) => { if (items.has(item)) inside.push(place); });
      traces.push(number);
      points.push(items.size ? inside : null);
    });
    const quietly = { _doNotReportToPy: true };
    window.Plotly.update(at, { selectedpoints: points, ...quietly }, { selections: [], ...quietly }, traces);
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
    const points = (event ? event.points : []).filter((one) => one.customdata !== undefined);
    if (points.length) return tell(points);
    setTimeout(() => {  // a lasso around nothing, which plotly may not tell, leaves every dot faint; a click does not
      const marks = plot().data.map((trace) => trace.customdata && trace.selectedpoints).filter(Boolean);
      if (marks.length && !marks.some((places) => places.length)) tell([]);
    }, 100);
  };
  const listen = () => {
    const at = plot();
    if (!at || !at.on) return;
    at.removeAllListeners("plotly_selected");
    at.removeAllListeners("plotly_deselect");
    at.on("plotly_selected", selected);
    at.on("plotly_deselect", () => tell([]));
    if (model.get("marked").byteLength) mark();
  };
  const rendered = (event) => { if (panel && panel.contains(event.detail.element)) listen(); };
  const again = () => { told = null; mark(); };
  document.addEventListener("plotlywidget-after-render", rendered);
  model.on("change:marked", mark);
  model.on("change:drawn", again);
  const settle = () => {
    if (gone) return;
    panel = el.closest(".seqlab-panel");
    if (!panel) return void requestAnimationFrame(settle);
    listen();
  };
  settle();
  return () => {
    gone = true;
    document.removeEventListener("plotlywidget-after-render", rendered);
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
