"""One selection in a real JupyterLab: a lasso on the map, a branch of codes, a user; by mouse and by keyboard.

The page holds 12,101 items and 22,363 users. How long each selection takes, from the mouse button let go to the last
view drawn, is printed and kept beside the pictures (selection_latency.json), with the load of the machine; it is no
condition of the test.
"""

from __future__ import annotations

import json
import os
import re
import statistics

import pytest

from tests.browsing import SCREENSHOTS

pytestmark = pytest.mark.browser

ITEMS, USERS, TURNS = 12_101, 22_363, 5

PAGE = f"""
import ipywidgets, numpy as np, pandas as pd, torch
from seqlab import widgets
from seqlab.datasets import leave_one_out
from seqlab.datasets.log import make_log
from seqlab.tokenizers import CodeBook

random = np.random.default_rng(0)
N, U = {ITEMS}, {USERS}
kind = random.integers(0, 14, N)
vectors = (random.normal(size=(14, 8)) * 3)[kind] + random.normal(size=(N, 8))
events = pd.DataFrame({{
    "user": [f"A{{user:05d}}" for user in np.repeat(np.arange(U), 9)],
    "item": np.concatenate([np.arange(N), random.integers(0, N, 9 * U - N)]) + 1,
    "timestamp": np.tile(np.arange(9), U),
}})
title = [f"<img src=x onerror=alert(1)>Brand {{one % 97}} shampoo with argan oil, {{one + 1}} ml" for one in range(N)]
items = pd.DataFrame({{"item": np.arange(N) + 1, "title": title, "shelf": [f"shelf {{one}}" for one in kind]}})
log = make_log(events, items=items, title="title", repeats=True)
split = leave_one_out(log)
level = torch.from_numpy(np.stack([kind, random.integers(0, 16, N), random.integers(0, 64, N)], 1))
book = CodeBook(torch.cat([torch.zeros(1, 3, dtype=torch.long), level]), (14, 16, 64), name="Kinds")

selection = widgets.Selection(split, book)
item_map = widgets.ItemMap(vectors, split, color="shelf", selection=selection)
tree = widgets.CodeTree(book, split, selection=selection)
users = widgets.UserList(split, selection)
page = ipywidgets.VBox([selection.view, item_map.view, tree.view, users.view])
"""

WATCH = """() => {
  const panels = [...document.querySelectorAll(".jp-OutputArea .seqlab-panel")];
  const [told, map, tree, users] = panels;
  window.seen = { began: 0, last: 0, map: 0, tree: 0, users: 0, told: 0 };
  const drawn = (name) => requestAnimationFrame(() => { seen[name] = seen.last = performance.now(); });
  for (const kind of ["mouseup", "change", "click"])
    window.addEventListener(kind, (event) => { if (!seen.began) seen.began = performance.now(); }, true);
  const changed = { subtree: true, childList: true, characterData: true };
  new MutationObserver(() => drawn("told")).observe(told, changed);
  new MutationObserver(() => drawn("users")).observe(users, changed);
  tree.querySelector(".js-plotly-plot").on("plotly_afterplot", () => drawn("tree"));
  map.querySelector(".js-plotly-plot").on("plotly_afterplot", () => drawn("map"));
}"""

MARKED = """(plot) => plot.data.slice(0, 11).every((trace) => trace.selectedpoints == null) ? -1
  : plot.data.slice(0, 11).reduce((sum, trace) => sum + (trace.selectedpoints || []).length, 0)"""


class Clock:
    """Times from what a person does to the last view drawn, in milliseconds."""

    def __init__(self, page: object) -> None:
        self.page, self.took = page, {}
        page.evaluate(WATCH)

    def start(self) -> None:
        self.page.evaluate("() => Object.keys(seen).forEach((key) => { seen[key] = 0; })")

    def stop(self, what: str) -> None:
        self.page.wait_for_function("() => seen.told && performance.now() - seen.last > 1000", timeout=60_000)
        seen = self.page.evaluate("() => seen")
        views = {view: round(at - seen["began"]) for view, at in seen.items() if view != "began" and at}
        self.took.setdefault(what, []).append(views)

    def keep(self) -> None:
        medians = {
            what: {view: statistics.median(turn.get(view, 0) for turn in turns) for view in turns[0]}
            for what, turns in self.took.items()
        }
        report = {"median": medians, "turns": self.took, "load": os.getloadavg(), "cores": os.cpu_count()}
        SCREENSHOTS.mkdir(exist_ok=True)
        (SCREENSHOTS / "selection_latency.json").write_text(json.dumps(report, indent=1))
        print(f"\nfrom letting go to the last view, ms: {json.dumps(medians)}; load {os.getloadavg()[0]:.1f}")


