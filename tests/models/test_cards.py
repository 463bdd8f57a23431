"""CARD and TINY of every system, and what is derived from them: a new system needs one file and nothing else."""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from seqlab import cli, models, tasks
from seqlab.datasets import catalog, leave_one_out
from seqlab.evaluation import METRIC_NAMES
from seqlab.experiments import leaderboard_page, plan
from seqlab.experiments.leaderboard import GAIN_COLUMNS, read
from seqlab.models import baselines
from seqlab.optimization.options import Options
from seqlab.training.fit import fit
from tests.synthetic import log_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
(EXAMPLE,) = [block for block in re.findall(r"```python\n(.*?)```", README, flags=re.S) if "CARD = Card(" in block]
WITH_PAPER = EXAMPLE.replace("CARD = Card(", 'CARD = Card(title="On Toys", authors="A & B", year=2031, venue="TOY", ')
"""The README's example of a system, with a paper."""

every_system = pytest.mark.parametrize("name", models.names())


@every_system
def test_the_card_and_the_docstring_name_the_same_paper(name: str) -> None:
    card, prose = models.card(name), " ".join(models.module(name).__doc__.split())
    for fact in (card.title, card.authors, card.venue, str(card.year or "")):
        assert fact in prose
    assert bool(card.title) == bool(card.year) == bool(card.venue)
    assert card.claim.endswith(".") and "\n" not in card.claim


@every_system
def test_the_names_on_a_card_exist(name: str) -> None:
    card, known = models.card(name), {*catalog()["name"]}
    assert card.task in [one.name for one in pkgutil.iter_modules(tasks.__path__)]
    assert set(card.homes) <= known and card.seeds
    for one in (*card.measured, *card.tuned):
        assert set(one.datasets) <= known
    assert set(card.control_names) <= set(card.controls)
    for control in card.controls:
        assert plan.expand_names(control).split(":")[0] in models.names()
    assert all("=" in words and "=" not in key for key, words in card.named.items())


@every_system
def test_published_results_are_between_0_and_1_and_have_a_source(name: str) -> None:
    for one in models.card(name).published:
        assert one.values and set(one.values) <= {*METRIC_NAMES} and all(0 < value < 1 for value in one.values.values())
        assert one.source and (not one.differs or one.differs.endswith("."))


@every_system
def test_tiny_settings_are_settings_of_the_system(name: str) -> None:
    tiny = models.module(name).TINY
    config = models.configure(name, tiny)
    assert {key: getattr(config, key) for key in tiny} == tiny


def test_the_readme_shows_every_system() -> None:
    assert models.gallery_markdown() in README


@pytest.fixture
def last_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file of a system among the baselines, and nothing else."""
    (tmp_path / "last_item.py").write_text(WITH_PAPER)
    with monkeypatch.context() as patched:
        patched.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
        yield
    sys.modules.pop("seqlab.models.baselines.last_item", None)


def test_a_new_file_is_listed_and_in_the_gallery(last_item: None) -> None:
    row = models.table().set_index("system").loc["last_item"]
    assert (row["family"], row["paper"], row["year"], row["venue"]) == ("baselines", "A & B, On Toys", 2031, "TOY")
    link = "[`last_item`](seqlab/models/baselines/last_item.py)"
    assert f"| {link} | A & B, On Toys | 2031 | TOY | baselines |\n" in models.gallery_markdown()
    printed = CliRunner().invoke(cli.app, ["models"]).output
    assert re.search(r"^last_item \(baselines\)\n +Last item: .+\n +A & B, On Toys, TOY, 2031\n", printed, flags=re.M)


def test_a_new_file_is_measured_against_its_controls_on_the_default_dataset(last_item: None) -> None:
    (one,) = [one for one in plan.comparisons() if "last_item" in one.arms]
    assert (one.dataset, one.seen_filter, one.seeds, one.against) == ("complete-journey", False, (0,), "popularity")
    assert "last_item" in CliRunner().invoke(cli.app, ["plan"]).output
    assert not [arm for arm, *_ in plan.tunings() if arm == "last_item"]  # it is not trained


def test_a_new_file_has_its_claim_on_the_page(last_item: None) -> None:
    table = read(ROOT / "data" / "leaderboard.csv")
    page = leaderboard_page.page(table, pd.DataFrame(columns=GAIN_COLUMNS), {"sasrec": "Held."})
    assert "| last_item | Repeating the last item beats popularity. | popularity | Not measured yet. |\n" in page


def test_a_new_file_is_trained_and_recommends(last_item: None) -> None:
    split = leave_one_out(log_of([[1, 2, 2, 3, 3, 3], [2, 1, 1, 2, 2, 2], [3, 1, 3, 1, 1, 1]], repeats=True))
    run = fit(models.create("last_item", split, models.module("last_item").TINY), split, Options())
    assert run.metrics["test"]["recall@1"] == 1


def test_a_file_without_a_card_is_refused_by_name(last_item: None, tmp_path: Path) -> None:
    (tmp_path / "last_item.py").write_text(WITH_PAPER.replace("CARD = ", "FACTS = "))
    with pytest.raises(TypeError, match=r"seqlab\.models\.baselines\.last_item must define CARD"):
        models.table()
