"""Sweeps: every run is made once, whatever is killed, and the table agrees with the run folders."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from safetensors import safe_open

from seqlab import widgets
from seqlab.datasets import leave_one_out, load
from seqlab.experiments import leaderboard, sweep
from seqlab.runs.run import load_run
from seqlab.runtime import pools
from seqlab.training import fit
from tests.cli.test_cli import code_of
from tests.synthetic import chain_log

ROOT = Path(__file__).parents[2]
TINY = {"dim": "8", "layers": "1", "max_length": "8", "tokens": "256", "epochs": "20", "patience": "1000"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """By the name of its folder, the quality of each of two runs that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    chain_log().events.to_csv(folder / "log.csv", index=False)
    sweep.sweep(["sasrec"], [folder / "log.csv"], [0, 1], given=TINY, runs=folder)
    return {name: quality(run) for name, run in finished(folder).items()}


@pytest.fixture
def never_trains(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, training anything fails the test."""
    return lambda: monkeypatch.setattr(fit, "_train", lambda *anything: pytest.fail("it was run again"))


def finished(runs: Path) -> dict[str, Path]:
    """The folders of finished runs, by name."""
    return {path.parent.name: path.parent for path in runs.glob("*/*/provenance.json") if not path.parent.suffix}


def quality(folder: Path) -> dict:
    """What must be the same however often a run was interrupted."""
    stored = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {part: stored[part] for part in ("test", "valid", "epochs", "best_epoch")}


def history(folder: Path) -> list[dict]:
    return json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["history"]


def written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def alive(process: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    return False


class Killer(threading.Thread):
    """SIGKILL for the process that trains a run, once there is a checkpoint; `kept` is then its history."""

    def __init__(self, runs: Path) -> None:
        super().__init__(daemon=True)
        self.runs, self.victim, self.kept = runs, "", []
        self.start()

    def run(self) -> None:
        while not self.kept:
            time.sleep(0.02)
            for state in self.runs.glob("*/*.partial/checkpoint/state.safetensors"):
                if len(self._history(state)) >= 2:
                    partial = state.parents[1]
                    os.kill(int(partial.with_suffix(".tries").read_text().split()[-1]), signal.SIGKILL)
                    time.sleep(0.2)
                    self.victim, self.kept = partial.stem, self._history(state)
                    break

    @staticmethod
    def _history(state: Path) -> list[dict]:
        with contextlib.suppress(FileNotFoundError), safe_open(state, "pt") as file:
            return json.loads(file.metadata()["state"])["history"]
        return []


def test_a_grid_is_all_combinations_and_the_settings_of_an_arm_replace_it(log: Path, tmp_path: Path) -> None:
    grid, runs = {"gaps": [1, 5], "max_length": [4, None]}, tmp_path / "runs"
    arms = ["markov", "markov:gaps=3:max_length=4", "markov:gaps=5"]
    swept = sweep.sweep(arms, [log], [0, 1], grid, {"tokens": "64"}, runs)
    made = {(one["gaps"], one["max_length"]) for one in map(json.loads, swept.table["settings"])}
    assert made == {(1, 4), (1, None), (5, 4), (5, None), (3, 4)}
    assert len(swept.table) == 2 * len(made) == len(finished(runs))
    assert {json.loads(text)["tokens"] for text in swept.table["options"]} == {64}
    assert swept.table.index[0] == "markov:gaps=1:max_length=4 seed 0 on log"
    assert "markov:gaps=3:max_length=4 seed 1 on log" in swept.table.index
    assert code_of("sweep", *arms, "--dataset", log, "--seeds", "1,0", "--grid", "gaps=1,5", "--grid",
                   "max_length=4,none", "--set", "tokens=64", "--runs", runs) == 0  # fmt: skip
    assert len(finished(runs)) == len(swept.table)  # the same by the words of the command


def test_the_table_has_the_columns_of_the_leaderboard_and_the_values_of_the_folders(log: Path, tmp_path: Path) -> None:
    arms = ["markov", "popularity", "sasrec:dim=8:layers=1:epochs=1"]
    sweep.sweep(arms, [log], [3], runs=tmp_path / "runs")
    table = leaderboard.read(tmp_path / "runs" / "sweep.parquet")
    assert {*table} <= {*pd.read_csv(ROOT / "data" / "leaderboard.csv", nrows=1), "task", "decoding"}
    made = finished(tmp_path / "runs")
    for name, folder in made.items():
        row = table[table["system"] == name.split("-")[0]].iloc[0]
        stored = quality(folder)
        for metric in ("recall@10", "ndcg@10"):
            assert row[metric] == round(stored["test"][metric], 5)
            assert row[f"valid {metric}"] == round(stored["valid"][metric], 5)
        assert row["date"] == json.loads((folder / "provenance.json").read_text())["date"]
    split = leave_one_out(load(log))
    runs = {name: load_run(folder, split) for name, folder in made.items() if not name.startswith("sasrec")}
    board = widgets.CompareSystems(runs, split, measured=table).board().set_index("system")
    assert board["kind"].to_dict() == dict.fromkeys(runs, "floor") | {"sasrec": "number"}
    assert board.at["sasrec", "ndcg@10"] == table.set_index("system").at["sasrec", "ndcg@10"]


def test_sweep_and_leaderboard_share_finished_runs(log: Path, tmp_path: Path, never_trains: Callable[[], None]) -> None:
    runs, lines = tmp_path / "runs", []
    leaderboard.complete(["markov"], str(log), [0], tmp_path / "board.csv", runs)
    sweep.sweep(["popularity"], [log], runs=runs)
    never_trains()
    before = {name: written(folder) for name, folder in finished(runs).items()}
    swept = sweep.sweep(["markov", "popularity"], [log], runs=runs, echo=lines.append)
    assert lines == ["2 runs: 2 finished before, nothing to train."] and len(swept.table) == 2 and not swept.failed
    board, _ = leaderboard.complete(["popularity", "markov"], str(log), [0], tmp_path / "board.csv", runs)
    assert len(board) == 2 and before == {name: written(folder) for name, folder in finished(runs).items()}
    (runs / "sweep.parquet").unlink()
    again = sweep.sweep(["markov", "popularity"], [log], runs=runs, echo=lines.append)
    pd.testing.assert_frame_equal(again.table, swept.table)


def test_a_killed_process_is_replaced_and_its_run_reaches_the_same_metrics(
    log: Path, tmp_path: Path, undisturbed: dict[str, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.delenv("OMP_NUM_THREADS")
    killer = Killer(tmp_path / "runs")
    swept = sweep.sweep(["sasrec"], [log], [0, 1], given=TINY, runs=tmp_path / "runs", workers=2, echo=lines.append)
    assert killer.victim and not swept.failed and len(swept.table) == 2
    assert any(line.startswith("A process was killed. Started again from the last checkpoint: ") for line in lines)
    assert (swept.table["threads"] == 1).all()
    assert {name: quality(folder) for name, folder in finished(tmp_path / "runs").items()} == undisturbed
    stored = history(finished(tmp_path / "runs")[killer.victim])
    assert stored[: len(killer.kept)] == killer.kept  # with its seconds: those epochs were not trained again
    assert {path.suffix for path in (tmp_path / "runs" / "log").iterdir()} <= {"", ".lock"}


def test_when_the_table_cannot_be_written_the_processes_end_at_once(log: Path, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("no folder")
    arms = ["markov", "sasrec:epochs=100000:patience=100000"]
    with pytest.raises(OSError, match="full") as error:  # its traceback keeps the generator
        sweep.sweep(arms, [log], runs=tmp_path / "runs", table=tmp_path / "full" / "table.parquet", workers=2)
    assert not [child for child in psutil.Process().children() if "loky.backend.popen" in " ".join(child.cmdline())]
    del error


def test_only_a_run_that_kills_its_process_fails(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pools = []

    @contextlib.contextmanager
    def deadly(*anything) -> Iterator[sweep.Pool]:
        def run_all(function, jobs):
            pools.append(len(jobs))
            for two in zip(jobs[::2], [*jobs[1::2], None], strict=False):
                doing = [job for job in two if job is not None]
                if any("gaps=3" in job.label and job.attempts() < sweep.MAX_ATTEMPTS for job in doing):
                    for job in doing:
                        job.attempts_file.parent.mkdir(parents=True, exist_ok=True)
                        job.attempts_file.write_text("a process\n" * (job.attempts() + 1), encoding="utf-8")
                    return  # the pool is lost, and with it the other one
                yield from ((job, function(job)) for job in doing)

        yield run_all

    monkeypatch.setattr(sweep, "pool", deadly)
    swept = sweep.sweep(["markov"], [log], grid={"gaps": [1, 2, 3, 4, 5]}, runs=tmp_path / "runs", workers=2)
    assert list(swept.failed) == ["markov:gaps=3 seed 0 on log"]
    assert "its process was killed 3 times" in swept.failed["markov:gaps=3 seed 0 on log"]
    assert len(swept.table) == 4 and 1 in pools
    assert not list((tmp_path / "runs").rglob("*.tries"))

    monkeypatch.setattr(sweep, "pool", lambda *anything: contextlib.nullcontext(lambda function, jobs: ()))
    with pytest.raises(OSError, match="The processes end before they start any run"):
        sweep.sweep(["markov"], [log], grid={"gaps": [6, 7]}, runs=tmp_path / "runs", workers=2)


def test_a_worker_with_another_disk_or_other_data_is_an_error(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(function, jobs):
        return ((job, {"ndcg@10": 0.1}) for job in jobs)

    def later(function, jobs):
        chain_log(1).events.to_csv(log, index=False)
        return ((job, function(job)) for job in jobs)

    for pool, message in ((elsewhere, "a shared file system"), (later, "has the file changed?")):
        monkeypatch.setattr(sweep, "pool", lambda *anything, pool=pool: contextlib.nullcontext(pool))
        swept = sweep.sweep(["markov"], [log], runs=tmp_path / "runs")
        assert message in swept.failed["markov seed 0 on log"] and not len(swept.table)


def test_an_arm_that_fails_does_not_stop_the_others_and_gives_exit_code_2(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    made = leaderboard.Plan.train_or_load

    def faulty(self, split):
        if self.arm == "popularity":
            raise KeyError("a fault in a system")
        return made(self, split)

    monkeypatch.setattr(leaderboard.Plan, "train_or_load", faulty)
    plan = leaderboard.plan("markov", leave_one_out(load(log)), 0, tmp_path / "runs", {})
    arms = ["markov", "popularity", "sasrec:learning_rate=1e30:tokens=64", "markov:gaps=1"]
    with fit._lock(plan.folder):
        assert code_of("sweep", *arms, "--dataset", log, "--runs", tmp_path / "runs") == 2
    printed = capsys.readouterr()
    assert "[4/4] markov:gaps=1 seed 0 on log: ndcg@10" in printed.out and "Traceback" not in printed.err
    assert [line.split(": ")[1] for line in printed.err.strip().splitlines()] == [
        f"{arm} seed 0 on log failed" for arm in arms[:3]
    ]
    for message in ("Another training is writing", "KeyError: 'a fault in a system'", "The loss is not finite"):
        assert message in printed.err
    assert len(leaderboard.read(tmp_path / "runs" / "sweep.parquet")) == 1
    monkeypatch.setattr(leaderboard.Plan, "train_or_load", made)
    assert code_of("sweep", "markov", "popularity", "--dataset", log, "--runs", tmp_path / "runs") == 0


def test_ctrl_c_keeps_finished_runs(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    made = leaderboard.Plan.train_or_load

    def pressed(self, split):
        run = made(self, split)
        return dataclasses.replace(run, interrupted=self.options.seed == 1)

    monkeypatch.setattr(leaderboard.Plan, "train_or_load", pressed)
    words = ["sweep", "markov", "--dataset", log, "--seeds", "0,1,2", "--runs", tmp_path / "runs"]
    assert code_of(*words) == 130
    assert "the same command continues from there" in capsys.readouterr().err
    assert leaderboard.read(tmp_path / "runs" / "sweep.parquet")["seed"].tolist() == [0]
    assert not list((tmp_path / "runs").rglob("*.tries"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sasrek"], "Did you mean 'sasrec'?"),
        (["markov", "sasrec:dimm=3"], "Did you mean 'dim'?"),
        (["markov", "sasrec:dim=wide"], "sasrec.dim must be a whole number (got 'wide')"),
        (["sasrec", "--grid", "dim=8,wide"], "sasrec.dim must be a whole number (got 'wide')"),
        (["markov", "--grid", "gap=1,2"], "Did you mean 'gaps'?"),
        (["markov", "--grid", "gaps=1,,2"], "has no value for 'gaps', or an empty one"),
        (["markov", "--grid", "gaps=1", "--grid", "gaps=2"], "'gaps' is in the grid twice"),
        (["markov", "--grid", "gaps=1,2", "--set", "gaps=3"], "'gaps' is in the grid and set for all"),
        (["markov", "--grid", "seed=1,2"], "The seed is no setting of an arm"),
        (["tiger", "--grid", "levels=32,64"], "separate its values by semicolons"),
        (["markov", "--seeds", "0,one"], "--seeds must be a list"),
        (["markov", "--dataset", "no/such.csv"], "no such file"),
        (["markov", "--table", "log.parquet"], "its column 'dataset' is missing"),
        (["markov", "--dataset", "other/log.csv"], "rename its file"),
        (["markov", "--scheduler", "here"], "such as tcp://10.0.0.1:8786"),
        (["markov", "--scheduler", "tcp://127.0.0.1:9"], "pip install 'seqlab[cluster]'"),
    ],
)
def test_an_error_is_one_sentence_before_any_training(
    words: list[str], message: str, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture, never_trains: Callable[[], None],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    chain_log(1).events.to_csv("other/log.csv", index=False)
    pd.DataFrame({"a": [1]}).to_parquet("log.parquet")
    monkeypatch.setitem(sys.modules, "distributed", None)
    never_trains()
    assert code_of("sweep", *words, "--dataset", log, "--runs", "runs") == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed and len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_on_other_data_of_the_same_name_is_another_run(log: Path, tmp_path: Path) -> None:
    before = sweep.sweep(["markov"], [log], runs=tmp_path / "runs").table["ndcg@10"].tolist()
    chain_log(1).events.to_csv(log, index=False)
    after = sweep.sweep(["markov"], [log], runs=tmp_path / "runs").table["ndcg@10"].tolist()
    assert before != after and len(finished(tmp_path / "runs")) == 2


def test_a_killed_sweep_continues_without_repeating_a_run(log: Path, tmp_path: Path) -> None:
    runs, table, lines = tmp_path / "runs", tmp_path / "table.parquet", []
    arms, given = ["markov", "sasrec:dim=8:layers=1"], {key: TINY[key] for key in ("tokens", "patience", "epochs")}
    start = "import sys; from seqlab.cli import main; sys.argv[0] = 'seqlab'; main()"
    words = ["sweep", *arms, "--dataset", log, "--seeds", "0,1", "--runs", runs, "--table", table, "--workers", "2"]
    words += [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    parent = subprocess.Popen([sys.executable, "-c", start, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not (table.exists() and list(runs.glob("*/*.partial/checkpoint/state.safetensors"))):
        assert parent.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    children = [int(path.read_text().split()[-1]) for path in runs.glob("*/*.tries")]
    deadline = time.monotonic() + 20
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline, "a process lives on for nobody"
        time.sleep(0.1)
    before = {name: written(folder) for name, folder in finished(runs).items()}
    assert 1 <= len(leaderboard.read(table)) <= len(before) < 4
    swept = sweep.sweep(arms, [log], [0, 1], given=given, runs=runs, table=table, echo=lines.append)
    assert lines[0] == f"4 runs: {len(before)} finished before, {4 - len(before)} to train."
    assert len(swept.table) == 4 and not swept.failed
    assert before == {name: written(folder) for name, folder in finished(runs).items() if name in before}
    assert {path.suffix for path in (runs / "log").iterdir()} == {""}


def test_a_cluster_repeats_the_runs_of_a_killed_worker(log: Path, tmp_path: Path, undisturbed: dict[str, dict]) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'seqlab[cluster]'")
    where = {"n_workers": 2, "processes": True, "host": "127.0.0.1", "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(threads_per_worker=1, **where) as cluster:
        killer, address = Killer(tmp_path / "runs"), cluster.scheduler_address
        swept = sweep.sweep(["sasrec"], [log], [0, 1], given=TINY, runs=tmp_path / "runs", scheduler=address)
        assert killer.victim and not swept.failed and len(swept.table) == 2
        again = sweep.sweep(["sasrec"], [log], [0, 1], given=TINY, runs=tmp_path / "runs", scheduler=address)
    pd.testing.assert_frame_equal(again.table, swept.table)
    assert history(finished(tmp_path / "runs")[killer.victim])[: len(killer.kept)] == killer.kept
    assert {name: quality(folder) for name, folder in finished(tmp_path / "runs").items()} == undisturbed


def test_an_unsuitable_cluster_is_an_error(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'seqlab[cluster]'")
    monkeypatch.setattr(pools, "CONNECT_TIMEOUT", 1)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9 "):
        sweep.sweep(["markov"], [log], runs=tmp_path / "runs", scheduler="tcp://127.0.0.1:9")
    monkeypatch.setattr(pools, "CONNECT_TIMEOUT", 10)
    monkeypatch.setattr(pools, "_exists", lambda path: False)
    where = {"n_workers": 1, "processes": False, "protocol": "tcp", "dashboard_address": None, "silence_logs": 50}
    for threads, message in ((2, "one worker per core: --nthreads 1"), (1, "a shared file system")):
        cluster = distributed.LocalCluster(threads_per_worker=threads, **where)
        with cluster, pytest.raises(ValueError, match=message):
            sweep.sweep(["markov"], [log], runs=tmp_path / "runs", scheduler=cluster.scheduler_address)
    assert not finished(tmp_path / "runs")
