from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.datasets import leave_one_out, smells
from seqlab.datasets.log import make_log
from seqlab.runtime.text import DataError


def frame(rows, columns=("user", "item", "timestamp")):
    return pd.DataFrame(rows, columns=list(columns))


BASKETS = frame([("bo", "milk", 20), ("al", "milk", 5), ("bo", "tea", 10), ("al", "rye", 5), ("bo", "rye", 20)])


def histories(log):
    """user label -> item labels, oldest first."""
    named = log.events.assign(
        user=log.users["user_id"].reindex(log.events["user"]).to_numpy(),
        item=log.items["item_id"].reindex(log.events["item"]).to_numpy(),
    )
    return named.groupby("user")["item"].agg(list).to_dict()


def test_events_are_grouped_by_user_oldest_first_and_equal_times_keep_the_source_order():
    log = make_log(BASKETS)
    assert histories(log) == {"al": ["milk", "rye"], "bo": ["tea", "milk", "rye"]}
    assert log.events["user"].is_monotonic_increasing
    assert log.events.dtypes.astype(str).to_dict() == {
        "user": "int64",
        "item": "int64",
        "timestamp": "float64",
    }


def test_source_order_is_never_sorted_and_may_lack_times():
    log = make_log(frame([(1, 3, None), (2, 1, 9), (1, 1, 4), (2, 2, 1)]), order="source")
    assert histories(log) == {1: [3, 1], 2: [1, 2]}
    assert any("1 events have no timestamp" in note for note in log.notes)


def test_ids_that_are_1_to_n_keep_their_numbers_and_others_follow_their_sorted_labels():
    kept = make_log(frame([(2, 3, 1), (2, 1, 2), (1, 2, 3)]))
    assert kept.events["item"].tolist() == [2, 3, 1] and kept.events["user"].tolist() == [1, 2, 2]
    # popularity and time of first appearance would both put 90 first
    other = make_log(frame([(5, 90, 1), (5, 90, 2), (5, 90, 3), (5, 7, 4)]))
    assert other.items["item_id"].tolist() == [7, 90]


@settings(max_examples=20)
@given(st.integers(2, 40), st.randoms(use_true_random=False))
def test_shuffled_ties_change_the_order_within_baskets_only(size, random):
    rows = [(user, item, random.randrange(4)) for user in (1, 2) for item in range(size)]
    plain, mixed = (make_log(frame(rows), ties=ties) for ties in ("source", "shuffle"))
    columns = ["user", "timestamp"]
    assert mixed.events[columns].equals(plain.events[columns])
    together = [log.events.sort_values(["user", "timestamp", "item"]).reset_index(drop=True) for log in (plain, mixed)]
    assert together[0].equals(together[1])
    assert mixed.fingerprint() == make_log(frame(rows), ties="shuffle").fingerprint()


def test_shuffling_removes_the_sorting_but_the_log_records_it():
    rows = [(user, item, basket) for user in range(30) for basket in range(5) for item in range(10)]
    log = make_log(frame(rows), ties="shuffle")
    assert log.source_ties_sorted == 1.0
    steps = np.diff(log.events["item"])[np.diff(log.events["timestamp"]) == 0]
    assert 0.4 < (steps > 0).mean() < 0.6


def test_select_drops_what_has_no_event_and_renumbers_with_labels_and_titles():
    items = pd.DataFrame({"item": ["milk", "rye", "tea"], "name": ["Milk", "Rye bread", ""], "aisle": [1, 2, None]})
    log = make_log(BASKETS.assign(price=[1.0, 2, 3, 4, 5]), items=items, title="name")
    kept = log.select((log.events["timestamp"] == 20).to_numpy(), "only the last baskets.")
    assert (kept.n_users, kept.n_items, kept.n_events) == (1, 2, 2)
    assert kept.items.to_dict("list") == {
        "item_id": ["milk", "rye"],
        "title": ["Milk", "Rye bread"],
        "aisle": ["1", "2"],
    }
    assert kept.users["user_id"].tolist() == ["bo"]
    assert kept.events[["user", "item", "price"]].values.tolist() == [[1, 1, 1.0], [1, 2, 5.0]]
    assert kept.notes[-1] == "only the last baskets."
    named = replace(log, card="shop", origin={"path": "/log.csv"}).select(np.array([0, 1]), "two")
    assert (named.card, named.origin) == ("shop", None)  # no file holds these events alone
    assert kept.select(np.array([1, 0]), "all").events.equals(kept.events)
    with pytest.raises(DataError, match="no event is left"):
        log.select(np.zeros(log.n_events, bool), "nothing")


