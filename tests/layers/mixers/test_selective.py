"""The Mamba layer: the authors' outputs, its matrix, its steps, and the initial step sizes."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import seqlab
from seqlab.layers.mixers.selective import SelectiveSSM

torch.set_num_threads(1)

AUTHORS = load_file(Path(__file__).with_name("mamba.safetensors"))
NAMES = {
    "project_in.": "in_proj.", "conv.": "conv1d.", "select.": "x_proj.", "dt.": "dt_proj.", "project_out.": "out_proj.",
    "log_decay": "A_log", "skip": "D",
}  # fmt: skip


def layer(dim=6):
    torch.manual_seed(0)
    return SelectiveSSM(dim, states=4).eval(), torch.randn(3, 12, dim)


def test_outputs_are_those_of_the_authors():
    mixer = SelectiveSSM(8, states=4)
    weights = {}
    for name in mixer.state_dict():
        ours, theirs = next(pair for pair in NAMES.items() if name.startswith(pair[0]))
        weights[name] = AUTHORS[f"mamba.weights.{name.replace(ours, theirs)}"]
    mixer.load_state_dict(weights)
    torch.testing.assert_close(mixer(AUTHORS["mamba.x"]), AUTHORS["mamba.y"], atol=1e-5, rtol=1e-5)


def test_the_scan_is_the_matrix_of_a_watched_layer():
    mixer, x = layer()
    plain = mixer(x)
    with seqlab.watch(mixer) as trace:
        torch.testing.assert_close(mixer(x), plain, atol=1e-5, rtol=1e-5)
    assert trace["kernel"].values.shape == (3, 12, 12, 12) and trace["gates"].values.shape == (3, 12, 12)
    assert float(trace["kernel"].values.triu(1).abs().max()) == 0
    assert float(trace["gates"].values.min()) > 0


def test_an_event_whose_step_is_0_changes_nothing_later():
    mixer, x = layer()

    def skip_the_fifth(dt):
        return torch.where(torch.arange(12)[:, None] == 4, 0.0, dt)

    with torch.no_grad(), seqlab.watch(mixer) as trace, seqlab.patch(mixer, {"gates": skip_the_fifth}):
        mixer(x)
    matrix = trace["kernel"].values  # (B, D', T, T)
    assert float(matrix[..., 5:, 4].abs().max()) == 0 and float(matrix[..., 5:, 3].abs().min()) > 0


def test_prefill_and_steps_are_the_forward_pass_whatever_the_padding():
    mixer, x = layer()
    lengths = torch.tensor([9, 4, 1])
    mask = torch.arange(9) < lengths[:, None]
    outputs, state = mixer.prefill(x[:, :9], mask)
    torch.testing.assert_close(outputs[mask], mixer(x[:, :9])[mask])
    rows = x.clone()
    for row, length in enumerate(lengths):
        rows[row, length : length + 3] = x[row, 9:]
    expected = mixer(rows)
    for step in range(3):
        found, state = mixer.step(x[:, 9 + step], state)
        torch.testing.assert_close(found, expected[torch.arange(3), lengths + step], atol=1e-5, rtol=1e-5)


def test_steps_are_log_uniform_at_first():
    torch.manual_seed(0)
    dt = F.softplus(SelectiveSSM(500).dt.bias.detach())
    assert 1e-3 <= float(dt.min()) < 1.1e-3 and 0.09 < float(dt.max()) <= 0.1
    assert abs(float(dt.log().mean()) + 4.6) < 0.1  # the middle of log 1e-3 and log 0.1
