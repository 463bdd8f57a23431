"""Runs written at revision 6753795, one per system, still load and still say the same.

`runs_before/<system>` is a run folder of a small model; `expected.safetensors` in it holds its outputs on
the histories in `batches.safetensors`: its scores (B, N), its list of ten, its loss and the parts of it.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seqlab import decoding
from seqlab.datasets import Batch, Events, leave_one_out
from seqlab.runs.run import load_run
from tests.synthetic import chain_log, set_targets

BEFORE = Path(__file__).with_name("runs_before")
SPLIT = leave_one_out(chain_log())


def batch(part):
    stored = load_file(BEFORE / "batches.safetensors")
    items, times, lengths, user, targets = (
        stored[f"{part}.{name}"] for name in ("items", "times", "lengths", "user", "targets")
    )
    return set_targets(Batch(Events(items, times), lengths, user), targets)


@pytest.mark.parametrize("name", sorted(folder.name for folder in BEFORE.iterdir() if folder.is_dir()))
def test_a_run_from_before_loads_and_says_the_same(name):
    model, expected = load_run(BEFORE / name, SPLIT).model, load_file(BEFORE / name / "expected.safetensors")
    with torch.no_grad():
        ranking = model.recommend(batch("test"), 10)
        found = {"list_scores": ranking.scores}
        if "scores" in expected:
            found["scores"] = model.score(batch("test"))[:, 1:]
        if "exact_scores" in expected:
            found["exact_scores"] = decoding.scores(model, batch("test"))[:, 1:]
        if "loss" in expected:
            torch.manual_seed(0)
            loss = model.loss(batch("train"))
            found |= {"loss": loss.total[None]} | {f"loss {part}": value[None] for part, value in loss.parts.items()}
    items = expected.pop("items")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    clear = (expected["list_scores"].diff(dim=1) < -1e-5).all(1)  # no two items of the list have one score
    assert torch.equal(ranking.items[clear], items[clear])
