"""Makes self-contained HTML pages, which open without a network, of executed notebooks."""

from __future__ import annotations

import base64
import copy
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.figures.html import Html, downloads, environment, plotly_html
from seqlab.figures.theme import CONFIG
from seqlab.reports import arrange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
STILL_MISSING = '<p class="still-missing">An interactive control: open the notebook in JupyterLab to use it.</p>'
CLEAR = "rgba(0,0,0,0)"
"""The background of a figure that can be read on any colour of page, as those of `seqlab.figures`."""

TEMPLATES = Path(__file__).parent / "templates"


def report_page(notebook: NotebookNode, about: Mapping[str, Any], pages: Mapping[str, str] | None = None) -> str:
    """One self-contained page of an executed notebook; `about` is the content of provenance.json.

    pages: name -> title of the pages beside it, in their order: the one before, the one after and those that its prose
    names are linked. Figures are drawn by a single copy of plotly.js in the page. A widget is shown as its still, the
    text/html beside its interactive view. Scripts and styles from other addresses are left out.
    """
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter
    from plotly.offline import get_plotlyjs
    from traitlets.config import Config

    pages = pages or {}
    notebook = _static(arrange.kept(notebook))
    kinds = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain"]
    exporter = HTMLExporter(
        template_file=str(TEMPLATES / "cells.html.j2"),
        config=Config({"NbConvertBase": {"display_data_priority": kinds}, "HTMLExporter": {"embed_images": True}}),
        filters={"clean_prose": _sanitized},
        exclude_anchor_links=True,
    )
    resources = {"metadata": {"name": about["name"], "path": about.get("folder", "")}}
    cells, _ = exporter.from_notebook_node(notebook, resources)
    soup = BeautifulSoup(cells, "html.parser")
    for element in soup.find_all(["script", "link"]):
        if element.get("src") or element.get("href") or element.get("data-seqlab"):  # the page has its own
            element.decompose()
    sheets: set[str] = set()
    for element in soup.find_all("style"):
        if (sheet := str(element)) in sheets:  # every table brings the same one
            element.decompose()
        sheets.add(sheet)
    title, verdict = arrange.take_title(soup), arrange.take_headline(soup)
    arrange.join_folds(soup)
    sections = arrange.contents(soup)
    arrange.link_pages(soup, pages, about["name"])
    cells = str(soup)
    drawn = "Plotly.newPlot" in cells and not re.search(r"plotly\.js v\d", cells)
    plotly = re.sub(r"</(script)", r"<\\/\1", get_plotlyjs(), flags=re.IGNORECASE) if drawn else ""
    before, after = _neighbours(about["name"], [*pages])
    return _page(
        "report.html.j2", **about, heading=title, verdict=verdict, cells=cells,
        sections=sections if len(sections) > 1 else [], pages=pages, before=before, after=after,
        command=_command(about), plotly=plotly, plotly_config=CONFIG, downloads=downloads(),
        has_traceback='id="error"' in cells,
    )  # fmt: skip


def index_page(reports: list[dict[str, Any]], others: Mapping[str, str] | None = None) -> str:
    """The page that lists reports.

    reports: for each the content of provenance.json with `numbers`, the count of its results, `headline`, its result in
    a sentence, and `thumbnail`, an SVG; the last two may be empty. others: file -> title of further pages beside it.
    """
    failed = sum(not report["ok"] for report in reports)
    return _page("index.html.j2", title="seqlab reports", reports=reports, failed=failed, others=others or {})


def _neighbours(name: str, names: list[str]) -> tuple[str | None, str | None]:
    """The names before and after this one."""
    place = names.index(name) if name in names else -1
    if place < 0:
        return None, None
    return names[place - 1] if place else None, names[place + 1] if place + 1 < len(names) else None


def _command(about: Mapping[str, Any]) -> str:
    """The command of the shell that makes the page again."""
    words = ["seqlab", "report", about["notebook"]]
    if about["name"] != about["notebook"].removesuffix(".ipynb"):
        words += ["--name", about["name"]]
    for key in about["given"]:
        value = about["parameters"][key]
        words += ["-p", key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
    return shlex.join(words)


def _static(notebook: NotebookNode) -> NotebookNode:
    """A copy with figures as HTML for the plotly.js of the page, and without interactive widget views."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            interactive = data.pop(WIDGET, None) is not None
            data.pop("application/javascript", None)
            if PLOTLY in data:
                figure = data.pop(PLOTLY)
                kind = "clear" if figure.get("layout", {}).get("paper_bgcolor") == CLEAR else "drawn"
                data["text/html"] = str(Html("<div class='{}'>{}</div>").format(kind, plotly_html(figure)))
            elif interactive and "text/html" not in data:
                data["text/html"] = STILL_MISSING
    return notebook


def _sanitized(html: str) -> str:
    """Prose without scripts and event handlers; formatting is kept, as in JupyterLab."""
    import bleach

    tags = {
        *bleach.ALLOWED_TAGS, "p", "h1", "h2", "h3", "h4", "h5", "h6", "br", "hr", "pre", "div", "span", "img",
        "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "dl", "dt", "dd", "del", "kbd", "small",
        "sub", "sup", "figure", "figcaption", "math", "mi", "mo", "mn", "mrow", "msub", "msup", "msubsup", "mfrac",
        "msqrt", "mtext", "munder", "mover", "munderover",
    }  # fmt: skip
    attributes = {"*": ["class", "id", "title"], "a": ["href"], "img": ["src", "alt", "width"], "math": ["display"],
                  "th": ["align", "colspan"], "td": ["align", "colspan"]}  # fmt: skip
    protocols = {"http", "https", "mailto", "data"}
    return bleach.clean(html, tags=tags, attributes=attributes, protocols=protocols, strip=True)


def _page(template: str, **values: Any) -> str:
    made = environment(TEMPLATES)
    made.filters["shown"] = lambda it: it if it and isinstance(it, str) else json.dumps(it, ensure_ascii=False)
    made.filters["base64"] = lambda text: base64.b64encode(text.encode()).decode()
    return made.get_template(template).render(values)
