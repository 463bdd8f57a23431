"""The split within users against lists of events, user by user."""

import math

import numpy as np
import pytest
import torch

from seqlab import datasets
from seqlab.datasets.within_user import within_user
from seqlab.runtime.text import DataError
from tests.synthetic import log_of


def timed(lengths):
    """A log whose users have so many events, a day apart, of items 1, 2, .. in order."""
    histories = [list(range(1, length + 1)) for length in lengths]
    return log_of(histories, [[86_400.0 * item for item in items] for items in histories], repeats=True)


LENGTHS = (5, 9, 10, 14, 15, 19, 40)


@pytest.mark.parametrize(("share", "valid"), [(0.2, 0.1), (0.2, 0.0), (0.5, 0.25)])
def test_every_user_gives_the_last_shares_of_events(share, valid):
    log = timed(LENGTHS)
    split = within_user(log, share, valid)
    for user, length in enumerate(LENGTHS, start=1):
        n_test = math.floor(share * length + 1e-9) if length >= 10 else 0
        n_valid = math.floor(valid * (length - n_test) + 1e-9) if length >= 10 else 0
        items = log.events["item"][log.events["user"] == user].tolist()
        first = length - n_test - n_valid
        assert split.train.history(user).tolist() == items[:first]
        for queries, begin, end in ((split.valid, first, first + n_valid), (split.test, first + n_valid, length)):
            mine = (queries.user == user).nonzero()[:, 0]
            assert queries.item[mine].tolist() == items[begin:end]
            for row, at in zip(mine, range(begin, end), strict=True):
                batch = queries.batch(row[None])
                assert batch.items[0].tolist() == items[:at]


def test_no_query_sees_its_answer_or_what_follows_even_among_ties():
    rng = np.random.default_rng(0)
    times = np.sort(rng.integers(0, 12, (6, 25))).astype(float).tolist()
    log = log_of([rng.integers(1, 6, 25).tolist() for _ in times], times, repeats=True, ties="shuffle")
    split = within_user(log, 0.3, 0.2)
    for queries in (split.valid, split.test):
        assert len(queries)
        for row in range(len(queries)):
            times = queries.batch(torch.tensor([row])).times
            assert bool((times < queries.answer.times[row]).all())


def test_the_name_makes_the_same_split_again():
    log = timed(LENGTHS)
    for text in ("within-user 0.2", "within-user 0.2 0", "within-user 0.25 0.1 5"):
        split = datasets.split(log, text)
        again = datasets.split(log, split.name)
        assert again.name == split.name and torch.equal(again.test.end, split.test.end)
        assert torch.equal(again.train.items, split.train.items)
    assert len(datasets.split(log, "within-user 0.2 0").valid) == 0
    assert set(datasets.split(log, "within-user 0.25 0.1 5").test.user.tolist()) == set(range(1, 8))


def test_what_is_counted_is_noted():
    (note,) = within_user(timed(LENGTHS), 0.2, 0).notes
    assert "5 users have queries, and 75 of the training events follow another one of theirs" in note
    assert "2 users have fewer than 10 events or none to spare" in note and "(12 such events)" in note


@pytest.mark.parametrize("given", [(0,), (1.0,), (0.2, 1.0), (0.2, 0.1, 1)])
def test_shares_outside_their_bounds_are_refused(given):
    with pytest.raises(DataError, match="within-user: the shares"):
        within_user(timed(LENGTHS), *given)
