from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from seqlab.datasets import DataError, join, leave_one_out
from seqlab.datasets.log import make_log
from tests.datasets.test_shopping_trips import shop as purchases


def shop(name, seed, users, items, **columns):
    """30 purchases by some of these users; the titles of a shop have its name."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "user": random.choice(users, 30), "item": random.choice(items, 30), "timestamp": random.integers(0, 20, 30),
    }).assign(**{column: random.integers(1, 5, 30) for column in columns.values()})  # fmt: skip
    table = pd.DataFrame({"item": items, "title": [f"{one} of {name}" for one in items], f"of {name}": "yes"})
    people = pd.DataFrame({"user": users, "town": [f"{name}town" if one != users[0] else "" for one in users]})
    log = make_log(frame, items=table, title="title", users=people, name=name, roles=columns)
    tables = {"coupons": pd.DataFrame({"item": [1, 2, 0], "user": [0, 1, 2]})}
    return replace(log, tables=tables)


def rows_of(log, domain, users, items):
    """The events of a log with original ids."""
    found = []
    for event in log.events.itertuples(index=False):
        user, item = log.users["user_id"][event.user], log.items["item_id"][event.item]
        found.append((
            f"{domain}:{user}" if users == "apart" else user, f"{domain}:{item}" if items == "apart" else item,
            event.timestamp, getattr(event, "domain", domain),
        ))  # fmt: skip
    return found


@pytest.mark.parametrize("users", ["same", "apart"])
@pytest.mark.parametrize("items", ["same", "apart"])
@pytest.mark.parametrize("labels", [[3, 7, 11], ["ann", "bo", "cy"]])
def test_joined_events_are_those_of_all_logs_under_one_numbering(users, items, labels):
    logs = [shop("A", 1, labels[:2], [1, 2, 3]), shop("B", 2, labels[1:], [2, 3, 4]), shop("C", 3, labels, [3, 9])]
    got = join(logs, users=users, items=items)
    expected = [row for log in logs for row in rows_of(log, log.name, users, items)]
    expected.sort(key=lambda row: (row[0], row[2]))  # stable: equal times in the order of the logs
    assert rows_of(got, "", "same", "same") == expected
    assert got.users["user_id"].tolist() == sorted({row[0] for row in expected})
    assert got.items["item_id"].tolist() == sorted({row[1] for row in expected})
    domains, names = got.column("domain")
    assert names == ("A", "B", "C") and [names[code - 1] for code in domains] == [row[3] for row in expected]
    assert got.name == "A + B + C" and got.declared == ("domain",) and got.origin is None
    titles = got.items.set_index("item_id")["title"]
    assert titles[3 if items == "same" else "C:3"] == ("3 of A" if items == "same" else "3 of C")
    together = {"same": "2 of 5 items are in several logs" if len(titles) == 5 else "", "apart": ""}[items]
    assert together in " ".join(got.notes)
    leave_one_out(got)


def test_tables_take_the_first_value_that_a_log_has_and_are_renumbered():
    one, two = shop("A", 1, ["ann", "bo"], [1, 2, 3]), shop("B", 2, ["bo", "cy"], [2, 3, 4])
    got = join([one, two])
    assert got.users.set_index("user_id")["town"].to_dict() == {"ann": "", "bo": "Atown", "cy": "Btown"}
    assert got.items["of A"].tolist() == ["yes", "yes", "yes", ""] and got.items["of B"].tolist() == ["", *["yes"] * 3]
    assert got.tables["coupons"].to_dict("list") == {
        "item": [1, 2, 0, 2, 3, 0], "user": [0, 1, 2, 0, 2, 3], "domain": ["A"] * 3 + ["B"] * 3
    }  # fmt: skip
    assert {"2 of 4 items are in several logs: their ids are equal.", "1 of 3 users are in several logs: their ids are "
            "equal.", "2 items have several titles in the logs; the first one is used."} <= set(got.notes)  # fmt: skip


def test_roles_follow_and_baskets_of_different_logs_stay_different():
    long = 2**53 + 1
    one, two, three = (shop("A", 1, [1, 2], [1, 2], basket="cart"), shop("B", 2, [1, 2], [1, 2], basket="order"),
                       shop("C", 3, [1, 2], [1, 2]))  # fmt: skip
    one = replace(one, events=one.events.assign(cart=one.events["cart"] + long))
    same = join([one, replace(one, name="D", events=one.events.assign(cart=one.events["cart"] + 100))])
    assert same.roles == {"basket": "cart"} and "basket" not in same.events
    got = join([one, two, three])
    assert got.roles == {} and not {"cart", "order"} & set(got.events)
    codes, names = got.column("basket")
    assert set(names) == {*map(str, one.events["cart"].unique()), *map(str, two.events["order"].unique())}
    assert (codes == 0).sum() == three.n_events and (codes[got.events["domain"] == "C"] == 0).all()
    again = join({"old": two, "new": two}, items="apart")
    _, names = again.column("basket")
    assert set(names) == {f"{log}:{one}" for log in ("old", "new") for one in two.events["order"].unique()}
    assert any("baskets of different logs have equal ids" in note for note in again.notes)


def test_months_of_a_log_become_it_again_and_a_join_can_be_joined():
    log = replace(purchases(), roles={"price": "paid"}, declared=("paid",), ties="shuffle", card="shop")
    early = log.events["timestamp"].to_numpy() < log.events["timestamp"].median()
    months = {"early": log.select(early, "spring"), "late": log.select(~early, "later", keep_numbering=True)}
    got = join(months)
    assert (got.n_users, got.n_items, got.n_events) == (log.n_users, log.n_items, log.n_events)
    pd.testing.assert_frame_equal(got.events[log.events.columns], log.events)
    pd.testing.assert_frame_equal(got.users, log.users)
    pd.testing.assert_frame_equal(got.items, log.items)
    assert (got.card, got.ties, got.repeats, got.roles) == (log.card, log.ties, True, log.roles)
    assert got.declared == (*log.declared, "domain")
    assert ((got.events["domain"] == "early") == early).all()
    assert got.fingerprint() == log.fingerprint() and got.fingerprint(3) != log.fingerprint(3)
    third = shop("C", 3, ["x", "y"], ["1", "2"])
    assert set(join([got, third]).column("domain")[1]) == {"early", "late", "C"}


def test_untimed_logs_follow_each_other_and_wrong_calls_are_named():
    untimed = make_log(pd.DataFrame({"user": [1, 1], "item": [5, 6]}), time=None, order="source", name="U")
    timed = make_log(pd.DataFrame({"user": [1, 1], "item": [7, 8], "timestamp": [1, 2]}), name="T")
    got = join([untimed, timed])
    assert got.items["item_id"][got.events["item"]].tolist() == [5, 6, 7, 8]
    assert any("2 events have no timestamp" in note for note in got.notes)
    for logs in ([timed], [timed, timed]):
        with pytest.raises(DataError, match=r"join: needs two logs or more with different names \(got T"):
            join(logs)
    with pytest.raises(ValueError, match="must be one of"):
        join([timed, untimed], users="equal")
