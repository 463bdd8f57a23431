"""Groups of parameters: without weight decay, and with a smaller learning rate."""

import pytest
import torch
from torch import nn

from seqlab.optimization.loop import SLOW, make_optimizer
from seqlab.optimization.options import Options


class Dynamics(nn.Module):
    undecayed, slow = ("decay", "skip"), ("decay",)

    def __init__(self):
        super().__init__()
        self.decay, self.skip = (nn.Parameter(torch.ones(3)) for _ in range(2))
        self.linear = nn.Linear(3, 3)


def test_a_module_exempts_its_own_parameters_from_weight_decay_and_slows_them():
    model = nn.Sequential(nn.Linear(3, 3), Dynamics())
    groups = make_optimizer(model, Options(learning_rate=4e-3, weight_decay=0.1)).param_groups
    found = {parameter: (group["weight_decay"], group["share"]) for group in groups for parameter in group["params"]}
    assert found.keys() == {*model.parameters()} and sum(len(group["params"]) for group in groups) == len(found)
    dynamics = model[1]
    assert found.pop(dynamics.decay) == (0, SLOW / 4e-3) and found.pop(dynamics.skip) == (0, 1)
    assert set(found.values()) == {(0.1, 1)}


@pytest.mark.parametrize("rate", [1e-4, SLOW])
def test_a_learning_rate_that_is_small_is_the_same_for_all(rate):
    groups = make_optimizer(Dynamics(), Options(learning_rate=rate)).param_groups
    assert [group["share"] for group in groups] == [1]


def test_other_models_have_one_group_in_the_order_of_their_parameters():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.LayerNorm(3), shared)
    shared.bias.requires_grad_(False)
    (group,) = make_optimizer(model, Options()).param_groups
    assert list(map(id, group["params"])) == [id(p) for p in model.parameters() if p.requires_grad]
