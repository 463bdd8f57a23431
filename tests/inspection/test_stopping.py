"""Stop thresholds and gains against loops over users, and the stop rule that models really use."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqlab.evaluation import compare
from seqlab.inspection import stopping
from tests.inspection.small_models import STEPS
from tests.synthetic import stops_by_hand

torch.set_num_threads(1)


@pytest.mark.parametrize("least", [1, 2])
def test_stops_equal_those_of_a_loop_over_users(found, model, split, least):
    batch = split.test.batch(torch.arange(len(split.test)), model.config.max_length)
    scores = model.step_scores(model.reasoning_states(batch))[:, :, 1:]
    probabilities = (scores / model.temperatures[:, None]).softmax(-1)
    for epsilon in stopping.thresholds(found):
        assert found.stops(epsilon, least).tolist() == stops_by_hand(probabilities.detach(), epsilon, least)


def test_fewer_steps_end_earlier_and_change_nothing_else(found):
    for most in range(STEPS + 1):
        stops = found.stops(0.05, most=most)
        assert (stops == np.minimum(found.stops(0.05), most)).all()
    assert found.stops(1e9, most=0).max() == 0


def test_the_tradeoff_needs_no_forward_pass(found, model):
    before = model.passes
    table = stopping.tradeoff(found, least=1)
    assert model.passes == before
    assert table["epsilon"].is_monotonic_increasing
    assert table["steps"].is_monotonic_decreasing
    assert (table["steps"].iloc[0], table["steps"].iloc[-1]) == (STEPS, 1)  # from never to always stopping
    ranks = found.wide("rank")
    for row in table.itertuples(index=False):
        stops = found.stops(row.epsilon)
        each = [ranks[user, step] for user, step in enumerate(stops)]
        assert row[3:5] == pytest.approx(
            (np.mean([one <= 10 for one in each]), np.mean([(one <= 10) / np.log2(one + 1) for one in each]))
        )
        assert row.early == np.mean([step < STEPS for step in stops])


def test_the_chosen_threshold_saves_most_among_those_that_lose_little(found):
    table = stopping.tradeoff(found)
    chosen = stopping.choose_threshold(found, lost=0.05)
    kept = table[table["ndcg@10"] >= 0.95 * table["ndcg@10"].iloc[0]]
    assert chosen == kept["epsilon"].max()
    assert stopping.choose_threshold(found, lost=1.0) == table["epsilon"].max()


def test_a_significant_loss_rules_a_threshold_out(found):
    """Every user loses the same small amount: less than a tenth, yet significant."""
    quality = found.quality.copy()
    quality[:, -1], quality[:, :-1] = 0.5, 0.49
    sure = replace(found)
    sure.__dict__["quality"] = quality
    table = stopping.tradeoff(sure).set_index("epsilon")
    chosen = stopping.choose_threshold(sure, lost=0.1)
    assert (table["ndcg@10"] >= 0.9 * 0.5).all() and table.loc[chosen, "ndcg@10 high"] >= 0
    assert table.index.max() > chosen and (table.loc[table.index > chosen, "ndcg@10 high"] < 0).all()


def test_the_largest_threshold_is_chosen_if_steps_do_harm(found):
    """The loss is measured against never stopping, not against the best threshold of the table."""
    harmful = [rank + (18 if step == 3 else 5 * (step == 1)) for rank, step in found.frame[["rank", "step"]].to_numpy()]
    worse = replace(found, frame=found.frame.assign(rank=harmful))
    assert stopping.tradeoff(worse)["ndcg@10"].max() > stopping.tradeoff(worse)["ndcg@10"].iloc[-1]
    assert stopping.choose_threshold(worse) == stopping.thresholds(worse)[-1]


def test_every_stopping_rule_is_between_the_worst_and_the_best_step(found):
    results = stopping.outcomes(found, 0.05, samples=50)
    assert (results["low"] <= results["mean"]).all() and (results["mean"] <= results["high"]).all()
    ranks = found.wide("rank")
    best = results.query("kind == 'best' and metric == 'ndcg@10'")["mean"].item()
    assert best == pytest.approx(np.mean([(one <= 10) / np.log2(one + 1) for one in ranks.min(1)]))
    for metric, part in results.groupby("metric"):
        real = part[part["kind"].isin(["fixed", "stop"])]["mean"]
        bounds = part.set_index("kind")["mean"]
        assert bounds["worst"] <= real.min() and real.max() <= bounds["best"], metric
    assert results.loc[results["kind"].isin(["best", "worst"]), "way"].str.contains("uses the answer").all()
    assert not results.loc[~results["kind"].isin(["best", "worst"]), "way"].str.contains("answer").any()


def test_gains_are_paired_differences_of_groups(found):
    table = stopping.gains(found, samples=50)
    gain = compare(found.at(STEPS), found.at(0)).loc["ndcg@10", "difference"]
    for _, part in table.groupby("slice"):
        assert part["users"].sum() == len(found.top)
        assert (part["mean"] * part["users"]).sum() / len(found.top) == pytest.approx(gain)
    assert set(table["slice"]) == {"history length", "popularity of the answer"}
    still = stopping.gains(found, 0, samples=50)
    assert (still["mean"] == 0).all() and (still["low"] < 0).all() and (still["high"] > 0).all()


def test_each_user_may_have_another_step(found):
    stops = found.stops(0.05)
    mixed = found.at(stops).frame["rank"]
    assert mixed.tolist() == [found.wide("rank")[user, step] for user, step in enumerate(stops)]
