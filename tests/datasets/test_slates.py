"""The split by slates, against a loop over slates; and that nothing after the cut reaches training."""

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab import datasets
from seqlab.datasets import DataError, simulated
from seqlab.datasets.exposures import Exposures
from seqlab.datasets.slates import parts, slates, training_exposures
from seqlab.datasets.splits import Split
from tests.datasets.test_exposures import ragged
from tests.synthetic import log_of


def mixed_log(seed: int):
    """Random slates beside events that need not be clicks, with equal times among both."""
    random = np.random.default_rng(seed)
    histories = [[*range(1, 10)]] + [random.integers(1, 10, random.integers(2, 12)).tolist() for _ in range(11)]
    times = [np.sort(random.integers(0, 30, len(items))).astype(float).tolist() for items in histories]
    return ragged(seed).attach(log_of(histories, times, repeats=True))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_queries_and_training_are_those_of_a_loop(seed, share):
    log = mixed_log(seed)
    shown, split = Exposures.of_log(log), slates(log, share)
    expected = {"valid": [], "test": []}
    training, kept = [], []
    for user in range(1, log.n_users + 1):
        mine = np.flatnonzero(shown.user == user)
        count = min(max(int(len(mine) * share + 0.5), 1), (len(mine) - 1) // 2) if len(mine) else 0
        events = log.events[log.events["user"] == user]
        cut = shown.times[mine[-2 * count]] if count else np.inf
        kept += events.loc[events["timestamp"] < cut, "item"].tolist()
        training += mine[: len(mine) - 2 * count].tolist()
        for place, slate in enumerate(mine):
            history = events.loc[events["timestamp"] < shown.times[slate], "item"].tolist()
            if history and place >= len(mine) - 2 * count:
                part = "test" if place >= len(mine) - count else "valid"
                expected[part].append((slate, user, history, shown.padded()[slate].tolist(), shown.clicked[slate]))
    assert split.train.items.tolist() == kept and split.train.n_users == log.n_users
    assert training_exposures(split).fingerprint() == shown.select(np.array(training)).fingerprint()
    for part, rows in expected.items():
        queries = getattr(split, part)
        assert len(queries) == len(rows) > 0
        batch = queries.batch(torch.arange(len(queries)))
        for at, (slate, user, history, items, slot) in enumerate(rows):
            assert (int(queries.id[at]), int(queries.user[at])) == (slate, user)
            assert batch.items[at, : batch.lengths[at]].tolist() == history
            assert queries.candidates[at].tolist() == batch.context["candidates"][at].tolist() == items
            labels = [float(place == slot) for place in range(1, sum(item > 0 for item in items) + 1)]
            assert queries.labels[at].tolist()[: len(labels)] == labels
            assert queries.labels[at, len(labels) :].isnan().all()
            assert int(queries.item[at]) == (items[slot - 1] if slot else 0)
            assert float(queries.answer.times[at]) == shown.times[slate]


def test_nothing_from_the_cut_on_reaches_training():
    log, _ = simulated.slates(0, users=30, items=20, slates=10, shown=4)
    split = slates(log, 0.2)
    first = pd.Series(split.valid.answer.times.numpy()).groupby(split.valid.user.numpy()).min()  # of each user
    late = log.events["timestamp"] >= log.events["user"].map(first).fillna(np.inf)
    frame = log.tables["exposures"]
    late_slates = frame["timestamp"] >= frame["user"].map(first).fillna(np.inf)
    items = log.events["item"].mask(late, log.events["item"] % 20 + 1)
    changed = type(log)(**{**vars(log), "events": log.events.assign(item=items)})
    shown = frame.assign(item=frame["item"].mask(late_slates, frame["item"] % 20 + 1))
    shown["clicked"] = shown["clicked"].mask(late_slates, shown["slot"] == 3)
    changed = slates(Exposures.from_frame(shown).attach(changed), 0.2)
    assert late.sum() > 20 and not torch.equal(changed.test.candidates, split.test.candidates)
    assert torch.equal(changed.train.items, split.train.items) and torch.equal(changed.train.times, split.train.times)
    assert training_exposures(changed).fingerprint() == training_exposures(split).fingerprint()


def test_each_share_has_its_part_and_everybody_a_training_slate():
    shown = ragged(1, users=40, most=12)
    for share in (0.01, 0.2, 0.33, 0.49):
        part = pd.Series(parts(shown, share)).groupby(shown.user)
        for _, mine in part:
            assert mine.is_monotonic_increasing and mine.iloc[0] == 0
            assert (mine == 1).sum() == (mine == 2).sum() and ((mine == 2).any() or len(mine) < 3)
    log, _ = simulated.slates(0, users=10, items=20, slates=20, shown=4)
    assert np.bincount(parts(Exposures.of_log(log), 0.2)).tolist() == [120, 40, 40]


def test_the_split_says_what_it_left_out():
    log = mixed_log(0)
    notes = " ".join(slates(log.select(log.events["user"] > 2, "without two users")).notes)
    assert "slates are left out: their user, or an item that they show, is not in the log" in notes
    assert "users have fewer than 3 slates: they have no query" in notes


def test_further_columns_are_gathered_for_histories_and_missing_for_answers():
    log = mixed_log(0)
    events = log.events.assign(price=np.arange(len(log.events)) / 2, shop="corner")
    split = slates(type(log)(**{**vars(log), "events": events}), columns=("price", "shop"))
    batch = split.test.batch(torch.arange(len(split.test)))
    inside = batch.items > 0
    assert bool((batch.extra["shop"][inside] == 1).all()) and bool((batch.extra["price"][:, 1] > 0).any())
    assert bool(batch.last(batch.target_events.extra["price"]).isnan().all())
    assert not batch.target_events.extra["shop"].any() and split.train.extra["price"].isfinite().all()


def test_the_name_and_the_task():
    log, _ = simulated.slates(0, users=10, items=20, slates=10, shown=4)
    split = datasets.split(log, "slates 0.2")
    assert (split.name, split.task) == ("slates 0.2", "slates") and torch.equal(split.test.id, slates(log).test.id)
    assert datasets.split(log, "slates").name == split.name


def test_what_has_no_slates_is_refused_in_a_sentence():
    log = log_of([[1, 2, 3], [3, 2, 1]])
    with pytest.raises(DataError, match="synthetic: the log has no exposures"):
        slates(log)
    with pytest.raises(DataError, match=r"between 0 and 0.5 \(got 0.5\)"):
        slates(mixed_log(0), 0.5)
    few = ragged(0, most=2).attach(mixed_log(0))
    with pytest.raises(DataError, match="no user has 3 slates"):
        slates(few)
    made = slates(mixed_log(0))
    other = Split(made.log, made.train, made.valid, made.test, "leave-one-out")
    with pytest.raises(DataError, match=r"'leave-one-out' has no training slates; split by 'slates 0\.2'"):
        training_exposures(other)