def test_select_may_keep_the_numbers_and_tables_of_users_and_items():
    items = pd.DataFrame({"item": ["milk", "rye", "tea"], "name": ["Milk", "Rye", "Tea"]})
    log = make_log(BASKETS, items=items, title="name", users=pd.DataFrame({"user": ["bo", "al"], "age": [3, 4]}))
    tables = {
        "coupons": pd.DataFrame({"item": [3, 1, 2, 0], "upc": [9, 8, 7, 6]}),
        "visits": pd.DataFrame({"user": [2, 1]}),
    }
    log = replace(log, tables=tables)
    rows = (log.events["timestamp"] == 20).to_numpy()  # bo buys milk and rye
    kept, new = log.select(rows, "a month", keep_numbering=True), log.select(rows, "a month")
    assert kept.users is log.users and kept.items is log.items and kept.tables is tables and kept.n_events == 2
    assert kept.events[["user", "item"]].values.tolist() == [[2, 1], [2, 2]] and kept.notes[-1] == "a month"
    assert new.tables["coupons"].to_dict("list") == {"item": [0, 1, 2, 0], "upc": [9, 8, 7, 6]}
    assert new.tables["visits"]["user"].tolist() == [1, 0] and new.users["age"].tolist() == ["3"]
    names = [one.items["title"][one.events["item"]].tolist() for one in (kept, new)]
    assert names == [["Milk", "Rye"]] * 2
    split = leave_one_out(log.select(log.events["user"].to_numpy() == 2, "bo alone", keep_numbering=True))
    assert len(split.test) == 1 and split.train.n_users == 2 and split.n_items == 3
    smells(split)
    assert "users" in kept.summary()["fact"].tolist()


def test_html_in_titles_and_notes_stays_text():
    nasty = "<script>alert(1)</script>"
    items = pd.DataFrame({"item": ["milk", "rye", "tea"], "name": [nasty, "b", "c"]})
    log = make_log(BASKETS.rename(columns={"user": nasty}), user=nasty, items=items, title="name", name=nasty)
    assert log.items["title"].tolist()[0] == nasty
    assert "<script>" not in log._repr_html_() and "&lt;script&gt;" in log._repr_html_()


def test_titles_fall_back_to_the_id_and_the_missing_are_counted():
    log = make_log(BASKETS, items=pd.DataFrame({"item": ["milk"], "title": ["  "], "year": [1995.0]}), title="title")
    assert log.items["title"].tolist() == ["milk", "rye", "tea"]
    assert log.items["year"].tolist() == ["1995", "", ""]
    assert any("2 items have no row" in note for note in log.notes)


def test_a_title_column_among_the_events_is_enough():
    log = make_log(BASKETS.assign(words=["Milk!", "Milk!", "Tea!", "Rye!", "Rye!"]), title="words")
    assert log.items["title"].tolist() == ["Milk!", "Rye!", "Tea!"]
    assert "words" not in log.events


NAN = float("nan")
BAD = {
    "a gap among ids": (
        [(1, 1, 1), (NAN, 2, 2)],
        r"'user' has no id in 1 of 2 rows \(missing values.*1\.0\): row 1 ",
    ),
    "a blank id": ([("a", "x", 1), ("b", " ", 2)], "'item' has no id.*row 1 "),
    "a negative id": ([(1, 1, 1), (1, -2, 2)], r"'item'.*\(-2\) in row 1 "),
    "a fraction": ([(1, 1.5, 1), (1, 2, 2)], r"'item'.*\(1\.5\) in row 0 "),
    "an endless id": ([(1, float("inf"), 1), (1, 2, 2)], "'item'.*inf"),
    "mixed types": ([(1, 1, 1), (1, "1", 2), (1, 3, 3)], r"'item' mixes types \(int, str\).*row 1 .*astype"),
    "true and false": ([(True, 1, 1), (False, 2, 2)], "'user' contains booleans"),
    "lists": ([([1], 1, 1), ([2], 2, 2)], "'user' contains lists"),
    "a time that is none": (
        [(1, 1, "2020-01-01"), (1, 2, "noon")],
        "'timestamp' has 1 timestamps.*'noon'.*row 1 ",
    ),
    "an absent time": (
        [(1, 1, 5), (1, 2, None)],
        "'timestamp' has no timestamp in 1 of 2 rows: row 1 .*order='source'",
    ),
    "two units": (
        [(1, 1, 1_500_000_000), (1, 2, 1_500_000_000_000)],
        "mixes timestamps in milliseconds and seconds",
    ),
    "one item": ([(1, 7, 1), (1, 7, 2)], "'item' contains a single item"),
    "no histories": ([(1, 1, 1), (2, 2, 2)], "every user in column 'user' has a single event"),
    "no rows": ([], "there are no rows"),
}


@pytest.mark.parametrize(("rows", "message"), BAD.values(), ids=BAD)
def test_errors_of_events_have_column_rows_and_remedy(rows, message):
    with pytest.raises(DataError, match=message):
        make_log(frame(rows), where="a.csv")


def test_the_error_of_a_missing_column_has_the_closest_and_all_names():
    with pytest.raises(DataError, match=r"no column 'users'.*'user', 'item', 'timestamp'.*Did you mean 'user'\?"):
        make_log(BASKETS, user="users")
    with pytest.raises(DataError, match="2 columns are called 'item'"):
        make_log(pd.concat([BASKETS, BASKETS[["item"]]], axis=1))


def test_duplicate_or_unrelated_item_rows_raise():
    with pytest.raises(DataError, match="contains 1 items more than once: rows 0, 2"):
        make_log(BASKETS, items=pd.DataFrame({"item": ["milk", "rye", "milk"]}))
    with pytest.raises(DataError, match="none of the ids"):
        make_log(BASKETS, items=pd.DataFrame({"item": ["nails"], "title": ["Nails"]}), title="title")


def test_single_event_users_are_kept_and_counted():
    log = make_log(frame([(1, 1, 1), (1, 2, 2), (2, 1, 3)]))
    assert log.n_users == 2
    assert any("1 users have a single event" in note for note in log.notes)
