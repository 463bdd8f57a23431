"""Own data described by a TOML card: the same log as by options, in every place that takes a dataset."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.datasets import DataError, load, read, reload
from seqlab.datasets.log_card import card_text
from seqlab.datasets.unanswered import of_file

ROWS = """kunde;ware;wann;bezeichnung;art;bon
a;X1;31.05.2023 10:00;Tea - black;purchase;1
a;x1 ;01.06.2023 10:00;Tea - black;purchase;1
a;X1;01.06.2023 11:00;Tea - black;view;2
b;X2;02.06.2023 10:00;Mug - large;purchase;3
b;X1;03.06.2023 10:00;Tea - black;purchase;4
b;X1;03.06.2023 10:00;Tea - black;purchase;4
b;X2;01.01.1970 00:00;Mug - large;purchase;5
;X2;03.06.2023 12:00;Mug - large;purchase;6
c;;03.06.2023 12:00;Mug - large;purchase;7
c;X2;soon;Mug - large;purchase;8
c;X2;04.06.2023 10:00;Mug - large;cart;9
c;X1;05.06.2023 10:00;Tea - black;purchase;9
"""
CARD = """
title = "A shop"
licence = "ours"
file = "export.csv"
sep = ";"
time_format = "%d.%m.%Y %H:%M"
bad = "drop"
merge_ids = true
since = 2023-01-01
duplicates = "drop"

[roles]
user = "kunde"
item = "ware"
time = "wann"
title = "bezeichnung"
basket = "bon"

[columns]
bezeichnung = "as on the receipt"

[keep]
art = ["purchase", "cart"]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "export.csv").write_text(ROWS)
    (tmp_path / "shop.toml").write_text(CARD)
    return tmp_path / "shop.toml"


def test_a_card_reads_as_its_arguments_do(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = load(shop)
    assert log.name == "shop" and log.n_events == 6
    assert log.items["item_id"].tolist() == ["X1", "X2"]
    assert log.items["title"].tolist() == ["Tea - black", "Mug - large"]
    assert log.events["item"].tolist() == [1, 1, 2, 1, 2, 1]
    assert log.roles == {"basket": "bon"}
    same = read(
        shop.with_name("export.csv"), "kunde", "ware", "wann", title="bezeichnung", columns={"basket": "bon"}, sep=";",
        time_format="%d.%m.%Y %H:%M", keep={"art": ["purchase", "cart"]}, bad="drop", merge_ids=True,
        since="2023-01-01", duplicates="drop",
    )  # fmt: skip
    assert log.fingerprint(3) == same.fingerprint(3)
    monkeypatch.chdir(tmp_path)
    shop.unlink()  # a run keeps what the card said
    assert reload(log.origin).fingerprint(3) == log.fingerprint(3)


def test_all_that_a_card_drops_is_counted(shop: Path) -> None:
    notes = "\n".join(load(shop).notes)
    assert notes.startswith("A shop. Licence: ours.")
    for sentence in (
        "1 of 12 rows are dropped: column 'art' is not purchase or cart (view 1)",
        "1 of 11 rows are dropped: column 'kunde' has no id",
        "1 of 11 rows are dropped: column 'ware' has no id",
        "1 of 11 rows are dropped: column 'wann' has timestamps that cannot be read, such as 'soon'",
        "1 ids differ from another one only in case or blanks, such as 'x1 ' and 'X1'",
        "1 of 8 rows are dropped: their time is before 2023-01-01",
        "1 of 7 rows are dropped: copies of another row",
    ):
        assert sentence in notes


def test_options_replace_what_a_card_says(shop: Path) -> None:
    assert load(shop, duplicates="keep").n_events == 7
    assert load(shop, since="2023-06-02", columns={"store": "art"}).roles == {"basket": "bon", "store": "art"}
    with pytest.raises(DataError, match=r"3 rows cannot be read\. .*'kunde' has no id: row 9; .*'soon': row 11"):
        load(shop, bad="refuse")


def test_an_item_table_may_write_ids_in_another_way(shop: Path) -> None:
    shop.with_name("goods.csv").write_text("ware;name;kind\nx1;Black tea;tea\nX2;Mug;cup\nX1;Tea, black;tea\n")
    shop.write_text(
        CARD.replace('file = "', 'items = "goods.csv"\nfile = "').replace('title = "bez', 'title = "name" #')
    )
    assert load(shop).items[["title", "kind"]].to_numpy().tolist() == [["Tea, black", "tea"], ["Mug", "cup"]]


def test_histories_are_read_as_the_card_says(shop: Path, tmp_path: Path) -> None:
    rows = ["z;x2;02.06.2029 10:00;purchase", "z;X1;31.05.2023 10:00;purchase", "z;X1;01.06.2023 10:00;view",
            ";X1;01.06.2023 10:00;purchase", "z;X2;soon;purchase", "z;X2;;purchase"]  # fmt: skip
    (tmp_path / "new.csv").write_text("\n".join(["kunde;ware;wann;art", *rows]))
    found = of_file(tmp_path / "new.csv", load(shop))
    assert found.queries.sequences.items.tolist() == [1, 2, 2]  # without a time: last
    assert "1 of 5 rows are dropped: column 'kunde' has no id" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("file = export.csv", r"shop\.toml: this is not TOML .*line 1"),
        ("title = 'a'", "the card names no file"),
        ("file = 'export.csv'\nseparator = ';'", r"shop\.toml has no setting 'separator'\. .*It has: file, "),
        ("file = 'export.csv'\nbad = 'skip'", "bad must be 'refuse' or 'drop'"),
        ("file = 'export.csv'\n[roles]\nusr = 'kunde'", r"no role 'usr' for \[roles\]\. Did you mean 'user'"),
        (CARD.replace('"kunde"', '"kunden"'), "no column 'kunden'.*Did you mean 'kunde'"),
        (CARD.replace("cart", "buy"), r"column 'art' has no value 'buy'\. Its values: 'purchase' \(10\)"),
        (CARD.replace("%d.%m.%Y %H:%M", "german"), "time_format must be one of s, ms, us, ns, or a format"),
        (CARD.replace("export", "gone"), r"gone\.csv: there is no such file"),
        (CARD.replace("2023-01-01", "2023-07-01"), "no row is left.*before 2023-07-01"),
        (CARD.replace("2023-01-01", "'May'"), "since must be a date such as 2024-05-31"),
    ],
)
def test_a_wrong_card_is_one_sentence(shop: Path, card: str, message: str) -> None:
    shop.write_text(card)
    with pytest.raises(ValueError, match=message):
        load(shop)


@given(st.dictionaries(st.text(min_size=1), st.text() | st.booleans() | st.lists(st.text()), max_size=4))
def test_a_written_card_is_toml_with_these_values(facts: dict) -> None:
    facts = {key: value for key, value in facts.items() if "." not in key}
    text = card_text(facts | {"keep": facts}, dict.fromkeys(facts, "a\ncomment"))
    assert tomllib.loads(text) == facts | {"keep": facts}
