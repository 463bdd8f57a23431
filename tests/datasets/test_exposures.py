"""Exposures: validation, order, selection, and their place in a log."""

import numpy as np
import pandas as pd
import pytest

from seqlab import datasets
from seqlab.datasets import DataError
from seqlab.datasets.exposures import Exposures, log_of_exposures
from seqlab.datasets.simulated import slates
from tests.synthetic import log_of

SHOWN = pd.DataFrame(
    [("b", 2, 50.0, 3, 0), ("b", 2, 50.0, 1, 1), ("a", 1, 70.0, 2, 0), ("a", 1, 70.0, 3, 0), ("a", 1, 70.0, 1, 0),
     ("c", 1, 60.0, 1, 0), ("c", 1, 60.0, 2, 1)],
    columns=["slate", "user", "timestamp", "item", "clicked"],
)  # fmt: skip


def ragged(seed: int, users: int = 12, items: int = 9, most: int = 7) -> Exposures:
    """Slates of 1 to 5 items; some users have few, and the clicks are random."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(1, users + 1):
        for _ in range(random.integers(1, most + 1)):
            length, when = random.integers(1, 6), random.integers(0, 30)
            chosen = random.integers(0, length + 1)
            for slot, item in enumerate(random.permutation(items)[:length] + 1, 1):
                rows.append((len(rows) - slot, user, float(when), item, slot == chosen))
    return Exposures.from_frame(pd.DataFrame(rows, columns=SHOWN.columns))


def test_slates_are_sorted_by_user_and_time_with_their_slots():
    shown = Exposures.from_frame(SHOWN)
    assert shown.user.tolist() == [1, 1, 2] and shown.times.tolist() == [60.0, 70.0, 50.0]
    assert shown.padded().tolist() == [[1, 2, 0], [2, 3, 1], [3, 1, 0]]
    assert shown.clicked.tolist() == [2, 0, 2] and shown.item.tolist() == [2, 0, 1]
    assert shown.slot.tolist() == [1, 2, 1, 2, 3, 1, 2] and shown.slate.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert shown.is_clicked.tolist() == [False, True, False, False, False, False, True]
    assert shown.click_rate == pytest.approx(2 / 3) and len(shown) == 3 and "3 slates of 2 users" in repr(shown)


def test_a_column_orders_the_slots_whatever_the_order_of_the_rows():
    placed = SHOWN.assign(slot=[10, 20, 1, 2, 3, 0.5, 0.7], propensity=np.linspace(0.1, 0.7, 7))
    expected = Exposures.from_frame(placed)
    shuffled = Exposures.from_frame(placed.sample(frac=1, random_state=0))
    assert shuffled.padded().tolist() == expected.padded().tolist()
    assert shuffled.clicked.tolist() == expected.clicked.tolist()
    assert (
        shuffled.propensity.tolist()
        == expected.propensity.tolist()
        == pytest.approx([0.6, 0.7, 0.3, 0.4, 0.5, 0.1, 0.2])
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_frame_and_back_changes_nothing(seed):
    shown = ragged(seed)
    again = Exposures.from_frame(shown.to_frame())
    assert again.fingerprint() == shown.fingerprint()
    pd.testing.assert_frame_equal(again.to_frame(), shown.to_frame())


def test_the_fingerprint_covers_every_part():
    log, _ = slates(0, users=5, items=6, slates=3, shown=4)
    frame = log.tables["exposures"]
    prints = {Exposures.from_frame(frame).fingerprint()}
    later = frame.assign(timestamp=frame["timestamp"] + 1)
    other_item = frame.assign(item=frame["item"] % 6 + 1)
    for changed in (later, other_item, frame.assign(clicked=0), frame.iloc[4:], frame.drop(columns="propensity"),
                    frame.assign(propensity=0.5), frame.assign(user=frame["user"] + 1)):  # fmt: skip
        prints.add(Exposures.from_frame(changed).fingerprint())
    assert len(prints) == 8


@pytest.mark.parametrize("rows", [[True, False, True], [0, 2], [2, 0]])
def test_selected_slates_keep_their_order_and_slots(rows):
    shown = Exposures.from_frame(SHOWN.assign(propensity=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])).select(rows)
    assert shown.padded().tolist() == [[1, 2], [3, 1]] and shown.clicked.tolist() == [2, 2]
    assert shown.propensity.tolist() == [0.6, 0.7, 0.1, 0.2] and shown.offsets.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"clicked": 1}, r"2 have several|3 have several"), ({"clicked": 2}, "'clicked' must be 0 or 1: rows 0, 1"),
     ({"item": 1}, "shows an item once, but slate b, a, c"), ({"item": 0}, "'item' must be whole numbers from 1"),
     ({"user": [1, 2, 1, 1, 1, 1, 1]}, "one user; those of slate b"), ({"user": 1.5}, "'user' must be whole numbers"),
     ({"timestamp": range(7)}, "one time; those of slate b, a, c"), ({"timestamp": np.nan}, "'timestamp'"),
     ({"slate": [None, *"baaacc"]}, "'slate' has no slate in row 0"), ({"propensity": 0}, "probability above 0"),
     ({"item": "x"}, "'item' has no number")],
)  # fmt: skip
def test_a_table_that_is_no_log_of_slates_is_refused_in_a_sentence(change, message):
    with pytest.raises(DataError, match=message):
        Exposures.from_frame(SHOWN.assign(**change), where="shown.csv")


def test_an_empty_table_and_a_missing_column_are_refused():
    with pytest.raises(DataError, match=r"shown\.csv: there are no rows"):
        Exposures.from_frame(SHOWN.iloc[:0], where="shown.csv")
    with pytest.raises(DataError, match="there is no column 'clicked'"):
        Exposures.from_frame(SHOWN.drop(columns="clicked"))


def test_original_ids_are_those_of_the_log():
    log = log_of([[30, 10, 20], [10, 20, 30]])
    log = type(log)(**{**vars(log), "users": log.users.assign(user_id=["ann", "bob"])})
    ids = SHOWN.assign(user=SHOWN["user"].map({1: "ann", 2: "bob"}), item=SHOWN["item"] * 10.0)
    shown = Exposures.from_frame(ids, log)
    assert shown.fingerprint() == Exposures.from_frame(SHOWN).fingerprint()
    for change, message in (({"user": "eve"}, "'user' has ids that the log does not have: eve"),
                            ({"item": [40, 1, 2, 3, 4, 5, 6]}, "'item' has ids .* 40.*, 1")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            Exposures.from_frame(ids.assign(**change), log)


def test_a_log_keeps_its_exposures_and_a_selection_drops_what_it_no_longer_has():
    log = log_of([[1, 2, 3], [1, 2]])
    with pytest.raises(DataError, match="synthetic: the log has no exposures"):
        Exposures.of_log(log)
    shown = Exposures.from_frame(SHOWN)
    log = shown.attach(log)
    assert Exposures.of_log(log).fingerprint() == shown.fingerprint()
    without = log.select(log.events["item"] != 3, "no item 3")  # two of the slates show it
    assert Exposures.of_log(without).padded().tolist() == [[1, 2]]
    with pytest.raises(DataError, match="no slate is left"):
        Exposures.of_log(log.select(log.events["item"] > 2, "item 3 only"))
    with pytest.raises(DataError, match="the exposures have user 2, but the log has 1 users"):
        shown.attach(log_of([[1, 2, 3]]))


def test_a_log_of_exposures_has_the_clicks_as_events_and_all_that_was_shown():
    ids = SHOWN.assign(user=SHOWN["user"].map({1: "ann", 2: "bob"}), item=SHOWN["item"].map({1: "x", 2: "y", 3: "z"}))
    titles = pd.DataFrame({"item": ["z", "y", "x"], "title": ["Zebra", "Yak", "Xerus"]})
    log = log_of_exposures(ids, items=titles, title="title", name="ads")
    assert log.events.to_numpy().tolist() == [[1, 2, 60.0], [2, 1, 50.0]]
    assert log.users["user_id"].tolist() == ["ann", "bob"] and log.items["title"].tolist() == ["Xerus", "Yak", "Zebra"]
    assert Exposures.of_log(log).fingerprint() == Exposures.from_frame(SHOWN).fingerprint()
    assert log.notes[-1] == "3 slates were shown; the events are the 2 clicks on them." and not log.repeats
    with pytest.raises(DataError, match="no row of column 'clicked' is 1"):
        log_of_exposures(ids.assign(clicked=0))


def test_a_folder_may_have_the_table_of_what_was_shown(tmp_path):
    (tmp_path / "interactions.tsv").write_text("user_id\titem_id\ttimestamp\n" + "".join(
        f"u{user}\ti{item}\t{100 * item}\n" for user in (1, 2) for item in (1, 2, 3)))  # fmt: skip
    (tmp_path / "exposures.tsv").write_text("slate\tuser_id\ttimestamp\titem_id\tclicked\n" + "".join(
        f"s{user}{visit}\tu{user}\t{100 * visit}\ti{item}\t{int(item == visit)}\n"
        for user in (1, 2) for visit in (1, 2, 3) for item in (3, 1, 2)))  # fmt: skip
    log = datasets.load(tmp_path)
    found = Exposures.of_log(log)
    assert found.padded().tolist() == [[3, 1, 2]] * 6 and found.clicked.tolist() == [2, 3, 1] * 2
    assert datasets.reload(log.origin).fingerprint(3) == log.fingerprint(3)
    (tmp_path / "exposures.tsv").write_text("slate\tuser_id\ttimestamp\titem_id\tclicked\ns\tu9\t1\ti1\t1\n")
    with pytest.raises(DataError, match=r"exposures.tsv: column 'user_id' has ids that the log does not have: u9"):
        datasets.load(tmp_path)
