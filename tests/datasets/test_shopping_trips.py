import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from seqlab.datasets import DataError
from seqlab.datasets.gaps import gap_report, unfit_times
from seqlab.datasets.log import make_log
from seqlab.datasets.shopping_trips import trips

KINDS = {"tea": "hot", "mate": "hot", "rye": "bread", "oat": "bread", "ice": "cold", "nail": ""}


def shop():
    """Purchases of 6 users in 133 baskets that are minutes to days apart, each over some seconds."""
    random = np.random.default_rng(0)
    who = random.integers(1, 7, 133)
    gaps = random.choice([599, 600, 1800, 3599, 3600, 90_000], 133)
    begins = 1_500_000_000 + pd.Series(gaps).groupby(who).cumsum().to_numpy()
    basket = np.append(np.arange(133), random.integers(0, 133, 267))
    frame = pd.DataFrame({
        "user": who[basket], "item": random.choice(list(KINDS), 400), "basket": 1000 - basket,
        "timestamp": begins[basket] + np.append(np.zeros(133), random.integers(0, 60, 267)),
        "paid": random.integers(1, 400, 400) / 100,
    })  # fmt: skip
    items = pd.DataFrame({"item": list(KINDS), "kind": list(KINDS.values())})
    return make_log(frame, items=items, name="shop", repeats=True)


def slowly(log, seconds, weights, top):
    """The trips of a log, user by user and basket by basket."""
    events = log.events.assign(kind=log.items["kind"].reindex(log.events["item"]).to_numpy(), weight=weights)
    found = []
    for user, of_user in events.groupby("user"):
        baskets = sorted((part["timestamp"].min(), basket) for basket, part in of_user.groupby("basket"))
        merged = [[baskets[0]]]
        for before, basket in pairwise(baskets):
            merged.append([]) if basket[0] - before[0] >= seconds else None
            merged[-1].append(basket)
        for trip in merged:
            part = of_user[of_user["basket"].isin([basket for _, basket in trip])]
            sums = Counter()
            for kind, weight in zip(part["kind"], part["weight"], strict=True):
                if kind:
                    sums[kind] += weight
            best = min(sums, key=lambda kind: (-round(sums[kind], 6), kind)) if sums else ""
            found.append([user, trip[0][0], best, len(trip), len(part)])
    counts = Counter(mark for _, _, mark, _, _ in found if mark)
    kept = sorted(counts, key=lambda mark: (-counts[mark], mark))[:top]
    return [[user, time, mark if mark in kept else "other", *sizes] for user, time, mark, *sizes in found]


@pytest.mark.parametrize("top", [1, 2, 20])
@pytest.mark.parametrize("weight", [None, "paid"])
@pytest.mark.parametrize(("merge", "seconds"), [("1h", 3600), ("10min", 600), ("0s", 0), ("1D", 86_400)])
def test_trips_are_those_of_a_slow_loop(merge, seconds, weight, top):
    log = shop()
    got = trips(log, merge, "kind", top, weight)
    names = got.items["item_id"].reindex(got.events["item"]).tolist()
    table = got.events.assign(item=names)[["user", "timestamp", "item", "baskets", "events"]]
    assert table.values.tolist() == slowly(log, seconds, 1 if weight is None else log.events["paid"], top)
    assert got.users["user_id"].equals(log.users["user_id"])
    assert (got.users["observed_until"] == log.events["timestamp"].max()).all()
    assert any(f"133 baskets of 6 users are {got.n_events:,} trips" in note for note in got.notes)


def test_without_baskets_every_event_is_one_and_the_users_keep_their_columns():
    log = shop()
    frame = log.events.drop(columns="basket").assign(kind=log.items["kind"].reindex(log.events["item"]).to_numpy())
    people = pd.DataFrame({"user": range(1, 7), "age": range(20, 26)})
    got = trips(
        make_log(frame, users=people, repeats=True).select(log.events["user"].to_numpy() > 2, "", True), mark="kind"
    )
    assert got.events["baskets"].equals(got.events["events"]) and got.users["age"].tolist() == ["22", "23", "24", "25"]
    with pytest.raises(DataError, match="the items: there is no column 'colour'"):
        trips(log, mark="colour")
    with pytest.raises(DataError, match="'paid' has numbers"):
        trips(log, mark="paid")
    with pytest.raises(DataError, match="'item_name' has categories"):
        named = log.events.assign(item_name=log.items["item_id"].reindex(log.events["item"]).to_numpy())
        trips(make_log(named, repeats=True), mark="item_name", weight="item_name")
    with pytest.raises(DataError, match="events have no timestamp"):
        trips(make_log(frame.drop(columns="timestamp"), time=None, order="source"), mark="kind")


def log_of(times):
    return make_log(pd.DataFrame({"user": 1, "item": range(len(times)), "timestamp": times}), name="shop")


def test_times_that_are_whole_days_missing_or_mostly_ties_are_refused_in_a_sentence():
    day = 86_400
    assert unfit_times(log_of([5, 17, 17, 300, day, 9 * day + 7, 10 * day + 9])) == ""  # one tie of six gaps
    assert re.search("^shop: 100% of the gaps .* whole days", unfit_times(log_of([0, day, day, 3 * day])))
    assert "shop: 50% of the gaps between a user's events are zero" in unfit_times(log_of([5, 5, 17, 17, 999]))
    untimed = make_log(pd.DataFrame({"user": [1, 1], "item": [1, 2]}), time=None, order="source", name="shop")
    assert unfit_times(untimed).startswith("shop: 2 of 2 events have no timestamp")
    report = gap_report(log_of([0, 60, 60, 180, day])).set_index("fact")["value"]
    assert report["share of gaps of zero"] == 0.25 and report["resolution, seconds"] == 60 and report["gaps"] == 4
