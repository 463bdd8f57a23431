"""Confidence, temperatures and heads: on a Markov chain whose true conditionals are the scores, and by brute force."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.evaluation import calibration as of_probabilities
from seqlab.inspection import answer_probability, calibration, experts, hints, listed_items
from seqlab.inspection import confidence as own_words
from seqlab.ranking import top
from tests.synthetic import chain_log, enlarged, log_of, small
from tests.tiny_runs import run_of

USERS, ITEMS = 900, 12


class Oracle(nn.Module):
    """The log-probabilities of a chain, times a factor; `encode` gives the last item's row."""

    def __init__(self, chain, factor=1.0):
        super().__init__()
        self.config = type("Config", (), {"max_length": 3})()
        self.register_buffer("log_p", torch.log(torch.from_numpy(chain)).float() * factor)

    def encode(self, batch):
        return self.log_p[batch.items - 1]

    def score(self, batch):
        return nn.functional.pad(batch.last(self.encode(batch)), (1, 0))

    def recommend(self, batch, k):
        return top(self.score(batch), k)


@pytest.fixture(scope="module")
def chain():
    random = np.random.default_rng(0)
    law = random.dirichlet(np.full(ITEMS, 0.3), ITEMS) * 0.96 + 0.04 / ITEMS
    histories = []
    for _ in range(USERS):
        items = [int(random.integers(ITEMS))]
        for _ in range(5):
            items.append(int(random.choice(ITEMS, p=law[items[-1]])))
        histories.append([item + 1 for item in items])
    return law, leave_one_out(log_of(histories, repeats=True))


def test_true_conditionals_need_no_temperature_and_lie_in_the_band(chain):
    law, split = chain
    assert own_words.fit_temperature(Oracle(law), split.valid, ITEMS, False) == pytest.approx(1, abs=0.1)
    assert own_words.fit_temperature(Oracle(law, 4.0), split.valid, ITEMS, False) == pytest.approx(4, abs=0.4)
    frame = own_words.confidence(Oracle(law), split.test, ITEMS, False, k=2).frame
    error, _ = of_probabilities.calibration_error(frame["mass"].to_numpy(), frame["hit"].to_numpy())
    assert error <= of_probabilities.chance_error(frame["mass"].to_numpy(), share=0.99)
    loud = own_words.confidence(Oracle(law, 4.0), split.test, ITEMS, False, k=2).frame
    error, _ = of_probabilities.calibration_error(loud["mass"].to_numpy(), loud["hit"].to_numpy())
    assert error > of_probabilities.chance_error(loud["mass"].to_numpy(), share=0.99)


@pytest.mark.parametrize("seen_filter", [False, True])
def test_a_list_of_everything_is_certain_and_each_column_is_that_of_a_softmax(chain, seen_filter):
    law, split = chain
    of = own_words.confidence(Oracle(law), split.test, ITEMS, seen_filter, k=ITEMS)
    assert np.allclose(of.frame["mass"], 1) and of.frame["hit"].all()
    of = own_words.confidence(Oracle(law), split.test, ITEMS, seen_filter, k=3, temperature=2.0, states=True)
    for row in range(0, len(split.test), 97):
        history = split.test.sequences.items[split.test.start[row] : split.test.end[row]].tolist()
        answer = int(split.test.item[row])
        allowed = np.array([item for item in range(1, ITEMS + 1)
                            if not (seen_filter and item in history and item != answer)])  # fmt: skip
        p = law[history[-1] - 1, allowed - 1] ** 0.5
        p, raw = p / p.sum(), law[history[-1] - 1, allowed - 1]
        best, one = np.sort(p)[::-1], of.frame.iloc[row]
        assert one["mass"] == pytest.approx(best[:3].sum(), abs=1e-5)
        assert one["raw_mass"] == pytest.approx(np.sort(raw / raw.sum())[::-1][:3].sum(), abs=1e-5)
        assert one["p_answer"] == pytest.approx(p[allowed == answer][0], abs=1e-5)
        assert one["entropy"] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
        assert one["margin"] == pytest.approx(np.log(best[0] / best[1]), abs=1e-4)
        assert one["seen"] == (answer in history) and one["history_length"] == len(history)
        assert torch.equal(of.states[row], torch.log(torch.from_numpy(law[history[-1] - 1])).float())


