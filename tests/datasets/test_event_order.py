import numpy as np
import pandas as pd

from seqlab.datasets.log import make_log
from tests.datasets.test_log import BASKETS, frame


def test_exact_duplicates_are_counted_and_are_not_repeats():
    assert make_log(BASKETS).repeats is False
    log = make_log(pd.concat([BASKETS, BASKETS.iloc[::-1], BASKETS.iloc[:1]]))
    assert log.repeats is False and log.n_events == 11
    assert any(note.startswith("6 events are exact duplicates") for note in log.notes)
    assert any(note.startswith("0.0% of events repeat") for note in log.notes)


def test_the_share_of_repeats_excludes_duplicates():
    random = np.random.default_rng(3)
    rows = [(user, int(item), step) for user in range(50) for step, item in enumerate(random.permutation(90)[:20])]
    back = [(user, rows[20 * user][1], 100) for user in range(50)]  # one event of each user comes back: 1 of 21
    few, many = (frame([*rows, *back[:many], *rows[:400]]) for many in (5, 50))
    for rows, repeats, share in ((few, False, "0.5%"), (many, True, "4.8%")):
        log = make_log(rows)
        assert log.repeats is repeats and any(note.startswith(f"{share} of events repeat") for note in log.notes)
    notes = make_log(few, repeats=False).notes
    assert any(note.startswith("5 events repeat an item") for note in notes)


def test_without_timestamps_a_duplicate_counts_as_a_repeat_with_a_note():
    log = make_log(frame([(1, 1, None), (1, 1, None), (1, 2, None), (2, 1, None)]), order="source")
    assert log.repeats is True
    assert any("duplicates cannot be distinguished from repeats" in note for note in log.notes)


def test_times_out_of_order_in_the_source_are_counted():
    rows = [(1, 1, 50), (1, 2, None), (1, 3, 40), (1, 4, 45), (2, 1, 10), (2, 2, 10), (3, 1, 9), (3, 2, 8), (3, 3, 7)]
    log = make_log(frame(rows), order="source")
    assert any(note.startswith("3 events of 2 users are earlier than the previous event") for note in log.notes)
    timed = frame([row for row in rows if row[2] is not None])
    assert not any("backwards" in note for note in make_log(timed).notes)
