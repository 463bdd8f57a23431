import numpy as np
import pandas as pd
import pytest

from seqlab.datasets import DataError, load, read
from tests.datasets.test_reading import CATALOG, ROWS, write


def test_guessed_columns_are_noted():
    log = read(ROWS.rename(columns={"customer": "userId", "when": "Event Time"}), items=CATALOG)
    notes = " ".join(log.notes)
    for note in (
        "'userId' taken as the user",
        "'sku' taken as the item",
        "'Event Time' taken as the time",
        "'name' taken as the title",
    ):
        assert note in notes
    with pytest.raises(DataError, match=r"no column looks like the item.*item=.*'who', 'what'"):
        read(pd.DataFrame({"who": [1], "what": [2]}), user="who")


def test_of_two_columns_of_times_the_one_that_orders_the_events_is_taken(tmp_path):
    moments = pd.date_range("2024-05-01", periods=12, freq="5h")
    frame = pd.DataFrame({"user": [1, 2] * 6, "item": range(12), "date": moments.strftime("%Y-%m-%d")})
    for name, values in {
        "time_ms": moments.astype("datetime64[ms]").astype(np.int64).astype(str),
        "event_time": moments.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "logged at": moments.strftime("%Y%m%d%H%M%S"),
    }.items():
        path = tmp_path / "log.csv"
        frame.assign(**{name: values}).to_csv(path, index=False)
        for source in (path, frame.assign(**{name: values})):
            log = read(source)
            assert sorted(log.events["timestamp"]) == (moments.astype("datetime64[s]").astype(np.int64)).tolist()
            assert any(f"{name!r} taken as the time: 'date'" in note for note in log.notes)
        assert read(path, time="date").events["timestamp"].nunique() == 3


def test_a_column_of_unrelated_times_is_not_taken_as_the_time():
    frame = pd.DataFrame({"user": [1, 2] * 4, "item": range(8), "date": [f"2024-05-0{1 + n // 4}" for n in range(8)]})
    within = frame.assign(timeframe=[500 * (9 - n) for n in range(8)])
    released = frame.assign(release_date=[f"199{n}-01-01" for n in range(8)])
    broken = frame.assign(time_zone=["CET"] * 8)
    for table in (within, released, broken):
        assert any("column 'date' taken as the time." in note for note in read(table).notes)


def test_a_column_of_titles_in_the_events_is_found_but_not_one_of_reviews(tmp_path):
    head, rows = "user,item,time,{}\n", "1,7,1,{}\n1,8,2,{}\n2,7,3,{}\n2,8,4,{}\n"
    for name, cells, titles in (
        ("title", ("Tea", "Rye", "Tea", "Rye"), ["Tea", "Rye"]),
        ("product_name", ("Tea", "Rye", "Green tea", "Rye"), ["Tea", "Rye"]),
        ("title", ("10", "20", "10", "20"), ["7", "8"]),
        ("text", ("good", "bad", "fine", "so so"), ["7", "8"]),
        ("name", ("Ann", "Ann", "Bob", "Bob"), ["7", "8"]),
    ):
        path = write(tmp_path / "log.csv", head.format(name) + rows.format(*cells))
        for log in (load(path), read(pd.read_csv(path))):
            assert log.items["title"].tolist() == titles
            assert any(f"column {name!r} taken as the title" in note for note in log.notes) == (titles != ["7", "8"])


def test_the_columns_of_recbole_are_known(tmp_path):
    text = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t978300000\n1\t3\t3\t978300060\n"
    assert load(write(tmp_path / "ml.inter", text)).events["timestamp"].tolist() == [978300000, 978300060]
