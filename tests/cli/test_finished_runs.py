"""Commands over a finished run: recommend, explain, export."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.cli.test_cli import code_of
from tests.synthetic import chain_log


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training on a file with ids and titles of its own."""
    folder = tmp_path_factory.mktemp("runs")
    events = chain_log().events
    events = events.assign(item="sku-" + events["item"].astype(str), title="Item " + events["item"].astype(str))
    events.assign(user="u" + events["user"].astype(str)).to_csv(folder / "shop.csv", index=False)
    words = ["--set", "dim=16", "--set", "layers=1", "--set", "max_length=8", "--epochs", "1"]
    assert code_of("fit", "sasrec", "--dataset", folder / "shop.csv", "--out", folder / "run", *words) == 0
    return folder / "run"


def test_recommend_writes_the_lists_of_all_users_and_of_some(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "recs.parquet"
    assert code_of("recommend", run, "--k", "3", "--out", out) == 0
    assert f"{out}: 240 rows, 80 users; seen items kept." in capsys.readouterr().out
    found = pd.read_parquet(out)
    assert list(found.columns) == ["user", "item", "rank", "score", "title"] and found["user"].nunique() == 80
    assert (found["item"].str.removeprefix("sku-") == found["title"].str.removeprefix("Item ")).all()
    (tmp_path / "users.txt").write_text("u7\nnobody\n")
    words = ["--users", tmp_path / "users.txt", "--seen-filter", "--out", tmp_path / "some.csv"]
    assert code_of("recommend", run, *words) == 0
    printed = capsys.readouterr()
    assert "not in the data, so without a list: 1 user ('nobody')" in printed.err
    assert "1 users; seen items left out" in printed.out
    some, log = pd.read_csv(tmp_path / "some.csv"), pd.read_csv(run.parent / "shop.csv")
    assert not set(some["item"]) & set(log.loc[log["user"] == "u7", "item"]) and set(some["user"]) == {"u7"}


def test_recommend_for_new_users_and_what_it_refuses(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    new, out = tmp_path / "new.csv", tmp_path / "recs.csv"
    new.write_text("user,item,timestamp\nzoe,sku-3,1\nzoe,sku-4,2\nzoe,other,3\n")
    assert code_of("recommend", run, "--histories", new, "--k", "2", "--out", out) == 0
    assert pd.read_csv(out)["user"].tolist() == ["zoe", "zoe"]
    assert "not in the data of the run: 1 item ('other'), 1 events." in capsys.readouterr().err
    (tmp_path / "users.txt").write_text("nobody\n")
    for words, message in (
        (["--out", tmp_path / "recs.xlsx"], "the suffix must be .csv or .parquet"),
        (["--out", out, "--users", tmp_path / "users.txt"], "none of these users is in the data: 1 user ('nobody')"),
        (["--out", out, "--users", tmp_path / "none.txt"], "none.txt: there is no such file"),
        (["--out", out, "--histories", new, "--part", "test"], "exclude each other"),
        (["--out", out, "--part", "train"], "part must be one of all, valid, test"),
        (["--out", out, "--set", "decoding=beam"], "sasrec generates no codes"),
    ):
        assert code_of("recommend", run, *words) == 2
        assert message in capsys.readouterr().err
