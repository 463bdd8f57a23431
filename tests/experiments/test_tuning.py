"""The search for settings: by validation metrics only, every trial once, whatever is killed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from seqlab import models
from seqlab.datasets import leave_one_out, load
from seqlab.experiments import leaderboard
from seqlab.optimization.options import Options
from seqlab.presets import preset
from seqlab.runtime import files
from seqlab.training import fit
from tests.cli.test_cli import code_of
from tests.experiments.test_sweep import ROOT, TINY, finished, written

optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'seqlab[tune]'")
from seqlab.experiments.tuning import tune  # noqa: E402

QUICK = TINY | {"epochs": "3"}
SPACE = {"learning_rate": "1e-4..1e-1:log", "dropout": "0..0.5", "loss": "softmax,bce"}


class Sealed(dict):
    """Metrics of a run whose test part nobody may open."""

    def __getitem__(self, part: str) -> dict:
        assert part != "test", "the test part was read"
        return super().__getitem__(part)


def test_the_best_by_validation_is_found_and_the_test_part_is_not_read(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = leaderboard.Plan.train_or_load

    def sealed(self, split):
        run = made(self, split)
        return dataclasses.replace(run, metrics=Sealed(run.metrics))

    monkeypatch.setattr(leaderboard.Plan, "train_or_load", sealed)
    space = {"learning_rate": "1e-6,3e-2", "dim": "2..32:log"}
    given = {key: value for key, value in QUICK.items() if key != "dim"} | {"heads": "1"}
    tuned = tune("sasrec:dropout=0.1", log, space, 8, given, runs=tmp_path / "runs")
    best = tuned.trials["ndcg@10"].idxmax()
    assert tuned.trials.loc[best, "learning_rate"] == "3e-2"  # the other rate learns nothing
    assert tuned.trials["dim"].between(2, 32).all() and tuned.trials["dim"].nunique() > 3
    one = leaderboard.plan(tuned.arm, leave_one_out(load(log)), 0, tmp_path / "runs", {})
    metrics = json.loads((one.folder / "metrics.json").read_text())  # the arm is the run of that trial
    assert metrics["valid"]["ndcg@10"] == tuned.trials["ndcg@10"].max()
    block = tomllib.loads(tuned.preset)["log"]
    assert json.dumps(dataclasses.asdict(models.configure("sasrec", block["settings"]))) == one.key["settings"]
    assert Options(**block["options"]) == one.options


def test_a_killed_search_continues_to_the_same_result(log: Path, tmp_path: Path) -> None:
    runs, trials = tmp_path / "runs", 4
    given = TINY | {"epochs": "12"}
    start = "import sys; from seqlab.cli import main; sys.argv[0] = 'seqlab'; main()"
    words = ["tune", "sasrec", "--dataset", log, "--trials", str(trials), "--runs", runs]
    words += [word for pair in SPACE.items() for word in ("--space", "=".join(pair))]
    words += [word for pair in given.items() for word in ("--set", "=".join(pair))]
    process = subprocess.Popen([sys.executable, "-c", start, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (finished(runs) and list(runs.glob("*/*.partial/checkpoint/state.safetensors"))):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = {name: written(folder) for name, folder in finished(runs).items()}
    (study,) = runs.glob("*/*.study")
    with study.open("ab") as file:
        file.write(b'{"op_code":6,"work')  # as by a process that dies while it writes
    lines = []
    tuned = tune("sasrec", log, SPACE, trials, given, runs=runs, echo=lines.append)
    assert lines[0] == f"4 trials of sasrec on log, {len(before)} of them finished before."
    assert before == {name: written(folder) for name, folder in finished(runs).items() if name in before}
    assert len(finished(runs)) == trials and not list(runs.glob("*/*.partial"))
    events = [json.loads(line) for line in study.read_text(encoding="utf-8").splitlines()]
    assert sum(event.get("state") == 1 for event in events) == trials
    calm = tune("sasrec", log, SPACE, trials, given, runs=tmp_path / "undisturbed")
    pd.testing.assert_frame_equal(tuned.trials, calm.trials)
    assert tuned.arm == calm.arm


def test_finished_trials_are_not_repeated_and_more_trials_continue_from_them(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"gaps": "1..10", "max_length": "1..20"}
    few = tune("markov", log, space, 6, runs=tmp_path / "runs")
    more = tune("markov", log, space, 16, runs=tmp_path / "runs")
    pd.testing.assert_frame_equal(more.trials.loc[:5], few.trials)
    at_once = tune("markov", log, space, 16, runs=tmp_path / "at_once")  # the last six drawn by what the others found
    pd.testing.assert_frame_equal(at_once.trials, more.trials)
    monkeypatch.setattr(fit, "_train", lambda *anything: pytest.fail("it was made again"))
    again = tune("markov", log, space, 16, runs=tmp_path / "runs")
    pd.testing.assert_frame_equal(again.trials, more.trials)
    assert leaderboard.plan(again.arm, leave_one_out(load(log)), 0, tmp_path / "runs", {}).folder.exists()


def test_the_first_trial_has_the_preset_or_default_settings(log: Path, tmp_path: Path) -> None:
    given = {key: value for key, value in QUICK.items() if key != "dim"}
    space = {"learning_rate": "1e-4..1e-1:log", "dim": "8,64", "dropout": "0.4..0.6"}
    first = tune("sasrec", log, space, 1, given, runs=tmp_path / "runs").trials.loc[0]
    defaults = models.configure("sasrec", {})
    assert first["learning_rate"] == preset("sasrec", "", 0).options["learning_rate"] and first["dim"] == str(
        defaults.dim
    )
    assert defaults.dropout < 0.4 <= first["dropout"]  # the space does not hold it: drawn


def test_a_trial_that_fails_counts_and_a_full_disk_does_not(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, space = [], {"dim": "8,9", "learning_rate": "1e-3..1e-2"}  # two heads do not divide 9
    given = {key: value for key, value in QUICK.items() if key != "dim"}
    tuned = tune("sasrec", log, space, 6, given, runs=tmp_path / "runs", echo=lines.append)
    assert (tuned.trials["ndcg@10"].isna() == (tuned.trials["dim"] == "9")).all()
    assert 0 < sum(line.startswith("It failed: ") for line in lines) < 6 and ":dim=8:" in tuned.arm
    with pytest.raises(ValueError, match="Every trial of sasrec failed"):
        tune("sasrec", log, {"dim": "9,11"}, 2, given, runs=tmp_path / "runs")

    def full(*anything):
        raise OSError("No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(fit, "_train", full)
        tune("sasrec", log, space, 8, given, runs=tmp_path / "runs")
    assert len(tune("sasrec", log, space, 7, given, runs=tmp_path / "runs").trials) == 7
    (study, *_) = sorted((tmp_path / "runs").glob("*/*.study"))
    with files.exclusive_lock(study, "") as _, pytest.raises(BlockingIOError, match="Another process has the study"):
        tune("sasrec", log, space if "learning_rate" in study.read_text() else {"dim": "9,11"}, 8, given,
             runs=tmp_path / "runs")  # fmt: skip


def test_the_command_prints_the_best_arm_and_its_preset(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["tune", "markov", "--dataset", log, "--trials", "4", "--space", "gaps=1..8", "--runs", tmp_path / "runs"]
    assert code_of(*words) == 0
    printed = capsys.readouterr().out
    arm = printed.split("seqlab leaderboard ")[1].split()[0]
    assert arm.startswith("markov:gaps=") and f"[log.settings]\ngaps = {arm[12:]}\n" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sasrek", "--space", "dim=8,16"], "Did you mean 'sasrec'?"),
        (["sasrec", "--space", "dimm=8,16"], "Did you mean 'dim'?"),
        (["sasrec", "--space", "dim=8,wide"], "dim must be a whole number (got 'wide')"),
        (["sasrec", "--space", "dim=16..8"], "dim=16..8 is no range of numbers"),
        (["sasrec", "--space", "dropout=0..1:log"], "dropout=0..1:log is no range of numbers"),
        (["sasrec", "--space", "dropout=nan..1"], "dropout must be a finite number (got 'nan')"),
        (["sasrec", "--space", "loss=a..b"], "loss must be 'softmax'"),
        (["tiger", "--space", "levels=32,64"], "separate its values by semicolons"),
        (["sasrec:dim=8", "--space", "dim=8,16"], "'dim' is in the space and set for all trials"),
        (["sasrec", "--set", "dim=8", "--space", "dim=8,16"], "'dim' is in the space and set for all trials"),
        (["sasrec", "--space", "dim=8,16", "--space", "dim=32"], "A setting has two spaces"),
        (["sasrec", "--space", "seed=1,2"], "'seed' is no setting to search"),
        (["sasrec", "--space", "dim=8,16", "--dataset", "no/such.csv"], "no such file"),
    ],
)
def test_an_error_is_one_sentence_before_any_training(
    words: list[str], message: str, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    place = [] if "--dataset" in words else ["--dataset", log]
    assert code_of("tune", *words, *place) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed and len(printed.strip().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv"}


def test_without_optuna_the_error_names_the_package(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna.distributions", None)
    with pytest.raises(ImportError, match=r"pip install 'seqlab\[tune\]'"):
        tune("sasrec", log, SPACE)
