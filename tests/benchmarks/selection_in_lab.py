"""How soon all views show a selection: python -m pytest -s tests/benchmarks/selection_in_lab.py

Needs Chromium. The page of `tests/browser/test_selection_in_lab.py` with 12,101 items and 22,363 users: prints the
milliseconds from releasing the mouse button to the last view drawn, and the load of the machine.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable

from tests.browser.test_selection_in_lab import PATIENT, click_branch, lasso, selection_page

TURNS = 4

WATCH = """() => {
  const panels = [...document.querySelectorAll(".jp-OutputArea .seqlab-panel")];
  const [status, map, tree, users] = panels, plot = map.querySelector(".js-plotly-plot");
  window.seen = {};
  const drawn = (name) => requestAnimationFrame(() => { seen[name] = seen.last = performance.now(); });
  for (const kind of ["mouseup", "change", "click"])
    window.addEventListener(kind, () => { if (!seen.began) seen.began = performance.now(); }, true);
  for (const [name, panel] of Object.entries({ status, tree, users }))
    new MutationObserver(() => drawn(name)).observe(panel, { subtree: true, childList: true, characterData: true });
  const places = () => plot.data.slice(0, 11).map((trace) => trace.selectedpoints);
  let before = places();
  const look = () => {
    if (!plot.isConnected) return;  // the notebook was closed
    const now = places();
    if (now.some((one, at) => one !== before[at])) drawn("map");
    before = now;
    requestAnimationFrame(look);
  };
  look();
}"""


class Clock:
    """Times from what a person does to the last view drawn, in milliseconds."""

    def __init__(self, page: object) -> None:
        self.page, self.took = page, {}
        page.evaluate(WATCH)

    def start(self) -> None:
        self.page.evaluate("() => { window.seen = {}; }")

    def stop(self, what: str, idle: Callable[[], None]) -> None:
        self.page.wait_for_function("() => seen.status", timeout=PATIENT)
        idle()
        self.page.wait_for_function("() => performance.now() - seen.last > 1000", timeout=PATIENT)
        seen = self.page.evaluate("() => seen")
        views = {view: round(at - seen["began"]) for view, at in seen.items() if at > seen["began"]}
        self.took.setdefault(what, []).append(views)

    def report(self) -> None:
        medians = {
            what: {view: statistics.median(turn[view] for turn in turns if view in turn) for view in turns[-1]}
            for what, turns in self.took.items()
        }
        print(f"\nfrom the mouse button to the last view, ms: {json.dumps(medians)}; load {os.getloadavg()[0]:.1f}")


def test_selections_reach_all_views(lab, notebook) -> None:
    with selection_page(lab, notebook, 12_101, 22_363) as shown:
        idle, clock = shown.opened.idle, Clock(shown.page)
        for turn in range(TURNS):
            clock.start()
            lasso(shown.page, shown.plot, 90 - 12 * turn)
            clock.stop("lasso on the map", idle)
        for turn in range(TURNS):
            clock.start()
            click_branch(shown, 2 * (turn % 2))
            clock.stop("branch of the tree", idle)
        for turn in range(TURNS):
            clock.start()
            shown.listed.select_option(index=turn)
            clock.stop("user of the list", idle)
        clock.report()
