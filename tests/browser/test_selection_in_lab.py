"""One selection in a real JupyterLab: a lasso on the map, a branch of codes, a user; by mouse and by keyboard."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.browser

PATIENT = 30_000  # ms; the machine may have other work

PAGE = """
import ipywidgets, numpy as np, pandas as pd, torch
from seqlab import widgets
from seqlab.datasets import leave_one_out
from seqlab.datasets.log import make_log
from seqlab.tokenizers import CodeBook

random = np.random.default_rng(0)
N, U = ITEMS, USERS
kind = random.integers(0, 14, N)
vectors = (random.normal(size=(14, 8)) * 3)[kind] + random.normal(size=(N, 8))
events = pd.DataFrame({
    "user": [f"A{user:05d}" for user in np.repeat(np.arange(U), 9)],
    "item": np.concatenate([np.arange(N), random.integers(0, N, 9 * U - N)]) + 1,
    "timestamp": np.tile(np.arange(9), U),
})
title = [f"<img src=x onerror=alert(1)>Brand {one % 97} shampoo with argan oil, {one + 1} ml" for one in range(N)]
items = pd.DataFrame({"item": np.arange(N) + 1, "title": title, "shelf": [f"shelf {one}" for one in kind]})
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

MARKED = """(plot) => plot.data.slice(0, 11).every((trace) => trace.selectedpoints == null) ? -1
  : plot.data.slice(0, 11).reduce((sum, trace) => sum + (trace.selectedpoints || []).length, 0)"""
"""How many items of the map are in colour while the others are faint; -1: all are in colour."""


def lasso(page: object, plot: object, radius: float, centre: tuple[float, float] | None = None) -> None:
    box = plot.locator(".nsewdrag").bounding_box()
    x, y = centre or (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(x - radius, y - radius)
    page.mouse.down()
    for right, down in ((1, -1), (1, 1), (-1, 1), (-1, -0.9)):
        page.mouse.move(x + right * radius, y + down * radius, steps=4)
    page.wait_for_timeout(800)  # a browser without a GPU is still drawing the way of the lasso
    page.mouse.up()


def click_branch(shown: Lab, index: int) -> None:
    box = shown.tree.locator("button.branch").nth(index).bounding_box()
    shown.page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)


def number(text: str) -> int:
    return int(re.search(r"[\d,]+", text)[0].replace(",", ""))


class Lab:
    """The page with its four views, and what they say."""

    def __init__(self, opened: object) -> None:
        self.opened, self.page = opened, opened.page
        panels = opened.panel.locator(".jp-OutputArea .seqlab-panel")
        self.status, self.map, self.tree, self.users = (panels.nth(at) for at in range(4))
        self.sentence = self.status.locator(".sl")
        self.plot = self.map.locator(".js-plotly-plot")
        self.branches = self.tree.locator(".widget-select select").first
        self.listed = self.users.locator(".widget-select select")

    def says(self, view: object, words: str | re.Pattern) -> None:
        from playwright.sync_api import expect

        expect(view).to_contain_text(words, timeout=PATIENT)

    def in_colour(self, count: int) -> None:
        """The map comes to have that many items in colour, the others faint; -1: all in colour."""
        self.page.wait_for_function(
            f"(plot) => ({MARKED})(plot) === {count}", arg=self.plot.element_handle(), timeout=PATIENT
        )

    def agrees(self) -> int:
        """All views show the same selection; the items in it."""
        self.opened.idle()
        sentence = self.sentence.inner_text()
        users = re.search(r"seen by ([\d,]+) user", sentence)
        items = number(re.sub(r"User A\d+", "", sentence))
        self.in_colour(items)
        if users:  # a user that was picked in the list leaves the list as it is
            self.says(self.users, f"{users[1]} users of the selection")
        if "the whole tree" in self.tree.inner_text():
            of = [int(n.replace(",", "")) for n in re.findall(r", ([\d,]+) of [\d,]+ selected", self.branch_list())]
            assert sum(of) == items
        return items

    def nothing(self) -> None:
        self.says(self.status, "Nothing is selected")
        self.in_colour(-1)
        self.says(self.users, "users with a test query")
        assert self.tree.locator(".branch .share").count() == 0
        assert "selected" not in self.branch_list()

    def branch_list(self) -> str:
        return "\n".join(self.branches.locator("option").all_inner_texts()).replace("\xa0", " ")

    def tab(self, name: str) -> None:
        """The Tab key leads to the control of this name (what is written on or in it, or its kind)."""
        self.page.keyboard.press("Tab")
        focused = self.page.evaluate(
            "() => { const at = document.activeElement; return [at.tagName, at.innerText, at.placeholder].join(' ') }"
        )
        assert name in focused, focused


@pytest.fixture
def shown(lab, notebook):
    """The page of a small catalogue, drawn and idle."""
    with selection_page(lab, notebook, 1_210, 2_236) as shown:
        yield shown


@contextmanager
def selection_page(lab, notebook, items: int, users: int):
    """The page of a catalogue of this size, drawn and idle."""
    from playwright.sync_api import expect

    cells = f"ITEMS, USERS = {items}, {users}", PAGE, "page"
    with lab.notebook(notebook("selection", *cells, kernel="python3"), width=1300, height=2400) as opened:
        opened.run_all()
        shown = Lab(opened)
        expect(shown.plot.locator(".legendtext").first).to_have_text(re.compile("shelf"), timeout=60_000)
        expect(shown.tree).to_contain_text(f"All {items:,}", timeout=60_000)
        shown.says(shown.status, "Nothing is selected")
        shown.status.scroll_into_view_if_needed()
        opened.idle()
        yield shown
        expect(opened.panel.get_by_role("alert")).to_have_count(0)
        opened.no_mishaps()


