"""ManCAR: the teacher's shares, the loss written out, context read both ways, and a stop that really stops."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import seqlab
from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.inspection import reasoning_steps, stopping
from seqlab.items.swing_graph import swing
from seqlab.models.reasoning.mancar import Config, ManCAR
from seqlab.runs import store
from seqlab.tasks import measure
from seqlab.training import fit
from tests.synthetic import (
    batch_of,
    chain_histories,
    log_of,
    random_histories,
    set_targets,
    stops_by_hand,
    with_targets,
)

torch.set_num_threads(1)

HISTORIES = [[3, 7, 7, 1], [5], [2, 9, 4, 8, 6, 1, 10], [], [12, 11]]
ITEMS, LONELY = 24, 5
FLAGS = [
    dict(zip(("context", "teacher", "rescale"), on, strict=True)) for on in itertools.product([True, False], repeat=3)
]


def mancar(scale=0.3, **settings):
    """A small model with a graph of its own, whose weights are large enough for every token to matter."""
    torch.manual_seed(0)
    sizes = {"dim": 16, "layers": 2, "heads": 2, "max_length": 8, "dropout": 0.0, "steps": 4}
    model = ManCAR(Config(**(sizes | settings)), ITEMS)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    width = model.near.shape[1]
    for item in range(1, ITEMS + 1):
        others = torch.randperm(ITEMS)[:width] + 1
        model.near[item] = others.masked_fill(others == item, 0)
    model.near[0] = model.near[LONELY] = 0
    model.near[:, 4] = 0  # a neighbour that is missing, somewhere in the middle
    return model.eval()


def test_the_targets_share_grows_as_the_card_computed():
    model = mancar()
    model.near[1] = torch.arange(2, 12)
    support, shares = model.teacher(batch_of([[3, 1]]), torch.tensor([20]))
    assert support.tolist() == [[20, *range(2, 12)]]
    assert [round(one, 2) for one in shares[0, :, 0].tolist()] == [0.20, 0.24, 0.29, 0.40, 0.63]
    torch.testing.assert_close(shares[0, 1, 3], math.exp(-3 / 4) / sum(torch.arange(11).neg().div(4).exp()))
    torch.testing.assert_close(shares.sum(-1), torch.ones(1, 5))


def test_neither_missing_neighbours_nor_the_target_once_more_get_mass():
    model = mancar()
    model.near[1] = torch.tensor([2, 0, 9, 4, 0, 0, 0, 0, 0, 0])
    support, shares = model.teacher(batch_of([[1], [1], [LONELY]]), torch.tensor([9, 20, 20]))
    assert not bool(shares[:, :, 1:].masked_select((support == 0)[:, None, 1:]).any())
    for gamma, one in zip((5, 4, 3, 2, 1), shares[0], strict=True):  # target 9: others 2 and 4 at ranks 1 and 2
        expected = torch.tensor([0, -1, -2]).div(gamma).softmax(0)
        torch.testing.assert_close(one[[0, 1, 4]], expected)
        assert float(one[3]) == 0 and support[0, 3] == 9
    for gamma, one in zip((5, 4, 3, 2, 1), shares[1], strict=True):  # nothing to leave out but what is missing
        torch.testing.assert_close(one[[0, 1, 3, 4]], torch.tensor([0, -1, -2, -3]).div(gamma).softmax(0))
    assert shares[2, :, 0].tolist() == [1.0] * 5, "without neighbours the teacher knows the target alone"


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_the_loss_is_its_formula_written_out(flags):
    model, answers = mancar(prior=0.3, growth=1.0, **flags), [4, 20, 9, 2, 7]
    batch = with_targets(HISTORIES, answers)
    loss = model.loss(batch)
    scores = model.step_scores(model.reasoning_states(batch))[..., 1:]  # (B, S + 1, N)
    support, shares = model.teacher(batch, torch.tensor(answers))
    expected = 0.0
    for row, answer in enumerate(answers):
        for step in range(5):
            log_p = (scores[row, step] / (step + 1)).log_softmax(-1)
            expected -= log_p[answer - 1]
            q = torch.zeros(ITEMS).index_add(0, support[row, shares[row, step] > 0] - 1,
                                             shares[row, step][shares[row, step] > 0])  # fmt: skip
            if flags["teacher"]:
                expected += 0.3 * F.kl_div(log_p, q, reduction="sum")
    torch.testing.assert_close(loss.total, expected / len(answers), rtol=1e-4, atol=1e-4)
    assert ("prior" in loss.parts) == flags["teacher"]


def test_temperatures_grow_with_the_square_of_the_step():
    assert mancar().temperatures.tolist() == [1, 4, 9, 16, 25]
    assert mancar(base=0.5, growth=1.0, steps=2).temperatures.tolist() == [0.5, 1.0, 1.5]


def test_learning_cuts_histories_before_an_answer_and_sees_nothing_after_it():
    model, history = mancar(cuts=99), [3, 7, 7, 1, 5, 2]
    batch = batch_of([history[:-1], [4, 9]])
    targets = torch.tensor([history[1:], [9, 0, 0, 0, 0]])  # nothing follows the second one's last item
    alone = [model.loss(with_targets([history[:end]], [history[end]])).total for end in range(1, 6)]
    alone.append(model.loss(with_targets([[4]], [9])).total)
    torch.testing.assert_close(model.loss(set_targets(batch, targets)).total, torch.stack(alone).mean())


def test_the_item_table_learns_as_input_and_as_output():
    model = mancar(context=False, teacher=False, rescale=False)
    model.loss(with_targets([[3, 7]], [4])).total.backward()
    assert bool((model.items.weight.grad[1:].abs().amax(1) > 0).all()), "every item is an output, live"
    read = mancar(steps=0, teacher=False)
    grown = torch.autograd.grad(read.reasoning_states(batch_of([[3, 7]])).sum(), read.items.weight)[0].abs().amax(1) > 0
    near = set(read.near[[3, 7], :7].flatten().tolist()) - {0}
    assert set(grown.nonzero()[:, 0].tolist()) == near | {3, 7}


def test_context_is_the_neighbours_of_the_last_items_without_positions():
    model = mancar(triggers=2, neighbours=3)
    context = model.context(batch_of(HISTORIES))
    assert context.shape == (5, 6)
    assert context[0].tolist() == [*model.near[1, :3].tolist(), *model.near[7, :3].tolist()]
    assert context[3].tolist() == [0] * 6 and context[1].tolist() == [0] * 6  # no items; no neighbours
    plain = model.reasoning_states(batch_of(HISTORIES)).detach()
    model.near = torch.cat([model.near[:, [2, 0, 1]], model.near[:, 3:]], 1)
    torch.testing.assert_close(model.reasoning_states(batch_of(HISTORIES)), plain, atol=1e-5, rtol=1e-5)
    model.near[1, 0] = 22 if model.near[1, 0] != 22 else 23
    assert float((model.reasoning_states(batch_of(HISTORIES)) - plain).detach()[0].abs().max()) > 1e-3
    without = mancar(context=False)
    before = without.reasoning_states(batch_of(HISTORIES))
    without.near.zero_()
    assert torch.equal(without.reasoning_states(batch_of(HISTORIES)), before)


def test_history_and_context_are_bidirectional_and_padding_and_later_steps_masked():
    model, batch = mancar(triggers=2, neighbours=3), batch_of(HISTORIES)
    beside = model.context(batch) > 0
    with seqlab.watch(model, "attention") as trace:
        model.reasoning_states(batch)
    weights = trace["attention"].passes[-1].values  # (layer, B, H, T + C + S, T + C + S)
    assert weights.shape == (2, 5, 2, 7 + 6 + 4, 7 + 6 + 4)
    real = torch.cat([batch.items > 0, beside], 1)
    real[3, 0] = True  # a history without items has a place for its state
    for row in range(5):
        there = weights[:, row, :, :, :13]
        assert float(there[..., ~real[row]].abs().max() if bool((~real[row]).any()) else 0) == 0
        assert float(there[:, :, :13][:, :, real[row]][..., real[row]].min()) > 0  # both ways
        assert float(there[:, :, 13:][..., real[row]].min()) > 0  # thoughts see all that was read
    own = weights[..., 13:, 13:]
    assert float(own.triu(1).abs().max()) == 0 and float(own.diagonal(dim1=-2, dim2=-1).min()) > 0
    assert float(weights[..., :13, 13:].abs().max()) == 0


def test_a_state_is_rescaled_to_the_norm_of_items_and_phi():
    model, batch = mancar(steps=1, context=False), batch_of(HISTORIES[:3])
    states, fed = model.reasoning_states(batch), []
    model.blocks[0].before_mixer.register_forward_hook(lambda _, inputs, __: fed.append(inputs[0]))
    model.reasoning_states(batch)
    norm = model.items.weight[1:].norm(dim=1).mean() * 4  # items are read times sqrt(dim)
    expected = model.phi * states[:, 0] / states[:, 0].norm(dim=1, keepdim=True) * norm + model.reason[0]
    torch.testing.assert_close(fed[-1][:, 0], expected)
    plain = mancar(steps=1, context=False, rescale=False)
    states, fed = plain.reasoning_states(batch), []
    plain.blocks[0].before_mixer.register_forward_hook(lambda _, inputs, __: fed.append(inputs[0]))
    plain.reasoning_states(batch)
    torch.testing.assert_close(fed[-1][:, 0], states[:, 0] + plain.reason[0])


def crowd():
    return batch_of(random_histories(3, users=41, items=ITEMS, longest=8)[1:])


def middling(model, batch):
    """An epsilon at which users stop at different steps, and where they stop: by all steps, one by one."""
    scores = model.step_scores(model.reasoning_states(batch))[..., 1:]
    p = (scores / model.temperatures[:, None]).softmax(-1).double()
    moved = (p[:, :-1] * (p[:, :-1] / p[:, 1:]).log()).sum(-1)
    values = moved.detach().flatten().sort().values
    epsilon = float(values[len(values) // 2 : len(values) // 2 + 2].mean())
    return epsilon, torch.tensor(stops_by_hand(p.detach(), epsilon))


@pytest.mark.parametrize("watched", [False, True])
def test_a_stopped_user_has_the_scores_of_the_step_chosen_from_all_steps(watched):
    model, batch = mancar(growth=0.0), crowd()  # equal temperatures: it is the states that differ
    epsilon, stops = middling(model, batch)
    assert len(stops.unique()) >= 3
    every = model.step_scores(model.reasoning_states(batch))
    model.epsilon.fill_(epsilon)
    if watched:
        with seqlab.watch(model) as trace:
            found = model.score(batch)
        assert trace["reasoning"].values.shape == (40, 5, 16)
    else:
        found = model.score(batch)
    torch.testing.assert_close(found, every[torch.arange(40), stops], atol=1e-4, rtol=1e-4)
    assert torch.equal(model.reasoning_states(batch), mancar(growth=0.0).reasoning_states(batch)), (
        "thoughts are all there whatever epsilon is"
    )


def test_stopped_users_are_not_computed_further():
    model, batch = mancar(growth=0.0), crowd()  # equal temperatures: it is the states that differ
    epsilon, stops = middling(model, batch)
    rows = []
    model.blocks[0].feed_forward.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    model.score(batch)
    assert rows == [40] * 5  # the history and four thoughts
    rows.clear()
    model.epsilon.fill_(epsilon)
    model.score(batch)
    assert rows[0] == 40
    assert rows[1:] == [n for n in (int((stops >= step).sum()) for step in range(1, 5)) if n]
    assert sum(rows[1:]) == int(stops.sum()) < 4 * 40
    rows.clear()
    model.epsilon.fill_(1e9)
    model.score(batch)
    assert rows == [40, 40], "everybody stops after the least there is, one step"


def test_a_patched_state_changes_the_steps_after_it_and_the_ranking():
    model, batch = mancar(), batch_of(HISTORIES)
    plain = model.reasoning_states(batch)
    for step in range(5):
        with seqlab.patch(model, {f"step_taps.{step}": lambda state: state.roll(1, 0)}):
            changed = model.reasoning_states(batch)
            assert float((model.score(batch) - plain[:, -1] @ model.items.weight.T).detach().abs().amax(1).min()) > 1e-4
        assert torch.equal(changed[:, :step], plain[:, :step])
        assert float((changed - plain).detach()[:, step:].abs().amax(2).min()) > 1e-4


def test_fewer_steps_are_the_first_of_all_and_more_are_refused():
    model, batch = mancar(), batch_of(HISTORIES)
    torch.testing.assert_close(model.reasoning_states(batch, 2), model.reasoning_states(batch)[:, :3])
    assert mancar(steps=0).reasoning_states(batch).shape == (5, 1, 16)
    assert mancar(steps=0).loss(with_targets(HISTORIES, [1, 2, 3, 4, 5])).total.isfinite()
    with pytest.raises(ValueError, match="built for 4 steps"):
        model.reasoning_states(batch, 5)


def prepared(histories, **settings):
    split = leave_one_out(log_of(histories, repeats=True))
    torch.manual_seed(0)
    model = models.build("mancar", split.n_items, {"dim": 16, "layers": 1, "max_length": 8, "dropout": 0.0} | settings)
    fit.prepare(model, split)
    return model.eval(), split


def test_the_graph_is_made_from_training_histories_alone():
    histories = chain_histories(3, users=60)
    answers = [[*items[:-2], items[-2] % 24 + 1, items[-1] % 24 + 1] for items in histories]
    trained = [[*(item * 5 % 24 + 1 for item in items[:-2]), *items[-2:]] for items in histories]
    (one, split), (same, _), (other, _) = (prepared(rows) for rows in (histories, answers, trained))
    assert torch.equal(one.near, same.near) and not torch.equal(one.near, other.near)
    assert torch.equal(one.near, swing(split, 10).neighbours)


def test_a_missing_graph_is_refused(tmp_path):
    model = models.build("mancar", ITEMS)
    with pytest.raises(RuntimeError, match="no graph yet: call prepare"):
        model.score(batch_of(HISTORIES))
    models.build("mancar", ITEMS, {"context": False}).score(batch_of(HISTORIES))


def spread_out(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_the_batch_stops_as_the_table_of_steps(tmp_path):
    model, split = prepared(chain_histories(5, users=120))
    spread_out(model)
    steps = reasoning_steps.rank_steps(model, split, "valid")
    table = stopping.tradeoff(steps)
    assert table["steps"].iloc[0] == 3 and table["steps"].iloc[-1] == 1
    for row in table.iloc[[0, len(table) // 2, -1]].itertuples():
        model.epsilon.fill_(row.epsilon)
        ranks = measure(model, split, "valid")
        assert np.array_equal(ranks.frame["rank"], steps.at(steps.stops(row.epsilon)).frame["rank"])
    store.save(model, tmp_path, "mancar", split.n_items)
    assert float(store.load(tmp_path).epsilon) == float(model.epsilon) > 0


def test_half_precision_learns_and_stops_nearly_the_same():
    model, batch = mancar(scale=0.1), with_targets([one or [1] for one in HISTORIES], [4, 9, 17, 3, 22])
    whole = float(model.loss(batch).total.detach())
    with torch.autocast("cpu", torch.bfloat16):
        half = model.loss(batch).total
    half.backward()
    assert float(half.detach()) == pytest.approx(whole, rel=0.03)
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
    many = crowd()
    model.epsilon.fill_(middling(model, many)[0])
    scores = model.score(many)
    with torch.autocast("cpu", torch.bfloat16):
        away = (model.score(many).float() - scores).norm(dim=1) / scores.norm(dim=1)
    assert float((away < 0.05).float().mean()) > 0.8  # few stop a step earlier or later


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_scores_and_losses_on_a_gpu_are_the_same():
    model, batch = mancar(), with_targets([one or [1] for one in HISTORIES], [4, 9, 17, 3, 22])
    score, loss = model.score(batch), model.loss(batch).total
    model, batch = model.cuda(), batch.to("cuda")
    torch.testing.assert_close(model.score(batch).cpu(), score, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.loss(batch).total.cpu(), loss, atol=1e-4, rtol=1e-4)
