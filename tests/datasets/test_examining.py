"""What is seen in a file of events that nobody has described, and the first card that is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from seqlab.datasets.examining import examine


def shop(path: Path, **changes: dict[int, str]) -> Path:
    """200 rows of 20 customers and 10 products; changes: column -> row -> value."""
    rng = np.random.default_rng(0)
    sku, times = rng.integers(0, 10, 200), pd.date_range("2023-03-01", periods=200, freq="D")
    frame = pd.DataFrame({
        "customer_no": [f"C{one}" for one in rng.integers(0, 20, 200)],
        "sku": [f"SKU{one}" for one in sku],
        "ordered_at": times.strftime("%Y-%m-%d"),
        "what": [f"Nice thing {one}" for one in sku],
        "event_type": rng.choice(["view", "purchase"], 200),
        "colour": rng.choice(["red", "blue"], 200),
    })  # fmt: skip
    for column, values in changes.items():
        for row, value in values.items():
            frame.loc[row, column] = value
    frame.to_csv(path, index=False)
    return path


def test_every_kind_of_bad_row_is_seen_in_one_pass(tmp_path: Path) -> None:
    odd = {"ordered_at": {3: "soon", 4: "", 5: "1970-01-01", 6: "2124-01-01"}, "sku": {7: "sku1 ", 8: "n/a"}}
    path = shop(tmp_path / "a.csv", **odd, customer_no={9: ""})
    pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False)] * 2).iloc[:201].to_csv(path, index=False)
    found = examine(path, {"user": "customer_no"})
    seen = "\n".join(found.seen)
    for sentence in (
        "1 rows are bad: column 'customer_no' has no id: row 11.",
        "1 rows are bad: column 'sku' has no id ('n/a' counts as missing): row 10.",
        "1 rows are bad: column 'ordered_at' has no timestamp: row 6.",
        "1 rows are bad: column 'ordered_at' has timestamps that cannot be read, such as 'soon': row 5.",
        "Times are from 2023-03-01 to 2023-09-16.",
        "1 events are years before all others, such as 1970-01-01: row 7.",
        "1 events are years after all others, such as 2124-01-01: row 8.",
        "Column 'sku': 1 ids differ from another one only in case or blanks, such as 'sku1 ' and 'SKU1'.",
        "1 rows are copies of another one (user, item and time): row 202.",
        "Column 'event_type' mixes types of events: ",
        "The title is column 'what'",
        "Columns without a role are kept as they are: 'colour'.",
    ):
        assert sentence in seen
    facts = found.facts
    assert facts["roles"] == {"user": "customer_no", "item": "sku", "time": "ordered_at", "title": "what",
                              "action": "event_type"}  # fmt: skip
    assert sorted(facts["keep"]["event_type"]) == ["purchase", "view"]
    rest = {key: facts[key] for key in ("bad", "merge_ids", "since", "until", "duplicates")}
    assert rest == {
        "bad": "drop",
        "merge_ids": True,
        "since": "2023-03-01",
        "until": "2023-09-17",
        "duplicates": "drop",
    }


def test_a_clean_file_needs_columns_only(tmp_path: Path) -> None:
    found = examine(shop(tmp_path / "a.csv"), {"user": "customer_no"})
    assert found.facts.keys() == {"file", "roles", "keep"}
    assert not any("bad" in one or "copies" in one or "years" in one for one in found.seen)


def test_times_in_a_local_format_are_named(tmp_path: Path) -> None:
    days = {row: f"{1 + row % 28:02d}/{1 + row // 28:02d}/2023 10:30" for row in range(200)}
    found = examine(shop(tmp_path / "a.csv", ordered_at=days), {"user": "customer_no"})
    assert found.facts["time_format"] == "%d/%m/%Y %H:%M" and "time_format" in found.comments
    assert any("from 2023-01-01 to" in one for one in found.seen)
