"""Mamba4Rec against the authors' code on fixed weights, and what happens to its step sizes."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from seqlab import models
from tests.synthetic import batch_of

torch.set_num_threads(1)

AUTHORS = load_file(Path(__file__).with_name("mamba4rec.safetensors"))
"""mamba4rec.py of chengkai-liu/Mamba4Rec at 44a0c84 in evaluation mode, of one and of two layers, random weights."""
NAMES = {
    "items": "item_embedding", "norm": "LayerNorm", "blocks": "mamba_layers", "mixer": "mamba",
    "after_mixer": "LayerNorm", "after_feed_forward": "ffn.LayerNorm", "project_in": "in_proj", "conv": "conv1d",
    "select": "x_proj", "dt": "dt_proj", "project_out": "out_proj", "log_decay": "A_log", "skip": "D",
}  # fmt: skip


def theirs(name):
    """The authors' name of one of our weights."""
    name = name.replace("feed_forward.0", "ffn.w_1").replace("feed_forward.3", "ffn.w_2")
    return ".".join(NAMES.get(part, part) for part in name.split("."))


@pytest.mark.parametrize("layers", [1, 2])
def test_states_and_scores_are_those_of_the_authors(layers):
    model = models.build("mamba4rec", 12, {"dim": 8, "layers": layers, "states": 4}).eval()
    model.load_state_dict({name: AUTHORS[f"{layers}.weights.{theirs(name)}"] for name in model.state_dict()})
    items, lengths = AUTHORS[f"{layers}.items"], AUTHORS[f"{layers}.lengths"]
    batch = batch_of([row[:length].tolist() for row, length in zip(items, lengths, strict=True)])
    with torch.no_grad():
        found = batch.last(model.encode(batch))
        torch.testing.assert_close(found, AUTHORS[f"{layers}.state"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.score(batch), AUTHORS[f"{layers}.scores"], atol=1e-5, rtol=1e-5)


def test_the_step_sizes_are_kept_unless_they_are_reset_as_the_authors_do():
    for reset, largest in ((False, 0.1001), (True, 0.6932)):
        (block,) = models.build("mamba4rec", 12, {"reset_dt": reset}).blocks
        assert float(F.softplus(block.mixer.dt.bias.detach()).max()) == pytest.approx(largest, abs=0.01)
