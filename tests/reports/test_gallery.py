"""The gallery: a card per system, with a still that is drawn offline."""

from __future__ import annotations

from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from seqlab import models
from seqlab.reports import gallery

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gallery of three systems, beside the page of a notebook."""
    out = tmp_path_factory.mktemp("reports")
    (out / "03_attention_and_memory.html").write_text("")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "names", lambda: ["dare", "personal_frequency", "sasrec"])
        return gallery.make(out, lambda line: None)


def test_a_card_says_what_a_system_is_and_what_was_found(page: Path) -> None:
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    cards = {card["id"]: card for card in soup.find_all(class_="system")}
    assert set(cards) == {"dare", "personal_frequency", "sasrec"}
    words = " ".join(cards["sasrec"].get_text().split())
    for part in ("A causal Transformer", "Self-attention beats Markov chains", "Held on amazon-beauty",
                 "models/encoders/sasrec.py", "complete-journey: ndcg@10", "trained in "):  # fmt: skip
        assert part in words, part
    assert cards["sasrec"].find("a", href="03_attention_and_memory.html")
    assert cards["sasrec"].find(class_="figure")  # drawn by plotly.js
    assert cards["personal_frequency"].find("table")  # HTML
    assert "seqlab fit dare --dataset ml-1m" in cards["dare"].get_text()  # no trained run comes with the project


@pytest.mark.browser
def test_its_figures_are_drawn_offline(page: Path, offline) -> None:
    opened = offline(page)
    opened.page.locator("#sasrec").scroll_into_view_if_needed()
    opened.page.wait_for_selector("#sasrec .js-plotly-plot .main-svg")
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("name", "view"),
    [("sasrec", "AttentionView"), ("tiger", "BeamSteps"), ("rearec", "ReasoningSteps"), ("mamba4rec", "EventWeights"),
     ("neural_tpp", "IntensityOverTime"), ("complements", "RelatedItems"), ("popularity", "Why")],
)  # fmt: skip
def test_the_picture_is_the_most_particular_view_that_fits(name: str, view: str) -> None:
    model = models.build(name, 4, models.module(name).TINY)
    assert gallery._telling(model).__name__ == view


def test_the_readme_has_the_first_rows() -> None:
    text = README.read_text(encoding="utf-8")
    assert gallery.rows_markdown() in text
    assert all((README.parent / "notebooks" / f"{name}.png").is_file() for name in gallery.PICTURES.values())
