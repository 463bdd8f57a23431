import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from seqlab.datasets import by_time, cold_items, leave_one_out, smells
from seqlab.datasets.log import make_log


def log_of(rows, **options):
    return make_log(pd.DataFrame(rows, columns=["user", "item", "timestamp"]), **options)


def table(split):
    found = smells(split)
    assert list(found.columns) == ["smell", "value", "verdict", "sentence"]
    assert set(found["verdict"]) <= {"fine", "look", "trap"}
    assert (found["sentence"].str.endswith(".")).all()
    return found.set_index("smell")


def shuffled_users(n_users=300, n_items=100, length=8, seed=0):
    random = np.random.default_rng(seed)
    return [
        (user, int(item), 1000 * user + step)
        for user in range(1, n_users + 1)
        for step, item in enumerate(random.choice(n_items, length, replace=False) + 1)
    ]


def test_random_histories_have_no_smell_but_the_time_leak_of_leave_one_out():
    found = table(leave_one_out(log_of(shuffled_users())))
    assert found.loc[found["verdict"] != "fine"].index.tolist() == ["training after the query"]


def test_a_split_by_time_has_no_time_leak():
    random = np.random.default_rng(1)
    rows = [(user, int(random.integers(1, 50)), day) for user in range(1, 60) for day in range(30)]
    for ties in ("source", "shuffle"):
        found = table(by_time(log_of(rows, ties=ties, repeats=True), 20, 25))
        assert found.loc["training after the query", ["value", "verdict"]].tolist() == [0.0, "fine"]


def test_files_sorted_by_id_within_a_timestamp_are_a_trap():
    rows = [
        (user, item, day)
        for user in range(40)
        for day in range(4)
        for item in sorted((user * 7 + day * k) % 90 for k in range(1, 6))
    ]
    found = table(leave_one_out(log_of(rows)))
    assert found.loc["sorted ids within ties", "verdict"] == "trap"
    assert "ties='shuffle'" in found.loc["sorted ids within ties", "sentence"]
    assert found.loc["ties", "verdict"] == "look"


def test_ids_numbered_in_reading_order_are_a_trap():
    rows = [(user, user * 6 + step + 1, step) for user in range(100) for step in range(6)]
    found = table(leave_one_out(log_of(rows)))
    assert found.loc["highest id plus one", ["value", "verdict"]].tolist() == [1.0, "trap"]
    assert found.loc["answers never trained on", ["value", "verdict"]].tolist() == [1.0, "look"]


def test_repeats_and_copies_of_the_last_item_are_measured():
    rows = [(user, item, step) for user in range(1, 51) for step, item in enumerate([user, user + 1, 3, 3])]
    found = table(leave_one_out(log_of(rows, repeats=False)))
    assert found.loc["copy the last item", ["value", "verdict"]].tolist() == [1.0, "trap"]
    assert found.loc["repeats", "verdict"] == "trap"
    kept = table(leave_one_out(log_of(rows, repeats=True)))
    assert kept.loc["repeats", "verdict"] == "fine" and kept.loc["copy the last item", "verdict"] == "look"


def test_exact_duplicates_are_counted_and_are_not_repeats():
    rows = shuffled_users(50)
    found = table(leave_one_out(log_of(rows + rows[:40])))
    assert found.loc["exact duplicates", "value"] == pytest.approx(40 / 440)
    assert found.loc["exact duplicates", "verdict"] == "trap"
    assert found.loc["repeats", ["value", "verdict"]].tolist() == [0.0, "fine"]


def test_times_out_of_order_are_a_trap_with_their_share_and_users():
    rows = [(user, item, user * 100 - at % 4) for at, (user, item, _) in enumerate(shuffled_users(30))]  # 3 up, 1 down
    found = table(leave_one_out(log_of(rows, order="source")))
    assert found.loc["times run backwards", "value"] == pytest.approx(6 / 7)
    assert found.loc["times run backwards", "verdict"] == "trap"
    assert found.loc["training after the query", "verdict"] == "look"
    assert "180, of 30 users" in found.loc["times run backwards", "sentence"]
    assert found.loc["ties", "value"] == 1.0  # eight events at four moments: none is alone, though none are neighbours
    one = [*shuffled_users(99), (1, 1, 0)]
    found = table(leave_one_out(log_of(one, order="source", repeats=True)))
    assert found.loc["times run backwards", "verdict"] == "look"
    assert table(leave_one_out(log_of(one, repeats=True))).loc["times run backwards", "verdict"] == "fine"


@pytest.mark.parametrize(("events", "verdict"), [(8, "fine"), (100, "look"), (800, "look"), (5000, "trap")])
def test_one_user_with_most_events_is_named(events, verdict):
    random = np.random.default_rng(0)
    crowd = [("guest", int(item), step) for step, item in enumerate(random.integers(1, 100, events))]
    rows = [(f"u{user}", item, time) for user, item, time in shuffled_users()]
    found = table(leave_one_out(log_of(rows + crowd, repeats=True))).loc["one user with most events"]
    assert found["verdict"] == verdict and found["value"] == pytest.approx(events / (2400 + events))
    assert verdict == "fine" or f"User 'guest' has {events / (2400 + events):.1%} of all events" in found["sentence"]


def test_a_few_users_with_equal_shares_are_fine():
    for users in (2, 3, 4, 6):
        found = table(leave_one_out(log_of(shuffled_users(users))))
        assert found.loc["one user with most events", "verdict"] == "fine"


def test_a_very_popular_item_is_reported():
    rows = shuffled_users(100) + [(user, 1, 10**6 + step) for user in range(1, 101) for step in range(8)]
    found = table(leave_one_out(log_of(rows, repeats=True)))
    assert found.loc["popularity", "verdict"] == "look" and found.loc["popularity", "value"] > 0.4


def test_cold_items_are_never_trained_on():
    found = table(cold_items(log_of(shuffled_users()), share=0.2))
    assert found.loc["answers never trained on", "value"] == 1.0


def test_without_times_unknown_smells_are_not_fine():
    rows = [(user, item, None) for user, item, _ in shuffled_users(50)]
    found = table(leave_one_out(log_of(rows, order="source")))
    unknown = found[found["value"].isna()]
    assert set(unknown.index) == {
        "times run backwards", "ties", "sorted ids within ties", "exact duplicates", "training after the query"
    }  # fmt: skip
    assert (unknown["verdict"] == "look").all()


def test_importing_the_package_imports_no_heavy_library():
    heavy = "import sys, seqlab.datasets; print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
