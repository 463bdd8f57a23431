"""Splits by name: the text of a split makes it again, older names are read, wrong ones are explained."""

import pytest
import torch

from seqlab import datasets
from seqlab.datasets import DataError, by_time, cold_items, leave_one_out
from seqlab.datasets.split_names import RULES, current_name, usage, with_columns
from tests.synthetic import random_log


def same(one, other):
    return one.name == other.name and all(
        torch.equal(getattr(one, part).user, getattr(other, part).user)
        and torch.equal(getattr(one, part).item, getattr(other, part).item)
        and torch.equal(getattr(one, part).end, getattr(other, part).end)
        for part in ("valid", "test")
    ) and torch.equal(one.train.items, other.train.items)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_the_name_of_a_split_makes_it_again(seed):
    log = random_log(seed, moments=30)
    made = [leave_one_out(log), by_time(log, 12, 20), by_time(log, 12.5, 20.25), cold_items(log, 0.3),
            cold_items(log, 0.25, 3)]  # fmt: skip
    for split in made:
        assert same(datasets.split(log, split.name), split)


@pytest.mark.parametrize(("before", "now"), [
    ("leave-one-out", "leave-one-out"), ("by time 2017-10-01 | 2017-11-01", "by-time 2017-10-01 2017-11-01"),
    ("by time 1970-01-01T00:00:20 | 1970-01-03", "by-time 1970-01-01T00:00:20 1970-01-03"),
    ("cold items 10%", "cold-items 0.1"), ("cold items 40.4%, seed 4", "cold-items 0.404 4"),
    ("  by-time   2017-10-01 2017-11-01 ", "by-time 2017-10-01 2017-11-01"),
])  # fmt: skip
def test_names_of_older_runs_are_read_as_todays(before, now):
    assert current_name(before) == now


@pytest.mark.parametrize(("text", "message"), [
    ("leave-two-out", "there is no split called 'leave-two-out'. Did you mean 'leave-one-out'"),
    ("by-time 2017-10-01", "has 1 arguments; it looks like: by-time VALID TEST"),
    ("cold-items 0.1 2 3", r"it looks like: cold-items \[SHARE=0.1\] \[SEED=0\]"),
    ("cold-items much", "cold-items: share must be a number"), ("cold-items 3", "share must be between 0 and 1"),
    ("by-time soon later", "neither unix seconds nor a date"),
])  # fmt: skip
def test_a_wrong_name_is_answered_with_what_it_should_be(text, message):
    with pytest.raises(DataError, match=message):
        datasets.split(random_log(0, moments=30), text)


def test_every_rule_says_how_it_is_written():
    assert all(usage(name).split()[0] == name for name in RULES)


def test_columns_are_added_to_a_split_once():
    split = leave_one_out(random_log(0))
    assert with_columns(split, ()) is split
    with pytest.raises(DataError, match="the users have no column 'age'"):
        with_columns(split, ("users.age",))
