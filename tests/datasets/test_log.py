from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.integers(2, 40), st.randoms(use_true_random=False))
def test_shuffled_ties_keep_every_basket_and_nothing_else_of_the_order(size, random):
    rows = [(user, item, random.randrange(4)) for user in (1, 2) for item in range(size)]
    plain, mixed = (make_log(frame(rows), ties=ties) for ties in ("source", "shuffle"))
    columns = ["user", "timestamp"]
    assert mixed.events[columns].equals(plain.events[columns])
    together = [log.events.sort_values(["user", "timestamp", "item"]).reset_index(drop=True) for log in (plain, mixed)]
    assert together[0].equals(together[1])
    assert mixed.fingerprint() == make_log(frame(rows), ties="shuffle").fingerprint()


def test_shuffling_hides_the_sorting_but_the_log_remembers_it():
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


SHOP = pd.DataFrame({"item": ["milk", "rye", "tea"], "title": ["Milk", "Rye", "Tea"], "aisle": ["1", "2", "3"]})
CHANGES = {
    "a title": (BASKETS, SHOP.assign(title=["Milk", "Rye!", "Tea"])),
    "a text column": (BASKETS, SHOP.assign(aisle=["1", "2", "4"])),
    "a column's name": (BASKETS, SHOP.rename(columns={"aisle": "shelf"})),
    "one more column": (BASKETS, SHOP.assign(brand="")),
    "a text that moves to the next column": (BASKETS, SHOP.assign(title=["Milk1", "Rye", "Tea"], aisle=["", "2", "3"])),
    "an item's label": (BASKETS.replace("rye", "rye2"), SHOP.replace("rye", "rye2")),
    "a user's label": (BASKETS.replace("bo", "bob"), SHOP),
    "a column of the events": (BASKETS.assign(price=1), SHOP),
}


