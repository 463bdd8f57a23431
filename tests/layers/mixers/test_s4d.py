"""S4D: the authors' kernel and outputs, convolution = recurrence = matrix, and decode steps."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import seqlab
from seqlab.layers.mixers.s4d import S4D

torch.set_num_threads(1)

AUTHORS = load_file(Path(__file__).with_name("s4d.safetensors"))
"""models/s4/s4d.py of state-spaces/s4 at e757cef in float64, on random inputs and weights."""
NAMES = {
    "skip": "D", "output": "kernel.C", "log_dt": "kernel.log_dt", "log_decay": "kernel.log_A_real",
    "frequency": "kernel.A_imag", "project_out.bias": "output_linear.0.bias",
}  # fmt: skip


def layer(dim=6, states=8):
    torch.manual_seed(0)
    return S4D(dim, states).eval(), torch.randn(3, 23, dim)


def test_kernel_and_outputs_are_those_of_the_authors():
    mixer = S4D(6, 8).double().eval()
    state = {ours: AUTHORS[f"weights.{theirs}"] for ours, theirs in NAMES.items()}
    mixer.load_state_dict(state | {"project_out.weight": AUTHORS["weights.output_linear.0.weight"][..., 0]})
    kernel = mixer.kernel(23)
    kernel[:, 0] -= mixer.skip  # theirs is without D
    torch.testing.assert_close(kernel, AUTHORS["kernel"], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(mixer(AUTHORS["x"]), AUTHORS["y"], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("length", [1, 2, 3, 50, 200])
def test_convolution_is_the_recurrence_and_nothing_wraps(length):
    mixer, _ = layer()
    x = torch.randn(2, length, 6)
    torch.testing.assert_close(mixer.convolve(x), mixer.recur(x), atol=1e-4, rtol=1e-4)
    later = x.clone()
    later[:, -1] += 1
    torch.testing.assert_close(mixer.convolve(later)[:, :-1], mixer.convolve(x)[:, :-1], atol=1e-5, rtol=1e-5)


def test_the_kernel_is_the_matrix_of_a_watched_layer():
    mixer, x = layer()
    plain = mixer(x)
    with seqlab.watch(mixer) as trace:
        torch.testing.assert_close(mixer(x), plain, atol=1e-5, rtol=1e-5)
    matrix, kernel = trace["kernel"].values, mixer.kernel(23)
    assert trace["kernel"].axes == ("user", "dim", "query_event", "key_event")
    for query in range(23):
        torch.testing.assert_close(matrix[1, :, query, : query + 1], kernel[:, : query + 1].flip(1))
    assert float(matrix.triu(1).abs().max()) == 0


def test_prefill_and_steps_are_the_forward_pass_whatever_the_padding():
    mixer, x = layer()
    lengths = torch.tensor([20, 7, 1])
    mask = torch.arange(20) < lengths[:, None]
    outputs, state = mixer.prefill(x[:, :20], mask)
    torch.testing.assert_close(outputs, mixer(x[:, :20]))
    rows = x.clone()
    for row, length in enumerate(lengths):
        rows[row, length : length + 3] = x[row, 20:]
    expected = mixer(rows)
    for step in range(3):
        found, state = mixer.step(x[:, 20 + step], state)
        torch.testing.assert_close(found, expected[torch.arange(3), lengths + step], atol=1e-5, rtol=1e-4)
    assert mixer.prefill(x)[1].shape == state.shape == (3, 6, 4)


def test_an_odd_number_of_states_is_refused():
    with pytest.raises(ValueError, match="states=7 must be a multiple of 2"):
        S4D(6, 7)
