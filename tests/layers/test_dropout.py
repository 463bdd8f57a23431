"""Dropout with cheap masks does what dropout does."""

import pytest
import torch

from seqlab.layers.dropout import Dropout


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5, 0.9])
def test_the_share_of_zeros_and_the_mean_are_as_set(probability):
    torch.manual_seed(0)
    x = torch.ones(401, 1003)
    out = Dropout(probability)(x)
    assert abs(float((out == 0).float().mean()) - probability) < 0.004
    assert abs(float(out.mean()) - 1) < 0.02
    assert len(out.unique()) == 2


def test_masks_are_independent_from_number_to_number_and_from_call_to_call():
    torch.manual_seed(0)
    dropout, x = Dropout(0.5), torch.ones(1000, 64)
    first, second = ((dropout(x) > 0).double() for _ in range(2))
    columns = torch.corrcoef(torch.cat([first, second], 1).T)  # (128, 128)
    assert float((columns - torch.eye(128)).abs().max()) < 0.2


def test_the_same_seed_draws_the_same_mask_and_gradients_pass_where_the_mask_does():
    dropout, x = Dropout(0.3), torch.randn(7, 5, requires_grad=True)
    outs = []
    for _ in range(2):
        torch.manual_seed(3)
        outs.append(dropout(x))
    assert torch.equal(*outs)
    outs[0].sum().backward()
    assert torch.equal(x.grad == 0, outs[0] == 0)


def test_evaluation_changes_nothing_and_bad_probabilities_are_refused():
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    for probability in (-0.1, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Dropout(probability)
