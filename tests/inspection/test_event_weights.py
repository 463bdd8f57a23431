"""How much each event can weigh: Jacobians against brute force, and the weights of layers against their own."""

import pytest
import torch

from seqlab import models
from seqlab.contracts import Scores, supports
from seqlab.datasets.history import batch_of
from seqlab.inspection.attention import attention_of
from seqlab.inspection.event_weights import event_weights
from seqlab.inspection.layers import layers_of
from tests.inspection.small_models import history_of_items
from tests.inspection.test_attribution import HISTORY, LAYERED, made

torch.set_num_threads(1)


def shares(frame, measure, layer=0):
    return torch.tensor(frame.query("measure == @measure and layer == @layer")["value"].to_numpy())


@pytest.mark.parametrize("name", LAYERED)
def test_the_weights_of_a_measure_and_layer_sum_to_one(name):
    frame = event_weights(made(name), HISTORY)
    sums = frame.groupby(["measure", "layer"])["value"].sum()
    assert sums.tolist() == pytest.approx([1.0] * len(sums))
    assert set(frame["position"]) == set(range(5))
    assert set(frame["layer"]) == set(range(1 + frame["layer"].max())) and (0 in set(frame["layer"]))


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "s4rec", "mamba4rec"])
def test_sensitivity_is_the_jacobian_of_the_last_state(name):
    model, batch = made(name), batch_of([HISTORY], 8)
    layers = layers_of(model, lambda: model.score(batch))
    x = []
    handle = layers.modules[0].register_forward_pre_hook(lambda module, given: x.append(given[0].detach()))
    with torch.no_grad():
        model.score(batch)
    handle.remove()

    def last_state(x):
        for module in layers.modules:
            x = module(x)
        return x[0, -1]

    jacobian = torch.autograd.functional.jacobian(last_state, x[0])  # (D, 1, T, D)
    expected = jacobian.square().sum((0, 1, 3)).sqrt().double()
    torch.testing.assert_close(
        shares(event_weights(model, HISTORY), "sensitivity"), expected / expected.sum(), rtol=1e-4, atol=1e-6
    )


def test_attention_is_that_of_the_readout():
    model = made("sasrec")
    expected = attention_of(model, HISTORY).weights[0, :, -1].mean(0)
    torch.testing.assert_close(shares(event_weights(model, HISTORY), "attention", 1), expected.double())


def test_a_future_event_weighs_in_bert4rec_and_reasoning_steps_pass_the_gradient_on():
    assert float(shares(event_weights(made("bert4rec"), HISTORY), "sensitivity").min()) > 0
    assert float(shares(event_weights(made("rearec", steps=2), HISTORY), "sensitivity").min()) > 0


def test_the_kernel_of_a_linear_state_space_layer_is_its_analytic_one():
    """|K[T - 1 - t]|, a mean over channels; and the Jacobian of the convolution, which needs no kernel, is the same."""
    model = made("s4rec")
    mixer = model.blocks[0].mixer
    with torch.no_grad():
        kernel = mixer.kernel(5).flip(1)  # (D, T), the newest event last
    expected = kernel.abs().mean(0).double()
    torch.testing.assert_close(shares(event_weights(model, HISTORY), "kernel", 1), expected / expected.sum())
    x = torch.randn(1, 5, 16)
    jacobian = torch.autograd.functional.jacobian(lambda x: mixer.convolve(x)[0, -1], x)[:, 0]  # (D, T, D)
    torch.testing.assert_close(jacobian.diagonal(dim1=0, dim2=2).T, kernel, rtol=1e-4, atol=1e-5)


def test_systems_without_layers_are_refused_in_a_sentence():
    for name in ("markov", "popularity"):
        model = models.build(name, 9)
        if supports(model, Scores):
            with pytest.raises(ValueError, match="has no layers"):
                event_weights(model, history_of_items(1, 2))


@torch.no_grad()
def test_the_kernel_of_a_selective_layer_is_decay_times_input_gate_times_output_gate():
    """`C_T exp(A sum of dt after t) B_t dt_t`, step by step, and the skip at the last event."""
    model = made("mamba4rec")
    mixer, batch = model.blocks[0].mixer, batch_of([HISTORY], 8)
    x = mixer.project_in(model.norm(model.items(batch.items)))[..., :32]
    x = torch.nn.functional.silu(mixer.conv(torch.nn.functional.pad(x.mT, (3, 0))).mT)  # (1, T, D')
    dt, B, C = (part[0] for part in mixer._selection(x))
    expected = []
    for at in range(5):
        decay = torch.exp(-mixer.log_decay.exp() * dt[at + 1 :].sum(0)[:, None])  # (D', S)
        weight = (decay * B[at] * C[4]).sum(1) * dt[at]
        expected.append((weight + (at == 4) * mixer.skip).abs().mean())
    expected = torch.stack(expected).double()
    torch.testing.assert_close(shares(event_weights(model, HISTORY), "kernel", 1), expected / expected.sum())
