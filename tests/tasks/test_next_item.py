"""Ranks against a table made by hand and against brute force, from scores and from lists."""

import os
import platform
import subprocess
import sys

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from seqlab import decoding, models, ranking
from seqlab.contracts import Ranking
from seqlab.datasets import leave_one_out
from seqlab.evaluation import metrics
from seqlab.evaluation.ranking_metrics import list_statistics
from seqlab.ranking import ranks_of, top
from seqlab.tasks import measure, next_item
from seqlab.tokenizers import codebook_report
from seqlab.training import fit
from tests.synthetic import chain_log, log_of, random_log, small

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


class ListsWithTies(Lists):
    """Lists with the items that tie with their last one, as a beam search returns them; records their lengths."""

    def __init__(self, inner):
        super().__init__(inner)
        self.lengths = []

    def recommend(self, batch, k) -> Ranking:
        self.lengths.append(k)
        whole = self.inner.recommend(batch, self.inner.table.shape[-1] - 1)
        more = whole.items[:, k:] * (whole.scores[:, k:] == whole.scores[:, k - 1 : k])
        return Ranking(whole.items[:, :k], whole.scores[:, :k], more)


# three users, five items; the scores of items 1..5 tie between 2 and 3
LOG = log_of([[1, 2, 3, 4], [5, 4, 5, 2], [3, 1, 2, 5, 1]], repeats=False)
SCORES = [0.0, 9.0, 5.0, 5.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("seen_filter", "expected"),
    # filtered: user 1, target 4 after 1 2 3: only 5 is left beside it; user 2, target 2 after 5 4 5: item 1 first, then
    # 2 and 3 tie; user 3, target 1 after 3 1 2 5: it was seen, but as the target it stays, against 4
    [(False, [4.0, 2.5, 1.0]), (True, [1.0, 2.5, 1.0])],
)
def test_ranks_by_hand_with_ties_and_seen_items(seen_filter, expected):
    ranks = measure(Table(SCORES), leave_one_out(LOG), "test", seen_filter)
    assert ranks.frame["user"].tolist() == [1, 2, 3] and ranks.frame["item"].tolist() == [4, 2, 1]
    assert ranks.frame["rank"].tolist() == expected
    assert ranks.frame["history_length"].tolist() == [3, 3, 4]
    assert ranks.frame["seen"].tolist() == [False, False, True]
    assert ranks.frame["item_count"].tolist() == [1, 2, 2]  # training: 1 2 | 5 4 | 3 1 2
    # ten places and five items: filtered, user 1 is shown 4 5, user 2 is shown 1 2 3, user 3 is shown 1 4
    exposure = torch.tensor([0, 2, 1, 1, 2, 1] if seen_filter else [0, 3, 3, 3, 3, 3])
    counts = leave_one_out(LOG).train.item_counts(5)
    assert ranks.summary == list_statistics(exposure, counts)
    shown = "filtered" if seen_filter else "kept"
    assert ranks.protocol == f"full ranking of 5 items, seen items {shown}, ties at mean rank, 3 users"


def test_the_seen_filter_is_on_unless_the_log_has_repeats():
    assert measure(Table(SCORES), leave_one_out(LOG)).seen_filter
    again = log_of([[1, 2, 3, 4], [5, 4, 5, 2]], repeats=True)
    assert not measure(Table(SCORES), leave_one_out(again)).seen_filter


def test_items_older_than_what_the_model_reads_are_filtered_too():
    model = Table(SCORES, max_length=1)
    ranks = measure(model, leave_one_out(LOG), "test", seen_filter=True)
    assert model.widest == 1 and ranks.frame["rank"].tolist() == [1.0, 2.5, 1.0]


def test_a_constant_score_has_the_middle_rank():
    ranks = measure(Table([0.0] * 6), leave_one_out(LOG), "test", seen_filter=False)
    assert ranks.frame["rank"].tolist() == [3.0, 3.0, 3.0]


def test_the_padding_column_never_outranks_an_item():
    ranks = measure(Table([99.0, *SCORES[1:]]), leave_one_out(LOG), "test", seen_filter=False)
    assert ranks.frame["rank"].tolist() == [4.0, 2.5, 1.0]


def test_validation_histories_do_not_contain_the_test_item():
    frame = measure(Table(SCORES), leave_one_out(LOG), "valid", seen_filter=False).frame
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


