"""Every template escapes: a hostile name stays text wherever it is shown."""

import ast
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

import seqlab
from seqlab import figures
from seqlab.evaluation import Metric
from seqlab.figures import html
from seqlab.figures.histories import Measure

PACKAGE = Path(seqlab.__file__).parent
HOSTILE = [
    "<img src=x onerror=alert(1)>", "</style></table><script>alert(2)</script>", "' onmouseover='alert(3)' \" x=\"",
    "{{ 7*7 }} {% raw %} {# no comment #}", "&lt;b&gt; &amp;", "%s {} {0} %(name)s",
]  # fmt: skip


def standings(name):
    row = {"kind": "trained", "seeds": 2, "parameters": 5, "seconds": 1.5, "milliseconds": float("nan")}
    ends = {"": 0.2, " low": 0.1, " high": 0.3, " difference": 0.1, " difference low": 0.05, " difference high": 0.2}
    row |= {f"{name}{end}": value for end, value in ends.items()}
    rows = [{"system": name, **row}, {"system": "other", **row}, {"system": "number", **row, "kind": "number"}]
    return figures.standings(pd.DataFrame(rows), [Metric(name, higher=False)], name, buttons=True, pick=True)


def group_differences(name):
    sides = {f"{side}{end}": 0.1 for side in "ab" for end in ("", " low", " high")}
    row = {"slice": name, "group": name, "users": 3, "difference": 0.1, "low": -0.1, "high": 0.2}
    return figures.group_differences(pd.DataFrame([row | sides]), name, name, Metric(name), buttons=True)


def user_differences(name):
    row = {"user": 1, "name": name, "history_length": 3, "title": name, "a": 1.5, "b": 20.0, "difference": 0.1}
    return figures.user_differences(pd.DataFrame([row]), name, name, Metric(f"{name}@10"), picked=1, buttons=True)


def code_tree(name):
    frame = pd.DataFrame({"level 0": [0, 0, 1], "level 1": [0, 1, 0], "title": name, "group": name, "there": 2})
    return figures.code_tree(frame, {(0,): name}, group=name, other=name, selected=np.array([1]), buttons=True)


def logit_lens(name):
    place = {"step": [0, 0], "layer": [0, 1], "rank": [1, 1], "probability": [0.2, 0.5]}
    top, watch = pd.DataFrame(place | {"item": [1, 2]}), pd.DataFrame(place)
    return figures.logit_lens(top, watch, [name, name], ["", name, name], watched=1, clickable=True)


def claim():
    row = {"method": "in_in", "measure": "lift", "value": 2.0, "difference": 0.5}
    return pd.DataFrame([row | {"difference_low": 0.1, "difference_high": 0.9}])


def user_cards(name):
    card = {"user": name, "history": [name], "earlier": 3, "recommended": [name], "hit": 1, "answer": name}
    return figures.user_cards([card | {"rank": 2.5, "of": 10, "seen": True}])


SHOWN = {
    "code_tree": code_tree,
    "dropped_events": lambda name: figures.dropped_events([name, name], [1]),
    "event_measures": lambda name: figures.event_measures([name], [Measure(name, name, {0: 0.5})], 0),
    "group_differences": group_differences,
    "headline": lambda name: html.render("headline.html.j2", text=name, kind="look", mark="x"),
    "logit_lens": logit_lens,
    "neighbours": lambda name: figures.neighbours(name, {name: [(name, 0.5, True)]}),
    "related_items": lambda name: figures.related_items(name, name, {name: [(name, 0.5, name, True)]}),
    "relatedness_verdict": lambda name: figures.relatedness_verdict(claim(), {"in_in": name}),
    "smells": lambda name: figures.smells(
        pd.DataFrame([(name, 0.5, name, name)], columns=["smell", "value", "verdict", "sentence"])
    ),
    "standings": standings,
    "table": lambda name: figures.table(pd.DataFrame({"n": [1], name: [name]})),
    "top_tens": lambda name: figures.top_tens({name: pd.DataFrame({"rank": [1], "title": [name]})}),
    "user_cards": user_cards,
    "user_differences": user_differences,
    "verdicts": lambda name: figures.verdicts(
        pd.DataFrame(
            [{"claim": name, "about": name, "verdict": "holds", "value": 0.1, "low": 0.0, "high": 0.2, "reason": name}]
        )
    ),
}
"""Template -> its HTML with a name everywhere where data are shown."""


