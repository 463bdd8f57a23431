"""Splits against hand-made logs and a slow oracle: the queries, their histories, and the training part."""

import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab import datasets
from seqlab.datasets import DataError, by_time, cold_items, k_core, leave_one_out
from seqlab.datasets.log import make_log
from tests.synthetic import log_of, random_log

torch.set_num_threads(1)

some = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 10_000)


def answers_of(queries):
    """user -> (what is given, the answer)"""
    return {
        int(user): (queries.sequences.items[start:end].tolist(), int(item))
        for user, item, start, end in zip(queries.user, queries.item, queries.start, queries.end, strict=True)
    }


def trained(split):
    return {user: split.train.history(user).tolist() for user in range(1, split.n_users + 1)}


def events_of(log):
    """user -> [(item, time), ..] in the log's order"""
    return {user: list(zip(rows["item"], rows["timestamp"], strict=True)) for user, rows in log.events.groupby("user")}


def test_leave_one_out_by_hand():
    split = leave_one_out(log_of([[1, 2, 3, 4, 5], [5, 4, 3], [2, 1], [1]], repeats=False))
    assert trained(split) == {1: [1, 2, 3], 2: [5], 3: [2, 1], 4: [1]}
    assert answers_of(split.valid) == {1: ([1, 2, 3], 4), 2: ([5], 4)}
    assert answers_of(split.test) == {1: ([1, 2, 3, 4], 5), 2: ([5, 4], 3)}
    assert any("2 users have fewer than 3 events" in note for note in split.notes)
    assert "train 7 events, valid 2 and test 2 queries" in repr(split)


@some
@given(seeds, st.sampled_from([2, 4, 9]))
def test_with_shuffled_ties_the_history_ends_before_the_time_of_the_answer(seed, moments):
    log = random_log(seed, moments=moments, ties="shuffle")
    split = leave_one_out(log)
    valid, test = answers_of(split.valid), answers_of(split.test)
    for user, events in events_of(log).items():
        if len(events) < 3:
            assert user not in test and trained(split)[user] == [item for item, _ in events]
            continue
        assert trained(split)[user] == [item for item, _ in events[:-2]]
        for part, (item, moment) in ((test, events[-1]), (valid, events[-2])):
            earlier = [other for other, when in events if when < moment]
            if earlier:
                assert part[user] == (earlier, item)
            else:
                assert user not in part


@some
@given(seeds, st.sampled_from([4, 9, 30]))
def test_by_time_answers_are_the_first_events_of_each_window(seed, moments):
    log = random_log(seed, moments=moments)
    try:
        split = by_time(log, moments / 2, 3 * moments / 4)
    except DataError as error:
        assert "window" in str(error)
        return
    valid, test = answers_of(split.valid), answers_of(split.test)
    for user, events in events_of(log).items():
        before = [item for item, when in events if when < moments / 2]
        assert trained(split)[user] == before
        for part, start, end in ((valid, moments / 2, 3 * moments / 4), (test, 3 * moments / 4, np.inf)):
            given_items = [item for item, when in events if when < start]
            inside = [item for item, when in events if start <= when < end]
            if given_items and inside:
                assert part[user] == (given_items, inside[0])
            else:
                assert user not in part
    assert bool((split.train.times < moments / 2).all())


@some
@given(seeds, st.sampled_from([4, 9, 30]))
def test_by_time_trains_from_its_start_and_queries_have_whole_histories(seed, moments):
    log, bounds = random_log(seed, moments=moments), (moments / 2, 3 * moments / 4)
    try:
        whole, later = by_time(log, *bounds), by_time(log, *bounds, moments / 4)
    except DataError as error:
        assert "window" in str(error) or "nothing to train on" in str(error)
        return
    for user, events in events_of(log).items():
        assert trained(later)[user] == [item for item, when in events if moments / 4 <= when < moments / 2]
    for part in ("valid", "test"):
        assert answers_of(getattr(later, part)) == answers_of(getattr(whole, part))
    again = datasets.split(log, later.name)
    assert again.name == later.name and torch.equal(again.train.items, later.train.items)