def coarse(split, seed, values=3):
    """A score of few for every user and item, so that most items tie."""
    return torch.randint(values, (split.n_users, split.n_items + 1), generator=torch.Generator().manual_seed(seed))


def ranks_by_hand(split, scores, length, seen_filter):
    """From scores, what a list of this length can know: the answer's mean rank down to the tie of the last item."""
    found = []
    for user, answer, start, end in zip(
        *(part.tolist() for part in (split.test.user, split.test.item, split.test.start, split.test.end)), strict=True
    ):
        seen = set(split.test.sequences.items[start:end].tolist()) - {answer} if seen_filter else set()
        free = {item: float(scores[user - 1, item]) for item in range(1, split.n_items + 1) if item not in seen}
        order = sorted(free.values(), reverse=True)
        places = [place for place, score in enumerate(order, 1) if score == free[answer]]
        known = sum(score >= order[min(length, len(order)) - 1] for score in order)
        within = places[0] <= known
        found.append(sum(places) / len(places) if within else (known + 1 + len(order)) / 2)
    return found


@pytest.mark.parametrize("seen_filter", [False, True])
@pytest.mark.parametrize("kind", [Lists, ListsWithTies])
@pytest.mark.parametrize("seed", range(3))
def test_a_list_long_enough_ranks_as_its_scores_do(seed, kind, seen_filter):
    split = leave_one_out(random_log(seed))
    scores = coarse(split, seed)
    assert all(len(row.unique()) < len(row) - 1 for row in scores), "ties must be drawn"
    scored = Table(scores.tolist())
    one, other = measure(scored, split, "test", seen_filter), measure(kind(scored), split, "test", seen_filter)
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert (one.frame["rank"] % 1 > 0).any()
    assert one.frame["rank"].tolist() == ranks_by_hand(split, scores, split.n_items, seen_filter)
    apart = Table((scores + torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) / 2).tolist())
    one, other = measure(apart, split, "test", seen_filter), measure(kind(apart), split, "test", seen_filter)
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert metrics(one) == metrics(other)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 50), length=st.integers(1, 10), values=st.sampled_from([1, 2, 3, 50]),
    kind=st.sampled_from([Lists, ListsWithTies]), seen_filter=st.booleans(), spare=st.sampled_from([1, 4]),
)  # fmt: skip
def test_ties_across_the_end_of_a_list_share_the_mean_rank(monkeypatch, seed, length, values, kind, seen_filter, spare):
    monkeypatch.setattr(next_item, "LIST_LENGTH", length)
    monkeypatch.setattr(ranking, "OVERSAMPLING", spare)
    split = leave_one_out(random_log(seed))
    scores = coarse(split, seed, values)
    found = measure(kind(Table(scores.tolist())), split, "test", seen_filter)
    assert found.frame["rank"].tolist() == ranks_by_hand(split, scores, length, seen_filter)


def test_items_of_one_score_share_one_rank_however_many_there_are():
    split = leave_one_out(log_of([[*range(2, 60), 1], [60, 61, 59]], repeats=True))
    for kind in (Lists, ListsWithTies):
        ranks = measure(kind(Table([0.0] * 62)), split, "test", seen_filter=False)
        assert ranks.frame["rank"].tolist() == [31.0, 31.0]  # of 61 items, whether in the list of 20 or beyond it
        assert metrics(ranks)["recall@20"] == 0


def test_a_system_that_returns_ties_makes_one_list_of_the_needed_length():
    split = leave_one_out(log_of([[*range(2, 60), 1], [60, 61, 59]], repeats=True))
    model = ListsWithTies(Table([0.0] * 62))
    measure(model, split, "test", seen_filter=False)
    assert set(model.lengths) == {20}


