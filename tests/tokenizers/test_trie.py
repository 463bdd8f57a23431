"""The trie against plain dictionaries: steps, children, paths, and items with equal tuples."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.tokenizers.trie import Trie

torch.set_num_threads(1)


def trie_of(tuples, sizes):
    """A trie of items 1, 2, ... with these tuples."""
    return Trie(torch.tensor([[-1] * len(sizes), *tuples]), sizes)


@st.composite
def catalogues(draw):
    sizes = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    tuples = draw(st.lists(st.tuples(*[st.integers(0, size - 1) for size in sizes]), min_size=1, max_size=30))
    return tuples, sizes


@given(catalogues())
@settings(max_examples=80, deadline=None)
def test_it_agrees_with_a_dictionary_of_prefixes(catalogue):
    tuples, sizes = catalogue
    trie = trie_of(tuples, sizes)
    assert trie.n_nodes == 1 + sum(len({one[:level] for one in tuples}) for level in range(1, len(sizes) + 1))
    for level, size in enumerate(sizes):
        prefixes = sorted({one[:level] for one in tuples})
        nodes = trie.find(torch.tensor(prefixes).reshape(len(prefixes), level))
        assert len(set(nodes.tolist())) == len(prefixes)
        follow = [{one[level] for one in tuples if one[:level] == prefix} for prefix in prefixes]
        mask = trie.children(nodes, level)
        assert mask.shape == (len(prefixes), size)
        assert [set(row.nonzero()[:, 0].tolist()) for row in mask] == follow
        assert trie.count(nodes).tolist() == [len(one) for one in follow]
        codes, below = trie.edges(nodes, level)
        assert [[code for code in row if code >= 0] for row in codes.tolist()] == [sorted(x) for x in follow]
        stepped = trie.step(nodes[:, None], torch.arange(-1, size + 1)[None])
        assert torch.equal(stepped[:, 1:-1] >= 0, mask)
        assert bool((stepped[:, [0, -1]] == -1).all())
        assert stepped[:, 1:-1][mask].tolist() == below[codes >= 0].tolist()
        under = [[item for item, one in enumerate(tuples, 1) if one[:level] == p] for p in prefixes]
        items, offsets = trie.items_at(nodes)
        found = [items[a:b].sort().values.tolist() for a, b in pairwise(offsets.tolist())]
        assert found == under
        assert trie.size(nodes).tolist() == [len(one) for one in under]


@given(catalogues())
@settings(max_examples=40, deadline=None)
def test_equal_tuples_lose_no_item_and_the_first_is_the_lowest(catalogue):
    tuples, sizes = catalogue
    trie = trie_of(tuples, sizes)
    leaves = trie.find(torch.tensor(tuples))
    assert trie.path(leaves).tolist() == [list(one) for one in tuples]
    assert trie.items(leaves).tolist() == [tuples.index(one) + 1 for one in tuples]
    items, _ = trie.items_at(leaves.unique())
    assert sorted(items.tolist()) == list(range(1, len(tuples) + 1))


def test_missing_nodes_have_no_children_and_codes_of_another_level_reach_none():
    trie = trie_of([(0, 2), (0, 0), (1, 1)], (2, 3))
    dead, root = torch.tensor([-1]), torch.tensor([0])
    assert trie.step(dead, torch.tensor([0])).tolist() == [-1]
    assert not bool(trie.children(dead, 0).any()) and trie.count(dead).tolist() == [0]
    assert trie.items(dead).tolist() == [0] and trie.items_at(dead)[1].tolist() == [0, 0]
    # root and code 3 would make the key that (0, 0) has: a code beyond the largest is nobody's alias
    assert trie.step(root, torch.tensor([3])).tolist() == [-1]
    assert trie.step(root, torch.tensor([2])).tolist() == [-1]
    leaf = trie.find(torch.tensor([[0, 2]]))
    assert trie.step(leaf, torch.tensor([0])).tolist() == [-1] and trie.count(leaf).tolist() == [0]
    assert not bool(trie.children(leaf, 1).any())
    assert trie.path(trie.find(torch.tensor([[1]]))).tolist() == [[1, -1]]


def test_probabilities_over_legal_codes_sum_to_one_over_the_trie():
    generator = torch.Generator().manual_seed(0)
    sizes = (6, 7, 8)
    codes = torch.stack([torch.randint(0, size, (101,), generator=generator) for size in sizes], 1)
    trie = Trie(codes, sizes)
    logp = torch.zeros(1)
    node = torch.zeros(1, dtype=torch.long)
    for level, size in enumerate(sizes):
        logits = torch.randn(len(node), size, generator=generator)  # any scorer: one row per prefix
        legal = trie.children(node, level)
        share = logits.masked_fill(~legal, -torch.inf).log_softmax(-1)
        below = trie.step(node[:, None], torch.arange(size))
        logp, node = (logp[:, None] + share)[legal], below[legal]
        assert float(logp.exp().sum()) == pytest.approx(1, abs=1e-5)
    assert sorted(node.tolist()) == list(range(trie.starts[-2], trie.n_nodes))


@pytest.mark.parametrize(
    ("codes", "sizes", "says"),
    [
        ([[0, 0], [1, 2]], (2, 2), "item 1 has code 2 at level 1"),
        ([[0, 0], [0, 1], [-1, 0]], (2, 2), "item 2 has code -1 at level 0"),
        ([[0, 0]], (2, 2), "at least one item"),
        ([[0, 0], [1, 1]], (2,), "one size per level"),
    ],
)
def test_bad_codes_are_named(codes, sizes, says):
    with pytest.raises(ValueError, match=says):
        Trie(torch.tensor(codes), sizes)


def test_a_moved_trie_is_another_one():
    trie = trie_of([(0, 1), (1, 0)], (2, 2))
    assert trie.to("cpu") is trie
    moved = trie.to("meta")
    assert (moved.device.type, trie.device.type) == ("meta", "cpu") and moved.starts == trie.starts


def test_two_hundred_thousand_items_take_little_memory():
    codes = torch.randint(0, 256, (200_001, 4), generator=torch.Generator().manual_seed(0))
    trie = Trie(codes, (256,) * 4)
    held = sum(value.numel() * value.element_size() for value in vars(trie).values() if torch.is_tensor(value))
    assert held < 40e6
    assert torch.equal(trie.path(trie.find(codes[1:1001])), codes[1:1001])
