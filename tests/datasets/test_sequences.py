"""Batches against a slow oracle that goes through the histories one event at a time."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.datasets.events import Events
from seqlab.datasets.sequences import Queries, Sequences, _token_budget
from tests.synthetic import batch_of, sequences_of

torch.set_num_threads(1)

histories = st.lists(st.lists(st.integers(1, 9), max_size=12), min_size=1, max_size=15)
some = settings(max_examples=60, deadline=None)


def rows_of(batch):
    """(user, items, times, targets) of each row as lists without the padding, which must be all zero."""
    for row in range(len(batch)):
        length = int(batch.lengths[row])
        for tensor in (batch.items, batch.times, batch.targets):
            if tensor is not None:
                assert not tensor[row, length:].any()
        targets = None if batch.targets is None else batch.targets[row, :length].tolist()
        yield int(batch.user[row]), batch.items[row, :length].tolist(), batch.times[row, :length].tolist(), targets


@some
@given(histories, st.data())
def test_gather_returns_exactly_the_requested_events(lists, data):
    sequences = sequences_of(lists)
    total = len(sequences.items)
    spans = data.draw(st.lists(st.tuples(st.integers(0, total), st.integers(0, 12)), min_size=1, max_size=8))
    spans = [(start, min(length, total - start)) for start, length in spans]
    start, lengths = (torch.tensor(column) for column in zip(*spans, strict=True))
    batch = sequences.gather(start, lengths, torch.arange(len(spans)))
    assert batch.items.shape[1] == max(1, int(lengths.max())) and batch.items.dtype == torch.long
    for (first, length), (_, items, times, _) in zip(spans, rows_of(batch), strict=True):
        assert items == sequences.items[first : first + length].tolist()
        assert times == sequences.times[first : first + length].tolist()


@some
@given(histories, st.integers(1, 12), st.integers(1, 60), st.integers(0, 5))
def test_an_epoch_has_one_crop_per_user_with_next_item_targets(lists, max_length, tokens, seed):
    sequences = sequences_of(lists)
    users = []
    for batch in sequences.training_batches(max_length, tokens, seed):
        assert batch.items.numel() <= tokens or len(batch) == 1
        for user, items, times, targets in rows_of(batch):
            users.append(user)
            whole = lists[user - 1]
            first = int(times[0]) - int(sequences.offsets[user - 1])  # the time of an event is its place
            assert len(items) == min(max_length, len(whole) - 1)
            assert items == whole[first : first + len(items)] and targets == whole[first + 1 : first + 1 + len(items)]
    assert sorted(users) == [user for user, items in enumerate(lists, 1) if len(items) >= 2]


def test_crops_reach_every_part_of_a_long_history_and_change_with_the_seed():
    sequences = sequences_of([list(range(1, 31))])

    def first(seed):
        return int(next(iter(sequences.training_batches(5, 100, seed))).items[0, 0])

    starts = [first(seed) for seed in range(400)]
    assert set(starts) == set(range(1, 26))  # the last target is event 30: input 29 at the latest
    assert first(7) == first(7)


def test_batches_come_in_another_order_every_epoch():
    sequences = sequences_of([[1] * length for length in range(2, 40)])

    def order(seed):
        return [batch.user.tolist() for batch in sequences.training_batches(50, 60, seed)]

    assert order(0) == order(0) != order(1)


@some
@given(histories, st.integers(1, 8), st.integers(1, 40), st.integers(1, 4), st.integers(0, 3))
def test_shards_hold_every_row_of_a_batch_once(lists, max_length, tokens, count, seed):
    sequences = sequences_of(lists)
    whole = list(sequences.training_batches(max_length, tokens, seed))
    shards = [list(sequences.training_batches(max_length, tokens, seed, (index, count))) for index in range(count)]
    for batch, *parts in zip(whole, *shards, strict=True):  # as many steps for everybody, also for who has no rows
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        rows = sorted(row for part in parts for row in rows_of(part))
        assert rows == sorted(rows_of(batch))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 80), st.none() | st.integers(1, 6))
def test_the_token_budget_cuts_as_few_runs_as_it_may(lengths, tokens, most):
    lengths = sorted(lengths)
    cuts = _token_budget(torch.tensor(lengths), tokens, most)
    assert cuts[0] == 0 and cuts[-1] == len(lengths)
    limit = most or len(lengths)
    for first, after in pairwise(cuts):
        rows = after - first
        assert rows == 1 or (rows <= limit and rows * max(lengths[after - 1], 1) <= tokens)
        if after < len(lengths):  # one more row would not have fitted
            assert rows + 1 > limit or (rows + 1) * max(lengths[after], 1) > tokens


def test_shards_of_queries_are_whole_batches():
    sequences = sequences_of([[1] * length for length in range(1, 30)])
    user = torch.arange(1, 30)
    queries = Queries(sequences, user, sequences.events[:29], sequences.offsets[:-1], sequences.offsets[1:])
    whole = [rows.tolist() for rows, _ in queries.batches(8, 40, 6)]
    shards = [[rows.tolist() for rows, _ in queries.batches(8, 40, 6, (index, 3))] for index in range(3)]
    assert len(whole) > 3 and [whole[index::3] for index in range(3)] == shards


@some
@given(histories, st.none() | st.integers(1, 8), st.integers(1, 50))
def test_batches_hold_every_query_once_with_its_latest_events(lists, max_length, tokens):
    lists = [[1, 2], *lists]
    sequences = sequences_of(lists)
    user = torch.tensor([user for user, items in enumerate(lists, 1) if len(items) > 1])
    at = sequences.offsets[user] - 1
    queries = Queries(sequences, user, sequences.events[at], sequences.offsets[user - 1], at)
    rows_found = []
    for rows, batch in queries.batches(max_length, tokens, 4):
        assert len(rows) == len(batch) <= 4
        assert torch.equal(batch.user, queries.user[rows])
        for row, (who, items, _, targets) in zip(rows.tolist(), rows_of(batch), strict=True):
            rows_found.append(row)
            before = lists[who - 1][:-1]
            assert items == (before if max_length is None else before[-max_length:])
            assert targets == [0] * (len(items) - 1) + [lists[who - 1][-1]]
    assert sorted(rows_found) == list(range(len(queries)))


def test_last_takes_the_last_position_before_the_padding():
    batch = batch_of([[4, 5, 6], [7], [8, 9]], width=5)
    assert batch.last(batch.items).tolist() == [6, 7, 9]
    assert batch.last(batch.items[:, :, None].expand(-1, -1, 2)).shape == (3, 2)


def test_a_history_its_users_and_its_counts():
    sequences = sequences_of([[4, 5], [], [5]])
    assert sequences.n_users == 3 and sequences.lengths.tolist() == [2, 0, 1]
    assert sequences.users.tolist() == [1, 1, 3]
    assert [sequences.history(user).tolist() for user in (1, 2, 3)] == [[4, 5], [], [5]]
    assert sequences.item_counts(6).tolist() == [0, 0, 0, 0, 1, 2, 0]


def test_nothing_to_train_on_gives_no_batch():
    empty = Sequences(
        Events(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.float64)), torch.tensor([0, 0])
    )
    assert list(empty.training_batches(5, 10, 0)) == []
    assert list(sequences_of([[1], [2]]).training_batches(5, 10, 0)) == []


@pytest.mark.parametrize("length", [1, 3])
def test_moving_a_batch_keeps_targets_or_their_absence(length):
    batch = batch_of([[1] * length])
    moved = batch.to("cpu")
    assert moved.targets is None and torch.equal(moved.items, batch.items)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.sampled_from([None, 1, 3, 8]))
def test_the_targets_of_an_epoch_are_those_of_its_batches(lengths, max_length):
    sequences = sequences_of([[1] * length for length in lengths])
    batches = sequences.training_batches(max_length, 16, seed=0)
    assert sequences.targets_per_epoch(max_length) == sum(int((batch.targets > 0).sum()) for batch in batches)
