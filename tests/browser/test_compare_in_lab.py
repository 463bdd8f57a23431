"""Systems compared in a real JupyterLab: from a number to its users and back, by mouse and by keyboard alone."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.browser

PAGE = """
import dataclasses, ipywidgets, numpy as np, pandas as pd
import seqlab
from seqlab import models, widgets
from seqlab.datasets import leave_one_out
from seqlab.datasets.log import make_log

random = np.random.default_rng(0)
rows = [(f"<b>u{user}</b>", item, step) for user in range(150)
        for step, item in enumerate(random.integers(1, 31, random.integers(4, 14)))]
items = pd.DataFrame({"item": range(1, 31)})
items["title"] = [f"<img src=x onerror=alert(1)>Thing {item}" for item in items["item"]]
split = leave_one_out(make_log(pd.DataFrame(rows, columns=["user", "item", "timestamp"]), items=items, title="title",
                               repeats=True))
runs = [seqlab.fit(models.create(name, split), split) for name in ("popularity", "markov", "personal_frequency")]
runs.append(dataclasses.replace(runs[0], system="<i>shuffled</i>", outcome=dataclasses.replace(
    runs[0].outcome, frame=runs[0].outcome.frame.assign(rank=random.integers(1, 31, len(split.test)).astype(float)))))
selection, message = widgets.Selection(split), ipywidgets.HTML("nobody yet")
compared = widgets.CompareSystems(runs, split, "markov", selection=selection,
                                  on_user=lambda user: setattr(message, "value", f"user number {user}"))
page = ipywidgets.VBox([selection.view, compared.view, message])
"""


def test_from_a_number_to_a_user_and_back(lab, notebook) -> None:
    from playwright.sync_api import expect

    with lab.notebook(notebook("compare", PAGE, "page", kernel="python3"), width=1300, height=1500) as opened:
        opened.run_all()
        page, output = opened.page, opened.panel.locator(".jp-OutputArea").last
        table = output.locator(".cmp")
        expect(table).to_contain_text("<i>shuffled</i>", timeout=30_000)
        selected = output.get_by_role("status")
        plot = output.locator(".js-plotly-plot")
        expect(plot.locator(".main-svg").first).to_be_visible(timeout=30_000)
        opened.shot("08_compare_table")

        # by mouse
        output.get_by_role("button", name="ndcg@10 of popularity by groups of users").click()
        expect(output).to_contain_text("ndcg@10 of popularity beside markov, by groups of users")
        expect(plot).to_be_hidden()
        opened.shot("08_compare_groups")
        output.get_by_role("button", name="the users of: seen before").click()
        expect(selected).to_have_text(re.compile(r"\d+ users and the \d+ items seen"))
        opened.shot("08_compare_users")
        table.get_by_role("button").first.click()
        expect(output).to_contain_text("user number")
        expect(selected).to_contain_text("User <b>u")
        expect(table.get_by_role("button").first).to_have_attribute("aria-pressed", "true")
        output.get_by_role("button", name="markov is better").click()
        expect(output.get_by_role("button", name="markov is better")).to_have_attribute("aria-pressed", "true")
        for _ in range(2):
            output.get_by_role("button", name="Back").click()
        expect(plot).to_be_visible()
        output.get_by_role("button", name="popularity: select the users").click()
        expect(selected).to_have_text(re.compile(r"\d+ users and the"))

        # by keyboard: the focus goes along, so that Tab, Enter and Space are all it takes
        def focused() -> str:
            return page.evaluate("() => document.activeElement.getAttribute('data-press')")

        opened.idle()
        output.locator(".widget-dropdown select").first.focus()
        for _ in range(40):
            page.keyboard.press("Tab")
            if str(focused()).startswith("cell:"):
                break
        cell = focused()
        page.keyboard.press("Enter")
        expect(output.get_by_role("button", name="Back")).to_be_focused()
        page.keyboard.press("Tab")
        assert focused().startswith("group:")
        group = focused()
        page.keyboard.press("Space")
        expect(output.get_by_role("button", name="Back")).to_be_focused()
        for _ in range(4):
            page.keyboard.press("Tab")
        assert focused() == "user:0"
        page.keyboard.press("Enter")
        expect(table.get_by_role("button").first).to_have_attribute("aria-pressed", "true")
        expect(table.get_by_role("button").first).to_be_focused()
        for _ in range(4):
            page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        page.wait_for_function(f"() => document.activeElement.getAttribute('data-press') === '{group}'")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        page.wait_for_function(f"() => document.activeElement.getAttribute('data-press') === '{cell}'")

        # what was chosen elsewhere is a group; another reference and another cost
        output.get_by_role("button", name="Undo selection").click()
        output.get_by_role("button", name="ndcg@10 of popularity by groups of users").click()
        expect(output.get_by_role("button", name="users selected elsewhere")).to_be_visible()
        output.locator(".widget-dropdown select").first.select_option(label="popularity")
        expect(plot).to_be_visible()
        expect(output.get_by_role("button", name="ndcg@10 of popularity by groups of users")).to_have_count(0)
        output.locator(".widget-dropdown select").nth(1).select_option(index=2)
        expect(plot).to_contain_text("milliseconds per user")
        expect(output.get_by_role("alert")).to_have_count(0)
        page.evaluate("() => window.jupyterapp.commands.execute("
                      "'apputils:change-theme', { theme: 'JupyterLab Dark' })")  # fmt: skip
        page.wait_for_timeout(1500)
        opened.shot("08_compare_dark")
        opened.no_mishaps()
