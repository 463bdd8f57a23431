"""Candidates drawn by popularity, and labels from a column, against brute force."""

import numpy as np
import pandas as pd
import pytest
import torch

from seqlab.datasets import leave_one_out
from seqlab.datasets.labelled import candidates, labelled
from seqlab.datasets.log import make_log
from seqlab.datasets.split_names import split
from seqlab.runtime.text import DataError
from tests.synthetic import chain_log, random_log


def rated(seed=0, users=30, missing=0.1, **options):
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(1, users + 1), random.integers(2, 25, users))
    rating = random.integers(1, 6, len(user)).astype(float)
    rating[random.random(len(user)) < missing] = np.nan
    item, time = random.integers(1, 40, len(user)), random.integers(0, 30, len(user))
    frame = pd.DataFrame({"user": user, "item": item, "timestamp": time, "rating": rating})
    return make_log(frame, name="rated", **options)


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("ties", ["source", "shuffle"])
def test_each_answer_stands_beside_distinct_items_that_are_allowed(repeats, ties):
    log = random_log(3, moments=20, repeats=repeats, ties=ties)
    plain, parts = leave_one_out(log), candidates(log, 2)
    assert parts.name == "candidates 2" and parts.task == "clicks"
    counts = plain.train.item_counts(log.n_items)
    assert torch.equal(parts.train.items, plain.train.items)
    for part in ("valid", "test"):
        queries, all_of = getattr(parts, part), getattr(plain, part)
        kept = {}
        for row in range(len(all_of)):
            banned = {int(all_of.item[row])}
            if not repeats:
                banned |= set(all_of.sequences.items[all_of.start[row] : all_of.end[row]].tolist())
            allowed = {item for item in range(1, log.n_items + 1) if counts[item]} - banned
            if len(allowed) >= 2:
                kept[int(all_of.user[row])] = (int(all_of.item[row]), allowed)
        assert queries.user.tolist() == list(kept)
        if len(kept) < len(all_of):
            assert any(f"have no {part} query" in note for note in parts.notes)
        for row, (answer, allowed) in enumerate(kept.values()):
            items, labels = queries.candidates[row], queries.labels[row]
            assert items[labels == 1].tolist() == [answer] and labels.sum() == 1
            others = items[labels == 0].tolist()
            assert len(set(others)) == 2 and set(others) <= allowed
    again = split(log, "candidates 2")
    assert torch.equal(again.test.candidates, parts.test.candidates)
    assert not torch.equal(candidates(log, 2, 1).test.candidates, parts.test.candidates)


def test_items_are_drawn_by_their_training_counts_from_what_is_left():
    """A user who has seen the most popular item draws the others by their counts; also where rejection gives up."""
    from seqlab.datasets.labelled import _draw

    popularity = torch.tensor([0, 1_000_000, 6, 3, 0, 1])
    excluded = torch.arange(4000) * 6 + 1
    drawn, enough = _draw(popularity, excluded, 4000, 2, torch.Generator().manual_seed(0))
    assert bool(enough.all()) and bool((drawn[:, 0] != drawn[:, 1]).all())
    first = torch.bincount(drawn[:, 0], minlength=6) / 4000
    torch.testing.assert_close(first, torch.tensor([0, 0, 0.6, 0.3, 0, 0.1]), atol=0.03, rtol=0)
    second = torch.bincount(drawn[drawn[:, 0] == 2][:, 1], minlength=6).float()
    torch.testing.assert_close(second / second.sum(), torch.tensor([0, 0, 0, 0.75, 0, 0.25]), atol=0.04, rtol=0)
    assert _draw(popularity, torch.tensor([1, 2, 3, 7]), 2, 2, torch.Generator())[1].tolist() == [False, True]
    frequent = _draw(popularity, torch.tensor([2]), 2000, 1, torch.Generator().manual_seed(0))[0]
    assert float((frequent == 1).float().mean()) > 0.99


@pytest.mark.parametrize("ties", ["source", "shuffle"])
def test_the_last_share_of_each_user_is_labelled(ties):
    log = rated(ties=ties)
    parts = labelled(log, "rating", 4, 0.2)
    assert parts.name == "labelled rating 4 0.2" and parts.task == "clicks"
    expected, trained = {"valid": [], "test": []}, []
    for user, events in log.events.groupby("user"):
        held, rows = int(len(events) * 0.2 + 1e-9), events.to_dict("records")
        trained += [row["item"] for row in rows[: len(rows) - 2 * held]]
        for part, first in (("valid", len(rows) - 2 * held), ("test", len(rows) - held)):
            for at in range(first, first + held):
                before = [row["item"] for row in rows[:at]]
                if ties == "shuffle":
                    before = [row["item"] for row in rows[:at] if row["timestamp"] < rows[at]["timestamp"]]
                if not np.isnan(rows[at]["rating"]) and before:
                    expected[part].append((user, rows[at]["item"], float(rows[at]["rating"] >= 4), before))
    assert parts.train.items.tolist() == trained
    for part, rows in expected.items():
        queries = getattr(parts, part)
        found = [
            (int(queries.user[row]), int(queries.candidates[row, 0]), float(queries.labels[row, 0]),
             queries.sequences.items[queries.start[row] : queries.end[row]].tolist())
            for row in range(len(queries))
        ]  # fmt: skip
        assert found == rows and queries.item.tolist() == [item for _, item, _, _ in rows]
    assert "rating" not in parts.test.answer.extra
    gathered = split(log, "labelled rating 4 0.2", columns=("rating",))
    value = gathered.test.answer.extra["rating"]
    assert torch.equal((value >= 4).double(), gathered.test.labels[:, 0])


def test_what_is_wrong_is_named():
    log = rated()
    with pytest.raises(DataError, match="events have no column 'stars'"):
        split(log, "labelled stars 4")
    with pytest.raises(DataError, match="events have no column 'rating'"):
        labelled(chain_log(), "rating", 4)
    with pytest.raises(DataError, match="all valid labels are 0 with rating >= 6"):
        labelled(log, "rating", 6)
    with pytest.raises(DataError, match=r"share must be between 0 and 0\.5"):
        labelled(log, "rating", 4, 0.5)
    with pytest.raises(DataError, match=r"no valid query; a user needs 1e\+03 events"):
        labelled(log, "rating", 4, 0.001)
    words = make_log(
        log.events.assign(rating=["good", "bad"] * (len(log.events) // 2) + ["bad"] * (len(log.events) % 2))
    )
    with pytest.raises(DataError, match="'rating' holds words"):
        labelled(words, "rating", 4)
    with pytest.raises(DataError, match="at least 1 drawn item"):
        candidates(log, 0)
    with pytest.raises(DataError, match="has 100 other items"):
        candidates(log, 100)