def lasso(page: object, plot: object, radius: float, centre: tuple[float, float] | None = None) -> None:
    box = plot.locator(".nsewdrag").bounding_box()
    x, y = centre or (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(x - radius, y - radius)
    page.mouse.down()
    for right, down in ((1, -1), (1, 1), (-1, 1), (-1, -0.9)):
        page.mouse.move(x + right * radius, y + down * radius, steps=4)
    page.wait_for_timeout(500)  # a browser without a GPU is still drawing the way of the lasso
    page.mouse.up()


def number(text: str) -> int:
    return int(re.match(r"[\d,]+", text)[0].replace(",", ""))


def test_one_selection_by_mouse_and_by_keyboard(lab, notebook) -> None:
    from playwright.sync_api import expect

    with lab.notebook(notebook("selection", PAGE, "page", kernel="python3"), width=1300, height=2400) as opened:
        opened.run_all()
        page = opened.page
        told, item_map, tree, users = (opened.panel.locator(".jp-OutputArea .seqlab-panel").nth(at) for at in range(4))
        plot, branches = item_map.locator(".js-plotly-plot"), tree.locator(".widget-select select").first
        expect(plot.locator(".legendtext").first).to_have_text(re.compile("shelf"), timeout=60_000)
        expect(tree.locator(".js-plotly-plot")).to_contain_text("All 12,101", timeout=60_000)
        expect(told).to_contain_text("Nothing is selected")
        told.scroll_into_view_if_needed()
        opened.idle()
        clock = Clock(page)

        # a lasso by mouse: map -> tree and users
        for turn in range(TURNS):
            clock.start()
            lasso(page, plot, 50 + 8 * turn)
            expect(told).to_contain_text("met by")
            clock.stop("lasso on the map")
        items = number(told.locator(".sl").inner_text())
        assert page.evaluate(MARKED, plot.element_handle()) == items
        expect(branches.locator("option").first).to_contain_text("selected")
        expect(users).to_contain_text("users of the selection")
        opened.shot("selection_lasso")

        # a branch by mouse: tree -> map and users
        bars = tree.locator(".js-plotly-plot .barlayer .trace").first.locator(".point path")
        for turn in range(TURNS):
            box = bars.nth(2 * (turn % 2)).bounding_box()
            clock.start()
            page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
            expect(told).to_contain_text("of branch (")
            clock.stop("branch of the tree")
        items = number(told.locator(".sl").inner_text())
        assert page.evaluate(MARKED, plot.element_handle()) == items
        opened.shot("selection_branch")

        # a user by mouse: list -> map and tree
        for turn in range(TURNS):
            clock.start()
            users.locator(".widget-select select").select_option(index=turn)
            expect(told).to_contain_text(re.compile(r"User A\d+ and the \d+ items"))
            clock.stop("user of the list")
        met = int(re.search(r"the (\d+) items", told.inner_text())[1])
        assert page.evaluate(MARKED, plot.element_handle()) == met
        opened.shot("selection_user")
        clock.keep()

        # the same by keyboard, and the way back
        search = item_map.get_by_placeholder("part of a title")
        search.fill("brand 3 shampoo")
        search.press("Tab")
        found = item_map.locator(".widget-select select")
        expect(found.locator("option").first).to_contain_text("Brand 3 shampoo")
        found.focus()
        found.press("ArrowDown")
        expect(item_map).to_contain_text("nearest by cosine")
        found.press("Tab")
        assert page.evaluate("() => document.activeElement.innerText") == "Select"
        page.keyboard.press("Enter")
        expect(told).to_contain_text("1 item, met by")
        item_map.get_by_role("button", name="Select with neighbours").press("Enter")
        expect(told).to_contain_text("11 items, met by")
        found.press("ArrowDown")
        item_map.get_by_role("button", name="Add").press("Enter")
        expect(told).to_contain_text(re.compile("1[12] items, met by"))
        opened.idle()
        branches.focus()
        branches.press("ArrowDown")
        expect(told).to_contain_text("of branch (")
        listed = users.locator(".widget-select select")
        opened.idle()
        listed.focus()
        listed.press("ArrowDown")
        expect(told).to_contain_text(re.compile(r"User A\d+ and the"))
        told.get_by_role("button", name="Undo selection").press("Enter")
        expect(told).to_contain_text("of branch (")
        marked = page.evaluate(MARKED, plot.element_handle())
        assert marked == number(told.locator(".sl").inner_text())

        # what is marked outlives another colour; nothing selected: all in colour
        item_map.locator(".widget-dropdown select").select_option(label="training events")
        expect(item_map.locator(".cbtitle").first).to_be_visible()
        opened.idle()
        page.wait_for_function(f"(plot) => ({MARKED})(plot) === {marked}", arg=plot.element_handle())
        told.get_by_role("button", name="Clear selection").press("Enter")
        expect(told).to_contain_text("Nothing is selected")
        page.wait_for_function(f"(plot) => ({MARKED})(plot) === -1", arg=plot.element_handle())
        box = plot.locator(".nsewdrag").bounding_box()
        lasso(page, plot, 12, (box["x"] + 30, box["y"] + 30))  # around nothing
        page.wait_for_timeout(2000)
        expect(told).to_contain_text("Nothing is selected")
        assert page.evaluate(MARKED, plot.element_handle()) == -1
        expect(opened.panel.get_by_role("alert")).to_have_count(0)
        opened.no_mishaps()