@pytest.mark.parametrize(("events", "items"), CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_covers_all_that_a_system_may_read(events, items):
    log, other = make_log(BASKETS, items=SHOP, title="title"), make_log(events, items=items, title="title")
    assert other.fingerprint() != log.fingerprint()
    assert other.fingerprint(1) == log.fingerprint(1)  # which is of users, items and times alone
    assert make_log(BASKETS, items=SHOP, title="title", name="other").fingerprint() == log.fingerprint()


def test_the_fingerprint_knows_how_ties_and_repeats_are_taken():
    logs = [make_log(BASKETS.iloc[[1, 2]].assign(user="al"), repeats=one, ties=two)
            for one in (True, False) for two in ("source", "shuffle")]  # fmt: skip
    assert len({log.fingerprint() for log in logs}) == 4 and len({log.fingerprint(1) for log in logs}) == 1


def test_version_1_of_the_fingerprint_stays_what_stored_runs_hold():
    untimed = make_log(frame([(1, 3, None), (2, 1, 9), (1, 1, 4), (2, 2, 1)]), order="source")
    assert make_log(BASKETS).fingerprint(1) == "509318ca58b16033c67ba956d072ed34582b7d9fd6c865f473514fe3fb4fd819"
    assert untimed.fingerprint(1) == "55e95af4e192b38de485fe59e935ad92c53f506d884d68e159565e9562a57b14"
    with pytest.raises(ValueError, match="versions 1 and 2"):
        untimed.fingerprint(3)


SAME = {
    "numbers": [
        [1, 2, 3, 2, 1], [1.0, 2, 3, 2, 1], ["1", "2", "3", "2", "1"], pd.Categorical([1, 2, 3, 2, 1]),
        pd.array([1, 2, 3, 2, 1], dtype="Int64"), pd.array([1, 2, 3, 2, 1], dtype="int8[pyarrow]"),
        pd.Series([1.0, 2.0, 3, 2, 1], dtype=object), np.array([1, 2, 3, 2, 1], np.uint16),
    ],
    "gaps": [
        [1, None, 3, 2, 1], ["1", "", "3", "2", "1"], pd.array([1, None, 3, 2, 1], dtype="Int64"),
        pd.Categorical(["1", None, "3", "2", "1"]),
    ],
    "decimals": [[0.5, 0.0, 2, 1, 1], [0.5, -0.0, 2, 1, 1], ["0.5", "0", "2.0", "1", "1"]],
    "words": [
        ["a", None, "b", "a", "b"], pd.array(["a", None, "b", "a", "b"], dtype="str"),
        pd.Categorical(["a", None, "b", "a", "b"], categories=["unused", "b", "a"]),
        pd.array(["a", None, "b", "a", "b"], dtype="string[pyarrow]"), ["a", "", "b", "a", "b"],
    ],
    "padded": [["01", "2", "3", "2", "01"]],
    "yes and no": [[True, False, True, True, True], ["True", "False", "True", "True", "True"]],
    "nothing": [[None] * 5, [float("nan")] * 5, [""] * 5, pd.array([None] * 5, dtype="Int64")],
}  # fmt: skip


def test_the_fingerprint_depends_on_values_not_on_how_pandas_stores_them():
    found = {
        kind: {make_log(BASKETS.assign(more=values)).fingerprint() for values in stored}
        for kind, stored in SAME.items()
    }
    assert {kind: len(prints) for kind, prints in found.items()} == dict.fromkeys(SAME, 1)
    assert len(set.union(*found.values())) == len(SAME)  # and other values have another print
    text = BASKETS.astype({"user": "string[pyarrow]", "item": "category"})
    halves = pd.concat([text.iloc[:2], text.iloc[2:]])  # a column of two chunks
    assert make_log(halves).fingerprint() == make_log(BASKETS).fingerprint()


def test_the_fingerprint_sees_order_and_times_but_not_the_name():
    log = make_log(BASKETS)
    assert make_log(BASKETS, name="other").fingerprint() == log.fingerprint()
    assert make_log(BASKETS.iloc[::-1]).fingerprint() != log.fingerprint()
    assert make_log(BASKETS.assign(timestamp=BASKETS["timestamp"] + 1)).fingerprint() != log.fingerprint()


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


def test_exact_copies_are_counted_and_are_no_repeats():
    assert make_log(BASKETS).repeats is False
    log = make_log(pd.concat([BASKETS, BASKETS.iloc[::-1], BASKETS.iloc[:1]]))
    assert log.repeats is False and log.n_events == 11
    assert any(note.startswith("6 events repeat another exactly") for note in log.notes)
    assert any(note.startswith("0.0% of events bring back") for note in log.notes)


def test_repeats_are_found_beside_copies_and_their_share_is_without_them():
    random = np.random.default_rng(3)
    rows = [(user, int(item), step) for user in range(50) for step, item in enumerate(random.permutation(90)[:20])]
    back = [(user, rows[20 * user][1], 100) for user in range(50)]  # one event of each user comes back: 1 of 21
    few, many = (frame([*rows, *back[:many], *rows[:400]]) for many in (5, 50))
    for rows, repeats, share in ((few, False, "0.5%"), (many, True, "4.8%")):
        log = make_log(rows)
        assert log.repeats is repeats and any(note.startswith(f"{share} of events bring back") for note in log.notes)
    told = make_log(few, repeats=False).notes
    assert any(note.startswith("5 events bring back an item") for note in told)


def test_without_timestamps_a_copy_counts_as_a_repeat_and_a_note_says_why():
    log = make_log(frame([(1, 1, None), (1, 1, None), (1, 2, None), (2, 1, None)]), order="source")
    assert log.repeats is True
    assert any("copies of one event cannot be told from repeats" in note for note in log.notes)


def test_times_that_run_backwards_in_the_source_are_counted():
    rows = [(1, 1, 50), (1, 2, None), (1, 3, 40), (1, 4, 45), (2, 1, 10), (2, 2, 10), (3, 1, 9), (3, 2, 8), (3, 3, 7)]
    log = make_log(frame(rows), order="source")
    assert any(note.startswith("3 events of 2 users are earlier than the event before them") for note in log.notes)
    timed = frame([row for row in rows if row[2] is not None])
    assert not any("backwards" in note for note in make_log(timed).notes)


NAN = float("nan")
BAD = {
    "a gap among ids": (
        [(1, 1, 1), (NAN, 2, 2)],
        r"'user' has no id in 1 of 2 rows \(these gaps.*1\.0\): row 1 ",
    ),
    "a blank id": ([("a", "x", 1), ("b", " ", 2)], "'item' has no id.*row 1 "),
    "a negative id": ([(1, 1, 1), (1, -2, 2)], r"'item'.*\(-2\) in row 1 "),
    "a fraction": ([(1, 1.5, 1), (1, 2, 2)], r"'item'.*\(1\.5\) in row 0 "),
    "an endless id": ([(1, float("inf"), 1), (1, 2, 2)], "'item'.*inf"),
    "mixed types": ([(1, 1, 1), (1, "1", 2), (1, 3, 3)], r"'item' mixes types \(int, str\).*row 1 .*astype"),
    "true and false": ([(True, 1, 1), (False, 2, 2)], "'user' holds true/false"),
    "lists": ([([1], 1, 1), ([2], 2, 2)], "'user' holds lists"),
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
    "one item": ([(1, 7, 1), (1, 7, 2)], "'item' holds one item alone"),
    "no histories": ([(1, 1, 1), (2, 2, 2)], "every user in column 'user' has one event"),
    "no rows": ([], "there are no rows"),
}


@pytest.mark.parametrize(("rows", "message"), BAD.values(), ids=BAD)
def test_bad_events_are_refused_with_column_rows_and_remedy(rows, message):
    with pytest.raises(DataError, match=message):
        make_log(frame(rows), where="a.csv")


def test_a_missing_column_names_the_nearest_and_all_there_are():
    with pytest.raises(DataError, match=r"no column 'users'.*'user', 'item', 'timestamp'.*Did you mean 'user'\?"):
        make_log(BASKETS, user="users")
    with pytest.raises(DataError, match="2 columns are called 'item'"):
        make_log(pd.concat([BASKETS, BASKETS[["item"]]], axis=1))


def test_item_rows_that_are_double_or_of_another_shop_are_refused():
    with pytest.raises(DataError, match="describes 1 items more than once: rows 0, 2"):
        make_log(BASKETS, items=pd.DataFrame({"item": ["milk", "rye", "milk"]}))
    with pytest.raises(DataError, match="none of the ids"):
        make_log(BASKETS, items=pd.DataFrame({"item": ["nails"], "title": ["Nails"]}), title="title")


def test_single_event_users_are_kept_and_counted():
    log = make_log(frame([(1, 1, 1), (1, 2, 2), (2, 1, 3)]))
    assert log.n_users == 2
    assert any("1 users have a single event" in note for note in log.notes)
