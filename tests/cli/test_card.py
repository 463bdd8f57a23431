"""From a file of one's own to a card, a run, and recommendations: each command works at the first try."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.test_cli import code_of
from tests.synthetic import chain_log


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """shop.csv in the current folder: 24 items with titles, users, and five bad rows."""
    monkeypatch.chdir(tmp_path)
    frame = chain_log().events.rename(columns={"user": "customer", "item": "sku", "timestamp": "ordered_at"})
    frame["product_title"] = "Thing no. " + frame["sku"].astype(str)
    frame = frame.astype(str)
    frame["sku"] = "SKU" + frame["sku"]
    frame["ordered_at"] = pd.to_datetime(frame["ordered_at"].astype(float) + 1.7e9, unit="s").astype(str)
    for row, column, value in ((1, "customer", ""), (2, "sku", ""), (3, "ordered_at", ""), (4, "ordered_at", "soon"),
                               (5, "sku", "sku1 ")):  # fmt: skip
        frame.loc[row, column] = value
    frame.to_csv("shop.csv", index=False)
    return frame


def test_a_card_leads_from_a_file_to_recommendations(shop: pd.DataFrame, capsys: pytest.CaptureFixture) -> None:
    assert code_of("card", "shop.csv") == 0
    printed = capsys.readouterr().out
    assert "The card: shop.toml" in printed and "With it: " in printed
    card = tomllib.loads(Path("shop.toml").read_text())
    assert card["file"] == "shop.csv" and card["bad"] == "drop" and card["merge_ids"] is True
    brief = ["--epochs", "1", "--set", "dim=16", "--set", "layers=1"]
    assert code_of("fit", "sasrec", "--dataset", "shop.toml", "--out", "run", *brief) == 0
    out, err = capsys.readouterr()
    assert "rows are dropped: column 'sku' has no id" in err
    assert "Counting: " in out and "markov" in out and "popularity" in out and "does not beat counting" in out
    assert code_of("recommend", "run", "--out", "lists.csv", "--k", "3") == 0
    lists = pd.read_csv("lists.csv")
    assert set(lists["title"]) <= set(shop["product_title"]) and len(lists) == 3 * lists["user"].nunique()
    user = str(lists["user"].iloc[0])
    capsys.readouterr()
    assert code_of("explain", "run", "--user", user, "--dataset", "shop.toml") == 0
    assert "Thing no." in capsys.readouterr().out


def test_a_card_is_never_overwritten_and_may_lie_elsewhere(shop: pd.DataFrame, capsys: pytest.CaptureFixture) -> None:
    Path("cards").mkdir()
    assert code_of("card", "shop.csv", "--out", "cards/own.toml", "--bad", "refuse") == 2
    out, err = capsys.readouterr()
    assert "The card: cards/own.toml" in out
    assert "cannot be read yet" in err and "4 rows cannot" in err and " shop.csv" in err and "--bad drop" in err
    assert tomllib.loads(Path("cards/own.toml").read_text())["file"] == "../shop.csv"
    assert code_of("fit", "markov", "--dataset", "cards/own.toml", "--bad", "drop", "--out", "run") == 0
    capsys.readouterr()
    assert code_of("card", "shop.csv", "--out", "cards/own.toml") == 2
    assert "cards/own.toml exists already" in capsys.readouterr().err
    assert code_of("card", "shop.csv", "--user", "kunde") == 2
    assert "no column 'kunde'" in capsys.readouterr().err and not Path("shop.toml").exists()


def test_fit_says_where_codes_outnumber_the_items(
    shop: pd.DataFrame, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untrained(model, *given):
        raise ValueError("not trained here")

    monkeypatch.setattr("seqlab.training.fit.fit", untrained)
    assert code_of("fit", "tiger", "--dataset", "shop.csv", "--bad", "drop", "--out", "run") == 2
    assert "4 x 256 codes for 25 items" in (err := capsys.readouterr().err) and "--set levels=8,8." in err
    assert code_of("fit", "tiger", "--dataset", "shop.csv", "--bad", "drop", "--out", "run", "--set", "levels=8,8") == 2
    assert "codes for 25 items" not in capsys.readouterr().err
