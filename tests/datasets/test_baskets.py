"""Splits of baskets and the items of baskets against a slow oracle, one user at a time."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.datasets import DataError
from seqlab.datasets.baskets import basket_completion, basket_items, last_basket, number_baskets, unfinished_basket
from seqlab.datasets.events import Events
from seqlab.datasets.log import make_log
from seqlab.datasets.sequences import Batch
from tests.synthetic import log_of

torch.set_num_threads(1)

some = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)


def basket_log(seed, users=9, items=7, ties="shuffle", mixed=False):
    """Users with up to six baskets, whose numbers other users have too. mixed: events of a basket at several times."""
    random = np.random.default_rng(seed)
    rows = [(1, item, item, 0.0) for item in range(1, items + 1)]  # ids keep their numbers
    for user in range(1, users + 1):
        for basket in range(random.integers(1, 7)):
            for _ in range(random.integers(1, 5)):
                time = random.integers(1, 9) if mixed else basket // random.integers(1, 3) + 1
                rows.append((user, int(random.integers(1, items + 1)), 100 + basket, float(time)))
    frame = pd.DataFrame(rows, columns=["user", "item", "basket", "timestamp"])
    frame.loc[(random.random(len(frame)) < 0.1) & (frame["timestamp"] > 0), "basket"] = np.nan
    return make_log(frame, ties=ties, repeats=True, name="baskets")


def expected(log):
    """user -> (training, (history, basket) of validation, the same of test); items, None without a query."""
    result = {}
    codes = log.column("basket")[0]
    for user in range(1, log.n_users + 1):
        rows = log.events[log.events["user"] == user]
        items, times = rows["item"].tolist(), rows["timestamp"].tolist()
        own = [code if code else -at for at, code in enumerate(codes[rows.index], 1)]
        test = own.index(own[-1])
        valid = own.index(own[test - 1]) if test else 0
        if valid == 0:
            result[user] = items, None, None
            continue
        parts = []
        for at, until in ((valid, test), (test, len(items))):
            end = at
            if log.ties == "shuffle":
                end = next((one for one in range(at) if not times[one] < times[at]), at)
            answers = list(dict.fromkeys(items[one] for one in range(at, until) if own[one] == own[at]))
            parts.append((items[:end], answers))
        result[user] = items[:valid], *parts
    return result


def found(queries):
    """user -> (history, answers, given)"""
    rows = torch.arange(len(queries))
    answers = queries.answers.padded(rows)
    known = torch.zeros(len(queries), 0, dtype=torch.long) if queries.given is None else queries.given.padded(rows)
    return {
        int(user): (queries.sequences.items[start:end].tolist(), a[a > 0].tolist(), g[g > 0].tolist())
        for user, start, end, a, g in zip(queries.user, queries.start, queries.end, answers, known, strict=True)
    }


@some
@given(seeds, st.sampled_from(["source", "shuffle"]), st.booleans())
def test_the_last_basket_is_the_test_answer_and_the_one_before_it_the_validation_answer(seed, ties, mixed):
    log = basket_log(seed, ties=ties, mixed=mixed)
    split = last_basket(log)
    valid, test = found(split.valid), found(split.test)
    for user, (train, *parts) in expected(log).items():
        assert split.train.history(user).tolist() == train
        for queries, part in zip((valid, test), parts, strict=True):
            if part is None or not part[0]:
                assert user not in queries
            else:
                assert queries[user] == (*part, [])
    assert split.task == "baskets" and split.name == "last-basket"


@some
@given(seeds, st.sampled_from(["one", "0.5", "0.9"]), st.booleans())
def test_a_completion_gives_a_part_of_the_basket_and_hides_the_rest(seed, hidden, mixed):
    log = basket_log(seed, mixed=mixed)
    split = basket_completion(log, hidden)
    for user, (train, *parts) in expected(log).items():
        assert split.train.history(user).tolist() == train
        for queries, part in zip((found(split.valid), found(split.test)), parts, strict=True):
            if part is None or not part[0] or len(part[1]) < 2:
                assert user not in queries
                continue
            history, answers, known = queries[user]
            count = 1 if hidden == "one" else min(max(round(float(hidden) * len(part[1])), 1), len(part[1]) - 1)
            assert len(answers) == count and sorted(answers + known) == sorted(part[1])
            assert history == part[0] + known  # the hidden items are nowhere in it
    single = split.test.answers.lengths == 1
    assert torch.equal(split.test.item > 0, single)
    assert torch.equal(split.test.item[single], split.test.answers.padded(single.nonzero()[:, 0])[:, :1].flatten())


def test_what_is_hidden_depends_on_the_seed_only():
    log = basket_log(3, users=40)
    one, same, other = (found(basket_completion(log, "0.5", seed).test) for seed in (0, 0, 1))
    assert one == same and one != other
    assert one.keys() == other.keys()
    names = [basket_completion(log, *words).name for words in ((), ("one", 2), ("0.5",), ("0.5", 2))]
    assert names == [
        "basket-completion",
        "basket-completion one 2",
        "basket-completion 0.5",
        "basket-completion 0.5 2",
    ]


def test_extra_columns_follow_their_events():
    log = basket_log(5, users=30)
    split = basket_completion(log, "0.5", columns=("basket",))
    codes, rows = torch.from_numpy(log.column("basket")[0]), log.events
    real = {*zip(rows["user"], rows["item"], rows["timestamp"], codes.tolist(), strict=True)}
    queries = split.test
    batch = queries.batch(torch.arange(len(queries)))
    user, place = (batch.items > 0).nonzero(as_tuple=True)
    columns = (batch.user[user], batch.items[user, place], batch.times[user, place], batch.extra["basket"][user, place])
    assert {*zip(*(column.tolist() for column in columns), strict=True)} <= real
    unfinished = unfinished_basket(batch)
    given_items = batch.context["given"]
    assert torch.equal(unfinished[:, : given_items.shape[1]], given_items)


def test_a_log_without_baskets_says_how_to_declare_them():
    for rule in (last_basket, basket_completion):
        with pytest.raises(DataError, match=r"no column 'basket'.*[Dd]eclare"):
            rule(log_of([[1, 2, 3]] * 3))
    for hidden in ("half", "0", "1", "-0.5"):
        with pytest.raises(DataError, match="hidden is one, or a share between 0 and 1"):
            basket_completion(basket_log(0), hidden)


def test_users_with_few_baskets_have_no_query_with_a_note():
    rows = [(1, 1, 1, 1), (1, 2, 2, 2), (2, 1, 1, 1), (2, 2, 2, 2), (2, 1, 3, 3)]
    log = make_log(pd.DataFrame(rows, columns=["user", "item", "basket", "timestamp"]), repeats=True)
    split = last_basket(log)
    assert found(split.test) == {2: ([1, 2], [1], [])} and split.train.history(1).tolist() == [1, 2]
    assert any("1 users have fewer than 3 baskets" in note for note in split.notes)
    assert any("1 users have no test query: their basket has a single" in note for note in basket_completion(log).notes)


@some
@given(seeds)
def test_the_items_of_baskets(seed):
    log = basket_log(seed, mixed=True)
    train = last_basket(log, ("basket",)).train
    sets = {}
    for at, (user, code, item) in enumerate(
        zip(train.users.tolist(), train.extra["basket"].tolist(), train.items.tolist(), strict=True)
    ):
        sets.setdefault((user, code) if code else -at, set()).add(item)
    items = basket_items(train)
    rows = [items.values[a:b].tolist() for a, b in zip(items.offsets[:-1], items.offsets[1:], strict=True)]
    assert sorted(rows) == sorted(sorted(one) for one in sets.values())
    number = number_baskets(train.users, train.extra["basket"])
    assert int(number.max()) + 1 == len(sets) and len(number) == len(train.items)


def test_the_unfinished_basket_is_what_is_given_or_the_last_basket():
    items = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0], [0, 0, 0, 0]])
    codes = torch.tensor([[1, 2, 1, 2], [3, 3, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0]])  # baskets of one user may interleave
    events = Events(items, torch.zeros(items.shape, dtype=torch.float64), {"basket": codes})
    batch = Batch(events, torch.tensor([4, 2, 3, 0]), torch.arange(4))
    assert unfinished_basket(batch).tolist() == [[2, 4], [5, 6], [9, 0], [0, 0]]
    alone = Batch(Events(items, events.times), batch.lengths, batch.user)
    assert unfinished_basket(alone).tolist() == [[4], [6], [9], [0]]
    known = Batch(events, batch.lengths, batch.user, None, {"given": torch.tensor([[9, 8, 7], [0, 0, 0]] * 2)})
    assert unfinished_basket(known).tolist() == [[9, 8, 7], [5, 6, 0], [9, 8, 7], [0, 0, 0]]
