"""SETRec: sets without order, queries that do not see one another, beta from validation, the whole catalogue scored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import seqlab
from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.evaluation import metrics
from seqlab.models.semantic_ids.setrec import BETAS, Config, SETRec, attention_mask
from seqlab.runs import store
from seqlab.tasks import measure
from seqlab.training import fit
from tests.synthetic import batch_of, chain_histories, log_of, random_histories, set_targets, with_targets

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], []]
ITEMS, COLD = 24, 11
random_vectors = np.random.default_rng(0).standard_normal((ITEMS, 7)).astype(np.float32)


def setrec(items=ITEMS, **settings):
    """A small model with vectors of its own, whose weights are large enough for every token to matter."""
    torch.manual_seed(0)
    sizes = {"dim": 16, "layers": 2, "heads": 2, "max_length": 8, "dropout": 0.0, "features": 7, "factors": 7}
    model = SETRec(Config(**(sizes | {"hidden": (12,)} | settings)), items)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    factors = random_vectors[::-1].copy()
    factors[COLD - 1] = 0
    if items == ITEMS:
        model.assign(random_vectors, factors)
    return model.eval()


def test_the_attention_mask_is_its_rule_token_by_token():
    length, slots, place = 3, 2, torch.tensor([[0, 2], [-1, 1]])
    seen = attention_mask(length, slots, place)
    assert seen.shape == (2, 10, 10)
    for row in range(2):
        tokens = [("item", t) for t in range(length) for _ in range(slots)]
        tokens += [("query", int(t)) for t in place[row] for _ in range(slots)]
        for i, (kind, at) in enumerate(tokens):
            for j, (other, where) in enumerate(tokens):
                may = i == j or (other == "item" and (where < at if kind == "item" else where <= at))
                assert bool(seen[row, i, j]) == may


def test_no_token_attends_to_others_of_its_item_other_queries_or_padding():
    model = setrec()
    with seqlab.watch(model) as trace:
        model.score(batch_of(HISTORIES))
    weights = trace["attention"].values  # (layer, B, H, T C + C, T C + C)
    assert weights.shape == (2, 4, 2, 24, 24)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 2, 24))
    assert float(weights[..., 9:12, 9:12].masked_select(~torch.eye(3, dtype=torch.bool)).abs().max()) == 0  # siblings
    assert float(weights[..., 21:, 21:].masked_select(~torch.eye(3, dtype=torch.bool)).abs().max()) == 0  # queries
    assert float(weights[:, 1, :, 21:, 3:21].abs().max()) == 0  # the second user has one item
    assert float(weights[:, 0, :, 21:, :12].min()) > 0  # and a query sees all tokens of all items there are


def test_the_order_of_tokens_inside_an_item_changes_nothing():
    model, batch = setrec(), batch_of(HISTORIES)
    tokens, place = model.tokens(), batch.lengths[:, None] - 1
    plain = model.generate(batch, tokens, place).detach()
    torch.testing.assert_close(model.generate(batch, tokens[:, [2, 0, 1]], place), plain, atol=1e-5, rtol=1e-5)
    assert float((model.generate(batch, tokens.flip(0), place) - plain).detach()[:3].abs().amax((1, 2, 3)).min()) > 1e-3


def test_the_loss_of_all_positions_is_that_of_each_prefix_alone():
    model, history = setrec(), [3, 7, 7, 1, 5, 2]
    batch = batch_of([history[:-1], [4, 9]])
    targets = torch.tensor([history[1:], [9, 0, 0, 0, 0]])  # nothing follows the second one's last item
    alone = [model.loss(with_targets([history[:end]], [history[end]])).total for end in range(1, 6)]
    alone.append(model.loss(with_targets([[4]], [9])).total)
    torch.testing.assert_close(model.loss(set_targets(batch, targets)).total, torch.stack(alone).mean())


def test_the_loss_is_cross_entropy_of_each_query_over_all_items_and_the_reconstruction():
    model, batch = setrec(alpha=0.3), batch_of(HISTORIES[:3])
    with seqlab.watch(model) as trace:
        model.score(batch)
    slots = trace["slot scores"].values  # (B, C, N + 1)
    answers = torch.tensor([4, 2, 20])
    errors = [F.cross_entropy(slots[:, slot, 1:], answers - 1) for slot in range(3)]
    targets = torch.zeros_like(batch.items)
    targets[torch.arange(3), batch.lengths - 1] = answers
    loss = model.loss(set_targets(batch, targets))
    back = model.reconstructor(model.tokens()[1:, 1:].flatten(1))
    torch.testing.assert_close(loss.parts["reconstruction"], F.mse_loss(back, model.content[1:]))
    torch.testing.assert_close(loss.parts["collaborative"], errors[0])
    torch.testing.assert_close(loss.total, torch.stack(errors).mean() + 0.3 * loss.parts["reconstruction"])


def test_the_loss_has_a_gradient_for_the_tokenizer():
    model = setrec(alpha=0.0)
    model.loss(with_targets([[3, 7]], [4])).total.backward()
    assert all(float(weight.grad.abs().max()) > 0 for weight in (*model.tokenizer.parameters(), model.project.weight))


def test_items_share_a_position_and_the_next_item_has_the_one_after():
    model = setrec()
    model.loss(with_targets([[3, 7]], [4])).total.backward()
    assert (model.positions.weight.grad.abs().amax(1) > 0).tolist() == [True] * 3 + [False] * 6


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_score_is_the_weighted_sum_of_the_slots_watched_or_not(beta):
    model, batch = setrec(beta=beta), batch_of(HISTORIES)
    plain = model.score(batch)
    with seqlab.watch(model) as trace:
        torch.testing.assert_close(model.score(batch), plain, atol=1e-4, rtol=1e-5)
    slots, sets = trace["slot scores"].values, trace["generated"].values
    by_hand = torch.einsum("bcd,ncd->bcn", sets, model.tokens()) / 4
    torch.testing.assert_close(slots, by_hand, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(plain, (1 - beta) * slots[:, 0] + beta * slots[:, 1:].sum(1), atol=1e-4, rtol=1e-5)
    with seqlab.patch(model, {"slot_scores": lambda scores: scores * 0}):
        assert float(model.score(batch).detach().abs().max()) == 0


def test_padding_has_no_token_and_an_item_without_events_none_of_the_collaborative_kind():
    model = setrec()
    tokens = model.tokens().detach()
    assert float(tokens[0].abs().max()) == 0 and float(tokens[1:].abs().amax((1, 2)).min()) > 0
    assert float(tokens[COLD, 0].abs().max()) == 0 and float(tokens[COLD, 1:].abs().max()) > 0
    model.beta.fill_(0)
    assert float(model.score(batch_of(HISTORIES)).detach()[:, COLD].abs().max()) == 0


@pytest.mark.parametrize("repeats", [False, True])
def test_beta_is_the_best_on_validation_and_test_queries_are_not_read(repeats):
    histories = random_histories(3, users=300, items=ITEMS, longest=14)  # longer than the model reads
    split = leave_one_out(log_of(histories, repeats=repeats))
    model = setrec()
    found = model.train().choose_beta(replace(split, test=None), seen_filter=not repeats)
    assert model.training
    by_rank = {}
    for beta in BETAS:
        other = setrec(beta=beta)
        by_rank[beta] = metrics(measure(other, split, "valid"))["ndcg@10"]
    assert found == pytest.approx(by_rank, abs=1e-6)
    assert len({round(value, 6) for value in found.values()}) > 5  # else any beta would do
    assert float(model.beta) == pytest.approx(max(by_rank, key=by_rank.get))


def test_beta_and_vectors_are_saved_with_the_model(tmp_path):
    model, batch = setrec(), batch_of(HISTORIES)
    model.beta.fill_(0.9)
    store.save(model, tmp_path, "setrec", ITEMS)
    again = store.load(tmp_path)
    assert torch.equal(again.score(batch), model.score(batch)) and float(again.beta) == pytest.approx(0.9)


def test_vectors_come_from_training_events_alone():
    histories = chain_histories(3, users=60)
    answers = [[*items[:-2], items[-2] % 24 + 1, items[-1] % 24 + 1] for items in histories]
    trained = [[*(item * 5 % 24 + 1 for item in items[:-2]), *items[-2:]] for items in histories]
    seen = []
    for log in (log_of(rows, repeats=True) for rows in (histories, answers, trained)):
        model = models.build("setrec", log.n_items)
        fit.prepare(model, leave_one_out(log))
        seen.append((model.content, model.collaborative))
    for one, other, another in zip(*seen, strict=True):  # there are no words: both are collaborative
        assert torch.equal(one, other) and not torch.equal(one, another)


def test_random_vectors_do_not_depend_on_the_items():
    held = []
    for seed in (1, 2):
        split = leave_one_out(log_of(chain_histories(seed, users=60), repeats=True))
        model = models.build("setrec", split.n_items, {"vectors": "random", "factors_from": "random"})
        fit.prepare(model, split)
        held.append((model.content, model.collaborative))
    assert torch.equal(held[0][0], held[1][0]) and torch.equal(held[0][1], held[1][1])
    assert not torch.equal(*held[0])


def test_given_vectors_stay_and_those_that_do_not_fit_are_refused():
    split = leave_one_out(log_of(chain_histories(3, users=60), repeats=True))
    model = setrec()
    before = model.content.clone()
    fit.prepare(model, split)
    assert torch.equal(model.content, before)
    torch.testing.assert_close(before[1:].square().mean(), torch.tensor(1.0))
    with pytest.raises(ValueError, match="have 9 numbers, the model takes features=7"):
        model.assign(np.ones((ITEMS, 9)), random_vectors)
    with pytest.raises(ValueError, match="24 item vectors are needed"):
        model.assign(random_vectors[:5], random_vectors)
    with pytest.raises(RuntimeError, match="no item vectors yet: call prepare"):
        setrec(items=5).score(batch_of([[1]]))
