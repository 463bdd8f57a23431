"""Outcomes of any task: several queries of a user, unbounded metrics, metrics of which less is better."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from seqlab.evaluation import Metric, Outcome, Slice, Standings, compare, intervals, slices
from seqlab.evaluation.bootstrap import bootstrap
from seqlab.evaluation.outcome import described

METRICS = (Metric("nats", low=-math.inf, high=math.inf), Metric("error", higher=False, high=math.inf))


def outcome(nats, users=None, **about):
    nats = np.asarray(nats, float)
    frame = pd.DataFrame({
        "query": np.arange(len(nats)), "user": np.arange(len(nats)) if users is None else users,
        "nats": nats, "error": np.abs(nats), "kind": pd.Categorical(np.where(nats > 0, "up", "down")), "gap": nats,
    })  # fmt: skip
    shown = {"kind": Slice("direction"), "gap": Slice("gap", "days")}
    return Outcome("toy", frame, METRICS, "nats", ("error", "nats"), "toy", about, shown, {"whole": 3.0})


def test_the_interval_of_an_unbounded_metric_is_a_plain_bootstrap():
    values = np.random.default_rng(0).normal(-2, 1.5, 4_000)
    row = intervals(outcome(values), samples=2_000).loc["nats"]
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert row["mean"] == pytest.approx(values.mean())
    assert [row["low"], row["high"]] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.15 * half)


def test_queries_of_a_user_are_resampled_together():
    """Copies of a query are no further evidence; independent queries of a user are."""
    random = np.random.default_rng(0)
    single = random.normal(0, 1, 500)
    copied = outcome(np.repeat(single, 8), np.repeat(np.arange(500), 8))
    width = np.ptp(intervals(copied).loc["nats", ["low", "high"]])
    assert width == pytest.approx(np.ptp(intervals(outcome(single)).loc["nats", ["low", "high"]]), rel=1e-6)
    apart = outcome(np.repeat(single, 8), np.arange(4_000))
    assert np.ptp(intervals(apart).loc["nats", ["low", "high"]]) < 0.5 * width


def test_the_bootstrap_of_users_is_the_ratio_of_weighted_sums():
    random = np.random.default_rng(1)
    users, values = np.sort(random.integers(0, 40, 150)), random.random(150)
    low, high = bootstrap(values[:, None], 4_000, 0, -math.inf, math.inf, users)
    means, weights = [], np.random.default_rng(5).standard_exponential((4_000, 40))
    for row in weights:
        means.append((row[users] * values).sum() / row[users].sum())
    assert [low[0], high[0]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_a_difference_is_paired_by_query_and_averages_seeds():
    random = np.random.default_rng(0)
    users, base = np.repeat(np.arange(100), 3), random.normal(0, 3, 300)
    a, b = outcome(base + 0.1, users), outcome(base, users)
    table = compare([a, outcome(base + 0.3, users)], b)
    assert table.loc["nats", "difference"] == pytest.approx(0.2) and table.loc["nats", "low"] == pytest.approx(0.2)
    facts = {"headline": ["error", "nats"], "primary": "nats", "lower": ["error"], "unbounded": ["nats", "error"]}
    assert table.attrs == facts
    with pytest.raises(ValueError, match="the protocols differ"):
        compare(a, outcome(base, users, seen_filter=True))
    with pytest.raises(ValueError, match="their queries differ"):
        compare(a, outcome(base, np.arange(300)))


def test_slices_take_categories_and_fractions_and_leave_missing_values_out():
    values = np.array([-1.5, -0.25, 0.25, np.nan, 1.5, 2.0])
    one = outcome(np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0]))
    one.frame["gap"] = values
    table = slices(one, samples=50)
    assert table.attrs["metric"] == "nats"
    kinds = table[table["slice"] == "direction"].set_index("group")
    assert kinds["users"].to_dict() == {"down": 2, "up": 4} and kinds.loc["down", "mean"] == -1
    assert table.loc[table["slice"] == "gap", "users"].sum() == 5


def test_standings_of_a_task_without_ranks():
    base = np.random.default_rng(0).normal(0, 1, 50)
    found = Standings({"a": outcome(base + 1), "b": outcome(base)})
    assert found.metrics == ("error", "nats") and found.ranks is None and not len(found.curves())
    table = found.table("b").set_index(["system", "metric"])
    assert table.loc[("a", "nats"), "difference"] == pytest.approx(1.0)
    worst = found.users("a", "b", "error", order="reference")
    assert worst["difference"].is_monotonic_decreasing  # b is better where the error of a is larger


def test_a_stored_description_is_the_same_outcome():
    one = outcome([1.0, -2.0], seen_filter=False)
    again = described(one.frame, json.loads(json.dumps(one.description(), allow_nan=False)))
    assert again.description() == one.description() and again.frame is one.frame
    assert again.metric("nats").low == -math.inf and again.means() == one.means()
    with pytest.raises(ValueError, match="there is no metric 'ndcg@10'"):
        one.metric("ndcg@10")
