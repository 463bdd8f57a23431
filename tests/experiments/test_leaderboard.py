"""The leaderboard: no run is repeated, no row is lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab import models, presets
from seqlab.datasets import leave_one_out
from seqlab.experiments import leaderboard, rows
from seqlab.experiments.arm_names import differing_settings
from seqlab.optimization import options
from seqlab.optimization.options import Options
from seqlab.runs import identity
from seqlab.training import fit
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


def test_a_run_in_the_table_is_not_repeated(chained: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    before = path.read_bytes()
    monkeypatch.setattr(leaderboard, "fit", lambda *anything, **named: pytest.fail("it was trained again"))
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


def test_a_row_for_every_setting_and_protocol_that_differs(chained: None, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs", {"gaps": "1"})
    shown, _ = leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs", {"gaps": "1"}, seen_filter=True)
    table = leaderboard.read(path)
    assert len(shown) == 1 and len(table) == 3 and len(list((tmp_path / "runs" / "chains").iterdir())) == 3
    assert sorted(table["seen_filter"]) == [False, False, True]
    with pytest.raises(ValueError, match="markov has no setting 'gap'"):
        leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs", {"gap": "1"})


def test_other_data_of_the_same_name_get_their_own_rows(tmp_path: Path) -> None:
    path, shown = tmp_path / "table.csv", []
    for week, seed in ((1, 0), (2, 1)):
        file = tmp_path / f"week{week}" / "log.csv"
        file.parent.mkdir()
        chain_log(seed, users=40 + week).events.to_csv(file, index=False)
        shown.append(leaderboard.complete(["popularity"], str(file), [0], path, tmp_path / "runs")[0])
    assert [table["users"].tolist() for table in shown] == [[41], [42]]
    assert len(leaderboard.read(path)) == 2 and len(list((tmp_path / "runs" / "log").iterdir())) == 2


@pytest.mark.parametrize("name", ["007", "NA", "12e34"])
def test_the_name_of_a_dataset_may_look_like_a_number(name: str, tmp_path: Path) -> None:
    chain_log().events.to_csv(tmp_path / f"{name}.csv", index=False)
    where = [tmp_path / "table.csv", tmp_path / "runs"]
    for _ in range(2):
        leaderboard.complete(["popularity", "markov"], str(tmp_path / f"{name}.csv"), [0], *where, against="markov")
    assert leaderboard.read(where[0])["dataset"].tolist() == [name] * 2
    assert {*leaderboard.read_gains(where[0])["dataset"]} == {name}


def test_a_run_is_found_by_its_identity_and_not_by_its_folder(
    chained: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaderboard.complete(["markov"], "chains", [0], tmp_path / "first.csv", tmp_path / "runs")
    (folder,) = (tmp_path / "runs" / "chains").iterdir()
    folder.rename(folder.with_name("markov-0-named-otherwise"))
    stored = json.loads((folder.with_name("markov-0-named-otherwise") / "provenance.json").read_text())
    del stored["options"]["validate_users"]  # an option that came later
    (folder.with_name("markov-0-named-otherwise") / "provenance.json").write_text(json.dumps(stored))
    monkeypatch.setattr(fit, "_train", lambda *anything: pytest.fail("it was trained again"))
    table, _ = leaderboard.complete(["markov"], "chains", [0], tmp_path / "second.csv", tmp_path / "runs")
    assert table["seed"].tolist() == [0]


def test_a_new_option_renames_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    split = leave_one_out(chain_log())
    one = leaderboard.plan("sasrec:dim=16:epochs=3", split, 1, Path("runs"), {})
    later = dataclasses.make_dataclass("Options", [("fresh", int, 5)], bases=(Options,), frozen=True, kw_only=True)
    for module in (identity, presets, options):
        monkeypatch.setattr(module, "Options", later)
    again = leaderboard.plan("sasrec:dim=16:epochs=3", split, 1, Path("runs"), {})
    assert again.options.fresh == 5 and again.folder == one.folder
    other = leaderboard.plan("sasrec:dim=16:epochs=3:fresh=6", split, 1, Path("runs"), {})
    assert other.folder != one.folder


def test_a_row_older_than_a_setting_has_its_default(
    chained: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    table = leaderboard.read(path)
    for column, name in (("settings", "discount"), ("options", "validate_every")):
        kept = json.loads(table.loc[0, column])
        del kept[name]
        table.loc[0, column] = json.dumps(kept)
    table.to_csv(path, index=False)
    monkeypatch.setattr(leaderboard, "fit", lambda *anything, **named: pytest.fail("it was trained again"))
    again, _ = leaderboard.complete(["markov"], "chains", [0], path, tmp_path / "runs")
    assert len(again) == 1 and json.loads(again.loc[0, "settings"])["discount"] == 0.8
    assert json.loads(again.loc[0, "options"])["validate_every"] == 1


def test_arms_are_distinct_and_compared_with_one_of_them_paired_by_user(chained: None, tmp_path: Path) -> None:
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


def test_the_differing_settings_of_arms_convert_to_the_same_settings() -> None:
    chosen = [{"levels": (8, 8)}, {"levels": (16, 8, 8), "vectors": "tfidf"}, {"dense": False}]
    configs = [models.configure("recgpt", one) for one in chosen]
    words = differing_settings([dataclasses.asdict(config) for config in configs])
    read = [dict(word.split("=") for word in one.removeprefix(":").split(":")) for one in words]
    assert [models.configure("recgpt", one) for one in read] == configs


def test_a_row_without_its_run_folder_cannot_be_compared(chained: None, tmp_path: Path) -> None:
    where = (tmp_path / "table.csv", tmp_path / "runs")
    leaderboard.complete(["markov", "popularity"], "chains", [0], *where)
    shutil.rmtree(where[1])
    with pytest.raises(FileNotFoundError, match="take its row out of the table"):
        leaderboard.complete(["markov", "popularity"], "chains", [0], *where, against="markov")


def test_stored_gains_replace_missing_run_folders_while_they_agree_with_the_table(
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


WHOLE = (Path(__file__).parents[2] / "data" / "leaderboard.csv").read_bytes()


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
        assert set(rows.KEY) <= set(table.columns)
