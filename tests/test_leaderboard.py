"""The table of measurements: nothing is run twice, nothing of it is lost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from seqlab import leaderboard
from tests.synthetic import chain_log


@pytest.fixture
def chained(monkeypatch: pytest.MonkeyPatch) -> None:
    """`load` gives a small log, whatever the name."""
    monkeypatch.setattr(leaderboard, "load", lambda name: dataclasses.replace(chain_log(), name=name))


def test_a_row_per_system_and_seed_with_interval_and_provenance(chained: None, tmp_path: Path) -> None:
    table = leaderboard.complete(["popularity", "markov"], "chains", [0, 1], tmp_path / "table.csv", tmp_path / "runs")
    assert sorted(zip(table["system"], table["seed"], strict=True)) == [
        ("markov", 0), ("markov", 1), ("popularity", 0), ("popularity", 1),
    ]  # fmt: skip
    assert (table["ndcg@10 low"] <= table["ndcg@10"]).all() and (table["ndcg@10"] <= table["ndcg@10 high"]).all()
    assert table[["date", "torch", "device", "settings", "options"]].notna().all().all()
    assert table["ndcg@10"].is_monotonic_decreasing


def test_what_is_in_the_table_is_not_run_again(chained: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    before = path.read_bytes()
    monkeypatch.setattr(leaderboard, "fit", lambda *anything, **named: pytest.fail("it was run again"))
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    assert path.read_bytes() == before


def test_rows_of_other_runs_survive_and_the_same_run_replaces_its_row(chained: None, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    leaderboard.complete(["popularity", "markov"], "chains", [0], path, tmp_path / "runs")
    row = pd.read_csv(path).iloc[0].to_dict()
    leaderboard.add(row | {"ndcg@10": 0.99}, path)
    table = leaderboard.read(path)
    assert len(table) == 2 and table["ndcg@10"].max() == 0.99
    assert not list(tmp_path.glob("*.new"))


def test_a_row_for_every_choice_that_differs(chained: None, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs", {"gaps": "1"})
    table = leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs", {"gaps": "1"}, seen_filter=True)
    assert len(table) == 3 and len(list((tmp_path / "runs" / "chains").iterdir())) == 3
    assert sorted(table["seen_filter"]) == [False, False, True]
    with pytest.raises(ValueError, match="markov has no setting 'gap'"):
        leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs", {"gap": "1"})


def test_a_row_from_before_a_setting_existed_stands_for_its_default(
    chained: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    table = leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    for column, name in (("settings", "decay"), ("options", "validate_every")):
        kept = json.loads(table.loc[0, column])
        del kept[name]
        table.loc[0, column] = json.dumps(kept)
    table.to_csv(path, index=False)
    monkeypatch.setattr(leaderboard, "fit", lambda *anything, **named: pytest.fail("it was run again"))
    again = leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    assert len(again) == 1 and json.loads(again.loc[0, "settings"])["decay"] == 0.8
    assert json.loads(again.loc[0, "options"])["validate_every"] == 1
