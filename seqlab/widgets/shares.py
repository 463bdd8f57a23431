"""Shares: how much of a selection each branch of a live code tree holds, on the branch; imports the widget stack.

A live figure takes a few hundred milliseconds to draw two more traces, shapes or annotations of such a tree; this draws
the same strips and figures over it in a few.
"""

from __future__ import annotations

from collections.abc import Mapping

import anywidget
import traitlets

from seqlab.figures.code_trees import STRIP, share
from seqlab.figures.theme import PALETTE
from seqlab.widgets.showing import BESIDE_A_PLOT

IN_THE_PAGE = (
    BESIDE_A_PLOT
    + """
export default { render({ model, el }) {
  el.style.display = "none";
  const SVG = "http://www.w3.org/2000/svg";
  let at = null;
  const over = document.createElementNS(SVG, "svg");
  over.setAttribute("class", "seqlab-shares");
  over.setAttribute("aria-hidden", "true");  // the list of branches says the same in words
  over.style.cssText = "position:absolute;left:0;top:0;width:100%;height:100%;pointer-events:none";
  const add = (name, attributes, text) => {
    const node = over.appendChild(document.createElementNS(SVG, name));
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text) node.textContent = text;
  };
  const draw = () => {
    const { strip, colour } = model.get("look"), shares = model.get("shares");
    over.replaceChildren();
    if (!at || !at._fullData || !at._fullData.length) return;
    const { xaxis, yaxis, font } = at._fullLayout, [bars] = at._fullData;
    const right = (x) => xaxis._offset + xaxis.l2p(x), down = (y) => yaxis._offset + yaxis.l2p(y);
    over.style.font = `bold ${font.size}px ${font.family}`;
    bars.customdata.forEach((branch, place) => {
      if (!(branch in shares)) return;
      const [part, said] = shares[branch], x = bars.base[place], long = bars.x[place], y = bars.y[place];
      const under = y + bars.width[place] / 2, top = down(under - strip), left = right(x);
      add("rect", { x: left, y: top, width: right(x + long * part) - left, height: down(under) - top, fill: colour });
      const spot = { x: right(x + long - 0.03), y: down(y), fill: colour };
      add("text", { ...spot, "text-anchor": "end", "dominant-baseline": "central" }, said);
    });
    const place = at.querySelector(".svg-container");
    if (place && over.parentElement !== place) place.appendChild(over);
  };
  const listen = (plot) => {
    at = plot;
    at.removeListener("plotly_afterplot", draw);
    at.on("plotly_afterplot", draw);
    draw();
  };
  model.on("change:shares", draw);
  const stop = besidePlot(el, listen);
  return () => { stop(); model.off("change:shares", draw); over.remove(); };
} };
"""
)


class Shares(anywidget.AnyWidget):
    """Over the `code_tree` in the same panel: a strip along each branch, and its share in figures. Made before it."""

    _esm = IN_THE_PAGE
    shares = traitlets.Dict().tag(sync=True)
    """Branch (customdata of the tree's first trace) -> its part of the selection, 0 to 1, and that in figures."""
    look = traitlets.Dict({"strip": STRIP, "colour": PALETTE[4]}).tag(sync=True)

    def show(self, inside: Mapping[str, int], of: int) -> None:
        """Show how many of the `of` selected items each branch holds; nothing on a branch that is not there."""
        self.shares = {branch: (count / of, share(count, of)) for branch, count in inside.items()}
