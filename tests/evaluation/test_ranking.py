"""Ranks against a table made by hand and against brute force, from scores and from lists."""

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seqlab.datasets import leave_one_out
from seqlab.evaluation import metrics, rank, ranking, ranks_of
from seqlab.recommender import Ranking, top
from tests.synthetic import log_of, random_log

torch.set_num_threads(1)


class Table(nn.Module):
    """The same scores for everybody, or each user's own; remembers how much of a history it was shown."""

    def __init__(self, scores, max_length=None):
        super().__init__()
        self.config = type("Config", (), {"max_length": max_length})()
        self.register_buffer("table", torch.tensor(scores, dtype=torch.float32))
        self.widest = 0

    def score(self, batch):
        self.widest = max(self.widest, batch.items.shape[1])
        return self.table[batch.user - 1] if self.table.dim() == 2 else self.table.repeat(len(batch), 1)

    def recommend(self, batch, k):
        return top(self.score(batch), k)


class Lists(nn.Module):
    """The lists of another system, which hides its scores as generating systems do."""

    def __init__(self, inner):
        super().__init__()
        self.config, self.inner = inner.config, inner

    def recommend(self, batch, k) -> Ranking:
        return self.inner.recommend(batch, k)


# three users, five items; the scores of items 1..5 tie between 2 and 3
LOG = log_of([[1, 2, 3, 4], [5, 4, 5, 2], [3, 1, 2, 5, 1]], repeats=False)
SCORES = [0.0, 9.0, 5.0, 5.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("seen_filter", "expected"),
    # filtered: user 1 is asked for 4 given 1 2 3 -> only 5 is left beside it; user 2 for 2 given 5 4 5 -> 1, then 2
    # and 3 tie; user 3 for 1 given 3 1 2 5 -> 1 was seen but is the answer and stays, against 4
    [(False, [4.0, 2.5, 1.0]), (True, [1.0, 2.5, 1.0])],
)
def test_ranks_by_hand_with_ties_and_seen_items(seen_filter, expected):
    ranks = rank(Table(SCORES), leave_one_out(LOG), "test", seen_filter)
    assert ranks.frame["user"].tolist() == [1, 2, 3] and ranks.frame["item"].tolist() == [4, 2, 1]
    assert ranks.frame["rank"].tolist() == expected
    assert ranks.frame["history_length"].tolist() == [3, 3, 4]
    assert ranks.frame["seen"].tolist() == [False, False, True]
    assert ranks.frame["item_count"].tolist() == [1, 2, 2]  # training: 1 2 | 5 4 | 3 1 2
    assert int(ranks.exposure[0]) == 0
    # ten places and five items: filtered, user 1 is shown 4 5, user 2 is shown 1 2 3, user 3 is shown 1 4
    assert ranks.exposure.tolist() == ([0, 2, 1, 1, 2, 1] if seen_filter else [0, 3, 3, 3, 3, 3])
    shown = "filtered" if seen_filter else "kept"
    assert ranks.protocol == f"full ranking of 5 items, seen items {shown}, ties at mean rank, 3 users"


def test_the_seen_filter_is_on_unless_items_come_back():
    assert rank(Table(SCORES), leave_one_out(LOG)).seen_filter
    again = log_of([[1, 2, 3, 4], [5, 4, 5, 2]], repeats=True)
    assert not rank(Table(SCORES), leave_one_out(again)).seen_filter


def test_items_older_than_what_the_model_reads_are_filtered_too():
    model = Table(SCORES, max_length=1)
    ranks = rank(model, leave_one_out(LOG), "test", seen_filter=True)
    assert model.widest == 1 and ranks.frame["rank"].tolist() == [1.0, 2.5, 1.0]


def test_a_constant_score_earns_the_middle_of_the_list():
    ranks = rank(Table([0.0] * 6), leave_one_out(LOG), "test", seen_filter=False)
    assert ranks.frame["rank"].tolist() == [3.0, 3.0, 3.0]


def test_the_padding_column_never_outranks_an_item():
    ranks = rank(Table([99.0, *SCORES[1:]]), leave_one_out(LOG), "test", seen_filter=False)
    assert ranks.frame["rank"].tolist() == [4.0, 2.5, 1.0]


def test_validation_is_asked_without_the_test_item():
    frame = rank(Table(SCORES), leave_one_out(LOG), "valid", seen_filter=False).frame
    assert frame["item"].tolist() == [3, 5, 5] and frame["history_length"].tolist() == [2, 2, 3]


row = st.lists(st.sampled_from([-torch.inf, -1.0, 0.0, 0.5, 2.0]), min_size=6, max_size=6).filter(lambda r: max(r) > -9)


@settings(deadline=None)
@given(st.lists(row, min_size=1, max_size=5), st.data())
def test_ranks_are_those_of_brute_force(rows, data):
    answers = [data.draw(st.sampled_from([at for at, score in enumerate(row) if score > -torch.inf])) for row in rows]
    scores = torch.tensor(rows)
    got = ranks_of(scores, torch.tensor(answers))
    assert scores.tolist() == rows
    assert ranks_of(scores, torch.tensor(answers), out=scores).tolist() == got.tolist()
    for row, answer, one in zip(rows, answers, got.tolist(), strict=True):
        places = [place for place, score in enumerate(sorted(row, reverse=True), 1) if score == row[answer]]
        assert one == sum(places) / len(places)


@pytest.mark.parametrize("seen_filter", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_list_long_enough_ranks_as_its_scores_do(seed, seen_filter):
    split = leave_one_out(random_log(seed))
    generator = torch.Generator().manual_seed(seed)
    scored = Table(torch.randn(split.n_users, split.n_items + 1, generator=generator).tolist())
    one, other = rank(scored, split, "test", seen_filter), rank(Lists(scored), split, "test", seen_filter)
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert torch.equal(one.exposure, other.exposure)
    assert metrics(one) == metrics(other)


def test_an_answer_beyond_the_list_shares_the_rank_of_the_rest(monkeypatch):
    monkeypatch.setattr(ranking, "LIST_LENGTH", 2)
    ranks = rank(Lists(Table([0.0, 9.0, 7.0, 5.0, 3.0, 1.0])), leave_one_out(LOG), "test", seen_filter=False)
    assert ranks.frame["rank"].tolist() == [4.0, 2.0, 1.0]  # 4 is beyond: ranks 3, 4 and 5 are left


def test_memory_limits_change_no_number(monkeypatch):
    split = leave_one_out(random_log(5))
    model = Table(torch.randn(split.n_users, split.n_items + 1).tolist())
    whole = rank(model, split).frame
    monkeypatch.setattr(ranking, "SCORES_AT_ONCE", 1)
    monkeypatch.setattr(ranking, "TOKENS_AT_ONCE", 7)
    pd.testing.assert_frame_equal(rank(model, split).frame, whole)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
@pytest.mark.parametrize("seen_filter", [False, True])
def test_scores_that_are_not_finite_are_no_result(wrong, seen_filter):
    with pytest.raises(ValueError, match="Table gave scores that are not finite; training may have diverged"):
        rank(Table([0.0, 1.0, wrong, 1.0, 1.0, 1.0]), leave_one_out(LOG), seen_filter=seen_filter)


def test_ranking_leaves_the_model_in_the_mode_it_was_in():
    model = Table(SCORES)
    for mode in (True, False):
        model.train(mode)
        rank(model, leave_one_out(LOG))
        assert model.training is mode
