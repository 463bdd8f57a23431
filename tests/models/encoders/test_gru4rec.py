"""GRU4Rec: its gates, and BPR-max."""

import pytest
import torch
import torch.nn.functional as F

import seqlab
from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.models.encoders.gru4rec import bpr_max
from seqlab.optimization.options import Options
from seqlab.training.fit import fit
from tests.synthetic import batch_of, chain_log, small

torch.set_num_threads(1)


def model(**settings):
    torch.manual_seed(0)
    return models.build("gru4rec", 10, small("gru4rec", **settings)).eval()


def test_the_trace_holds_two_gates_between_0_and_1_per_layer():
    gru = model(layers=2)
    with seqlab.watch(gru) as trace:
        gru.score(batch_of([[1, 2, 3], [4]]))
    assert trace["gates"].axes == ("layer", "user", "event", "gate", "dim")
    assert trace["gates"].values.shape == (2, 2, 3, 2, 32)
    assert float(trace["gates"].values.min()) > 0 and float(trace["gates"].values.max()) < 1
    assert trace["hidden"].values.shape == (2, 2, 3, 32)


def test_the_update_gate_is_the_share_that_is_rewritten():
    gru, batch = model(), batch_of([[1, 2, 3, 4]])

    def closed_after_two(gates):
        gates = gates.clone()
        gates[:, 2:, 1] = 0
        return gates

    with torch.no_grad(), seqlab.patch(gru, {"recurrences.0.gates": closed_after_two}):
        states = gru.encode(batch)[0]
    assert torch.equal(states[1], states[2]) and torch.equal(states[2], states[3])
    assert not torch.equal(states[0], states[1])
    with torch.no_grad():
        torch.testing.assert_close(states[1], gru.encode(batch)[0, 1])


def test_bpr_max_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    hidden, table = torch.randn(5, 4, dtype=torch.float64), torch.randn(12, 4, dtype=torch.float64)
    targets, negatives = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([6, 7, 8, 9, 10, 11])
    expected = 0.0
    for h, target in zip(hidden, targets, strict=True):
        s = F.elu(h @ table[target], 0.5)
        s_j = F.elu(table[negatives] @ h, 0.5)
        w = s_j.softmax(0)
        expected += (-torch.log((w * torch.sigmoid(s - s_j)).sum()) + 0.7 * (w * s_j**2).sum()) / 5
    torch.testing.assert_close(bpr_max(hidden, table, targets, negatives, 0.5, 0.7), expected)


def test_bpr_max_with_one_negative_is_bpr_and_its_own_target_is_no_negative():
    torch.manual_seed(0)
    hidden, table, targets = torch.randn(3, 4), torch.randn(9, 4), torch.tensor([1, 2, 3])
    plain = -F.logsigmoid(F.elu((hidden * table[targets]).sum(1), 0.5) - F.elu(hidden @ table[7], 0.5)).mean()
    torch.testing.assert_close(bpr_max(hidden, table, targets, torch.tensor([7]), 0.5, 0.0), plain)
    with_own = bpr_max(hidden[:1], table, targets[:1], torch.tensor([7, 1, 1]), 0.5, 0.0)
    torch.testing.assert_close(with_own, bpr_max(hidden[:1], table, targets[:1], torch.tensor([7]), 0.5, 0.0))
    hidden.requires_grad_()
    bpr_max(hidden, table, targets, torch.tensor([1, 2, 3]), 0.5, 1.0).backward()
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax", "bce", "gbce", "bpr_max"])
def test_every_loss_can_be_trained(loss):
    split = leave_one_out(chain_log(users=40))
    torch.manual_seed(0)
    model = models.build("gru4rec", split.n_items, small("gru4rec", loss=loss))
    history = fit(model, split, Options(epochs=8, tokens=256, learning_rate=1e-2)).history
    assert history[-1]["loss"] < history[0]["loss"]