@pytest.mark.parametrize("levels", [(2, 3), (4, 4)])
@pytest.mark.parametrize("seen_filter", [False, True])
def test_a_beam_that_holds_all_tuples_ranks_as_exact_scores_do(levels, seen_filter):
    """Four to six items a tuple: many a tie, some cut by the end of the list."""
    split = leave_one_out(chain_log(2))
    model = models.build("tiger", split.n_items, small("tiger", levels=levels, resolve="none", width=24))
    fit.prepare(model, split)
    batch = split.test.batch(torch.arange(len(split.test)), model.config.max_length)
    scores = decoding.scores(model.eval(), batch)
    scores = scores[torch.argsort(split.test.user)]
    assert codebook_report.summary(model.ids.book)["largest bucket"] > 1
    for length in (3, 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(next_item, "LIST_LENGTH", length)
            found = measure(model, split, "test", seen_filter).frame["rank"].tolist()
        assert found == ranks_by_hand(split, scores, length, seen_filter)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_lists_with_scores_that_are_not_finite_raise(wrong):
    with pytest.raises(ValueError, match="Lists gave scores that are not finite"):
        measure(Lists(Table([0.0, 1.0, wrong, 1.0, 1.0, 1.0])), leave_one_out(LOG), seen_filter=False)


def test_an_answer_beyond_the_list_shares_the_rank_of_the_rest(monkeypatch):
    monkeypatch.setattr(next_item, "LIST_LENGTH", 2)
    ranks = measure(Lists(Table([0.0, 9.0, 7.0, 5.0, 3.0, 1.0])), leave_one_out(LOG), "test", seen_filter=False)
    assert ranks.frame["rank"].tolist() == [4.0, 2.0, 1.0]  # 4 is beyond: ranks 3, 4 and 5 are left


@pytest.mark.parametrize("kind", [lambda model: model, Lists])
def test_memory_limits_change_no_number(monkeypatch, kind):
    split = leave_one_out(random_log(5))
    model = kind(Table(torch.randn(split.n_users, split.n_items + 1).tolist(), max_length=3))
    whole = measure(model, split, seen_filter=True).frame
    monkeypatch.setattr(next_item, "MAX_SCORES", 1)
    monkeypatch.setattr(next_item, "MAX_TOKENS", 7)
    monkeypatch.setattr(next_item, "MAX_EVENTS", 5)
    pd.testing.assert_frame_equal(measure(model, split, seen_filter=True).frame, whole)


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that is made within."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.untyped_storage().nbytes() // one.element_size())
        return made


@pytest.mark.parametrize("kind", [lambda model: model, Lists])
@pytest.mark.parametrize("seen_filter", [False, True])
def test_a_long_history_costs_its_own_length_not_that_of_a_batch(monkeypatch, kind, seen_filter):
    histories = [[user % 40 + 1, (3 * user) % 40 + 1, 1] for user in range(100)]
    histories[7] = [place % 40 + 1 for place in range(20_000)]
    split = leave_one_out(log_of(histories, repeats=True))
    model = kind(Table(torch.randn(41).tolist(), max_length=5))
    with Largest() as made:
        measure(model, split, "test", seen_filter)
    assert made.numbers < 5 * 20_000  # some hundred times that, if all were padded to the longest
    monkeypatch.setattr(next_item, "MAX_EVENTS", 1_000)
    with Largest() as made:
        assert sum(len(item) for _, item in next_item.history_pairs(split.test, torch.arange(100))) == 19_999 + 2 * 99
    assert made.numbers <= len(split.test.sequences.items)  # the log itself, of which it reads a part at a time


OF_THE_USER = """
import ctypes, torch
from seqlab.datasets import leave_one_out
from seqlab.tasks import next_item
from tests.synthetic import random_log
class Constant(torch.nn.Module):
    config = type("Config", (), {"max_length": None})()
    def score(self, batch):
        return torch.zeros(len(batch), 10)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", *"abcdef")]
look = ctypes.CDLL(None).mallinfo2
look.restype = Info
next_item.MAX_SCORES = 1
next_item.measure(Constant(), leave_one_out(random_log(0)))
before = look().hblks
held = torch.empty(1 << 20, dtype=torch.uint8)
print(look().hblks - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's settings")
def test_ranking_keeps_the_malloc_settings_of_the_environment():
    """Who wants blocks of a megabyte from the system, and back to it, still has them so after a ranking."""
    done = subprocess.run(
        [sys.executable, "-c", OF_THE_USER], capture_output=True, text=True, check=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "500000", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.split() == ["1"]


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
@pytest.mark.parametrize("seen_filter", [False, True])
def test_scores_that_are_not_finite_raise(wrong, seen_filter):
    with pytest.raises(ValueError, match="Table gave scores that are not finite; training may have diverged"):
        measure(Table([0.0, 1.0, wrong, 1.0, 1.0, 1.0]), leave_one_out(LOG), seen_filter=seen_filter)


def test_ranking_leaves_the_model_in_the_mode_it_was_in():
    model = Table(SCORES)
    for mode in (True, False):
        model.train(mode)
        measure(model, leave_one_out(LOG))
        assert model.training is mode
