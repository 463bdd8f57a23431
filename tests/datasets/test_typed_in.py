"""Typed and pasted items: what is found, what is refused and how, and that titles are plain data."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seqlab.datasets import DataError, typed_items
from seqlab.datasets.log import make_log
from seqlab.figures.theme import plain

TITLES = {
    "m1": "Toy Story",
    "m2": "Toy Story 2",
    "m3": "Matrix, The",
    "m4": "Good, the Bad and the Ugly, The",
    "m5": "Bad Boys",
    "m6": "<script>alert('x')</script>",
    "m7": "שלום עולם",
    "m8": "\u202eevil\u202c reversed",
    "m9": "🦊" * 40 + "👩‍👩‍👧",
    "m10": "long " * 60 + "end",
    "m11": "",
    "m12": "Café; Noir",
    "m13": "two  words\tand a tab",
    "m14": "Twin",
    "m15": "twin",
    "m16": "Twin",
    "m17": "m1",
    "m18": "1999",
}


def log_of(titles):
    """A log of items with these titles (by id), which keep their order."""
    ids = list(titles)
    events = pd.DataFrame({"user": [1] * len(ids) + [2, 2], "item": [*ids, *ids[:2]], "timestamp": 0})
    items = pd.DataFrame({"item": ids, "title": pd.Series(titles.values(), dtype=object)})
    return make_log(events, items=items, title="title")


LOG = log_of(TITLES)


def ids(typed):
    """The source's ids of what was found."""
    return [LOG.items.at[item, "item_id"] for item in typed_items(LOG, typed)]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("m3\nm5\nm3", ["m3", "m5", "m3"]),
        ("m3, m5;m1\tm2", ["m3", "m5", "m1", "m2"]),
        (" m3 ,\r\n\r\n; m5,,\n", ["m3", "m5"]),
        ("Matrix, The\nGood, the Bad and the Ugly, The", ["m3", "m4"]),
        ("Matrix, The; Toy Story; Café; Noir", ["m3", "m1", "m12"]),
        ("m5, good, the bad and the ugly, the, Matrix, The,m1", ["m5", "m4", "m3", "m1"]),
        ("good, the bad", ["m4"]),
        ("TOY  STORY", ["m1"]),
        ("Toy Story, toy story 2", ["m1", "m2"]),
        ("matr\nwords and", ["m3", "m13"]),
        ("boys", ["m5"]),
        ("Cafe\u0301; noir", ["m12"]),
        ("\ufefftoy story", ["m1"]),
        ("two words and a tab", ["m13"]),
        ("twin", ["m15"]),
        ("m1", ["m1"]),
        ("M1", ["m1"]),
        ("1999, m2", ["m18", "m2"]),
        ("alert(", ["m6"]),
        ("שלום", ["m7"]),
        ("evil", ["m8"]),
        ("m11", ["m11"]),
        (["Café; Noir", "m3"], ["m12", "m3"]),
    ],
)
def test_found(typed, found):
    assert ids(typed) == found


def test_every_title_is_found_as_it_is_written_and_as_it_is_shown():
    for key, title in TITLES.items():
        if key in ("m11", "m14", "m16", "m17"):
            continue
        for written in (title, plain(title)):
            assert ids(written) == [key]
            assert ids(f"m5\n{written}\n\nm5") == ["m5", key, "m5"]
            assert ids([written]) == [key]


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("m1\n\nToi Story", r"^line 3: 'Toi Story' is not an id or part of a title of the catalogue\. The closest: "
                            r"'Toy Story' \(id 'm1'\), 'Toy Story 2' \(id 'm2'\)\.$"),
        ("toy", r"^line 1: 'toy' could be any of 2 items: 'Toy Story' \(id 'm1'\), 'Toy Story 2' \(id 'm2'\)\. Type"),
        ("Twin", r"^line 1: 'Twin' could be any of 2 items: 'Twin' \(id 'm14'\), 'Twin' \(id 'm16'\)"),
        ("TWIN", r"could be any of 3 items"),
        ("Matrix, Teh", r"^line 1: ' Teh' is not an id .*A title that contains a separator needs a line of its own\.$"),
        ("m1,xyzzy", r"^line 1: 'xyzzy' is not an id"),
        (["m1", ""], r"^entry 2: '' is not an id"),
        (["m1", 7], r"^entry 2: '7' is not an id"),
        ("\u202egnp.exe", r"^line 1: '\\u202egnp.exe' is not an id"),
        ("q" * 1000, r"^line 1: 'q{59}…' is not an id"),
        ("", "the text is empty"),
        (" \n;,\t\n\u200b", "the text is empty"),
        ([], "the text is empty"),
    ],
)  # fmt: skip
def test_errors_have_the_entry_its_line_and_the_closest_titles(typed, complaint):
    with pytest.raises(DataError, match=complaint) as error:
        typed_items(LOG, typed)
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


def test_ids_that_are_numbers_come_before_titles_that_are():
    log = log_of({1: "2", 2: "two", 3: "1 or 2"})
    assert typed_items(log, "1\n2\n3\ntwo\n1 or") == [1, 2, 3, 2, 3]
    assert typed_items(log, [1, np.int64(3), "1 or 2"]) == [1, 3, 3]


@settings(max_examples=30)
@given(st.text() | st.lists(st.text() | st.integers()))
def test_any_text_is_found_or_raises(typed):
    try:
        items = typed_items(LOG, typed)
    except DataError:
        return
    assert items and all(1 <= item <= LOG.n_items for item in items)


@given(st.lists(st.sampled_from([*TITLES, *TITLES.values(), "toy", "bad", "x"]), max_size=6), st.sampled_from("\t;,\n"))
def test_nothing_is_dropped_silently(entries, separator):
    """Each entry gives an item or the whole is refused; a title with separators counts once or more."""
    try:
        items = typed_items(LOG, separator.join(entries))
    except DataError:
        return
    plainly = [entry for entry in entries if entry and not set("\t;,") & set(entry)]
    assert len(items) >= len(plainly)


ids_and_titles = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: f"id:{text.strip()}"),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1),
    min_size=2,
    max_size=6,
).filter(lambda titles: len(set(titles.values())) == len(titles))


@settings(max_examples=30)
@given(ids_and_titles, st.data())
def test_titles_on_lines_of_their_own_come_back(titles, data):
    log = log_of(titles)
    names = [name for name in titles.values() if name.strip() and not name.startswith("id:")]
    assume(names)
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1))
    found = typed_items(log, "\n".join(chosen))
    assert [titles[log.items.at[item, "item_id"]] for item in found] == chosen
    assert typed_items(log, chosen) == found
