"""CodeTree operated through its controls, and its still."""

import re

import numpy as np
import pytest
import torch

from seqlab import tokenizers, widgets
from seqlab.datasets import leave_one_out
from seqlab.figures.html import text
from seqlab.figures.theme import plain
from seqlab.tokenizers import CodeBook
from tests.synthetic import chain_log
from tests.widgets.markup import assert_escaped

SIZES = (3, 4, 5)


@pytest.fixture(scope="session")
def vectors(split):
    return np.random.default_rng(0).normal(size=(split.n_items, 6)).astype(np.float32)


@pytest.fixture(scope="session")
def books(split, vectors):
    """A book whose first code is the shelf, in which items 1 and 4 share all codes, and a random one."""
    items = torch.arange(split.n_items + 1)
    by_shelf = torch.stack([items % 3, items % 4, items % 5], 1)
    by_shelf[4] = by_shelf[1]
    other = tokenizers.create("random_codes", {"levels": 2, "codes": 6})
    return CodeBook(by_shelf, SIZES, name="Shelf(x=1)"), tokenizers.make_codebook(other, vectors, resolve="none")


@pytest.fixture
def tree(split, books, live):
    return widgets.CodeTree(books[0], split, books[1])


def shown(tree):
    """The branches that can be pressed."""
    return {tuple(map(int, one.split("."))) for one in re.findall(r"data-press='([\d.]+)'", tree.tree.markup)}


def test_a_branch_lists_the_items_with_its_prefix_and_their_codes_in_both_books(tree, books, split):
    listed = tree.branch((1, 2))
    codes = books[0].codes[1:]
    expected = {item for item in range(1, split.n_items + 1) if codes[item - 1, :2].tolist() == [1, 2]}
    assert set(listed.index) == expected
    for item, row in listed.iterrows():
        assert row["code"] == "·".join(map(str, books[0].codes[item].tolist()))
        assert row["in RandomCodes"] == "·".join(map(str, books[1].codes[item].tolist()))
    counts = split.train.item_counts(split.n_items)
    often = [int(counts[item]) for item in listed.index]
    assert often == sorted(often, reverse=True)


