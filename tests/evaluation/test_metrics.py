"""Metrics against ranx and by hand; coverage of intervals; comparisons."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from seqlab.evaluation import METRIC_NAMES, Standings, compare, intervals, metrics, per_user, slices
from seqlab.evaluation.bootstrap import bootstrap
from seqlab.evaluation.ranking_metrics import list_statistics
from seqlab.tasks import next_item


def ranks_from(ranks, n_items=50, **columns):
    count = len(ranks)
    frame = {
        "query": np.arange(count), "user": np.arange(1, count + 1), "item": np.ones(count, int),
        "rank": np.asarray(ranks, float),
        "history_length": np.arange(count) + 3, "seen": np.zeros(count, bool), "item_count": np.full(count, 4),
    }  # fmt: skip
    return next_item.outcome(pd.DataFrame(frame | columns), n_items, True, {})


def test_three_users_by_hand():
    numbers = metrics(ranks_from([1, 2.5, 11]))
    assert [numbers[f"recall@{k}"] for k in (1, 5, 10, 20)] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert numbers["ndcg@10"] == pytest.approx((1 + 1 / math.log2(3.5)) / 3)
    assert numbers["ndcg@20"] == pytest.approx((1 + 1 / math.log2(3.5) + 1 / math.log2(12)) / 3)
    assert numbers["mrr@10"] == pytest.approx((1 + 1 / 2.5) / 3)
    assert all(isinstance(value, float) for value in numbers.values())


def test_metric_names_are_those_of_per_user():
    assert list(METRIC_NAMES) == per_user(np.ones(1)).columns.tolist()


def test_a_tie_that_straddles_the_cutoff_is_a_miss():
    assert per_user(np.array([1.5]), (1,)).iloc[0].tolist() == [0, 0, 0]


def test_what_the_lists_hold_by_hand():
    numbers = list_statistics(torch.tensor([0, 2, 0, 2, 0]), torch.tensor([0, 6, 2, 0, 0]))
    assert numbers["coverage@10"] == 0.5
    assert numbers["popularity_bias@10"] == pytest.approx((2 * 6 + 2 * 0) / 4 / ((36 + 4) / 8))
    assert numbers["novelty@10"] == pytest.approx((2 * math.log2(8 / 6) + 2 * math.log2(8 / 0.5)) / 4)


RANX = {  # ranx 0.3.21, evaluate() with one relevant item per query, whose rank is 7 * query % 39 + 1 of 40, 60 queries
    "recall@1": 0.03333333333333333, "recall@5": 0.13333333333333333, "recall@10": 0.26666666666666666,
    "recall@20": 0.5166666666666667, "ndcg@1": 0.03333333333333333, "ndcg@5": 0.08131892794921308,
    "ndcg@10": 0.12353498220997813, "ndcg@20": 0.18614883878049285, "mrr@1": 0.03333333333333333,
    "mrr@5": 0.06444444444444444, "mrr@10": 0.08133597883597883, "mrr@20": 0.0982052257884301,
}  # fmt: skip


def test_recall_ndcg_and_mrr_are_those_of_ranx():
    numbers = metrics(ranks_from([7 * query % 39 + 1 for query in range(60)]))
    assert {name: numbers[name] for name in RANX} == pytest.approx(RANX, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 120), min_size=1, max_size=60))
def test_an_interval_holds_its_mean_and_metrics_keep_their_order(halves):
    table = intervals(ranks_from([half / 2 for half in halves]), samples=200)
    assert bool((table["low"] <= table["mean"] + 1e-12).all() and (table["mean"] <= table["high"] + 1e-12).all())
    values = table["mean"]
    for k in (1, 5, 10, 20):
        assert values[f"mrr@{k}"] <= values[f"ndcg@{k}"] + 1e-12 <= values[f"recall@{k}"] + 2e-12


def test_the_width_of_an_interval_follows_the_standard_error():
    random = np.random.default_rng(0)
    ranks = ranks_from(random.integers(1, 40, 2_000))
    table = intervals(ranks, samples=2_000)
    value = per_user(ranks.frame["rank"].to_numpy())["recall@10"]
    expected = 2 * 1.96 * value.std() / math.sqrt(len(value))
    width = table.loc["recall@10", "high"] - table.loc["recall@10", "low"]
    assert width == pytest.approx(expected, rel=0.1)
    assert intervals(ranks, samples=50).equals(intervals(ranks, samples=50))


def test_a_comparison_is_antisymmetric():
    random = np.random.default_rng(0)
    worse = random.integers(2, 40, 300)
    better = np.maximum(worse - random.integers(0, 4, 300), 1)
    table = compare(ranks_from(better), ranks_from(worse))
    turned = compare(ranks_from(worse), ranks_from(better))
    assert bool((table.loc[["ndcg@10", "mrr@20"], "low"] > 0).all())
    np.testing.assert_allclose(table["difference"], table["a"] - table["b"], atol=1e-12)
    back = -turned[["difference", "high", "low"]].to_numpy()
    np.testing.assert_allclose(table[["difference", "low", "high"]], back, atol=1e-12)


def test_pairing_makes_a_small_even_gain_visible():
    random = np.random.default_rng(0)
    ranks = random.integers(2, 11, 400)
    table = compare(ranks_from(ranks - 1), ranks_from(ranks))
    apart = [intervals(ranks_from(one)).loc["ndcg@10"] for one in (ranks - 1, ranks)]
    paired = table.loc["ndcg@10", "high"] - table.loc["ndcg@10", "low"]
    assert paired < 0.5 * sum(one["high"] - one["low"] for one in apart)


def test_the_interval_of_equal_systems_has_the_exact_bound_for_no_event():
    """No user of 39 differs: up to 9 % of all might, which is the exact bound for a share that was never seen."""
    ranks = ranks_from(np.random.default_rng(0).integers(1, 30, 39))
    table = compare(ranks, ranks, samples=20_000)
    assert not table["difference"].any()
    np.testing.assert_allclose(table["high"], 1 - 0.025 ** (1 / 39), atol=0.003)
    np.testing.assert_allclose(table["low"], -table["high"], atol=0.003)


@pytest.mark.parametrize(("hits", "users"), [(0, 39), (1, 39), (5, 39), (39, 39), (0, 1), (1, 1), (3, 200), (20, 1000)])
def test_the_interval_of_recall_is_clopper_and_pearsons(hits, users):
    ranks = ranks_from([3] * hits + [40] * (users - hits))
    row = intervals(ranks, samples=20_000).loc["recall@10"]
    exact = binomtest(hits, users).proportion_ci(0.95, "exact")
    assert [row["low"], row["high"]] == pytest.approx([exact.low, exact.high], rel=0.05, abs=0.001)


@pytest.mark.parametrize(("users", "share"), [(20, 0.05), (50, 0.02), (200, 0.01), (400, 0.05)])
def test_intervals_of_rare_hits_have_95_percent_coverage(users, share):
    """Either end may miss 2.5 %; resampled users miss 36 % at the upper end where one hit is expected."""
    random, names, times = np.random.default_rng(users), ["recall@10", "ndcg@10", "mrr@10"], 250
    truth = share * per_user(np.arange(1, 11))[names].mean().to_numpy()
    below, above = np.zeros(3), np.zeros(3)
    values = per_user(np.arange(1, 101), (10,))[names].to_numpy()  # by rank
    for seed in range(times):
        place = np.where(random.random(users) < share, random.integers(1, 11, users), 100)
        low, high = bootstrap(values[place - 1], 300, seed)
        below, above = below + (high < truth), above + (truth < low)
    assert below.max() <= 0.05 * times and above.max() <= 0.05 * times
    assert (below + above).max() <= 0.07 * times


@pytest.mark.parametrize(("users", "share", "better"), [(20, 0.05, 1.0), (39, 0.03, 0.8), (200, 0.02, 0.5)])
def test_paired_intervals_of_few_differences_have_95_percent_coverage(users, share, better):
    random, names, times = np.random.default_rng(users), ["recall@10", "ndcg@10"], 250
    truth = share * (2 * better - 1) * per_user(np.arange(1, 11))[names].mean().to_numpy()
    missed, values = np.zeros(2), per_user(np.arange(1, 101), (10,))[names].to_numpy()  # by rank
    for seed in range(times):
        found, lost = random.integers(1, 11, users), np.full(users, 100)
        other, gains = random.random(users) < share, random.random(users) < better
        a, b = (np.where(other, np.where(side, found, lost), 5) for side in (gains, ~gains))
        low, high = bootstrap(values[a - 1] - values[b - 1], 300, seed, least=-1.0)
        missed += (truth < low) | (high < truth)
    assert missed.max() <= 0.07 * times


def test_where_hits_are_many_an_interval_is_that_of_the_normal_distribution():
    random = np.random.default_rng(0)
    ranks = ranks_from(np.where(random.random(5_000) < 0.1, random.integers(1, 11, 5_000), 500))
    value, row = per_user(ranks.frame["rank"].to_numpy()), intervals(ranks, samples=3_000)
    half = 1.96 * value.std() / math.sqrt(len(value))
    for name in ("recall@10", "ndcg@10"):
        assert row.loc[name, "high"] - row.loc[name, "low"] == pytest.approx(2 * half[name], rel=0.05)


def test_standings_have_the_intervals_of_single_comparisons():
    random = np.random.default_rng(0)
    systems = {name: ranks_from(random.integers(1, 60, 150), seen=random.random(150) < 0.04) for name in "ab"}
    systems["b"] = replace(systems["b"], frame=systems["b"].frame.assign(seen=systems["a"].frame["seen"]))
    standings = Standings(systems)
    table = standings.table("b").set_index(["system", "metric"])
    for name, ranks in systems.items():
        single, gain = intervals(ranks), compare(ranks, systems["b"])
        for metric in ("recall@10", "ndcg@10"):
            row = table.loc[(name, metric)]
            np.testing.assert_allclose(row[["mean", "low", "high"]].astype(float), single.loc[metric], atol=1e-12)
            ends = row[["difference", "difference low", "difference high"]].astype(float)
            np.testing.assert_allclose(ends, gain.loc[metric, ["difference", "low", "high"]], atol=1e-12)
    groups = standings.slices("a", "b", "ndcg@10").set_index(["slice", "group"])
    for one in slices(systems["a"]).itertuples():
        row = groups.loc[(one.slice, one.group)]
        assert [row["a"], row["a low"], row["a high"]] == pytest.approx([one.mean, one.low, one.high], abs=1e-12)
    rare = groups.loc[("repeat or new", "seen before")]
    assert rare["low"] < rare["difference"] < rare["high"] and rare["users"] < 12 and rare["a high"] > 0.2


@pytest.mark.parametrize("metric", ["recall@0", "recall", "loss", "ndcg@ten", "ndcg@-5", "mrr@2.5"])
def test_an_unknown_metric_raises(metric):
    with pytest.raises(ValueError, match=f"there is no metric {metric!r}"):
        Standings({"a": ranks_from([1, 2, 3])}, ("recall@10", metric))


def test_cutoffs_must_be_whole_numbers_from_1():
    for call in (
        lambda k: per_user(np.ones(2), (10, k)),
        lambda k: Standings({"a": ranks_from([1, 2])}).users_with_hit("a", k),
    ):
        for wrong in (0, -1, 2.5):
            with pytest.raises(ValueError, match=f"k must be a whole number of at least 1 .got {wrong}."):
                call(wrong)


def test_seeds_of_a_side_count_as_each_users_mean():
    random = np.random.default_rng(0)
    seeds = [ranks_from(random.integers(1, 20, 200)) for _ in range(3)]
    table = compare(seeds, seeds[:1])
    single = [compare(one, seeds[0])["difference"] for one in seeds]
    np.testing.assert_allclose(table["difference"], sum(single) / 3, atol=1e-12)
    one = compare(seeds[1], seeds[0])
    assert table.loc["ndcg@10", "high"] - table.loc["ndcg@10", "low"] < 0.8 * (one["high"] - one["low"])["ndcg@10"]
    with pytest.raises(ValueError, match="cannot be compared"):
        compare([seeds[0], ranks_from([1, 2])], seeds[1])


def test_users_are_matched_by_name_not_by_place():
    one = ranks_from([1, 2, 3])
    shuffled = replace(one, frame=one.frame.iloc[[2, 0, 1]])
    assert not compare(one, shuffled)["difference"].any()


@pytest.mark.parametrize("other", ["fewer", "answers", "filter"])
def test_runs_with_other_queries_are_not_compared(other):
    one = ranks_from([1, 2, 3])
    changed = {
        "fewer": ranks_from([1, 2]),
        "answers": ranks_from([1, 2, 3], item=np.array([1, 1, 2])),
        "filter": replace(one, about={**one.about, "seen_filter": False}),
    }[other]
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(one, changed)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9), st.integers(1, 40), st.booleans()), min_size=1))
def test_the_groups_of_a_slice_partition_all_users(rows):
    length, count, place, seen = (np.array(column) for column in zip(*rows, strict=True))
    ranks = ranks_from(place, history_length=length, item_count=count, seen=seen)
    table = slices(ranks, "recall@10", samples=50)
    for _, part in table.groupby("slice"):
        assert part["users"].sum() == len(rows)
        assert (part["mean"] * part["users"]).sum() / len(rows) == pytest.approx(metrics(ranks)["recall@10"])
    bounds = table[table["slice"] == "history length"]["group"].str.extract(r"^(?:(\d+)-)?(\d+) events$").astype(float)
    assert bounds[1].max() == length.max() and bounds[0].fillna(bounds[1]).min() == length.min()