def test_by_time_reads_dates_as_utc_and_refuses_what_it_cannot_use():
    day = 86_400.0
    log = log_of([[1, 2, 3], [3, 2, 1]], [[0.0, day, 2 * day]] * 2)
    split = by_time(log, "1970-01-02", "1970-01-03")
    assert answers_of(split.test) == {1: ([1, 2], 3), 2: ([3, 2], 1)} and answers_of(split.valid)[1] == ([1], 2)
    assert split.name == "by-time 1970-01-02 1970-01-03"
    assert by_time(log, 20.123, 2 * day).name == "by-time 1970-01-01T00:00:20.123000 1970-01-03"
    assert by_time(log, 20, 2 * day).name == "by-time 1970-01-01T00:00:20 1970-01-03"
    with pytest.raises(DataError, match="validation must start before test"):
        by_time(log, 5, 5)
    with pytest.raises(DataError, match="'soon' is neither unix seconds nor a date"):
        by_time(log, "soon", 5)
    with pytest.raises(DataError, match="in the test window"):
        by_time(log, day, 100 * day)
    with pytest.raises(DataError, match="training must start before validation"):
        by_time(log, day, 2 * day, day)
    with pytest.raises(DataError, match=r"no event from 20.5 to 86400.0, so nothing to train on"):
        by_time(log, day, 2 * day, 20.5)
    untimed = make_log(pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 1, 2]}), time=None, order="source")
    with pytest.raises(DataError, match=r"cannot be split by time\. Use leave_one_out"):
        by_time(untimed, 1, 2)


JUNE, JULY = 1_559_347_200, 1_561_939_200  # 2019-06-01 and 2019-07-01, UTC
MOMENTS = {
    "numpy integers": (np.int64(JUNE), np.int32(JULY)),
    "numpy floats": (np.float64(JUNE), np.float64(JULY)),
    "milliseconds": (JUNE * 1000, np.int64(JULY * 1000)),
    "nanoseconds": (JUNE * 10**9, float(JULY * 10**9)),
    "dates": (datetime.date(2019, 6, 1), datetime.date(2019, 7, 1)),
    "datetimes": (datetime.datetime(2019, 6, 1), datetime.datetime(2019, 7, 1, tzinfo=datetime.UTC)),
    "numpy dates": (np.datetime64("2019-06-01"), np.datetime64("2019-07-01T00:00:00", "ns")),
    "zoned": (pd.Timestamp("2019-06-01 02:00", tz="Europe/Berlin"), pd.Timestamp("2019-06-30 17:00", tz="US/Pacific")),
    "text": ("2019-06-01", "2019-07-01 00:00:00"),
    "months": ("2019-06", "20190701"),
    "zoned text": ("2019-06-01T09:00:00+09:00", "2019-07-01T00:00:00Z"),
    "numbers as text": (f"{JUNE}", f" {JULY}000 "),
}


@pytest.mark.parametrize(("valid", "test"), MOMENTS.values(), ids=MOMENTS)
def test_bounds_of_every_kind_are_the_same_moment(valid, test):
    log = log_of([[1, 2, 3], [3, 2, 1]], [[JUNE - 1.0, JUNE, JULY], [JUNE - 9.0, JULY - 1, JULY + 1]])
    split = by_time(log, valid, test)
    assert trained(split) == {1: [1], 2: [3]}
    assert answers_of(split.valid) == {1: ([1], 2), 2: ([3], 2)}
    assert answers_of(split.test) == {
        1: ([1, 2], 3),
        2: ([3, 2], 1),
    }
    assert split.name == "by-time 2019-06-01 2019-07-01"
    converted = [note for note in split.notes if "is read as" in note]
    assert len(converted) == (2 if valid in (JUNE * 1000, JUNE * 10**9) else 1 if test == f" {JULY}000 " else 0)