def test_the_words_of_a_branch_are_missing_in_its_siblings():
    items = [f"s{item}" for item in range(24)]
    kinds = ["cheddar cheese", "gouda cheese", "whole milk", "skimmed milk"]
    log = chain_log()
    titles = [f"{kinds[item % 4]} number {chr(97 + item) * 3}" for item in range(len(log.items))]
    split = leave_one_out(chain_log_with(log, titles))
    at = torch.arange(len(items) + 1) - 1
    codes = torch.stack([(at % 4) // 2, at % 2, (at // 4).clamp(min=0)], 1).clamp(min=0)
    words = widgets.CodeTree(CodeBook(codes, (2, 2, 6)), split).words
    assert words[(0,)].split(", ")[0] == "cheese"
    assert words[(1,)].split(", ")[0] == "milk"
    assert words[(0, 0)].split(", ")[0] == "cheddar"  # not "cheese", which its sibling has as well
    assert words[(1, 1)].split(", ")[0] == "skimmed"
    assert "number" not in " ".join(words.values())
    assert all(len(prefix) < 3 for prefix in words)  # one item: its title says it all


def chain_log_with(log, titles):
    from dataclasses import replace

    return replace(log, items=log.items.assign(title=titles))


def test_items_without_words_have_a_tree_without_words(live):
    split = leave_one_out(chain_log())  # titles that repeat the id
    codes = torch.arange(25)[:, None] % torch.tensor([2, 3, 5])
    tree = widgets.CodeTree(CodeBook(codes, (2, 3, 5)), split)
    assert tree.words == {}
    assert "group" not in tree.items
    tree.pick((1,))
    assert shown(tree)


def test_branches_are_opened_from_the_list_and_closed(tree):
    assert not tree.path
    assert {len(prefix) for prefix in shown(tree)} == {1, 2}
    tree.branches.value = tree.branches.options[0][1]
    assert len(tree.path) == 1
    assert tree.branches.value is None
    assert {prefix[:1] for prefix in shown(tree)} == {tree.path}
    assert {len(prefix) for _, prefix in tree.branches.options} == {2}
    tree.branches.value = tree.branches.options[0][1]
    tree.branches.value = tree.branches.options[0][1]
    assert len(tree.path) == 3
    assert tree.branches.value == tree.path  # beside the other whole codes, to go on to these
    label = next(words for words, prefix in tree.branches.options if prefix == tree.path)
    (only,) = tree.branch(tree.path)["title"]
    assert "1 item " in label and plain(only, 40) in label
    assert text(only, 60) in tree.where.value
    assert tree.tree.markup.count("branch picked") == 1  # the last code is outlined
    for _ in range(3):
        tree.up.click()
    assert not tree.path
    assert not tree.status.view.value
    tree.up.click()
    assert "root of the tree" in tree.status.view.value


def test_a_branch_is_opened_by_pressing_it(tree):
    tree._pressed("2.1")
    assert tree.path == (2, 1)
    assert set(tree.branch((2, 1))["title"]) <= set(tree.items["title"])
    assert "2·1" in tree.where.value


def test_an_item_is_found_by_its_title_with_its_code_in_both(tree, books):
    tree.picker.search.value = "thing 2"
    tree.picker.found.value = 25
    assert tree.path == tuple(books[0].codes[25].tolist())
    for book in books:
        assert "·".join(map(str, book.codes[25].tolist())) in tree.details.value
    assert "RandomCodes" in tree.details.value


def test_items_that_share_most_of_a_code_come_first(tree):
    body = tree.item(1)
    titles = re.findall(r"<td><bdi>(.*?)</bdi></td><td><bdi>([\d·]+)</bdi></td><td class='n'>(\d)", body)
    mine = [int(shared) for _, code, shared in titles if code.count("·") == 2]
    assert mine[0] == 3  # item 4 has the same tuple
    assert mine == sorted(mine, reverse=True)


def test_the_codes_of_a_branch_in_the_other_tokenizer_are_counted(tree, books):
    tree.pick((1,))
    codes = books[1].codes[1:, 0][books[0].codes[1:, 0] == 1]
    top = codes.bincount().max()
    assert f"{len(codes.unique())} different first codes" in tree.details.value
    assert f"has {top} of them" in tree.details.value


def test_use_counts_every_code(tree, split):
    use = tree.use()
    assert use.groupby("level")["items"].sum().tolist() == [split.n_items] * 3
    assert len(use) == sum(SIZES)


def test_the_map_can_be_coloured_by_any_level(tree, vectors, books):
    item_map = tree.item_map(vectors)
    assert {"level 0", "level 1", "level 2", "shelf"} <= set(item_map.columns)
    figure = item_map.map("level 1")
    for trace in figure.data[:4]:
        code = {int(books[0].codes[item, 1]) for item in trace.customdata}
        assert code == {int(trace.name)}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert item_map.neighbours(7)["item"].iloc[0] == np.argsort(-(unit @ unit[6]))[1] + 1


def test_a_collapsed_level_leaves_the_map_another_colour(split, vectors, report):
    flat = CodeBook(torch.zeros(split.n_items + 1, 2, dtype=torch.long), (2, 2))
    assert len(widgets.CodeTree(flat, split).item_map(vectors).map().data[0].x) == 10  # a shelf


def test_unfitting_arguments_are_refused(split, books, report):
    wrong = CodeBook(torch.zeros(4, 1, dtype=torch.long), (2,))
    with pytest.raises(ValueError, match="3 items"):
        widgets.CodeTree(wrong, split)
    with pytest.raises(ValueError, match="no column 'colour'"):
        widgets.CodeTree(books[0], split, category="colour")
    with pytest.raises(ValueError, match="no item has a code"):
        widgets.CodeTree(books[0], split, path=(2, 3, 4, 0))


def test_two_books_of_one_tokenizer_are_numbered(split, books, report):
    assert widgets.CodeTree(books[0], split, books[0]).names == ("Shelf (first)", "Shelf (second)")
    assert widgets.CodeTree(books[0], split).names[0] == "Shelf"


@pytest.mark.parametrize("category", [None, ""])
def test_titles_stay_text(split, books, live, category):
    tree = widgets.CodeTree(books[0], split, books[1], category=category)
    for item in (1, 2, 8):
        tree.pick_item(item)
        assert_escaped(tree, tree.tree.markup)
