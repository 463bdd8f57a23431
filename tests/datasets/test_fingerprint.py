from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from seqlab.datasets.log import make_log
from tests.datasets.test_log import BASKETS, frame

SHOP = pd.DataFrame({"item": ["milk", "rye", "tea"], "title": ["Milk", "Rye", "Tea"], "aisle": ["1", "2", "3"]})
CHANGES = {
    "a title": (BASKETS, SHOP.assign(title=["Milk", "Rye!", "Tea"])),
    "a text column": (BASKETS, SHOP.assign(aisle=["1", "2", "4"])),
    "a column's name": (BASKETS, SHOP.rename(columns={"aisle": "shelf"})),
    "one more column": (BASKETS, SHOP.assign(brand="")),
    "a text that moves to the next column": (BASKETS, SHOP.assign(title=["Milk1", "Rye", "Tea"], aisle=["", "2", "3"])),
    "an item's label": (BASKETS.replace("rye", "rye2"), SHOP.replace("rye", "rye2")),
    "a user's label": (BASKETS.replace("bo", "bob"), SHOP),
    "a column of the events": (BASKETS.assign(price=1), SHOP),
}


@pytest.mark.parametrize(("events", "items"), CHANGES.values(), ids=CHANGES)
def test_the_fingerprint_covers_all_that_a_system_may_read(events, items):
    log, other = make_log(BASKETS, items=SHOP, title="title"), make_log(events, items=items, title="title")
    assert other.fingerprint() != log.fingerprint()
    assert other.fingerprint(1) == log.fingerprint(1)  # which is of users, items and times alone
    assert make_log(BASKETS, items=SHOP, title="title", name="other").fingerprint() == log.fingerprint()


def test_the_fingerprint_covers_ties_and_repeats():
    logs = [make_log(BASKETS.iloc[[1, 2]].assign(user="al"), repeats=one, ties=two)
            for one in (True, False) for two in ("source", "shuffle")]  # fmt: skip
    assert len({log.fingerprint() for log in logs}) == 4 and len({log.fingerprint(1) for log in logs}) == 1


def test_version_1_of_the_fingerprint_never_changes():
    untimed = make_log(frame([(1, 3, None), (2, 1, 9), (1, 1, 4), (2, 2, 1)]), order="source")
    assert make_log(BASKETS).fingerprint(1) == "509318ca58b16033c67ba956d072ed34582b7d9fd6c865f473514fe3fb4fd819"
    assert untimed.fingerprint(1) == "55e95af4e192b38de485fe59e935ad92c53f506d884d68e159565e9562a57b14"
    with pytest.raises(ValueError, match="version of a fingerprint is 1, 2 or 3"):
        untimed.fingerprint(4)


def test_version_2_of_the_fingerprint_never_changes():
    log = make_log(BASKETS.assign(price=[1.5, None, 3, 2, 1]), items=SHOP, title="title", ties="shuffle", repeats=True)
    assert log.fingerprint() == log.fingerprint(2) == "1c295a538e8f065e1b62ce2c38cc51200c1d333b403d8411a7f20d8bfacd6728"


PEOPLE = pd.DataFrame({"user": ["al", "bo"], "age": [30, None]})


def test_only_version_3_covers_what_is_declared_the_users_columns_roles_and_tables():
    log = make_log(BASKETS, items=SHOP, title="title")
    further = BASKETS.assign(shop=[1, 2, 1, 2, 1])
    shops, others = (make_log(more, items=SHOP, title="title", declared=("shop",))
                     for more in (further, further.assign(shop=3)))  # fmt: skip
    same_2 = [
        shops, others, make_log(further, items=SHOP, title="title", declared=("shop",), roles={"store": "shop"}),
        make_log(BASKETS, items=SHOP, title="title", users=PEOPLE),
        make_log(BASKETS, items=SHOP, title="title", users=PEOPLE.assign(age=31)),
        replace(log, tables={"coupons": pd.DataFrame({"item": [1, 2]})}),
        replace(log, tables={"coupons": pd.DataFrame({"item": [1, 0]})}),
        replace(log, tables={"campaigns": pd.DataFrame({"item": [1, 0]})}),
    ]  # fmt: skip
    assert {one.fingerprint() for one in same_2} == {log.fingerprint()}
    assert len({one.fingerprint(3) for one in (log, *same_2)}) == 1 + len(same_2)
    assert replace(shops, notes=("a note",), name="other").fingerprint(3) == shops.fingerprint(3)
    undeclared = make_log(further, items=SHOP, title="title")
    assert undeclared.fingerprint(3) == shops.fingerprint(3) and undeclared.fingerprint() != shops.fingerprint()


SAME = {
    "numbers": [
        [1, 2, 3, 2, 1], [1.0, 2, 3, 2, 1], ["1", "2", "3", "2", "1"], pd.Categorical([1, 2, 3, 2, 1]),
        pd.array([1, 2, 3, 2, 1], dtype="Int64"), pd.array([1, 2, 3, 2, 1], dtype="int8[pyarrow]"),
        pd.Series([1.0, 2.0, 3, 2, 1], dtype=object), np.array([1, 2, 3, 2, 1], np.uint16),
    ],
    "gaps": [
        [1, None, 3, 2, 1], ["1", "", "3", "2", "1"], pd.array([1, None, 3, 2, 1], dtype="Int64"),
        pd.Categorical(["1", None, "3", "2", "1"]),
    ],
    "decimals": [[0.5, 0.0, 2, 1, 1], [0.5, -0.0, 2, 1, 1], ["0.5", "0", "2.0", "1", "1"]],
    "words": [
        ["a", None, "b", "a", "b"], pd.array(["a", None, "b", "a", "b"], dtype="str"),
        pd.Categorical(["a", None, "b", "a", "b"], categories=["unused", "b", "a"]),
        pd.array(["a", None, "b", "a", "b"], dtype="string[pyarrow]"), ["a", "", "b", "a", "b"],
    ],
    "padded": [["01", "2", "3", "2", "01"]],
    "yes and no": [[True, False, True, True, True], ["True", "False", "True", "True", "True"]],
    "nothing": [[None] * 5, [float("nan")] * 5, [""] * 5, pd.array([None] * 5, dtype="Int64")],
}  # fmt: skip


def test_the_fingerprint_depends_on_values_not_on_how_pandas_stores_them():
    found = {
        kind: {make_log(BASKETS.assign(more=values)).fingerprint() for values in stored}
        for kind, stored in SAME.items()
    }
    assert {kind: len(prints) for kind, prints in found.items()} == dict.fromkeys(SAME, 1)
    assert len(set.union(*found.values())) == len(SAME)  # and other values have another print
    text = BASKETS.astype({"user": "string[pyarrow]", "item": "category"})
    halves = pd.concat([text.iloc[:2], text.iloc[2:]])  # a column of two chunks
    assert make_log(halves).fingerprint() == make_log(BASKETS).fingerprint()


def test_the_fingerprint_covers_order_and_times_but_not_the_name():
    log = make_log(BASKETS)
    assert make_log(BASKETS, name="other").fingerprint() == log.fingerprint()
    assert make_log(BASKETS.iloc[::-1]).fingerprint() != log.fingerprint()
    assert make_log(BASKETS.assign(timestamp=BASKETS["timestamp"] + 1)).fingerprint() != log.fingerprint()
