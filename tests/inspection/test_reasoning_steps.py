"""The steps of a reasoning system against loops over questions and steps, and the stop rule that models really use."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.datasets.history import history_of
from seqlab.evaluation import compare, metrics
from seqlab.inspection import reasoning_steps
from seqlab.ranking import top
from seqlab.tasks import next_item, rank
from seqlab.tracing import Tap
from seqlab.training import fit
from tests.synthetic import random_log, small, stops_by_hand

torch.set_num_threads(1)
STEPS = 3


class Thinker(nn.Module):
    """Keeps the protocol of reasoning systems: the mean of the items read, turned a little further at every step."""

    def __init__(self, n_items, steps=STEPS, dim=6, max_length=5, answer=-1):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.config = type("Config", (), {"max_length": max_length, "steps": steps})()
        self.items = nn.Embedding.from_pretrained(torch.randn(n_items + 1, dim, generator=generator), padding_idx=0)
        self.turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q
        self.thought = nn.ModuleList(Tap("thought", "user dim") for _ in range(steps + 1))
        self.answer = answer
        self.asked = 0

    @property
    def temperatures(self):
        return 0.7 * 1.5 ** torch.arange(self.config.steps, -1, -1)

    def thoughts(self, batch, steps=None):
        self.asked += 1
        real = (batch.items > 0)[..., None]
        state = self.thought[0]((self.items(batch.items) * real).sum(1) / real.sum(1))
        states = [state]
        for step in range(self.config.steps if steps is None else steps):
            state = self.thought[step + 1](0.6 * state + 0.4 * state @ self.turn)
            states.append(state)
        return torch.stack(states, 1)

    def step_scores(self, states):
        return states @ self.items.weight.T

    def score(self, batch):
        return self.step_scores(self.thoughts(batch))[:, self.answer]

    def recommend(self, batch, k):
        return top(self.score(batch), k)


@pytest.fixture(scope="module", params=[True, False], ids=["repeats", "no repeats"])
def split(request):
    return leave_one_out(random_log(1, repeats=request.param))


@pytest.fixture(scope="module")
def model(split):
    return Thinker(split.n_items).eval()


@pytest.fixture(scope="module")
def found(model, split):
    return reasoning_steps.rank_steps(model, split)


@pytest.mark.parametrize("step", range(STEPS + 1))
@pytest.mark.parametrize("part", ["valid", "test"])
def test_each_step_ranks_as_a_model_that_answers_with_it(split, step, part):
    model = Thinker(split.n_items, answer=step)
    alone, there = rank(model, split, part), reasoning_steps.rank_steps(model, split, part).at(step)
    assert alone.frame.equals(there.frame)
    assert alone.exposure.equal(there.exposure)
    assert alone.protocol == there.protocol
    assert metrics(alone) == metrics(there)


def test_certainty_is_of_the_whole_catalogue_under_each_steps_temperature(found, model, split):
    for row in found.frame.itertuples():
        batch = split.test.batch((split.test.user == row.user).nonzero()[:, 0], model.config.max_length)
        scores = model.step_scores(model.thoughts(batch))[0, :, 1:].double()
        chances = [(scores[step] / model.temperatures[step]).softmax(0) for step in range(STEPS + 1)]
        now = chances[row.step]
        assert row.entropy == pytest.approx(float(-(now * now.log()).sum()), abs=1e-5)
        even = (scores[row.step] / model.temperatures[-1]).softmax(0)
        assert row.entropy_even == pytest.approx(float(-(even * even.log()).sum()), abs=1e-5)
        first, second = now.sort(descending=True).values[:2]
        assert row.margin == pytest.approx(float(first - second), abs=1e-6)
        if row.step:
            before = chances[row.step - 1]
            assert row.kl == pytest.approx(float((before * (before / now).log()).sum()), abs=1e-5)
        else:
            assert np.isnan([row.kl, row.cosine, row.kept]).all()


def test_batches_of_any_size_give_the_same(found, model, split, monkeypatch):
    monkeypatch.setattr(next_item, "SCORES_AT_ONCE", 1)
    again = reasoning_steps.rank_steps(model, split)
    assert np.allclose(again.frame.to_numpy(float), found.frame.to_numpy(float), atol=1e-5, equal_nan=True)
    assert again.top.equal(found.top)


def test_what_stayed_of_the_ten_best(found):
    for row, lists in zip(found.wide("kept"), found.top.tolist(), strict=True):
        stayed = [len(set(now) & set(before) - {0}) for before, now in pairwise(lists)]
        assert row[1:].tolist() == stayed


@pytest.mark.parametrize("least", [1, 2])
def test_stops_where_a_model_would_that_is_asked_again(found, model, split, least):
    batch = split.test.batch(torch.arange(len(split.test)), model.config.max_length)
    scores = model.step_scores(model.thoughts(batch))[:, :, 1:]
    chances = (scores / model.temperatures[:, None]).softmax(-1)
    for epsilon in reasoning_steps.thresholds(found):
        assert found.stops(epsilon, least).tolist() == stops_by_hand(chances.detach(), epsilon, least)


def test_fewer_steps_end_earlier_and_change_nothing_else(found):
    for most in range(STEPS + 1):
        stops = found.stops(0.05, most=most)
        assert (stops == np.minimum(found.stops(0.05), most)).all()
    assert found.stops(1e9, most=0).max() == 0


def test_the_table_tells_quality_and_cost_of_every_threshold_without_the_model(found, model):
    before = model.asked
    table = reasoning_steps.tradeoff(found, least=1)
    assert model.asked == before
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
    table = reasoning_steps.tradeoff(found)
    chosen = reasoning_steps.choose_threshold(found, lost=0.05)
    kept = table[table["ndcg@10"] >= 0.95 * table["ndcg@10"].iloc[0]]
    assert chosen == kept["epsilon"].max()
    assert reasoning_steps.choose_threshold(found, lost=1.0) == table["epsilon"].max()


def test_a_loss_that_one_can_see_is_not_taken_for_a_saved_step(found):
    """Everybody loses the same little: less than a tenth, yet beyond doubt."""
    quality = found.quality.copy()
    quality[:, -1], quality[:, :-1] = 0.5, 0.49
    sure = replace(found)
    sure.__dict__["quality"] = quality
    table = reasoning_steps.tradeoff(sure).set_index("epsilon")
    chosen = reasoning_steps.choose_threshold(sure, lost=0.1)
    assert (table["ndcg@10"] >= 0.9 * 0.5).all() and table.loc[chosen, "ndcg@10 high"] >= 0
    assert table.index.max() > chosen and (table.loc[table.index > chosen, "ndcg@10 high"] < 0).all()


def test_where_thoughts_do_harm_the_laziest_threshold_is_chosen(found):
    """Measured is the loss against never stopping, not against the best threshold of the table."""
    harmful = [rank + (18 if step == 3 else 5 * (step == 1)) for rank, step in found.frame[["rank", "step"]].to_numpy()]
    worse = replace(found, frame=found.frame.assign(rank=harmful))
    assert reasoning_steps.tradeoff(worse)["ndcg@10"].max() > reasoning_steps.tradeoff(worse)["ndcg@10"].iloc[-1]
    assert reasoning_steps.choose_threshold(worse) == reasoning_steps.thresholds(worse)[-1]


def test_no_rule_of_stopping_leaves_the_space_between_worst_and_best_step(found):
    told = reasoning_steps.outcomes(found, 0.05, samples=50)
    assert (told["low"] <= told["mean"]).all() and (told["mean"] <= told["high"]).all()
    ranks = found.wide("rank")
    best = told.query("kind == 'best' and metric == 'ndcg@10'")["mean"].item()
    assert best == pytest.approx(np.mean([(one <= 10) / np.log2(one + 1) for one in ranks.min(1)]))
    for metric, part in told.groupby("metric"):
        real = part[part["kind"].isin(["fixed", "stop"])]["mean"]
        bounds = part.set_index("kind")["mean"]
        assert bounds["worst"] <= real.min() and real.max() <= bounds["best"], metric
    assert told.loc[told["kind"].isin(["best", "worst"]), "way"].str.contains("uses the answer").all()
    assert not told.loc[~told["kind"].isin(["best", "worst"]), "way"].str.contains("answer").any()


def test_gains_are_paired_differences_of_groups(found):
    table = reasoning_steps.gains(found, samples=50)
    gain = compare(found.at(STEPS), found.at(0)).loc["ndcg@10", "difference"]
    for _, part in table.groupby("slice"):
        assert part["users"].sum() == len(found.top)
        assert (part["mean"] * part["users"]).sum() / len(found.top) == pytest.approx(gain)
    assert set(table["slice"]) == {"history length", "popularity of the answer"}
    still = reasoning_steps.gains(found, 0, samples=50)
    assert (still["mean"] == 0).all() and (still["low"] < 0).all() and (still["high"] > 0).all()


def test_each_user_may_have_a_step_of_their_own(found):
    stops = found.stops(0.05)
    mixed = found.at(stops).frame["rank"]
    assert mixed.tolist() == [found.wide("rank")[user, step] for user, step in enumerate(stops)]


def test_a_system_without_steps_has_one_row_and_a_system_without_thoughts_is_refused(split):
    plain = reasoning_steps.rank_steps(Thinker(split.n_items, steps=0), split)
    assert plain.steps == 0 and len(plain.frame) == len(split.test)
    assert reasoning_steps.tradeoff(plain)["steps"].tolist() == [0]
    assert reasoning_steps.choose_threshold(plain) == 0
    with pytest.raises(ValueError, match="does not reason in steps"):
        reasoning_steps.rank_steps(nn.Linear(1, 1), split)


def test_scores_that_are_not_finite_are_told(split):
    model = Thinker(split.n_items)
    model.turn = model.turn * torch.nan
    with pytest.raises(ValueError, match="not finite"):
        reasoning_steps.rank_steps(model, split)


def test_one_user_thinks_as_in_the_whole_pass(found, model, split):
    for user in split.test.user.tolist()[:5]:
        history = history_of(split, user, longest=model.config.max_length)
        answer = split.test.item[split.test.user == user].item()
        alone = reasoning_steps.think(model, history, answer, found.seen_filter)
        rows = found.frame[found.frame["user"] == user]
        assert alone.ranks(answer) == rows["rank"].tolist()
        row = (split.test.user == user).nonzero()[0, 0]
        listed = alone.nearest().groupby("step")["item"].apply(list)
        assert listed.tolist() == [[item for item in one if item] for one in found.top[row].tolist()]
        assert torch.allclose(alone.chances.sum(1), torch.ones(STEPS + 1))


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_a_patched_step_changes_itself_and_what_follows(model, split, step):
    mine, other = (history_of(split, user, longest=5) for user in split.test.user.tolist()[1:3])
    before, theirs = reasoning_steps.think(model, mine), reasoning_steps.think(model, other)
    after = reasoning_steps.think(model, mine, swap=(step, theirs.states[step]))
    same = torch.isclose(before.states, after.states).all(1)
    assert same.tolist() == [at < step for at in range(STEPS + 1)]
    # this model remembers nothing but the last state, so from the patch on the user thinks like the other
    assert torch.allclose(after.states[step:], theirs.states[step:], atol=1e-6)


def test_a_step_stands_at_the_weighed_mean_of_its_best_items(model, split):
    near = reasoning_steps.think(model, history_of(split, int(split.test.user[0]), longest=5)).nearest(3)
    spots = np.random.default_rng(0).normal(size=(split.n_items, 2))
    for row in reasoning_steps.places(near, spots).itertuples():
        part = near[near["step"] == row.step]
        weight = part["probability"] / part["probability"].sum()
        there = sum(w * spots[item - 1] for w, item in zip(weight, part["item"], strict=True))
        assert (row.x, row.y) == pytest.approx(tuple(there))


def test_all_probability_is_shared_out_once(model, split):
    thinking = reasoning_steps.think(model, history_of(split, int(split.test.user[0]), longest=5))
    masses = thinking.masses({"a": [1, 2, 2], "b": [2, 3]})
    assert np.allclose(masses.groupby("step")["share"].sum(), 1)
    assert np.allclose(masses.query("part == 'a'")["share"], thinking.chances[:, [1, 2]].sum(1))
    assert np.allclose(masses.query("part == 'b'")["share"], thinking.chances[:, 3])


WHOLE = leave_one_out(random_log(1, repeats=True))


@pytest.mark.parametrize("name", models.names())
def test_every_system_reasons_in_steps_or_says_that_it_does_not(name):
    settings = {"steps": 2} if hasattr(models.module(name).Config, "steps") else {}
    model = models.build(name, WHOLE.n_items, small(name, **settings))
    fit.prepare(model, WHOLE)
    user = int(WHOLE.test.user[0])
    history, answer = history_of(WHOLE, user), int(WHOLE.test.item[0])
    if name not in ("rearec", "mancar"):
        for ask in (
            lambda: reasoning_steps.rank_steps(model, WHOLE), lambda: reasoning_steps.steps_of(model, history, answer),
            lambda: reasoning_steps.think(model, history), lambda: reasoning_steps.prior(model, history, answer, 0),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="does not reason in steps; choose a system such as rearec"):
                ask()
        return
    ranks = reasoning_steps.rank_steps(model, WHOLE).frame.query("user == @user")["rank"].to_numpy()
    assert reasoning_steps.steps_of(model, history, answer, False).frame["rank"].to_numpy() == pytest.approx(ranks)
    thinking = reasoning_steps.think(model, history)
    assert thinking.ranks(answer) == pytest.approx(ranks.tolist())
    near = set(model.near[history.items[-1]].tolist()) - {0, answer} if name == "mancar" else set()
    for step in range(3):
        prior = reasoning_steps.prior(model, history, answer, step)
        assert (prior is None) == (name == "rearec")
        if prior is not None:
            assert set(prior["item"]) == near and (prior["weight"] > 0).all() and prior["weight"].sum() < 1
