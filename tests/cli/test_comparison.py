"""compare: a run beside a table of recommendations."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.cli.test_cli import code_of


@pytest.fixture
def pair(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> tuple[Path, Path]:
    """A run, and the whole lists that it makes for its test queries."""
    code_of("fit", "markov", "--dataset", log, "--out", tmp_path / "markov")
    assert code_of("recommend", tmp_path / "markov", "--part", "test", "--k", "24", "--out", tmp_path / "recs.csv") == 0
    capsys.readouterr()
    return tmp_path / "markov", tmp_path / "recs.csv"


def test_a_table_beside_the_run_that_made_it_differs_in_nothing(
    pair: tuple[Path, Path], log: Path, capsys: pytest.CaptureFixture
) -> None:
    run, table = pair
    for words in ((table, run, "--dataset", log), (run, table)):
        assert code_of("compare", *words) == 0
        printed = capsys.readouterr()
        found = {line.split()[0]: line.split()[1:] for line in printed.out.splitlines() if line}
        a, b, difference, *_ = map(float, found["ndcg@10"])
        assert a == b > 0 and difference == 0
        assert "lists of 24 items, and an answer that is not in its list counts as not found" in printed.out
        assert "Of their ten best items, 10.00 are the same" in printed.out
        assert f"{table}: column 'score' taken as the score." in printed.err


def test_columns_of_a_table_are_named_and_two_tables_need_data(
    pair: tuple[Path, Path], log: Path, capsys: pytest.CaptureFixture
) -> None:
    run, table = pair
    renamed = table.with_name("theirs.tsv")
    columns = {"user": "who", "item": "what", "score": "pred"}
    pd.read_csv(table).drop(columns="rank").rename(columns=columns).to_csv(renamed, sep="\t", index=False)
    assert code_of("compare", renamed, run) == 2
    assert (
        "no column looks like the user. Name it with user=... (in a shell: --table user=...)" in capsys.readouterr().err
    )
    named = [word for role, column in columns.items() for word in ("--table", f"{role}={column}")]
    assert code_of("compare", renamed, run, *named) == 0
    assert code_of("compare", table, table) == 2
    assert "name these with --dataset" in capsys.readouterr().err
    assert code_of("compare", table, table, "--dataset", log) == 0
    assert code_of("compare", run, run, "--table", "user=x") == 2
    assert code_of("compare", table, run, "--table", "usr=x") == 2
    assert "Did you mean 'user'?" in capsys.readouterr().err
    assert code_of("compare", table.with_name("missing.csv"), run) == 2
    assert "there is no such file" in capsys.readouterr().err
