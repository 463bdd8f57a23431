"""The plan of measurements and searches, derived from the cards: there is no other list of systems."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from seqlab import models
from seqlab.contracts import Card, Learns, Measurement, supports
from seqlab.datasets.split_names import current_name
from seqlab.experiments import leaderboard, plan
from seqlab.experiments.plan import Comparison
from tests.synthetic import chain_log

ROOT = Path(__file__).parents[2]


def cards(monkeypatch: pytest.MonkeyPatch, **cards: Card) -> None:
    """These systems have cards of their own, and the plan lists no others."""
    seen = SimpleNamespace(names=lambda: list(cards), card=lambda name: cards.get(name) or models.card(name))
    monkeypatch.setattr(plan, "models", seen)


def test_every_arm_of_the_plan_has_settings_that_are_valid() -> None:
    for arm in {arm for one in plan.comparisons() for arm in one.arms} | {arm for arm, *_ in plan.tunings()}:
        system, *words = arm.split(":")
        given = dict(word.split("=") for word in words)
        settings, options = models.separate(system, given)
        assert {*settings, *options} == {*given}, arm


def test_every_stored_gain_is_measured_by_a_card() -> None:
    kept = leaderboard.read_gains(ROOT / "data" / "leaderboard.csv")
    measured = {(one.dataset, current_name(one.split), one.seen_filter, " ".join(map(str, one.seeds)), one.against, arm)
             for one in plan.comparisons() for arm in one.arms}  # fmt: skip
    columns = ["dataset", "split", "seen_filter", "seeds", "against", "arm"]
    assert len(kept) and {*kept[columns].itertuples(index=False, name=None)} <= measured


def test_the_makefile_names_no_system() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert not [name for name in models.names() if re.search(rf"\b{name}\b", makefile)]


def test_a_card_without_measurements_is_measured_on_its_homes_against_its_controls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cards(
        monkeypatch,
        markov=Card("A floor.", controls=("popularity", "swing"), homes=("ml-1m", "complete-journey"), seeds=(3, 4)),
    )
    assert plan.comparisons() == [
        Comparison("ml-1m", "leave-one-out", True, (3, 4), "popularity", ("popularity", "markov")),
        Comparison("ml-1m", "leave-one-out", True, (3, 4), "swing", ("swing", "markov")),
        Comparison("complete-journey", "leave-one-out", False, (3, 4), "popularity", ("popularity", "markov")),
        Comparison("complete-journey", "leave-one-out", False, (3, 4), "swing", ("swing", "markov")),
    ]
    cards(monkeypatch, markov=Card("A floor."))
    assert plan.comparisons() == [Comparison("complete-journey", "leave-one-out", False, (0,), None, ("markov",))]


def test_arms_with_one_control_under_one_protocol_are_measured_together(monkeypatch: pytest.MonkeyPatch) -> None:
    more = Measurement(arms=("markov", "markov:short:gaps=2"), against=("popularity", "markov"), seen_filter=True)
    cards(monkeypatch,
          markov=Card("A floor.", homes=("ml-1m",), named={"short": "max_length=1"}, measured=(more,)),
          swing=Card("A floor.", homes=("complete-journey", "ml-1m"), controls=("popularity",)))  # fmt: skip
    assert plan.comparisons() == [
        Comparison(
            "ml-1m",
            "leave-one-out",
            True,
            (0,),
            "popularity",
            ("popularity", "markov", "markov:max_length=1:gaps=2", "swing"),
        ),
        Comparison("ml-1m", "leave-one-out", True, (0,), "markov", ("markov", "markov:max_length=1:gaps=2")),
        Comparison("complete-journey", "leave-one-out", False, (0,), "popularity", ("popularity", "swing")),
    ]


def test_a_name_that_is_on_no_card_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan.expand_names("sasrec:brief:epochs=20") == "sasrec:dropout=0.0156:learning_rate=0.00248:epochs=20"
    with pytest.raises(ValueError, match="'sasrec:breif': 'breif' is no key=value, and no name on the card of sasrec"):
        plan.expand_names("sasrec:breif")


def test_missing_runs_are_measured_and_then_none_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plan, leaderboard):
        monkeypatch.setattr(module, "load", lambda name: dataclasses.replace(chain_log(), name=name))
    cards(monkeypatch, markov=Card("A floor.", controls=("popularity",), seeds=(0, 1)))
    (tmp_path / "claims.csv").write_text("system,found\nmarkov,It is.\n")
    where = tmp_path / "leaderboard.csv", tmp_path / "runs"
    assert plan.missing(*where) == [
        f"complete-journey, seen items kept: {arm} seed {seed}" for arm in ("popularity", "markov") for seed in (0, 1)
    ]
    plan.complete(tmp_path)
    assert plan.missing(*where) == []
    page = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "| markov | A floor. |  | It is. |" in page and "| `markov` | `popularity` | 0, 1 |" in page


def test_an_interrupted_training_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = leaderboard.Plan.train_or_load
    monkeypatch.setattr(
        leaderboard.Plan, "train_or_load", lambda *about: dataclasses.replace(made(*about), interrupted=True)
    )
    monkeypatch.setattr(leaderboard, "load", lambda name: dataclasses.replace(chain_log(), name=name))
    cards(monkeypatch, markov=Card("A floor."))
    with pytest.raises(KeyboardInterrupt):
        plan.complete(tmp_path)


def test_every_trained_system_is_tuned_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def tune(arm: str, dataset: str, space: dict, trials: int, **rest):
        calls.append((arm, dataset, rest["split_name"], rest["seen_filter"], trials, space))
        return plan.tuning.TuningResult(arm, "[x]", None, None)

    monkeypatch.setattr(plan.tuning, "tune", tune)
    plan.tune(5, tmp_path, echo=lambda line: None)
    assert {name.split(":")[0] for name, *_ in calls} == {
        name for name in models.names() if supports(models.system(name), Learns)
    }
    assert [one[:4] for one in calls] == plan.tunings() and all(one[4:] == (5, plan.SPACE) for one in calls)
