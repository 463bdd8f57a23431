"""Histories of a log and of a file, for queries without an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqlab import datasets
from seqlab.datasets import DataError, unanswered
from seqlab.datasets.log import make_log


@pytest.fixture
def split(tmp_path: Path) -> datasets.Split:
    """A log with ids that are no numbers, a basket and a price, read from a file with columns of its own."""
    rows = [
        ("ann", "tea", 1, "b1", 2.0), ("ann", "cup", 2, "b1", 3.0), ("ann", "pot", 3, "b2", 4.0),
        ("bob", "cup", 1, "b3", 3.5), ("bob", "tea", 5, "b4", 2.5), ("bob", "pot", 6, "b4", 4.5),
    ]  # fmt: skip
    path = tmp_path / "shop.csv"
    pd.DataFrame(rows, columns=["who", "what", "at", "order", "price"]).to_csv(path, index=False)
    log = datasets.read(path, user="who", item="what", time="at", columns={"basket": "order"})
    return datasets.split(log, "leave-one-out", ("basket", "price"))


def items_of(found: unanswered.Unanswered, split: datasets.Split) -> dict[str, list[str]]:
    batch = found.queries.batch(np.arange(len(found)))
    ids = ["", *split.log.items["item_id"]]
    return {
        user: [ids[item] for item in row[:length].tolist()]
        for user, row, length in zip(found.user_ids, batch.items, batch.lengths.tolist(), strict=True)
    }


def test_the_whole_log_and_its_parts(split: datasets.Split) -> None:
    assert items_of(unanswered.of_split(split), split) == {"ann": ["tea", "cup", "pot"], "bob": ["cup", "tea", "pot"]}
    assert items_of(unanswered.of_split(split, "test"), split) == {"ann": ["tea", "cup"], "bob": ["cup", "tea"]}
    with pytest.raises(ValueError, match="part must be one of all, valid, test"):
        unanswered.of_split(split, "train")


def test_users_in_the_order_of_their_file(split: datasets.Split, tmp_path: Path) -> None:
    file = tmp_path / "users.txt"
    file.write_text("user_id\nbob\n\nann\nzoe\nbob\n")
    found = unanswered.of_split(split).of_users(unanswered.read_user_ids(file), "users.txt")
    assert found.user_ids.tolist() == ["bob", "ann"]
    assert found.notes == ("users.txt: not in the data, so without a list: 1 user ('zoe').",)
    with pytest.raises(DataError, match=r"none of these users is in the data: 1 user \('zoe'\)"):
        unanswered.of_split(split).of_users(["zoe"], "users.txt")
    file.write_text("\n")
    with pytest.raises(DataError, match="no id of a user"):
        unanswered.read_user_ids(file)
    pd.DataFrame({"age": [3, 4], "who": ["ann", "bob"], "user": ["x", "y"]}).to_csv(tmp_path / "u.csv", index=False)
    assert unanswered.read_user_ids(tmp_path / "u.csv") == ["x", "y"]


def test_histories_of_new_users_from_a_file(split: datasets.Split, tmp_path: Path) -> None:
    rows = [("zoe", "pot", 9, "b9", 4.0), ("zoe", "tea", 7, "b4", 2.0), ("yan", "mug", 1, "b1", 1.0),
            ("ann", "cup", 8, "b1", 1.5), ("zoe", "jar", 8, "b8", 1.0), ("zoe", "cup", 9.5, "b9", 4.0)]  # fmt: skip
    file = tmp_path / "new.csv"
    pd.DataFrame(rows, columns=["who", "what", "at", "order", "price"]).to_csv(file, index=False)
    found = unanswered.of_file(file, split.log, ("basket", "price"))
    assert items_of(found, split) == {"ann": ["cup"], "zoe": ["tea", "pot", "cup"]}
    assert found.queries.user.tolist() == [1, 0]  # ann has parameters of her own, zoe is new
    batch = found.queries.batch(np.array([1]))
    assert batch.times[0].tolist() == [7.0, 9.0, 9.5] and batch.extra["price"][0].tolist() == [2.0, 4.0, 4.0]
    first, *others = batch.extra["basket"][0].tolist()
    assert first == 4 and others[0] == others[1] > 4  # the log has b1 to b4; b9 is a basket of its own
    known, new = found.notes
    assert "not in the data of the run: 2 items ('jar', 'mug'), 2 events" in known
    assert "without a list: 1 user ('yan')" in new


def test_a_file_without_times_or_without_known_items(split: datasets.Split, tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    pd.DataFrame({"customer": ["z", "z"], "sku": ["pot", "tea"]}).to_csv(file, index=False)
    found = unanswered.of_file(file, split.log)
    assert items_of(found, split) == {"z": ["pot", "tea"]} and bool(found.queries.sequences.times.isnan().all())
    pd.DataFrame({"customer": ["z"], "sku": ["mug"]}).to_csv(file, index=False)
    with pytest.raises(DataError, match=r"no item of column 'sku' is in the data of the run \('mug'\); an example"):
        unanswered.of_file(file, split.log)


def test_ids_that_are_numbers_match_however_they_are_written(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [1, 1, 2, 2], "item": [10, 20, 10, 30], "timestamp": [1, 2, 1, 2]})
    log = make_log(frame)
    file = tmp_path / "new.csv"
    file.write_text("user,item,timestamp\n7,30,1\n7,20.0,2\n")
    found = unanswered.of_file(file, log)
    assert found.queries.sequences.items.tolist() == [3, 2] and found.user_ids.tolist() == [7]