@pytest.mark.parametrize(
    "bound",
    [True, np.bool_(True), None, float("nan"), np.inf, pd.NaT, np.datetime64("NaT"), "", "nan", "soon", "31/05/2019",
     1j, [JULY], datetime.time(3), 10**400],
    ids=repr,
)  # fmt: skip
def test_a_bound_that_is_not_a_time_raises(bound):
    log = log_of([[1, 2, 3], [3, 2, 1]], [[JUNE - 1.0, JUNE, JULY]] * 2)
    with pytest.raises(DataError, match=r"^by_time: .* is neither unix seconds nor a date like 2017-10-01\.$"):
        by_time(log, JUNE, bound)


def unsorted(seed, moments=40, **options):
    """`random_log` whose rows come in any order, and are kept so."""
    events = random_log(seed, moments).events.sample(frac=1, random_state=seed)
    return make_log(events, order="source", **options)


@some
@given(seeds, st.sampled_from(["source", "shuffle"]))
def test_by_time_sorts_what_the_source_does_not(seed, ties):
    log = unsorted(seed, ties=ties)
    try:
        split = by_time(log, 20, 30)
    except DataError as error:
        assert "window" in str(error)
        return
    moved = any("sorted by time for this split" in note for note in split.notes)
    assert moved == (log.events["timestamp"].diff()[log.events["user"].diff() == 0] < 0).any()
    times = split.test.sequences.times
    assert bool((split.train.times < 20).all())
    assert int((log.events["timestamp"] < 20).sum()) == len(split.train.items)
    for queries, start, end in ((split.valid, 20, 30), (split.test, 30, np.inf)):
        for user, item, first, after in zip(queries.user, queries.item, queries.start, queries.end, strict=True):
            own = log.events[log.events["user"] == int(user)]
            inside = own[(own["timestamp"] >= start) & (own["timestamp"] < end)]
            assert int(item) in set(inside["item"][inside["timestamp"] == inside["timestamp"].min()])
            assert bool((times[first:after] < start).all())
            assert ties == "shuffle" or int(after - first) == int((own["timestamp"] < start).sum())
    assert split.log.events["timestamp"].equals(
        split.log.events.sort_values(["user", "timestamp"])["timestamp"].reset_index(drop=True)
    )


@some
@given(seeds)
def test_with_shuffled_ties_no_history_reaches_the_time_of_the_answer_even_out_of_order(seed):
    log = unsorted(seed, 8, ties="shuffle")
    for split in (leave_one_out(log), cold_items(log, 0.4, seed)):
        for queries in (split.valid, split.test):
            for user, item, start, end in zip(queries.user, queries.item, queries.start, queries.end, strict=True):
                own = log.events[(log.events["user"] == int(user)) & (log.events["item"] == int(item))]
                assert start < end and float(queries.sequences.times[start:end].max()) < own["timestamp"].max()


def test_leave_one_out_keeps_the_order_of_the_source_with_a_note():
    rows = [(1, 5, 30), (1, 4, 10), (1, 3, 20), (2, 3, 1), (2, 4, 2), (2, 5, 3), (3, 4, 9), (3, 5, 8), (3, 3, 9)]
    log = make_log(pd.DataFrame(rows, columns=["user", "item", "timestamp"]), order="source", repeats=False)
    item = dict(zip(log.items["item_id"], log.items.index, strict=True))
    split = leave_one_out(log)
    assert answers_of(split.test)[1] == ([item[5], item[4]], item[3])
    note = "2 events of 2 users are earlier than the previous event, and the order of the source is kept: "
    assert split.notes[0].startswith(note + "the last event of 1 users is not their latest.")
    assert split.notes[0] in cold_items(log, 0.4).notes
    assert not any("earlier" in note for note in leave_one_out(log_of([[1, 2, 3]] * 3)).notes)


def test_short_histories_have_no_query_with_a_note():
    split = leave_one_out(log_of([[1, 2], [2], [3, 1]]))
    assert len(split.test) == len(split.valid) == 0 and trained(split) == {1: [1, 2], 2: [2], 3: [3, 1]}
    assert any("3 users have fewer than 3 events" in note and "there are no queries" in note for note in split.notes)


