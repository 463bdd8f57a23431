"""Studies: found by their files, done on small runs, stored, found again, and read as untrusted."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from seqlab import cli, figures, models, studies
from seqlab.contracts import Card
from seqlab.datasets import leave_one_out
from seqlab.optimization.options import Options
from seqlab.runs import findings as stored
from seqlab.training.fit import fit
from tests.synthetic import chain_log, small

SETTINGS = {"users": 60, "listed": 40, "passes": 2, "hints": 30, "bins": 5}


@pytest.fixture(scope="module")
def split():
    return leave_one_out(chain_log())


@pytest.fixture(scope="module")
def systems(split):
    options = Options(epochs=2, tokens=256)
    arms = {"sasrec": {"dim": 16}, "sasrec:dim=32": {"dim": 32}}
    found = {
        arm: [fit(models.create("sasrec", split, small("sasrec", **one), seed), split, options) for seed in range(2)]
        for arm, one in arms.items()
    }
    return found | {"markov": fit(models.create("markov", split), split)}


@pytest.fixture(scope="module")
def made(split, systems, tmp_path_factory):
    return studies.conduct("calibration", split, systems, SETTINGS, tmp_path_factory.mktemp("studies") / "mine")


@pytest.mark.parametrize("name", studies.names())
def test_every_study_has_a_card_settings_and_a_run(name):
    assert isinstance(studies.card(name), Card) and studies.card(name).claim.endswith(".")
    assert studies.configure(name, {}) == studies.module(name).Config() and callable(studies.module(name).run)
    assert name in set(studies.table()["study"])
    with pytest.raises(ValueError, match="no setting 'usres'"):
        studies.configure(name, {"usres": "3"})


def test_every_claim_has_a_verdict_and_every_table_is_drawn(made):
    claims = studies.module("calibration").CLAIMS
    table = made.verdict_table()
    assert {*table["claim"]} == {*claims.values()}
    assert {*table.loc[table["claim"] == claims["transfer"], "verdict"]} == {"not tested"}
    tested = table[table["verdict"] != "not tested"]
    assert (tested["low"] <= tested["value"]).all() and (tested["value"] <= tested["high"]).all()
    assert {"forecasts", "reliability", "risk_coverage", "by_length", "temperatures", "widths", "differences",
            "hints", "p_true", "routing"} == {*made.tables}  # fmt: skip
    for frame in made.tables.values():
        shown = figures.study_table(frame)
        assert len(shown) if isinstance(shown, figures.Html) else shown.data
    assert "holds" in figures.verdicts(table) or "open" in figures.verdicts(table)
    assert made.tables["widths"]["dim"].tolist() == [16, 32] * 2 and len(made.tables["temperatures"]) == 5


def test_findings_are_read_again_and_found_by_what_they_are(made, split, systems, tmp_path):
    again = stored.load_findings(made.folder)
    assert again.verdict_table().equals(made.verdict_table()) and again.notes == made.notes
    for name, frame in made.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], frame, check_dtype=False)
    assert again.outcomes["sasrec: mass"].means() == made.outcomes["sasrec: mass"].means()
    assert stored.find(made.folder.parent, "calibration", made.identity) == made.folder
    assert stored.find(made.folder.parent, "calibration", {**made.identity, "split": "by-time"}) is None
    before = (made.folder / stored.FILE).stat().st_mtime_ns
    assert studies.conduct("calibration", split, systems, SETTINGS, made.folder).seconds == pytest.approx(
        made.seconds, abs=1e-2
    )
    assert (made.folder / stored.FILE).stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="findings of another study"):
        studies.conduct("calibration", split, systems, {**SETTINGS, "users": 50}, made.folder)
    with pytest.raises(FileExistsError):
        stored.write(made, made.folder)
    assert [path.name for path in made.folder.parent.iterdir()] == ["mine"]


def test_files_that_could_hold_code_or_lead_elsewhere_are_refused(made, tmp_path):
    import shutil

    copy = shutil.copytree(made.folder, tmp_path / "copy")
    (copy / "x.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="can hold code"):
        stored.load_findings(copy)
    (copy / "x.pkl").unlink()
    content = json.loads((copy / stored.FILE).read_text())
    content["tables"] = ["../../etc/passwd"]
    (copy / stored.FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is no name of a table"):
        stored.load_findings(copy)
    with pytest.raises(FileNotFoundError, match="holds no findings"):
        stored.load_findings(tmp_path)


def test_a_table_that_cannot_be_stored_leaves_nothing(made, tmp_path):
    import dataclasses

    broken = dataclasses.replace(made, tables={"a": pd.DataFrame({"x": [object()]})})
    with pytest.raises(Exception):  # noqa: B017 of pyarrow
        stored.write(broken, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="lower-case"):
        stored.write(dataclasses.replace(made, tables={"A b": pd.DataFrame()}), tmp_path / "out")


def test_a_verdict_needs_its_whole_interval_on_one_side():
    def holds(low, value, high, above):
        return stored.verdict("c", "a", {"value": value, "low": low, "high": high}, above, "").holds

    assert holds(0.1, 0.2, 0.3, True) is True and holds(-0.3, -0.2, -0.1, True) is False
    assert holds(-0.3, -0.2, -0.1, False) is True and holds(0.1, 0.2, 0.3, False) is False
    assert holds(-0.1, 0.2, 0.3, True) is None and stored.Verdict("c", "a").word == "not tested"


def test_the_command_trains_what_is_missing_and_reads_what_is_there(log, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [word for key, one in SETTINGS.items() for word in ("--set", f"{key}={one}")]
    words = ["study", "calibration", "--systems", "sasrec:dim=16:layers=1:epochs=1,markov", "--dataset", str(log)]

    def run(*more):
        monkeypatch.setattr(sys, "argv", ["seqlab", *words, *given, *more])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, capsys.readouterr()

    code, printed = run("--runs", "runs")
    assert code == 0 and "NOT TESTED" in printed.out
    (folder,) = (tmp_path / "data" / "studies").glob("*/calibration-*")
    first = (folder / stored.FILE).stat().st_mtime_ns
    code, printed = run("--runs", "runs")
    assert code == 0 and str(folder.relative_to(tmp_path)) in printed.out
    assert (folder / stored.FILE).stat().st_mtime_ns == first
    chain_log(1).events.to_csv("other.csv", index=False)
    code, printed = run("--runs", "runs", "--set", "transfer=other.csv", "--out", "there")
    assert code == 0 and "AUROC on other" in printed.out
    table = stored.load_findings("there").tables["transfer"].set_index(["head", "metric"])
    assert {*table.index.levels[0]} == {"at home", "elsewhere", "fitted there"} and table["mean"].notna().all()
    code, printed = run("--set", "userss=3")
    assert code == 2 and "Did you mean 'users'?" in printed.err


def test_the_words_of_the_systems_of_a_command():
    from seqlab.cli.parsing import parse_arms

    assert parse_arms("sasrec,tiger:levels=8,8,64,markov") == ["sasrec", "tiger:levels=8,8,64", "markov"]
    with pytest.raises(ValueError, match="names no system"):
        parse_arms(" ")


def test_a_constant_forecast_is_drawn_flat(made):
    figure = figures.risk_coverage(made.tables["risk_coverage"])
    flat = [one for one in figure.data if one.name == "base rate"]
    assert flat and all(np.ptp(one.y) == 0 and [*one.x] == [0, 1] for one in flat)
