"""One training, any decoding: the weights are measured again, and the run's own outcome stays."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest

import seqlab
from seqlab import models, tasks
from seqlab.datasets import leave_one_out
from seqlab.decoding import Decoding
from seqlab.experiments import leaderboard, sweep
from seqlab.experiments.arm_names import format_settings, rows_by_arm
from seqlab.optimization.options import Options
from seqlab.runs import evaluations
from seqlab.runs.find import load_runs, run_folder
from seqlab.runs.identity import identity, stored_decoding
from seqlab.runs.run import load_run
from seqlab.training import fit as fitting
from tests.cli.test_cli import code_of
from tests.synthetic import chain_log, log_of, small

SPLIT = leave_one_out(chain_log())
QUICK = Options(epochs=2, tokens=256, validate_every=1, validate_users=30)
SIZES = {"dim": 16, "levels": (8, 8, 8)}
BEFORE = Path(__file__).parents[1] / "runs_before"


def tiger(**decoding):
    return models.create("tiger", SPLIT, small("tiger", **SIZES, **decoding))


def files(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiger"
    return seqlab.fit(tiger(), SPLIT, QUICK, out)


@pytest.fixture
def run(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    return load_run(folder, SPLIT)


def never(monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, lambda *anything, **named: pytest.fail(f"{name} was called"))


def test_another_decoding_loads_the_weights_and_is_stored_beside_the_runs_own_outcome(run, monkeypatch):
    never(monkeypatch, fitting, "_train")
    before = files(run.folder)
    drawn = seqlab.fit(tiger(decoding="sample", draws=5), SPLIT, QUICK, run.folder, resume=True)
    assert drawn.decoding == {"decoding": "sample", "draws": 5, "temperature": 1.0, "draw_seed": 0}
    assert "decoding=sample" in repr(drawn) and "decoding=" not in repr(run)
    assert drawn.metrics["test"] != run.metrics["test"] and drawn.metrics["valid"] != run.metrics["valid"]
    assert drawn.metrics["epochs"] == run.metrics["epochs"]
    assert files(run.folder) == before
    assert load_run(run.folder, SPLIT).metrics == run.metrics and run.model.decoding.method == "beam"
    never(monkeypatch, tasks, "measure")
    again = seqlab.evaluate(load_run(run.folder, SPLIT), SPLIT, Decoding("sample", draws=5))
    assert again.outcome.frame.equals(drawn.outcome.frame) and again.metrics == drawn.metrics
    assert seqlab.fit(tiger(), SPLIT, QUICK, run.folder, resume=True).metrics == run.metrics


def test_what_a_training_learns_does_not_depend_on_its_decoding(trained, tmp_path):
    drawn = seqlab.fit(tiger(decoding="sample", draws=1), SPLIT, QUICK, tmp_path / "drawn")
    assert files(tmp_path / "drawn")["model.safetensors"] == files(trained.folder)["model.safetensors"]
    assert drawn.history[-1]["ndcg@10"] == trained.history[-1]["ndcg@10"]  # validated by the beam all the same
    assert drawn.metrics["best_epoch"] == trained.metrics["best_epoch"]
    assert stored_decoding(tmp_path / "drawn")["decoding"] == "sample"
    assert load_run(tmp_path / "drawn", SPLIT).decoding == drawn.decoding  # what was asked for is its own
    beam = seqlab.evaluate(drawn, SPLIT, Decoding())
    assert beam.metrics["test"] == trained.metrics["test"] and beam.metrics["valid"] == trained.metrics["valid"]


def test_a_beam_of_all_prefixes_ranks_as_the_exact_scores_do(run):
    exact = seqlab.evaluate(run, SPLIT, Decoding("exact"))
    wide = seqlab.evaluate(run, SPLIT, Decoding("beam", width=500))
    names = ["recall@10", "ndcg@10"]
    assert [exact.metrics["test"][name] for name in names] == pytest.approx(
        [wide.metrics["test"][name] for name in names]
    )
    assert exact.outcome.frame["rank"].nunique() >= wide.outcome.frame["rank"].nunique()


def test_an_evaluation_that_cannot_be_stored_or_read_is_measured(run, monkeypatch):
    monkeypatch.setattr(evaluations.os, "access", lambda *about: False)  # a folder that is read-only
    first = seqlab.evaluate(run, SPLIT, Decoding("exact"))
    assert not (run.folder / "evaluations").exists()
    monkeypatch.undo()
    again = seqlab.evaluate(run, SPLIT, Decoding("exact"))
    (file,) = (run.folder / "evaluations").glob("exact-*.json")
    file.write_text("{}")
    third = seqlab.evaluate(run, SPLIT, Decoding("exact"))
    assert first.metrics["test"] == again.metrics["test"] == third.metrics["test"]
    assert json.loads(file.read_text())["decoding"] == {"decoding": "exact"}


def test_a_run_in_memory_and_one_without_codes(run):
    alone = dataclasses.replace(run, folder=None)
    assert seqlab.evaluate(alone, SPLIT, Decoding("exact")).folder is None
    floor = seqlab.fit(models.create("popularity", SPLIT), SPLIT)
    assert floor.decoding == {}
    with pytest.raises(ValueError, match="popularity generates no codes"):
        seqlab.evaluate(floor, SPLIT, Decoding("beam"))


def test_a_run_from_before_is_found_by_any_width_and_keeps_its_own(tmp_path):
    for width in (20, 50):
        folder = tmp_path / SPLIT.log.name / f"tiger-0-before{width}"
        shutil.copytree(BEFORE / "tiger", folder)
        described = json.loads((folder / "config.json").read_text())
        described["config"]["width"] = width
        (folder / "config.json").write_text(json.dumps(described))
    origin = json.loads((folder / "provenance.json").read_text())
    options = Options(**origin["options"])
    settings = {key: one for key, one in described["config"].items() if key != "width"}
    for width in (20, 50, 30):
        model = models.create("tiger", SPLIT, settings | {"width": width})
        found = run_folder(tmp_path, model, SPLIT, options, origin["evaluation"]["seen_filter"])
        assert found.name == f"tiger-0-before{50 if width == 50 else 20}"
        assert stored_decoding(found)["width"] == load_run(found, SPLIT).decoding["width"] != 30
    runs, _ = load_runs(tmp_path, SPLIT, seen_filter=origin["evaluation"]["seen_filter"])
    assert sorted(run.decoding["width"] for run in runs) == [20, 50]


def test_folders_of_default_trainings_keep_their_names():
    """The hashes of version 0.1.0, which counted the width of the preset among the settings."""
    split = dataclasses.replace(SPLIT, log=dataclasses.replace(log_of([[1, 2, 3]] * 3), card="amazon-beauty"))
    wanted = {"dropout": 0.0156, "width": 50}
    for chosen in ({}, {"width": 50}, {"width": 7}, {"decoding": "sample"}):
        model = models.create("tiger", split, chosen)
        found = identity(model, Options(), split, True).non_defaults()
        assert found["settings"] == wanted
    plain = models.create("tiger", SPLIT, {"width": 9})
    assert "width" not in identity(plain, Options(), SPLIT, True).non_defaults()["settings"]


def test_arms_of_several_decodings_are_one_training(tmp_path, monkeypatch):
    monkeypatch.setattr(leaderboard, "load", lambda name: dataclasses.replace(chain_log(), name=name))
    given = small("tiger", **SIZES) | {"epochs": 1, "tokens": 256}
    arms = ["tiger", "tiger:decoding=diverse:width=20", "tiger:decoding=sample:draws=5"]
    where = ("chains", [0], tmp_path / "table.csv", tmp_path / "runs")
    table, gains = leaderboard.complete(arms, *where, given, against="tiger")
    assert len(list((tmp_path / "runs" / "chains").glob("tiger-*/model.safetensors"))) == 1
    assert len(table) == 3 and table["decoding"].nunique() == 3 and len(gains) == 4
    never(monkeypatch, leaderboard, "fit")
    again, _ = leaderboard.complete(arms, *where, given, against="tiger")
    assert again["ndcg@10"].tolist() == table["ndcg@10"].tolist()
    names = [arm for arm, _ in rows_by_arm(table.drop(columns="arm"))]
    assert sum("decoding=diverse" in name and "width=20" in name for name in names) == 1
    assert leaderboard.plan(arms[1], leave_one_out(leaderboard.load("chains")), 0, tmp_path / "runs", given).finished()


def test_a_row_from_before_is_that_of_its_decoding(tmp_path):
    table = leaderboard.read(Path(__file__).parents[2] / "data" / "leaderboard.csv")
    old = table[table["system"].isin(["tiger", "discrec", "resid"])]
    assert not any("width" in json.loads(text) for text in old["settings"])
    assert {json.loads(text)["width"] for text in old["decoding"]} == {20, 50}
    assert set(table[table["system"] == "sasrec"]["decoding"]) == {"{}"}
    table.to_csv(tmp_path / "again.csv", index=False)
    again = leaderboard.read(tmp_path / "again.csv")
    assert leaderboard.keys(again) == leaderboard.keys(table) and len(set(leaderboard.keys(table))) == len(table)


def test_a_sweep_over_decodings_trains_once(tmp_path, log):
    given = small("tiger", **SIZES) | {"epochs": 1, "tokens": 256}
    found = sweep.sweep(["tiger"], [log], given=given, grid={"decoding": ["beam", "exact", "typical"]}, runs=tmp_path)
    assert not found.failed and len(found.table) == 3
    assert len(list(tmp_path.glob("*/tiger-*/model.safetensors"))) == 1
    assert len(list(tmp_path.glob("*/tiger-*/evaluations/*.json"))) == 2
    assert found.table["decoding"].nunique() == 3


def test_the_command_line_measures_a_run_by_another_decoding(tmp_path, log, capsys):
    out = tmp_path / "run"
    settings = format_settings(small("tiger", **SIZES)).split(":")
    words = [word for one in settings for word in ("--set", one)]
    words += ["--dataset", log, "--out", out, "--epochs", "1"]
    assert code_of("fit", "tiger", *words) == 0
    weights = files(out)
    assert code_of("fit", "tiger", *words, "--set", "decoding=diverse") == 0
    assert "decoding=diverse" in capsys.readouterr().out
    assert code_of("evaluate", out, "--dataset", log, "--set", "decoding=typical", "--set", "draws=10") == 0
    assert "decoding=typical, draws=10, mass=0.9, draw_seed=0" in capsys.readouterr().out
    assert files(out) == weights and len(list((out / "evaluations").glob("*.parquet"))) == 2
    assert code_of("evaluate", out, "--dataset", log, "--set", "groups=2") == 2
    assert "decoding=beam takes no groups" in capsys.readouterr().err
    assert code_of("evaluate", out, "--dataset", log, "--set", "dim=2") == 2
    assert "'dim' is no setting of a decoding" in capsys.readouterr().err