def test_one_selection_by_mouse_and_by_keyboard(shown) -> None:
    from playwright.sync_api import expect

    page, plot, status, idle = shown.page, shown.plot, shown.status, shown.opened.idle

    # a lasso by mouse, one inside the other: map -> tree and users
    for radius in (90, 70):
        before = shown.sentence.text_content()
        lasso(page, plot, radius)
        expect(shown.sentence).not_to_have_text(before, timeout=PATIENT)  # else it is of the last selection
        shown.says(status, "seen by")
        shown.agrees()
        shown.says(shown.tree.locator(".branch .share").first, "%")
    shown.opened.shot("selection_lasso")

    # a branch by mouse: tree -> map and users
    click_branch(shown, 2)
    shown.says(status, "of branch (")
    shown.agrees()
    shown.opened.shot("selection_branch")

    # a user by mouse: list -> map and tree
    shown.listed.select_option(index=1)
    shown.says(status, re.compile(r"User A\d+ and the \d+ items"))
    shown.in_colour(int(re.search(r"the (\d+) items", status.inner_text())[1]))
    shown.opened.shot("selection_user")

    # a lasso selects whatever came before: after one around nothing, after Clear, after a double click
    box = plot.locator(".nsewdrag").bounding_box()
    corner = (box["x"] + 25, box["y"] + 25)
    lasso(page, plot, 80)
    shown.says(status, "seen by")  # before, it was a user
    items = shown.agrees()
    lasso(page, plot, 12, corner)
    shown.nothing()
    lasso(page, plot, 80)
    shown.says(status, f"{items:,} items, seen by")
    assert shown.agrees() == items
    status.get_by_role("button", name="Clear selection").click()
    shown.nothing()
    lasso(page, plot, 80)
    shown.says(status, f"{items:,} items, seen by")
    assert shown.agrees() == items
    page.mouse.click(*corner)  # beside all dots: nothing happens
    page.wait_for_timeout(500)
    assert shown.agrees() == items
    page.mouse.dblclick(*corner)
    shown.nothing()
    lasso(page, plot, 60)
    shown.says(status, "seen by")
    assert 0 < shown.agrees() < items

    # what is marked outlives another colour
    marked = shown.agrees()
    shown.map.locator(".widget-dropdown select").select_option(label="training events")
    shown.map.locator(".cbtitle").first.wait_for(timeout=PATIENT)
    idle()
    shown.in_colour(marked)
    lasso(page, plot, 100)
    expect(status).not_to_contain_text(f"{marked:,} items, seen by", timeout=PATIENT)
    assert shown.agrees() > marked


def test_the_keyboard_reaches_everything(shown) -> None:
    from playwright.sync_api import expect

    page, status, idle = shown.page, shown.status, shown.opened.idle
    found = shown.map.locator(".widget-select select")

    # the map: search, choose, select
    shown.map.get_by_placeholder("part of a title").focus()
    page.keyboard.type("brand 3 shampoo")
    shown.tab("SELECT")
    shown.says(found.locator("option").first, "Brand 3 shampoo")
    page.keyboard.press("ArrowDown")
    shown.says(shown.map, "by cosine")
    shown.tab("BUTTON Select")
    page.keyboard.press("Enter")
    shown.says(status, "1 item, seen by")
    shown.tab("BUTTON Add")
    shown.tab("BUTTON Select with neighbours")
    page.keyboard.press("Space")
    shown.says(status, "11 items, seen by")
    assert shown.agrees() == 11

    # the tree: into a branch, and one code back
    up = shown.tree.get_by_role("button", name="One code back")
    up.focus()
    shown.tab("SELECT")
    page.keyboard.press("ArrowDown")
    shown.says(status, re.compile(r"of branch \(\d+\)"))
    idle()
    page.keyboard.press("ArrowDown")
    shown.says(status, re.compile(r"of branch \(\d+, \d+\)"))
    idle()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    shown.says(status, re.compile(r"of branch \(\d+\)"))
    branches = shown.tree.locator("button.branch")
    branches.first.focus()
    page.keyboard.press("Enter")
    shown.says(status, re.compile(r"of branch \(\d+, \d+\)"))
    expect(branches.and_(page.locator(":focus"))).to_have_count(1)  # who came by keyboard goes on by it
    branch = shown.agrees()

    # the list of users: search, sort, pick
    shown.users.get_by_placeholder("part of a user id").focus()
    page.keyboard.type("1")
    shown.tab("SELECT")
    page.keyboard.press("ArrowDown")
    shown.tab("SELECT")
    idle()
    page.keyboard.press("ArrowDown")
    shown.says(status, re.compile(r"User A\d*1\d* and the"))
    shown.opened.shot("selection_keyboard")

    # the selection: back, and to nothing
    status.get_by_role("button", name="Undo selection").focus()
    page.keyboard.press("Space")
    shown.says(status, "of branch (")
    assert shown.agrees() == branch
    shown.tab("Clear selection")
    page.keyboard.press("Enter")
    shown.says(status, "Nothing is selected")
    shown.in_colour(-1)
