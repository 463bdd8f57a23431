"""The browser rig itself: a widget in a real JupyterLab answers to mouse and keyboard."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.browser

CELL = """
import ipywidgets
choice = ipywidgets.Dropdown(options=["one", "two"], description="which")
told = ipywidgets.HTML()
choice.observe(lambda change: setattr(told, "value", f"picked {change.new}"), "value")
ipywidgets.VBox([choice, told])
"""


def test_a_dropdown_answers(lab, notebook) -> None:
    from playwright.sync_api import expect

    with lab.notebook(notebook("choose", CELL, kernel="python3")) as opened:
        opened.run_all()
        opened.panel.locator(".widget-dropdown select").select_option(label="two")
        expect(opened.panel.locator(".widget-html").last).to_have_text(re.compile("picked two"))
        opened.panel.locator(".widget-dropdown select").focus()
        opened.page.keyboard.press("o")
        expect(opened.panel.locator(".widget-html").last).to_have_text(re.compile("picked one"))
        opened.no_mishaps()
