"""Names of items for people: completed by a category, not cut inside a word; systems read the titles as they are."""

import pandas as pd

from seqlab.datasets import item_names, typed_items
from seqlab.datasets.log import make_log


def a_log(titles, **columns):
    items = pd.DataFrame({"item": [f"i{at:02d}" for at in range(len(titles))], "title": titles, **columns})
    events = pd.DataFrame({"user": "u", "item": items["item"], "timestamp": range(len(titles))})
    return make_log(events, items=items, title="title")


def test_a_short_title_carries_its_category_and_others_do_not():
    titles = ["Mainstream", "Condensed soup", "Strawberries", "Fluid milk white only", "Premium, 48 oz", "Lean"]
    categories = ["PASTA  SAUCE", "SOUP", "BERRIES", "FLUID MILK PRODUCTS", "Ice cream", ""]
    log = a_log(titles, category=categories)
    assert item_names(log) == ["Mainstream (pasta sauce)", "Condensed soup", "Strawberries", "Fluid milk white only",
                               "Premium (Ice cream), 48 oz", "Lean"]  # fmt: skip
    assert log.items["title"].tolist() == titles  # what systems read
    assert item_names(a_log(titles, made_in=categories)) == titles


def test_a_name_can_be_typed_in_again():
    log = a_log(["Mainstream", "Lean"], category=["PASTA SAUCE", "BEEF"])
    assert typed_items(log, "mainstream (pasta sauce)\nLean") == [1, 2]


def test_titles_cut_by_the_source_lose_the_part_of_a_word_and_stay_apart():
    cut = [f"Juice of the fruit {at:02d} with som" for at in range(20)]
    two = ["Entrees and frozen dinners/nut", "Entrees and frozen dinners/tre"]
    names = item_names(a_log([*cut, *two, "Tea", "Green tea of the hills"]))
    assert names[0] == "Juice of the fruit 00 with…"
    assert names[20:] == [f"{two[0]}…", f"{two[1]}…", "Tea", "Green tea of the hills"]


def test_a_log_without_titles_keeps_its_ids():
    events = pd.DataFrame({"user": "u", "item": ["a1", "b2"], "timestamp": [1, 2]})
    assert item_names(make_log(events)) == ["a1", "b2"]
