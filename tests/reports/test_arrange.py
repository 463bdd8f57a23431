"""What a page leaves out, joins, lists and links."""

from __future__ import annotations

import nbformat.v4 as v4
from bs4 import BeautifulSoup

from seqlab.reports import arrange
from seqlab.reports.pages import report_page
from tests.reports.test_pages import about


def code(source: str, *outputs: str, name: str = "stdout", count: int | None = 1):
    made = [v4.new_output("stream", name=name, text=text) for text in outputs]
    return v4.new_code_cell(source, outputs=made, execution_count=count)


def prose(text: str, *tags: str):
    return v4.new_markdown_cell(text, metadata={"tags": list(tags)})


def page(*cells, pages=None, **changes) -> BeautifulSoup:
    made = about("x", None) | changes
    return BeautifulSoup(report_page(v4.new_notebook(cells=list(cells)), made, pages), "html.parser")


def words(*cells) -> str:
    return page(*cells).main.get_text()


def test_a_tagged_cell_and_an_optional_section_that_shows_nothing_are_left_out() -> None:
    cells = [
        prose("# Title"), prose("Change a value.", "remove-cell"), prose("## One\n\nOptional.", "optional-section"),
        code("one()", "only a message", name="stderr"), prose("### Below it"), prose("## Two"), code("two()", "seen"),
    ]  # fmt: skip
    shown = words(*cells)
    assert "Change" not in shown and "Optional" not in shown and "Below it" not in shown and "one()" not in shown
    assert "Two" in shown and "seen" in shown
    assert "Optional" in words(*cells[:3], code("one()", "a result"), *cells[4:])
    assert "Optional" in words(*cells[:3], code("one()", count=None), *cells[4:])  # it never ran: an error came before


def test_code_in_a_row_is_one_fold_and_messages_stand_beside_it() -> None:
    shown = page(
        prose("# Title"), code("a = 1"), code("b = 2", "epoch 1", "epoch 2", name="stderr"), code("c = 3", "result"),
        code("d = 4", "another"),
    )  # fmt: skip
    folds = shown.select("details.code")
    assert [fold.summary.get_text() for fold in folds] == ["code", "messages", "code"]
    assert [part.get_text().strip() for part in folds[0].select(".highlight")] == ["a = 1", "b = 2", "c = 3"]
    assert "epoch 1epoch 2" in folds[1].get_text().replace("\n", "")
    assert shown.get_text().index("result") < shown.get_text().index("d = 4")


def test_contents_lead_to_every_section_also_where_two_have_one_name() -> None:
    shown = page(prose("# Title"), prose("## The <b>same</b> & more"), prose("## The <b>same</b> & more\n\n### Below"))
    links = [link["href"][1:] for link in shown.select(".contents a")]
    assert len({*links}) == 3 and all(shown.find(id=link) for link in links)
    assert [link.get_text() for link in shown.select(".contents a")] == ["The same & more"] * 2 + ["Below"]
    many = page(*[prose(f"## Part {part}\n\n### Detail") for part in range(arrange.MOST_CONTENTS)])
    assert len(many.select(".contents a")) == arrange.MOST_CONTENTS


def test_the_title_stands_on_top_and_parameters_below_it() -> None:
    shown = page(code("parameters = 1"), prose("# Title\n\nProse.")).main.get_text()
    assert shown.index("Title") < shown.index("Parameters") < shown.index("parameters = 1") < shown.index("Prose")


def test_prose_and_neighbours_lead_to_the_pages_that_are_there() -> None:
    pages = {"01 a&b": "Before", "x": "This one", "03_c": "After"}
    text = (
        "# Title\n\n[there](<01 a&b.ipynb>), [none](07_none.ipynb), [me](x.ipynb), `03_c`, "
        "[out](https://example.org/z.ipynb)"
    )
    shown = page(prose(text), pages=pages)
    assert {link.get_text(): link["href"] for link in shown.select(".prose a")} == {
        "there": "01%20a%26b.html", "03_c": "03_c.html", "out": "https://example.org/z.ipynb",
    }  # fmt: skip
    assert {link["rel"][0]: link["href"] for link in shown.select(".neighbours a")} == {
        "prev": "01%20a%26b.html", "next": "03_c.html",
    }  # fmt: skip
    assert not page(prose(text)).select(".prose a[href$=html], .neighbours")


def test_the_command_that_makes_a_page_again_is_at_its_foot() -> None:
    changes = {
        "notebook": "90_report.ipynb",
        "given": ["path", "epochs"],
        "parameters": {"path": "my log", "epochs": 2},
    }
    shown = page(name="mine", **changes).footer.get_text()
    assert "seqlab report 90_report.ipynb --name mine -p path 'my log' -p epochs 2" in shown


def test_the_summary_is_the_first_sentences_below_the_title() -> None:
    notebook = v4.new_notebook(
        cells=[prose("# A *title*\n\nFirst `one`, see [there](x.ipynb). Second: yes? " + "Long. " * 60 + "\n\nLater.")]
    )
    assert arrange.summary(notebook, 60).startswith("First one, see there. Second: yes? Long.")
    assert len(arrange.summary(notebook, 60)) <= 60
    assert arrange.summary(v4.new_notebook(cells=[prose("# Only a title")])) == ""
