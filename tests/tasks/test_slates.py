"""The likelihood of slates against a loop, the fitted choice against scipy, and the bounds that are known."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from seqlab.datasets import DataError, leave_one_out, simulated
from seqlab.datasets.slates import slates
from seqlab.evaluation import compare, intervals
from seqlab.tasks import slates as task
from tests.datasets.test_slates import mixed_log

torch.set_num_threads(1)


class Judge(nn.Module):
    """A system with one ability: a function of the batch."""

    config = type("Config", (), {"max_length": 3})()

    def __init__(self, **abilities):
        super().__init__()
        for name, function in abilities.items():
            setattr(self, name, function)


def table(split, seed=0, values=4):
    """Scores of few values, so that items tie, of a system with `score`."""
    scores = torch.randint(
        values, (split.n_users + 1, split.n_items + 1), generator=torch.Generator().manual_seed(seed)
    )
    return Judge(score=lambda batch: scores[batch.user].double()), scores


def even(batch):
    """Every outcome is equally likely."""
    shown = batch.context["candidates"] > 0
    return torch.cat([shown[:, :1] | True, shown], 1).double().log().log_softmax(1)


@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_a_loop_over_slates(seed):
    split = slates(mixed_log(seed), 0.3)
    model, scores = table(split, seed)
    found = task.measure(model, split)
    a, b = found.summary["scale"], found.summary["no-click offset"]
    nats, best, reciprocal = [], [], []
    queries = split.test
    for at in range(len(queries)):
        items = [item for item in queries.candidates[at].tolist() if item]
        slot = queries.labels[at].nan_to_num().tolist().index(1) + 1 if queries.labels[at].nan_to_num().any() else 0
        mine = [float(scores[queries.user[at], item]) for item in items]
        logits = [b] + [a * score for score in mine]
        nats.append(logits[slot] - math.log(sum(map(math.exp, logits))))
        if slot:
            places = [place for place, score in enumerate(sorted(mine, reverse=True), 1) if score == mine[slot - 1]]
            best.append((1 in places) / len(places))
            reciprocal.append(1 / (sum(places) / len(places)))
    frame = found.by_query().frame
    np.testing.assert_allclose(frame["nats"], nats)
    means = found.means()
    assert means["accuracy"] == pytest.approx(np.mean(best)) and means["mrr"] == pytest.approx(np.mean(reciprocal))
    shown = (queries.candidates > 0).sum(1)
    assert means["uniform"] == pytest.approx(float(-(shown + 1).double().log().mean()))
    assert frame["shown"].tolist() == shown.tolist() and frame["click"].sum() == len(best)
    assert f"fitted to {len(split.valid)} validation slates" in found.protocol


@pytest.mark.parametrize("seed", range(4))
def test_the_choice_is_the_optimum_of_its_likelihood(seed):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 6, 200)
    valid = torch.from_numpy(np.arange(5) < lengths[:, None])
    scores = torch.from_numpy(random.normal(50, 20, (200, 5)))
    logits = torch.cat([torch.full((200, 1), 2.5), scores / 20], 1).masked_fill(
        ~torch.cat([valid[:, :1], valid], 1), -99
    )
    clicked = torch.distributions.Categorical(logits=logits).sample()
    found = task.fit_choice(scores, valid, clicked)
    center, spread = scores[valid].mean(), scores[valid].std(correction=0)
    imaginary = center + spread * torch.linspace(-1, 1, 5)

    def loss(numbers):
        choice = task.Choice(*numbers)
        one = task.choice_log_probs(scores, valid, choice).gather(1, clicked[:, None]).sum()
        other = task.choice_log_probs(imaginary[None], torch.ones(1, 5, dtype=torch.bool), choice).mean()
        return -float(one + other)

    best = minimize(loss, [0.01, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 9_999})
    assert loss(found) <= best.fun + 1e-9
    assert list(found) == pytest.approx(best.x, abs=1e-4)


def test_the_choice_recovers_a_scale_and_an_offset_whatever_the_unit():
    generator = torch.Generator().manual_seed(0)
    scores, valid = torch.randn(20_000, 6, generator=generator).double(), torch.ones(20_000, 6, dtype=torch.bool)
    p = task.choice_log_probs(scores, valid, task.Choice(1.5, 0.8)).exp()
    clicked = torch.multinomial(p, 1, generator=generator)[:, 0]
    found = task.fit_choice(scores, valid, clicked)
    assert list(found) == pytest.approx([1.5, 0.8], abs=0.05)
    other = task.fit_choice(1_000 * scores + 5_000, valid, clicked)
    assert list(other) == pytest.approx([found.scale / 1_000, found.offset + 5 * found.scale])


def test_scores_that_mislead_or_do_not_differ_count_for_nothing():
    scores, valid = torch.randn(500, 4).double(), torch.ones(500, 4, dtype=torch.bool)
    worst = scores.argmin(1) + 1
    worst[:100] = 0
    found = task.fit_choice(scores, valid, worst)
    assert found.scale == 0 and found.offset == pytest.approx(math.log(4 * 100 / 400), abs=0.02)
    assert task.fit_choice(scores * 0 + 3, valid, worst) == pytest.approx((0, found.offset + 0), abs=0.02)


@pytest.mark.parametrize("clicked", [0, 1])
def test_slates_that_all_end_alike_leave_the_choice_finite(clicked):
    scores = torch.tensor([[2.0, 1.0]]).repeat(50, 1)
    found = task.fit_choice(scores, torch.ones(50, 2, dtype=torch.bool), torch.full((50,), clicked))
    assert all(map(math.isfinite, found))
    p = task.choice_log_probs(scores, torch.ones(50, 2, dtype=torch.bool), found).exp()[0]
    assert float(p[clicked]) > 0.9


@pytest.fixture(scope="module")
def simulation():
    log, truth = simulated.slates(0, users=400)
    return slates(log), truth


def test_nobody_beats_the_truth_and_the_uniform_is_the_floor(simulation):
    split, truth = simulation

    def row(batch):
        return truth.log_probs[truth.at(batch.last(batch.target_events.times).numpy())]

    best = task.measure(Judge(slate_log_probs=lambda batch: torch.from_numpy(row(batch))), split)
    frame = best.frame
    expected = truth.log_probs[frame["query"], frame["slot"]]
    np.testing.assert_allclose(frame["nats"], expected)
    error = frame["nats"].std() / len(frame) ** 0.5
    assert best.means()["nats"] == pytest.approx(truth.nats[frame["query"]].mean(), abs=4 * error)
    scored = task.measure(
        Judge(score_pairs=lambda batch, _: torch.from_numpy(row(batch)[:, 1:] - row(batch)[:, :1])), split
    )
    assert scored.summary["scale"] == pytest.approx(1, abs=0.1)
    assert scored.summary["no-click offset"] == pytest.approx(0, abs=0.1)
    assert abs(compare(scored, best).loc["nats", "difference"]) < 0.005
    flat = task.measure(Judge(slate_log_probs=even), split)
    assert flat.means()["nats"] == pytest.approx(-math.log(9)) == flat.means()["uniform"]
    assert flat.means()["accuracy"] == pytest.approx(1 / 8) and flat.means()["mrr"] == pytest.approx(1 / 4.5)
    gain = compare(best, flat).loc["nats"]
    assert 0.5 < gain["low"] < gain["difference"] < gain["high"] < 1.1


def test_metrics_of_clicked_slates_have_intervals_of_a_ratio(simulation):
    split, _ = simulation
    model = Judge(score=lambda batch: torch.arange(split.n_items + 1.0).repeat(len(batch), 1))
    found = task.measure(model, split)
    frame = found.frame
    best = split.test.candidates.max(1).values.numpy()
    random = np.random.default_rng(0)
    users = frame["user"].to_numpy()
    order = {int(query): at for at, query in enumerate(split.test.id)}
    rows = [order[query] for query in frame["query"]]
    first = (frame["item"].to_numpy() == best[rows]).astype(float)
    clicks = frame["click"].to_numpy()
    weights = random.exponential(size=(2_000, users.max() + 1))[:, users]
    ratios = (weights * first * clicks).sum(1) / (weights * clicks).sum(1)
    row = intervals(found).loc["accuracy"]
    assert row["mean"] == pytest.approx((first * clicks).sum() / clicks.sum())
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.003)


def test_batches_change_no_number(monkeypatch):
    split = slates(mixed_log(1), 0.3)
    model, _ = table(split)
    whole = task.measure(model, split)
    monkeypatch.setattr(task, "MAX_TOKENS", 1)
    parts = task.measure(model, split)
    assert whole.frame.equals(parts.frame) and whole.summary == parts.summary


def test_validation_is_measured_with_its_own_choice():
    split = slates(mixed_log(2), 0.3)
    model, _ = table(split)
    valid, test = task.measure(model, split, "valid"), task.measure(model, split, "test")
    assert valid.summary["scale"] == test.summary["scale"] and len(valid.frame) == len(split.valid)


def test_what_cannot_be_measured_is_refused_in_a_sentence():
    split = slates(mixed_log(0))
    with pytest.raises(DataError, match="Judge cannot judge a slate: it has none of slate_log_probs"):
        task.measure(Judge(), split)
    other = leave_one_out(split.log)
    with pytest.raises(DataError, match="the split 'leave-one-out' has no slates"):
        task.measure(table(split)[0], other)
    with pytest.raises(ValueError, match="Judge gave numbers that are not finite"):
        task.measure(Judge(score=lambda batch: torch.full((len(batch), 10), torch.nan)), split)
    with pytest.raises(ValueError, match="must sum to 1 over the slots and no click"):
        task.measure(Judge(slate_log_probs=lambda batch: even(batch) + 0.1), split)