def elements(shown):
    """The elements of HTML and their attributes' names, in order, and its words."""
    page = BeautifulSoup(shown.markup, "html.parser")
    return [(one.name, sorted(one.attrs)) for one in page.find_all(True)], page.get_text(" ", strip=True)


def test_every_template_is_tried() -> None:
    parts = {"comparison.html.j2", "style.css.j2", "downloadable.html.j2", "downloads.html.j2", "downloads.js.j2",
             "saved.html.j2"}  # fmt: skip
    assert {f"{name}.html.j2" for name in SHOWN} == {path.name for path in html.TEMPLATES.iterdir()} - parts


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("template", SHOWN)
def test_a_hostile_name_is_text_in_every_template(template, name) -> None:
    made, words = elements(SHOWN[template](name))
    assert made == elements(SHOWN[template]("x"))[0]
    assert re.sub(r"\s+", " ", name)[:20] in words


def test_a_line_of_text_has_no_direction_marks_and_a_card_its_rank() -> None:
    assert html.text("a\nb\u202ec") == "<bdi>a bc</bdi>" and html.text("x" * 99, 3) == "<bdi>xx…</bdi>"
    assert "rank 2.5 of 10" in user_cards("x")


def test_text_put_into_html_is_escaped() -> None:
    part = figures.Html("<b>{}</b>").format(HOSTILE[0])
    assert part == "<b>&lt;img src=x onerror=alert(1)&gt;</b>" and isinstance(part, figures.Html)
    assert part + HOSTILE[0] == part + figures.Html("&lt;img src=x onerror=alert(1)&gt;")
    assert figures.Html(" ").join([part, "<i>"]) == f"{part} &lt;i&gt;"
    assert part.markup.count("<style>") == 1 and part._repr_html_().startswith(f"{part.markup}<script")
    assert "Html(" in repr(part)


def modules():
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))]


def test_html_is_made_of_constants_alone() -> None:
    """Neither an f-string with tags nor `Html` or `Markup` of anything but a constant; templates are the other way."""
    tags = re.compile(r"<(a|code|details|div|h\d|li|ol|p|pre|section|style|svg|table|td|th|tr|ul)[ >]")
    wrong = []
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                constants = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
                wrong += [f"{path.name}:{node.lineno}"] * bool(tags.search(constants))
            name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if name in ("Html", "Markup") and path != Path(html.__file__):
                wrong += [f"{path.name}:{node.lineno}"] * (not isinstance(node.args[0], ast.Constant))
    assert not wrong


def test_what_templates_do_not_escape_is_listed() -> None:
    safe = {
        (path.name, one)
        for path in PACKAGE.rglob("templates/*.j2")
        for one in re.findall(r"(\w+) *\| *safe|autoescape", path.read_text(encoding="utf-8"))
    }
    plotly = {("report.html.j2", "plotly"), ("saved.html.j2", "plotly"), ("gallery.html.j2", "figure")}
    notebook = {("report.html.j2", name) for name in ("heading", "verdict", "cells")}  # of its cells, prose sanitized
    assert safe == {*notebook, ("style.css.j2", "FONT"), *plotly}


def test_short_names_are_not_broken_inside_a_word() -> None:
    facts = pd.DataFrame({"fact": ["peak_memory_mb"], "value": ["x" * 400]})
    assert "class='names'" in figures.table(facts)
    assert "class='names'" not in figures.table(facts[["value"]])
    assert "class='names'" not in figures.table(pd.DataFrame({"number": [1.5]}))
