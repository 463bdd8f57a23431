"""Lists from scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seqlab.ranking import BLOCK, pairs, top, top_unseen, topk
from tests.synthetic import batch_of

torch.set_num_threads(1)


class Scores(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = torch.tensor(rows)

    def score(self, batch):
        return self.rows[batch.user - 1]

    def recommend(self, batch, k):
        return top(self.score(batch), k)


class Lists(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.inner, self.calls = Scores(rows), []

    def recommend(self, batch, k):
        self.calls.append((batch.user.tolist(), k))
        return self.inner.recommend(batch, k)


def test_top_never_lists_padding_and_marks_what_does_not_exist():
    ranking = top(torch.tensor([[9.0, 1.0, 3.0, 2.0], [9.0, -torch.inf, 3.0, -torch.inf]]), 3)
    assert ranking.items.tolist() == [[2, 3, 1], [2, 0, 0]]
    assert ranking.scores.tolist() == [[3.0, 2.0, 1.0], [3.0, -torch.inf, -torch.inf]]
    assert top(torch.zeros(1, 4), 50).items.shape == (1, 3)


def test_top_leaves_the_scores_as_they_were():
    scores = torch.ones(1, 4)
    top(scores, 2)
    assert scores.tolist() == [[1.0, 1.0, 1.0, 1.0]]


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 3), st.integers(-3 * BLOCK, 5 * BLOCK), st.booleans(),
    st.sampled_from([1, BLOCK]),
)  # fmt: skip
def test_topk_equals_torch_topk(seed, k, rows, more, coarse, blocks_of_blocks):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, max(k, 4 * BLOCK * k * blocks_of_blocks + more), generator=generator)
    if coarse:  # many ties, and columns that take no part
        scores = scores.round().masked_fill(scores < 0.5, -torch.inf)
    values, columns = topk(scores, k)
    assert torch.equal(values, scores.topk(k, dim=1).values)
    assert torch.equal(scores.gather(1, columns), values)
    assert all(len(set(row)) == k for row in columns.tolist())


@pytest.mark.parametrize("kind", [Scores, Lists])
def test_top_unseen_removes_seen_items(kind):
    model = kind([[0.0, 5.0, 4.0, 3.0, 2.0, 1.0]] * 2)
    batch = batch_of([[1, 3], [2]])
    assert top_unseen(model, batch, 2).items.tolist() == [[2, 4], [1, 3]]
    earlier = torch.tensor([[1, 3, 2], [0, 2, 0]])  # more than the model reads
    assert top_unseen(model, batch, 2, earlier).items.tolist() == [[4, 5], [1, 3]]
    everything = torch.tensor([[1, 2, 3, 4, 5]] * 2)
    assert top_unseen(model, batch, 2, everything).items.tolist() == [[0, 0], [0, 0]]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=60), min_size=1, max_size=4), st.integers(1, 45))
def test_lists_without_seen_items_equal_those_of_scores(histories, k):
    generator = torch.Generator().manual_seed(len(histories) + k)
    rows = torch.randn(len(histories), 41, generator=generator).tolist()
    batch, seen = (
        batch_of([[1]] * len(histories)),
        torch.nn.utils.rnn.pad_sequence([torch.tensor(m) for m in histories], True),
    )
    scored, listed = (top_unseen(kind(rows), batch, k, seen) for kind in (Scores, Lists))
    assert torch.equal(listed.items, scored.items)
    assert torch.equal(listed.scores, scored.scores)
    for kind, one in ((Scores, scored), (Lists, listed)):
        flat = top_unseen(kind(rows), batch, k, pairs(seen))
        assert torch.equal(flat.items, one.items) and torch.equal(flat.scores, one.scores)


def test_only_users_with_too_many_seen_items_get_a_longer_list():
    model = Lists([[-float(item) for item in range(1000)]] * 2)  # the items 1, 2, 3, .. are the best for both
    batch, seen = batch_of([[1], [1]]), torch.zeros(2, 30, dtype=torch.long)
    seen[1] = torch.arange(1, 31)
    assert top_unseen(model, batch, 2, seen).items.tolist() == [[1, 2], [31, 32]]
    assert model.calls == [([1, 2], 8), ([2], 16), ([2], 32)]
