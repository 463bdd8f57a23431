"""Commands over a finished run: recommend, explain, export."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
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


def test_explain_gives_text_and_the_same_as_json(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert code_of("explain", run, "--user", "u7", "--item", "Item 4", "--k", "3", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    log = pd.read_csv(run.parent / "shop.csv")
    history = log[log["user"] == "u7"]["item"].tolist()[-8:]
    assert [row["item"] for row in found["history"]] == history and found["item"] == "sku-4"
    assert found["history"][0]["surprise"] is None and found["history"][1]["surprise"] > 0
    assert sum(row["attention"] for row in found["history"]) == pytest.approx(1, abs=1e-5)
    assert len(found["recommended"]) == 3 and found["attention_of"] == "the last event"
    assert code_of("explain", run, "--user", "u7", "--item", "sku-4", "--k", "3") == 0
    printed = capsys.readouterr().out
    assert (
        f"Item 4 (item sku-4) is not in the top 3 of user u7, with a probability of {found['probability']:.2%}."
        in printed
    )
    best = max(found["history"], key=lambda row: row["influence"])
    assert f"Event {best['event']}, {best['title']}, supports it most ({best['influence']:+.2f} nats)." in printed
    assert code_of("recommend", run, "--out", run.parent / "lists.csv", "--k", "3") == 0
    lists = pd.read_csv(run.parent / "lists.csv")
    assert [row["item"] for row in found["recommended"]] == lists.loc[lists["user"] == "u7", "item"].tolist()


def test_explain_says_what_is_wrong(run: Path, capsys: pytest.CaptureFixture) -> None:
    for words, message in (
        (["--user", "nobody"], "--user: none of these users is in the data: 1 user ('nobody')"),
        (["--user", "u7", "--item", "xyz"], "'xyz' is not an id or part of a title"),
    ):
        assert code_of("explain", run, *words) == 2
        assert message in capsys.readouterr().err


def test_export_gives_a_service_the_lists_of_recommend(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file, out = tmp_path / "model.onnx", tmp_path / "recs.csv"
    assert code_of("export", run, "--onnx", file, "--k", "4", "--seen-filter") == 0
    assert "items, seen -> top_items, top_scores; any number of users, at most 8 events" in capsys.readouterr().out
    assert code_of("recommend", run, "--k", "4", "--seen-filter", "--out", out) == 0
    numbers = pd.read_csv(tmp_path / "model.items.csv").set_index("item_id")["item"]
    log, lists = pd.read_csv(run.parent / "shop.csv"), pd.read_csv(out)
    session = onnxruntime.InferenceSession(file)
    for users in (["u7"], ["u1", "u2", "u3"]):
        histories = [numbers[log.loc[log["user"] == user, "item"]].to_numpy() for user in users]
        items, seen = _padded([history[-8:] for history in histories]), _padded(histories)
        found, scores = session.run(None, {"items": items, "seen": seen})
        for user, row, values in zip(users, found, scores, strict=True):
            expected = lists[lists["user"] == user]
            assert row.tolist() == numbers[expected["item"]].tolist()
            np.testing.assert_allclose(values, expected["score"], atol=1e-4)


def test_export_says_what_it_cannot_do(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code_of("export", run, "--onnx", tmp_path / "model.pt") == 2
    assert "the suffix must be .onnx" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert code_of("export", run, "--onnx", tmp_path / "model.onnx") == 2
    assert "packages that are not installed: pip install 'seqlab[export]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def _padded(histories: list[np.ndarray]) -> np.ndarray:
    """Histories as one array, padded with 0 on the right."""
    longest = max(map(len, histories))
    return np.stack([np.pad(history, (0, longest - len(history))) for history in histories])