@some
@given(seeds, st.floats(0.1, 0.6))
def test_cold_items_are_in_no_training_and_no_history(seed, share):
    log = random_log(seed)
    split = cold_items(log, share, seed)
    cold = (
        set(range(1, log.n_items + 1))
        - {item for items in trained(split).values() for item in items}
        - {item for _, item in answers_of(split.valid).values()}
    )
    test = answers_of(split.test)
    for user, events in events_of(log).items():
        items = [item for item, _ in events]
        warm = [item for item in items if item not in cold]
        first_cold = next((at for at, item in enumerate(items) if item in cold), None)
        if first_cold:  # something warm came before
            assert test[user] == (items[:first_cold], items[first_cold])
        else:
            assert user not in test
        if len(warm) >= 2:
            assert trained(split)[user] == warm[:-1] and answers_of(split.valid)[user] == (warm[:-1], warm[-1])
        else:
            assert trained(split)[user] == warm and user not in answers_of(split.valid)
    assert len(cold) >= round(share * log.n_items)


@some
@given(seeds)
def test_histories_of_cold_items_end_before_the_basket_of_the_answer(seed):
    log = random_log(seed, moments=3, ties="shuffle")
    split = cold_items(log, 0.4, seed)
    for queries, pick in ((split.valid, max), (split.test, min)):  # the last warm event, the first cold one
        for user, item, start, end in zip(queries.user, queries.item, queries.start, queries.end, strict=True):
            moment = pick(when for other, when in events_of(log)[int(user)] if other == int(item))
            assert start < end and float(queries.sequences.times[start:end].max()) < moment


def test_cold_items_are_the_same_for_a_seed_and_a_share_that_leaves_nothing_is_refused():
    log = random_log(1)
    assert answers_of(cold_items(log, 0.4, 3).test) == answers_of(cold_items(log, 0.4, 3).test)
    assert answers_of(cold_items(log, 0.4, 3).test) != answers_of(cold_items(log, 0.4, 4).test)
    names = [cold_items(log, share, seed).name for share, seed in ((0.4, 0), (0.4, 4), (0.404, 0))]
    assert names == ["cold-items 0.4", "cold-items 0.4 4", "cold-items 0.404"]
    for share in (0, 1, -0.1):
        with pytest.raises(DataError, match="share must be between 0 and 1"):
            cold_items(log, share)
    with pytest.raises(DataError, match="leaves no test or no training events"):
        cold_items(log, 0.01)


@some
@given(seeds, st.integers(1, 5), st.integers(1, 6))
def test_a_k_core_holds_is_the_largest_and_counts_what_it_dropped(seed, users, items):
    log = random_log(seed)
    kept = log.events[["user", "item"]]
    while True:  # drop one offender's events at a time: any order ends at the same core
        sizes = [kept.groupby(column)["user"].transform("size") for column in ("user", "item")]
        few = kept[(sizes[0] < users) | (sizes[1] < items)]
        if not len(few):
            break
        kept = kept.drop(few.index[0])
    if not len(kept):
        with pytest.raises(DataError, match="no event is left"):
            k_core(log, users, items)
        return
    core = k_core(log, users, items)
    labels = core.events.assign(
        user=core.users["user_id"].reindex(core.events["user"]).to_numpy(),
        item=core.items["item_id"].reindex(core.events["item"]).to_numpy(),
    )
    assert labels[["user", "item"]].to_numpy().tolist() == kept.to_numpy().tolist()
    assert f"dropped {log.n_events - core.n_events:,} events, {log.n_users - core.n_users:,} users" in core.notes[-1]
    assert k_core(core, users, items).events.equals(core.events)


def test_training_does_not_depend_on_answers():
    histories = [[1, 2, 3, 4], [2, 3, 4, 1]]
    changed = [[1, 2, 4, 3], [2, 3, 1, 4]]  # other answers, same training
    one, other = (leave_one_out(log_of(lists)) for lists in (histories, changed))
    assert trained(one) == trained(other)
    assert one.train.item_counts(4).tolist() == other.train.item_counts(4).tolist()
