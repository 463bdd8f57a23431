"""Pages escape every name and value, and hold each style sheet once."""

from __future__ import annotations

import nbformat.v4 as v4
import pytest
from bs4 import BeautifulSoup

from seqlab import figures
from seqlab.reports.pages import index_page, report_page

HOSTILE = ["<img src=x onerror=alert(1)>", "</style></script><script>alert(2)</script>", "\" '<b>", "{{ 7*7 }} {% x %}"]


def about(name: str, error: str | None) -> dict:
    words = dict.fromkeys(("name", "title", "notebook", "date", "git", "device", "python"), name)
    parameters = {name: name, "number": 1, "empty": "", "list": [name]}
    return words | {
        "ok": error is None, "error": error, "seconds": 1.0, "parameters": parameters, "given": [name],
        "versions": {name: name}, "numbers": 2, "summary": name, "headline": name, "thumbnail": "",
    }  # fmt: skip


def tags(page: str) -> list[str]:
    return [one.name for one in BeautifulSoup(page, "html.parser").find_all(True)]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_in_every_page(name: str) -> None:
    notebook = v4.new_notebook()
    for page in (
        lambda text: index_page([about(text, None), about(text, text)]),
        lambda text: report_page(notebook, about(text, text), {f"before {text}": text, text: text, "~": text}),
    ):
        shown = page(name)
        assert tags(shown) == tags(page("x"))
        assert name in BeautifulSoup(shown, "html.parser").get_text()


def test_a_page_holds_the_style_sheet_of_its_tables_once() -> None:
    markup = figures.Html("<b>{}</b>").format("words").markup
    output = v4.new_output("display_data", {"text/html": markup})
    page = report_page(v4.new_notebook(cells=[v4.new_code_cell("1", outputs=[output, output])]), about("x", None))
    assert page.count("<b>words</b>") == 2 and page.count("\n.sl table {") == 1
