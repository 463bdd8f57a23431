"""SIGMA against the authors' code where it agrees with the paper, the partial flip, and what it may see."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import seqlab
from seqlab import models
from seqlab.models.encoders.sigma import partial_flip
from tests.synthetic import batch_of, enlarged, set_targets, small

torch.set_num_threads(1)

AUTHORS = load_file(Path(__file__).with_name("sigma.safetensors"))
"""model/gated_mamba.py of ziwliu-cityu/SIMGA at 018d73a in evaluation mode, three histories of 50 events, random
weights; without its unused line that raises where the length differs from the width. gate_flipped is not the paper's:
its sigmoid sees the gate of the other pass."""
NAMES = {
    "items": "item_embedding", "norm": "LayerNorm", "blocks": "mamba_layers", "mixer": "gmamba",
    "after_mixer": "LayerNorm", "after_feed_forward": "ffn.LayerNorm", "project_in": "in_proj", "select": "x_proj",
    "dt": "dt_proj", "log_decay": "A_log", "skip": "D", "silu_gate": "selective_gate_si.1", "conv": "conv1d",
    "sigmoid_gate": "selective_gate_sig.1", "weights": "combining_weights",
}  # fmt: skip


def theirs(name):
    """The authors' name of one of our weights."""
    for index, whole in (("feed_forward.0", "ffn.w_1"), ("feed_forward.3", "ffn.w_2"), ("before_gate.0", "dense1"),
                         ("before_gate.1", "dense2"), ("mamba.project_out", "mamba.out_proj"),
                         ("mixer.project_out", "mixer.projection")):  # fmt: skip
        name = name.replace(index, whole)
    return ".".join(NAMES.get(part, part) for part in name.split("."))


def authors_model():
    model = models.build("sigma", 12, {"dim": 8, "states": 4}).eval()
    state = {name: AUTHORS[f"weights.{theirs(name)}"] for name in model.state_dict()}
    weights = next(name for name in state if name.endswith("mixer.weights"))
    model.load_state_dict(state | {weights: state[weights].flip(0)})  # theirs: GRU, flipped, forwards
    return model, batch_of(AUTHORS["items"].tolist())


def test_both_passes_the_first_gate_and_the_gru_are_those_of_the_authors():
    model, batch = authors_model()
    outputs = []
    block = model.blocks[0].mixer
    block.mamba.register_forward_hook(lambda _, __, y: outputs.append(y))
    block.gru.register_forward_hook(lambda _, __, y: outputs.append(y[0]))
    with torch.no_grad(), seqlab.watch(block) as trace:
        model.score(batch)
    for found, name in zip(outputs, ("forward", "flipped", "gru"), strict=True):
        torch.testing.assert_close(found, AUTHORS[name], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(trace["branch gates"].values[:, :, 0], AUTHORS["gate"], atol=1e-5, rtol=1e-5)


def test_with_their_second_gate_states_are_those_of_the_authors():
    model, batch = authors_model()

    def second_gate(gates):
        return torch.stack([gates[:, :, 0], AUTHORS["gate_flipped"]], 2)

    with torch.no_grad(), seqlab.patch(model, {"blocks.0.mixer.gates": second_gate}):
        torch.testing.assert_close(model.states(batch.items, batch.lengths), AUTHORS["state"], atol=1e-5, rtol=1e-5)


def test_the_flip_turns_the_events_and_neither_padding_nor_the_last_ones():
    x = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 0, 0, 0], [1, 2, 0, 0, 0, 0], [0] * 6])[..., None]
    flipped = partial_flip(x, torch.tensor([6, 3, 2, 0]), kept=2)[..., 0].tolist()
    assert flipped == [[4, 3, 2, 1, 5, 6], [1, 2, 3, 0, 0, 0], [1, 2, 0, 0, 0, 0], [0] * 6]
    assert partial_flip(x, torch.tensor([6, 3, 2, 0]), kept=0)[1, :, 0].tolist() == [3, 2, 1, 0, 0, 0]


@pytest.mark.parametrize("branch", ["flip", "gate", "gru"])
def test_each_branch_can_be_left_out_and_matters(branch):
    batch = batch_of([[3, 7, 1, 5, 2, 9], [4, 2]])
    history = batch.items, batch.lengths
    torch.manual_seed(0)
    whole = models.build("sigma", 10, small("sigma")).eval()
    nn.init.ones_(whole.blocks[0].mixer.weights)
    without = models.build("sigma", 10, small("sigma", **{branch: False})).eval()
    without.load_state_dict(whole.state_dict())
    with torch.no_grad():
        assert float((whole.states(*history) - without.states(*history)).abs().max()) > 1e-3


def test_the_branches_of_a_watched_model_add_up():
    torch.manual_seed(0)
    model = enlarged(models.build("sigma", 10, small("sigma")))
    seen = []
    model.blocks[0].mixer.project_out.register_forward_hook(lambda _, x, __: seen.append(x[0]))
    with torch.no_grad(), seqlab.watch(model) as trace:
        model.score(batch_of([[3, 7, 1, 5], [4, 2]]))
    torch.testing.assert_close(trace["branches"].values.sum(2), seen[0])


def test_the_loss_reads_nothing_after_a_target():
    """Every prefix is cut after its last event: what follows changes no loss, whatever the random cuts."""
    model = enlarged(models.build("sigma", 10, small("sigma", cuts=1)))
    long, short = batch_of([[3, 7, 1, 5, 2, 9]]), batch_of([[3, 7, 1]])
    only = torch.tensor([[0, 0, 4, 0, 0, 0]])
    with torch.no_grad():
        expected = model.loss(set_targets(short, only[:, :3])).total
        assert float(model.loss(set_targets(long, only)).total) == pytest.approx(float(expected), rel=1e-5)
