"""The browser rig itself: a widget in a real JupyterLab answers to mouse and keyboard."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.browser

CELL = """
import ipywidgets
choice = ipywidgets.Dropdown(options=["one", "two"], description="which")
message = ipywidgets.HTML()
choice.observe(lambda change: setattr(message, "value", f"picked {change.new}"), "value")
ipywidgets.VBox([choice, message])
"""


def test_a_dropdown_answers(lab, notebook) -> None:
    from playwright.sync_api import expect

    with lab.notebook(notebook("choose", CELL, kernel="ordinary")) as opened:
        opened.run_all()
        opened.panel.locator(".widget-dropdown select").select_option(label="two")
        expect(opened.panel.locator(".widget-html").last).to_have_text(re.compile("picked two"))
        opened.panel.locator(".widget-dropdown select").focus()
        opened.page.keyboard.press("o")
        expect(opened.panel.locator(".widget-html").last).to_have_text(re.compile("picked one"))
        opened.no_mishaps()


TABLES = """
import ipywidgets, pandas as pd
from IPython.display import display
from seqlab import figures
frame = pd.DataFrame({"title": ["a film", "another"], "events": [3, 12]})
display(figures.table(frame), figures.top_tens({"first": pd.DataFrame({"rank": [1.0], "title": ["a film"]})}))
ipywidgets.HTML(figures.table(frame).markup)
"""


def test_words_of_a_table_stand_left_and_numbers_right(lab, notebook) -> None:
    """As an output, whose tables JupyterLab has a style for, and in a widget."""
    with lab.notebook(notebook("tables", TABLES, kernel="python3")) as opened:
        opened.run_all()
        cells = opened.panel.locator(".jp-OutputArea .sl").locator("td, th")
        aligned = cells.evaluate_all("them => them.map(it => [it.textContent, getComputedStyle(it).textAlign])")
        numbers = {"events", "3", "12", "1"}
        assert {text for text, _ in aligned} == numbers | {"title", "a film", "another"}
        assert [text for text, side in aligned if side != ("right" if text in numbers else "left")] == []
        opened.shot("tables")
        opened.no_mishaps()
