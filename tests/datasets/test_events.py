"""Events with further columns, rows of several values, and groups, against slow loops."""

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab import datasets
from seqlab.datasets import Events, Ragged
from seqlab.datasets.events import offsets_of
from seqlab.datasets.log import make_log
from seqlab.datasets.sequences import Sequences

some = settings(max_examples=40, deadline=None)
rows_of_values = st.lists(st.lists(st.integers(1, 9), max_size=5), max_size=6)


def ragged(rows):
    return Ragged(torch.tensor([one for row in rows for one in row], dtype=torch.long),
                  offsets_of(torch.tensor([len(row) for row in rows], dtype=torch.long)))  # fmt: skip


@some
@given(rows_of_values, st.data())
def test_rows_of_several_values_are_selected_and_padded(rows, data):
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    found, at = ragged(rows), torch.tensor(chosen, dtype=torch.long)
    assert [row[row > 0].tolist() for row in found.padded(at)] == [rows[one] for one in chosen]
    again = found.select(at)
    assert len(again) == len(chosen) and again.lengths.tolist() == [len(rows[one]) for one in chosen]
    assert again.values.tolist() == [value for one in chosen for value in rows[one]]


def test_one_function_maps_every_tensor_and_padding_is_zero():
    events = Events(torch.tensor([[1, 2]]), torch.tensor([[3.0, 4.0]]).double(), {"price": torch.tensor([[5.0, 6.0]])})
    masked = events.mask(torch.tensor([[True, False]]))
    assert [part.tolist() for part in (masked.items, masked.times, masked.extra["price"])] == [
        [[1, 0]], [[3.0, 0.0]], [[5.0, 0.0]]]  # fmt: skip
    assert events[:, 1].extra["price"].tolist() == [6.0]


@some
@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=6), min_size=1, max_size=4))
def test_groups_are_the_runs_of_equal_values_within_a_user(baskets):
    flat = torch.tensor([one for row in baskets for one in row])
    events = Events(flat, flat.double(), {"basket": flat})
    sequences = Sequences(events, offsets_of(torch.tensor([len(row) for row in baskets])))
    expected = []
    for user, row in enumerate(baskets, 1):
        expected += [(user, one) for place, one in enumerate(row) if not place or row[place - 1] != one]
    offsets, users = sequences.groups("basket")
    assert [(int(user), int(flat[first])) for user, first in zip(users, offsets[:-1], strict=True)] == expected
    assert offsets[-1] == len(flat)


def log():
    frame = pd.DataFrame({
        "user": [1, 1, 1, 1, 2, 2, 2, 2], "item": list("abcdabca"), "timestamp": [1, 2, 3, 4] * 2,
        "price": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5], "shop": list("xxyyxyxy"),
    })  # fmt: skip
    return make_log(frame, repeats=True)


def test_a_batch_has_the_columns_of_its_events_and_of_its_targets():
    split = datasets.split(log(), "leave-one-out", ("price", "shop"))
    (batch,) = split.train.training_batches(None, 100, seed=0)
    assert batch.extra["price"].sort(0).values.tolist() == [[0.5], [4.5]]
    assert batch.target_events.extra["price"].sort(0).values.tolist() == [[1.5], [5.5]]
    assert batch.extra["shop"].tolist() == [[1], [1]]
    query = split.test.batch(torch.tensor([0, 1]))
    assert query.extra["price"].tolist() == [[0.5, 1.5, 2.5], [4.5, 5.5, 6.5]]
    assert query.target_events.extra["price"][:, -1].tolist() == [3.5, 7.5]
    assert query.target_events.times[:, -1].tolist() == [4.0, 4.0]
    assert query.select(torch.tensor([1])).extra["shop"].tolist() == [[1, 2, 1]]


def test_columns_are_gathered_only_where_they_are_needed():
    split = datasets.leave_one_out(log())
    assert not split.train.extra and not split.test.sequences.extra
    with pytest.raises(datasets.DataError, match="no column 'rating'"):
        datasets.split(log(), "leave-one-out", ("rating",))
