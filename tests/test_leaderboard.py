"""The table of measurements: nothing is run twice, nothing of it is lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab import leaderboard, models
from tests.synthetic import chain_log


@pytest.fixture
def chained(monkeypatch: pytest.MonkeyPatch) -> None:
    """`load` gives a small log, whatever the name."""
    monkeypatch.setattr(leaderboard, "load", lambda name: dataclasses.replace(chain_log(), name=name))


def test_a_row_per_system_and_seed_with_interval_and_provenance(chained: None, tmp_path: Path) -> None:
    table, _ = leaderboard.complete(
        ["popularity", "markov"], "chains", [0, 1], tmp_path / "table.csv", tmp_path / "runs"
    )
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
    leaderboard.add([row | {"ndcg@10": 0.99}], path)
    table = leaderboard.read(path)
    assert len(table) == 2 and table["ndcg@10"].max() == 0.99
    assert not list(tmp_path.glob("*.new"))


def test_a_row_for_every_choice_that_differs(chained: None, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs", {"gaps": "1"})
    table, _ = leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs", {"gaps": "1"}, seen_filter=True)
    assert len(table) == 3 and len(list((tmp_path / "runs" / "chains").iterdir())) == 3
    assert sorted(table["seen_filter"]) == [False, False, True]
    with pytest.raises(ValueError, match="markov has no setting 'gap'"):
        leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs", {"gap": "1"})


def test_a_row_from_before_a_setting_existed_stands_for_its_default(
    chained: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    table, _ = leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    for column, name in (("settings", "discount"), ("options", "validate_every")):
        kept = json.loads(table.loc[0, column])
        del kept[name]
        table.loc[0, column] = json.dumps(kept)
    table.to_csv(path, index=False)
    monkeypatch.setattr(leaderboard, "fit", lambda *anything, **named: pytest.fail("it was run again"))
    again, _ = leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    assert len(again) == 1 and json.loads(again.loc[0, "settings"])["discount"] == 0.8
    assert json.loads(again.loc[0, "options"])["validate_every"] == 1


def test_arms_are_told_apart_and_compared_with_one_of_them_user_by_user(chained: None, tmp_path: Path) -> None:
    arms, where = ["markov", "markov:gaps=1", "popularity"], (tmp_path / "table.csv", tmp_path / "runs")
    table, gains = leaderboard.complete(arms, "chains", [0, 1], *where, against="popularity")
    gaps = [json.loads(text).get("gaps", 0) for text in table["settings"]]
    assert sorted(gaps) == [0, 0, 1, 1, 10, 10]
    assert gains["arm"].tolist() == ["markov", "markov", "markov:gaps=1", "markov:gaps=1"]
    found = gains.set_index(["arm", "metric"])
    rows = table[table["seed"] == 0].set_index("system")["ndcg@10"]
    assert found.loc[("markov", "ndcg@10"), "b"] == pytest.approx(rows["popularity"], abs=1e-5)
    assert (found["low"] <= found["difference"]).all() and (found["difference"] <= found["high"]).all()
    leaderboard.complete(arms[:2], "chains", [0], *where, against="markov")
    leaderboard.complete(arms, "chains", [0, 1], *where, against="popularity")  # in place of its earlier ones
    kept = leaderboard.read_gains(where[0])
    assert sorted(zip(kept["arm"], kept["against"], kept["seeds"], strict=True)) == sorted(
        2 * [("markov", "popularity", "0 1"), ("markov:gaps=1", "popularity", "0 1"), ("markov:gaps=1", "markov", "0")]
    )
    assert kept["difference"].tolist()[-4:] == pytest.approx(gains["difference"].tolist(), abs=1e-5)
    with pytest.raises(ValueError, match="'sasrec' is none of the arms"):
        leaderboard.complete(arms, "chains", [0], *where, against="sasrec")
    with pytest.raises(ValueError, match="'gaps' in 'markov:gaps' is no key=value"):
        leaderboard.complete(["markov:gaps"], "chains", [0], *where)


def test_the_words_that_tell_arms_apart_are_read_as_the_settings_they_came_from() -> None:
    chosen = [{"levels": (8, 8)}, {"levels": (16, 8, 8), "vectors": "tfidf"}, {"dense": False}]
    configs = [models.configure("recgpt", one) for one in chosen]
    words = leaderboard.told_apart([dataclasses.asdict(config) for config in configs])
    read = [dict(word.split("=") for word in one.removeprefix(":").split(":")) for one in words]
    assert [models.configure("recgpt", one) for one in read] == configs


def test_a_row_whose_run_is_gone_cannot_be_compared(chained: None, tmp_path: Path) -> None:
    where = (tmp_path / "table.csv", tmp_path / "runs")
    leaderboard.complete(["markov", "popularity"], "chains", [0], *where)
    shutil.rmtree(where[1])
    with pytest.raises(FileNotFoundError, match="take its row out of the table"):
        leaderboard.complete(["markov", "popularity"], "chains", [0], *where, against="markov")


def test_gains_stand_where_their_runs_are_gone_while_the_table_says_the_same(
    chained: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms, where = ["markov", "popularity"], (tmp_path / "table.csv", tmp_path / "runs")
    table, gains = leaderboard.complete(arms, "chains", [0, 1], *where, against="markov")
    shutil.rmtree(where[1])
    again = leaderboard.complete(arms, "chains", [0, 1], *where, against="markov")[1]
    pd.testing.assert_frame_equal(again, gains)
    with pytest.raises(FileNotFoundError, match="take its row out of the table"):
        leaderboard.complete(arms, "chains", [0], *where, against="markov")
    with monkeypatch.context() as patched, pytest.raises(FileNotFoundError, match="take its row out of the table"):
        patched.setattr(leaderboard, "fit", lambda *anything, **named: pytest.fail("it was trained first"))
        leaderboard.complete([*arms, "markov:gaps=1"], "chains", [0, 1], *where, against="markov")
    table.assign(**{"ndcg@10": table["ndcg@10"] + 1e-3}).to_csv(where[0], index=False)
    with pytest.raises(FileNotFoundError, match="take its row out of the table"):
        leaderboard.complete(arms, "chains", [0, 1], *where, against="markov")


WHOLE = (Path(__file__).parents[1] / "data" / "leaderboard.csv").read_bytes()


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_table_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{data.draw(st.sampled_from(['.csv', '.parquet']))}"
    if data.draw(st.booleans()):
        content = data.draw(st.binary(max_size=200))
    else:
        start = data.draw(st.integers(0, len(WHOLE)))
        gone, put = data.draw(st.integers(0, 400)), data.draw(st.binary(max_size=20))
        content = WHOLE[:start] + put + WHOLE[start + gone :]
    path.write_bytes(content)
    try:
        table = leaderboard.read(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert set(leaderboard.KEY) <= set(table.columns)
