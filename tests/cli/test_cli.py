"""The command line: results, files, exit codes and error messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqlab import cli
from tests.synthetic import chain_log


def seqlab(*words: str | Path) -> None:
    """The command in this process; its exit code comes as SystemExit."""
    sys.argv = ["seqlab", *map(str, words)]
    cli.main()


def code_of(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        seqlab(*words)
    return stopped.value.code or 0


def test_fit_writes_a_run_that_evaluate_reads(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "run"
    settings = ["--set", "dim=16", "--set", "layers=1", "--set", "tokens=256"]
    assert code_of("fit", "sasrec", "--dataset", log, "--out", out, "--epochs", "2", *settings, "--seed", "3") == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"recall@10", "ndcg@10"} <= set(metrics["test"]) and {"recall@10", "ndcg@10"} <= set(metrics["valid"])
    assert metrics["targets_per_second"] > 0 and metrics["seconds"] > 0
    options = json.loads((out / "provenance.json").read_text())["options"]
    assert (options["epochs"], options["seed"], options["tokens"]) == (2, 3, 256)
    capsys.readouterr()
    assert code_of("evaluate", out, "--dataset", log) == 0
    printed = capsys.readouterr().out
    assert f"{metrics['test']['ndcg@10']:.4f}" in printed and "full ranking of 24 items" in printed


def test_a_run_on_a_file_stores_its_path_and_its_load_options(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = {"user": "kunde", "item": "artikel", "timestamp": "zeit"}
    chain_log().events.rename(columns=columns).to_csv("shop.txt", sep=";", index=False)
    reading = ["--user", "kunde", "--item", "artikel", "--time", "zeit", "--sep", ";"]
    for system in ("markov", "popularity"):
        assert code_of("fit", system, "--dataset", "shop.txt", "--out", system, *reading) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert code_of("evaluate", "../markov") == code_of("compare", "../markov", "../popularity") == 0
    assert "full ranking of 24 items" in capsys.readouterr().out
    chain_log(1).events.rename(columns=columns).to_csv(tmp_path / "shop.txt", sep=";", index=False)
    assert code_of("evaluate", "../markov") == 2
    assert "load the data it was trained on" in capsys.readouterr().err
    (tmp_path / "shop.txt").unlink()
    assert code_of("evaluate", "../markov") == 2
    assert "shop.txt: there is no such file" in capsys.readouterr().err


def test_fit_begins_from_another_run_with_its_settings(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    words = ["--dataset", log, "--epochs", "1", "--set", "tokens=256"]
    assert code_of("fit", "sasrec", "--out", first, "--set", "dim=16", "--set", "layers=1", *words) == 0
    assert code_of("fit", "sasrec", "--out", second, "--set", "dropout=0.1", *words, "--start", first) == 0
    assert "from first (" in capsys.readouterr().out
    settings = json.loads((second / "config.json").read_text())["config"]
    assert (settings["dim"], settings["layers"], settings["dropout"]) == (16, 1, 0.1)
    assert json.loads((second / "provenance.json").read_text())["start"]["run"] == "first"
    for words, message in ((["sasrec", "--start", tmp_path / "none"], "none is no finished run"),
                           (["gru4rec", "--start", first], "begin from a run of gru4rec")):  # fmt: skip
        assert code_of("fit", *words, "--out", tmp_path / "third", "--dataset", log) == 2
        assert message in capsys.readouterr().err


def test_a_run_is_evaluated_on_other_items_if_its_system_can(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = tmp_path / "other.csv"
    chain_log(5, items=15, users=20).events.to_csv(other, index=False)
    brief = ["--dataset", log, "--epochs", "1", "--set", "dim=16", "--set", "layers=1"]
    random = ["--set", "tokenizer=random_codes", "--set", "levels=20,20"]
    assert code_of("fit", "recgpt", "--out", tmp_path / "recgpt", *brief, *random) == 0
    assert code_of("fit", "sasrec", "--out", tmp_path / "sasrec", *brief) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "recgpt").iterdir()}
    capsys.readouterr()
    assert code_of("evaluate", tmp_path / "recgpt", "--dataset", other) == 0
    printed = capsys.readouterr().out
    assert "full ranking of 15 items, seen items kept" in printed
    assert f"; the items of other, weights learned on {log.stem}" in printed
    assert {path: path.read_bytes() for path in (tmp_path / "recgpt").iterdir()} == before
    assert code_of("evaluate", tmp_path / "sasrec", "--dataset", other) == 2
    refusal = capsys.readouterr().err
    assert "sasrec has learned about each item of its own catalogue" in refusal and "are for recgpt" in refusal


def test_leaderboard_prints_the_rows_with_their_arms(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert code_of("leaderboard", "markov", "markov:gaps=1", "--dataset", log, "--runs", tmp_path / "runs") == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(number for number, line in enumerate(lines) if line.split()[:2] == ["arm", "seed"])
    assert {line.split()[0] for line in lines[header + 1 : -1]} == {"markov", "markov:gaps=1"}
    assert lines[-1] == f"The table: {tmp_path / 'runs' / 'leaderboard.csv'}"


def test_compare_pairs_the_users_of_two_runs(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for system in ("markov", "popularity"):
        code_of("fit", system, "--dataset", log, "--out", tmp_path / system)
    capsys.readouterr()
    assert code_of("compare", tmp_path / "markov", tmp_path / "popularity", "--dataset", log) == 0
    found = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    a, b, difference, low, high = map(float, found["ndcg@10"])
    assert difference == pytest.approx(a - b, abs=2e-4) and 0 < low <= difference <= high


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "sasrek", "--out", "run"], "Did you mean 'sasrec'?"),
        (["fit", "sasrec", "--out", "run", "--set", "dimm=3"], "Did you mean 'dim'?"),
        (["fit", "sasrec", "--out", "run", "--set", "learning_rat=3"], "Did you mean 'learning_rate'?"),
        (["fit", "sasrec", "--out", "run", "--set", "dim=wide"], "sasrec.dim must be a whole number (got 'wide')"),
        (["fit", "sasrec", "--out", "run", "--seed", "9" * 20], "seed must be below"),
        (["fit", "sasrec", "--out", "run", "--dataset", "complete-jurney"], "complete-journey"),
        (["fit", "sasrec", "--out", "run", "--dataset", "no/such.csv"], "no such file"),
        (["evaluate", "nothing"], "no finished run"),
        (["compare", "nothing", "nothing"], "no finished run"),
        (["report", "missing.ipynb"], "missing.ipynb"),
    ],
)
def test_an_error_is_one_sentence(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert code_of(*words) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed and len(printed.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_overwritten(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "run").mkdir()
    assert code_of("fit", "popularity", "--dataset", log, "--out", tmp_path / "run") == 2
    assert "exists" in capsys.readouterr().err


def test_report_takes_parameters_as_papermill_writes_them(notebook, tmp_path: Path) -> None:
    path = notebook("greet", "print(word * times)", parameters='word = "a"  # what\ntimes = 1  # how often')
    assert code_of("report", path, "-p", "word", "007", "-p", "times=2", "--out", tmp_path / "reports") == 0
    assert "007007" in (tmp_path / "reports" / "greet.html").read_text(encoding="utf-8")
    assert code_of("report", path, "-p", "wrod", "x", "--out", tmp_path / "reports") == 2
    split = notebook("split", "print(split_name * 2)", parameters='split_name = "x"  # how')
    assert code_of("report", split, "--split", "by-time", "--out", tmp_path / "reports") == 0
    assert "by-timeby-time" in (tmp_path / "reports" / "split.html").read_text(encoding="utf-8")
    assert code_of("report", path, "--split", "by-time", "--out", tmp_path / "reports") == 2


def test_a_failing_notebook_gives_exit_code_1(notebook, tmp_path: Path) -> None:
    path = notebook("broken", "1 / 0")
    assert code_of("report", path, "--out", tmp_path / "reports") == 1
    assert "ZeroDivisionError" in (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")


def test_models_datasets_and_doctor_print_lists(capsys: pytest.CaptureFixture) -> None:
    assert code_of("models") == 0 and code_of("datasets") == 0 and code_of("doctor") == 0
    printed = capsys.readouterr().out
    assert "sasrec" in printed and "complete-journey" in printed and "threads:" in printed


def test_the_command_starts_without_torch() -> None:
    heavy = "{'torch', 'pandas', 'plotly', 'papermill'}"
    check = f"import sys, seqlab.cli; found = {heavy} & set(sys.modules); assert not found, found"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_data_without_what_a_system_needs_are_named_with_exit_code_1(log, tmp_path, capsys):
    assert code_of("fit", "complements", "--dataset", log, "--out", tmp_path / "run") == 1
    assert "the events have no column 'basket'" in capsys.readouterr().err
    assert code_of("fit", "markov", "--dataset", log, "--out", tmp_path / "run", "--split", "slates 0.2") == 1
    assert "has no exposures" in capsys.readouterr().err and not list(tmp_path.glob("run*"))


def test_a_split_by_name_is_that_of_the_run(log, tmp_path, capsys):
    """By default it is that of the card; evaluate and compare take it from the run."""
    split, out = "cold-items 0.2", tmp_path / "markov"
    assert code_of("fit", "markov", "--dataset", log, "--out", out, "--split", split) == 0
    assert code_of("evaluate", out) == 0 and code_of("compare", out, out) == 0
    data = json.loads((out / "provenance.json").read_text(encoding="utf-8"))["data"]
    assert data["split"] == split
    assert code_of("evaluate", out, "--split", "leave-one-out") == 2
    assert "not on this split" in capsys.readouterr().err
