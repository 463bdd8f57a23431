"""Metrics against ranx and by hand; intervals and comparisons by what they promise."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from seqlab.evaluation import METRIC_NAMES, Ranks, Standings, compare, intervals, metrics, per_user, slices
from seqlab.evaluation.metrics import bootstrap


def ranks_from(ranks, n_items=50, **columns):
    count = len(ranks)
    frame = {
        "user": np.arange(1, count + 1), "item": np.ones(count, int), "rank": np.asarray(ranks, float),
        "history_length": np.arange(count) + 3, "seen": np.zeros(count, bool), "item_count": np.full(count, 4),
    }  # fmt: skip
    counts = torch.arange(n_items + 1)
    return Ranks(pd.DataFrame(frame | columns), torch.ones(n_items + 1, dtype=torch.long), counts, True, n_items)


def test_three_users_by_hand():
    numbers = metrics(ranks_from([1, 2.5, 11]))
    assert [numbers[f"recall@{k}"] for k in (1, 5, 10, 20)] == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert numbers["ndcg@10"] == pytest.approx((1 + 1 / math.log2(3.5)) / 3)
    assert numbers["ndcg@20"] == pytest.approx((1 + 1 / math.log2(3.5) + 1 / math.log2(12)) / 3)
    assert numbers["mrr@10"] == pytest.approx((1 + 1 / 2.5) / 3)
    assert all(isinstance(value, float) for value in numbers.values())


def test_every_metric_that_training_may_go_by_is_measured():
    assert list(METRIC_NAMES) == per_user(np.ones(1)).columns.tolist()


def test_a_tie_that_straddles_the_cutoff_is_a_miss():
    assert per_user(np.array([1.5]), (1,)).iloc[0].tolist() == [0, 0, 0]


def test_what_the_lists_hold_by_hand():
    ranks = ranks_from([1, 1], n_items=4)
    ranks = replace(ranks, train_counts=torch.tensor([0, 6, 2, 0, 0]), exposure=torch.tensor([0, 2, 0, 2, 0]))
    numbers = metrics(ranks)
    assert numbers["coverage@10"] == 0.5
    assert numbers["popularity_bias@10"] == pytest.approx((2 * 6 + 2 * 0) / 4 / ((36 + 4) / 8))
    assert numbers["novelty@10"] == pytest.approx((2 * math.log2(8 / 6) + 2 * math.log2(8 / 0.5)) / 4)


RANX = """
import json, sys, ranx
places, names = json.load(sys.stdin)
qrels = ranx.Qrels({f"u{user}": {f"i{place}": 1} for user, place in enumerate(places)})
run = ranx.Run({f"u{user}": {f"i{place}": 100.0 - place for place in range(1, 41)} for user in range(len(places))})
print(json.dumps({name: float(value) for name, value in ranx.evaluate(qrels, run, names).items()}))
"""


def test_recall_ndcg_and_mrr_are_those_of_ranx():
    if importlib.util.find_spec("ranx") is None:
        pytest.skip("ranx is not installed")
    places = np.random.default_rng(0).integers(1, 40, 60).tolist()
    names = [f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (1, 5, 10, 20)]
    done = subprocess.run(
        [sys.executable, "-c", RANX], input=json.dumps([places, names]), capture_output=True, text=True, check=True,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},  # compiling takes a minute, running a moment
    )  # fmt: skip
    theirs, ours = json.loads(done.stdout.splitlines()[-1]), metrics(ranks_from(places))
    assert len(theirs) == 12
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 120), min_size=1, max_size=60))
def test_an_interval_holds_its_mean_and_metrics_keep_their_order(halves):
    table = intervals(ranks_from([half / 2 for half in halves]), samples=200)
    assert bool((table["low"] <= table["mean"] + 1e-12).all() and (table["mean"] <= table["high"] + 1e-12).all())
    values = table["mean"]
    for k in (1, 5, 10, 20):
        assert values[f"mrr@{k}"] <= values[f"ndcg@{k}"] + 1e-12 <= values[f"recall@{k}"] + 2e-12


def test_an_interval_is_as_wide_as_the_standard_error_says():
    random = np.random.default_rng(0)
    ranks = ranks_from(random.integers(1, 40, 2_000))
    table = intervals(ranks, samples=2_000)
    value = per_user(ranks.frame["rank"].to_numpy())["recall@10"]
    expected = 2 * 1.96 * value.std() / math.sqrt(len(value))
    width = table.loc["recall@10", "high"] - table.loc["recall@10", "low"]
    assert width == pytest.approx(expected, rel=0.1)
    assert intervals(ranks, samples=50).equals(intervals(ranks, samples=50))


def test_a_comparison_says_who_wins_and_turns_with_its_sides():
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


def test_users_who_all_rank_alike_say_little_about_the_next_one():
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
def test_intervals_of_rare_hits_hold_the_truth_19_times_in_20(users, share):
    """Either end may miss 2.5 %; resampled users miss 36 % at the upper end where one hit is expected."""
    random, names, times = np.random.default_rng(users), ["recall@10", "ndcg@10", "mrr@10"], 250
    truth = share * per_user(np.arange(1, 11))[names].mean().to_numpy()
    below, above = np.zeros(3), np.zeros(3)
    for seed in range(times):
        place = np.where(random.random(users) < share, random.integers(1, 11, users), 100)
        low, high = bootstrap(per_user(place, (10,))[names].to_numpy(), 300, seed)
        below, above = below + (high < truth), above + (truth < low)
    assert below.max() <= 0.05 * times and above.max() <= 0.05 * times
    assert (below + above).max() <= 0.07 * times


@pytest.mark.parametrize(("users", "share", "better"), [(20, 0.05, 1.0), (39, 0.03, 0.8), (200, 0.02, 0.5)])
def test_paired_intervals_of_a_few_users_who_differ_hold_the_truth(users, share, better):
    random, names, times = np.random.default_rng(users), ["recall@10", "ndcg@10"], 250
    truth = share * (2 * better - 1) * per_user(np.arange(1, 11))[names].mean().to_numpy()
    missed = np.zeros(2)
    for seed in range(times):
        found, lost = random.integers(1, 11, users), np.full(users, 100)
        other, gains = random.random(users) < share, random.random(users) < better
        a, b = (np.where(other, np.where(side, found, lost), 5) for side in (gains, ~gains))
        gain = per_user(a, (10,))[names] - per_user(b, (10,))[names]
        low, high = bootstrap(gain.to_numpy(), 300, seed, least=-1.0)
        missed += (truth < low) | (high < truth)
    assert missed.max() <= 0.07 * times


def test_where_hits_are_many_an_interval_is_that_of_the_normal_distribution():
    random = np.random.default_rng(0)
    ranks = ranks_from(np.where(random.random(20_000) < 0.1, random.integers(1, 11, 20_000), 500))
    value, row = per_user(ranks.frame["rank"].to_numpy()), intervals(ranks, samples=4_000)
    half = 1.96 * value.std() / math.sqrt(len(value))
    for name in ("recall@10", "ndcg@10"):
        assert row.loc[name, "high"] - row.loc[name, "low"] == pytest.approx(2 * half[name], rel=0.05)


def test_systems_side_by_side_have_the_intervals_they_have_alone():
    random = np.random.default_rng(0)
    systems = {name: ranks_from(random.integers(1, 60, 150), seen=random.random(150) < 0.04) for name in "ab"}
    systems["b"] = replace(systems["b"], frame=systems["b"].frame.assign(seen=systems["a"].frame["seen"]))
    standings = Standings(systems)
    table = standings.table("b").set_index(["system", "metric"])
    for name, ranks in systems.items():
        alone, gain = intervals(ranks), compare(ranks, systems["b"])
        for metric in ("recall@10", "ndcg@10"):
            row = table.loc[(name, metric)]
            np.testing.assert_allclose(row[["mean", "low", "high"]].astype(float), alone.loc[metric], atol=1e-12)
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


def test_cutoffs_and_lists_count_from_1():
    for ask in (lambda k: per_user(np.ones(2), (10, k)), lambda k: Standings({"a": ranks_from([1, 2])}).found("a", k)):
        for wrong in (0, -1, 2.5):
            with pytest.raises(ValueError, match=f"k must be a whole number of at least 1 .got {wrong}."):
                ask(wrong)


def test_seeds_of_a_side_count_as_each_users_mean():
    random = np.random.default_rng(0)
    seeds = [ranks_from(random.integers(1, 20, 200)) for _ in range(3)]
    table = compare(seeds, seeds[:1])
    alone = [compare(one, seeds[0])["difference"] for one in seeds]
    np.testing.assert_allclose(table["difference"], sum(alone) / 3, atol=1e-12)
    one = compare(seeds[1], seeds[0])
    assert table.loc["ndcg@10", "high"] - table.loc["ndcg@10", "low"] < 0.8 * (one["high"] - one["low"])["ndcg@10"]
    with pytest.raises(ValueError, match="cannot be compared"):
        compare([seeds[0], ranks_from([1, 2])], seeds[1])


def test_users_are_matched_by_name_not_by_place():
    one = ranks_from([1, 2, 3])
    shuffled = replace(one, frame=one.frame.iloc[[2, 0, 1]])
    assert not compare(one, shuffled)["difference"].any()


@pytest.mark.parametrize("other", ["fewer", "answers", "filter"])
def test_runs_that_answered_other_questions_are_not_compared(other):
    one = ranks_from([1, 2, 3])
    changed = {
        "fewer": ranks_from([1, 2]),
        "answers": ranks_from([1, 2, 3], item=np.array([1, 1, 2])),
        "filter": replace(one, seen_filter=False),
    }[other]
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(one, changed)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9), st.integers(1, 40), st.booleans()), min_size=1))
def test_slices_share_out_all_users_and_keep_their_mean(rows):
    length, count, place, seen = (np.array(column) for column in zip(*rows, strict=True))
    ranks = ranks_from(place, history_length=length, item_count=count, seen=seen)
    table = slices(ranks, "recall@10", samples=50)
    for _, part in table.groupby("slice"):
        assert part["users"].sum() == len(rows)
        assert (part["mean"] * part["users"]).sum() / len(rows) == pytest.approx(metrics(ranks)["recall@10"])
    bounds = table[table["slice"] == "history length"]["group"].str.extract(r"^(?:(\d+)-)?(\d+) events$").astype(float)
    assert bounds[1].max() == length.max() and bounds[0].fillna(bounds[1]).min() == length.min()