def test_a_head_learns_what_the_states_tell_and_halves_share_no_user(chain):
    law, split = chain
    judge = answer_probability.fit_judge(Oracle(law, 3.0), split, False, k=2)
    assert judge.temperature == pytest.approx(3, abs=0.4)
    users = judge.valid.frame["user"].to_numpy()
    assert not {*users[judge.fitting]} & {*users[~judge.fitting]}
    test = judge.confidence(split.test)
    found = judge.forecasts(test)
    assert {*found} == {*answer_probability.FORECASTS}
    for name in ("mass", "states", "scalars"):
        metrics = calibration.forecast_outcome(test, found[name].to_numpy()).means()
        base = calibration.forecast_outcome(test, found["base_rate"].to_numpy()).means()
        assert metrics["auroc"] > 0.6 and metrics["brier"] < base["brier"] and base["auroc"] == pytest.approx(0.5)
    soft = found["states_soft"].to_numpy()
    assert np.corrcoef(soft, test.frame["p_answer"])[0, 1] > 0.3
    assert soft.mean() == pytest.approx(test.frame["p_answer"].mean(), abs=0.05)


def test_the_same_seed_gives_the_same_heads_and_leaves_the_random_state_alone(chain):
    law, split = chain
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (
        answer_probability.fit_judge(Oracle(law), split, False, k=2, users=200, heads=["states"]) for _ in range(2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.heads["states"].layers[0].weight, second.heads["states"].layers[0].weight)


def test_few_validation_users_and_a_system_of_lists_are_refused(chain):
    law, split = chain
    few = dataclasses.replace(split, valid=split.valid.select(torch.arange(9)))
    with pytest.raises(ValueError, match="9 validation queries are too few"):
        answer_probability.fit_judge(Oracle(law), few, False)
    lists = nn.Module()
    with pytest.raises(ValueError, match="choose a system that scores"):
        own_words.scores_of(lists)


def test_p_after_each_event_is_that_of_the_prefix(chain):
    from seqlab.datasets.history import history_of

    law, split = chain
    judge = answer_probability.fit_judge(Oracle(law), split, False, k=2, users=100)
    history = history_of(split, 3).last(3)
    frame = answer_probability.after_each_event(judge, history, answer=7)
    whole = [*history.earlier.tolist(), *history.items.tolist()]
    assert frame["item"].tolist() == whole and frame["next"].tolist() == [*whole[1:], 7]
    best = np.sort(law, 1)[:, ::-1] ** (1 / judge.temperature)
    tempered = law ** (1 / judge.temperature)
    for row in frame.itertuples():
        assert row.mass == pytest.approx(best[row.item - 1, :2].sum() / tempered[row.item - 1].sum(), abs=1e-4)
        assert row.hit == (law[row.item - 1, row.next - 1] >= np.sort(law[row.item - 1])[-2])
    assert not answer_probability.after_each_event(judge, history)["next"].iloc[-1]


def test_an_added_event_stands_before_the_last_and_hints_are_neighbours():
    split = leave_one_out(chain_log())
    kept, hint, control = hints.hints(split, split.test, seed=1)
    longer = hints.with_event(kept, hint)
    assert len(kept) > 20 and (hint != control).all()
    for row in range(0, len(kept), 5):
        old = kept.sequences.items[kept.start[row] : kept.end[row]].tolist()
        new = longer.sequences.items[longer.start[row] : longer.end[row]].tolist()
        assert new == [*old[:-1], int(hint[row]), old[-1]]
        for one in (hint[row], control[row]):
            assert int(one) not in [*old, int(kept.item[row])]
    counts = split.train.item_counts(split.n_items)
    assert (counts[hint] - counts[control]).float().abs().mean() < 0.5 * counts[1:].float().std()


def test_votes_and_p_true_by_hand():
    split = leave_one_out(chain_log())
    torch.manual_seed(0)
    model = enlarged(models.build("sasrec", split.n_items, small("sasrec", dropout=0.4)), 0.2)
    frame = listed_items.listed_items(model, split.test, split.n_items, False, k=3, passes=4, seed=2)
    assert frame.attrs["sampled"] and not model.training and not any(one.training for one in model.modules())
    assert set(frame["votes"]) <= {0, 0.25, 0.5, 0.75, 1} and 0 < frame["votes"].mean() < 1
    assert np.allclose(np.log(frame["p"] / (1 - frame["p"])), frame["logit"], atol=1e-4)
    still = listed_items.listed_items(models.create("popularity", split), split.test, split.n_items, False, k=3)
    assert not still.attrs["sampled"] and (still["votes"] == 1).all()
    assert np.allclose(still["vote_entropy"], np.log(3), atol=1e-5)
    found = listed_items.p_true(frame, frame)
    assert [*found] == ["own words", "logistic regression", "with samples in view"]
    assert found["with samples in view"].means()["log_loss"] <= found["own words"].means()["log_loss"]


def test_a_mixture_of_one_is_that_system_and_the_oracle_is_the_best_of_all(chain):
    law, split = chain
    other = np.random.default_rng(3).dirichlet(np.full(ITEMS, 2.0), ITEMS)
    laws = {"true": 0.8 * law + 0.2 * other, "uniform": np.full_like(law, 1 / ITEMS), "other": other}
    judges = {
        name: answer_probability.fit_judge(Oracle(one), split, False, k=2, users=200, heads=("states", "length"))
        for name, one in laws.items()
    }
    tests = {name: one.confidence(split.test) for name, one in judges.items()}
    alone = experts.mixture_ranks([*judges.values()], split.test, np.eye(3))
    for at, one in enumerate(tests.values()):
        assert np.allclose(alone[:, at], one.frame["rank"])
    valid = split.valid.select(
        torch.randperm(len(split.valid), generator=torch.Generator().manual_seed(0))[:200].sort()[0]
    )
    chooses = valid.select(torch.from_numpy(~judges["true"].fitting))
    ranks, routed = experts.routed_ranks(judges, tests, (chooses, split.test))
    table = experts.routing_table(tests["true"].frame, ranks, routed, [*judges], ITEMS, False).set_index("way")
    assert table.index[0] == "true alone" and table["value"].iloc[0] == 0
    assert (table.loc["oracle (uses the answer)", "ndcg@10"] >= table["ndcg@10"]).all()
    assert table.loc[
        "routing by P(IK)", ["routed to true", "routed to uniform", "routed to other"]
    ].sum() == pytest.approx(1)


@pytest.mark.parametrize("system", ["tiger", "reg4rec", "sasrec"])
def test_any_next_item_system_has_a_reliability_table(system):
    run, data = run_of(system)
    model = run.model
    table = calibration.reliability(model, data, users=40, bins=4, samples=50)
    assert table["count"].sum() == 40 and table.attrs["event"] == "the answer is in the top 10"
    if system == "tiger":
        queries = own_words.drawn(data.test, 12, 0)
        mass, hit = calibration.list_mass(model, queries, data.n_items, False, k=data.n_items)
        assert hit.all() and (mass <= 1 + 1e-5).all()
        exact = torch.stack([own_words.scores_of(model)(queries.batch(torch.tensor([row]), model.config.max_length))[0]
                             for row in range(12)])  # fmt: skip
        shared = torch.stack([(model.ids.codes[1:] == one).all(1).sum() for one in model.ids.codes[1:]])
        assert np.allclose(mass, (exact[:, 1:].exp() / shared).sum(1), atol=1e-4)
