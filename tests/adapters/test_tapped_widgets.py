"""A module that was not written here, tapped and wrapped: the views that need taps, and the workbench."""

import pytest
import torch
from torch import nn

import seqlab
from seqlab import widgets
from seqlab.datasets import leave_one_out
from seqlab.datasets.history import history_of
from seqlab.inspection import attention, patching
from seqlab.inspection.influence import scores_of
from tests.synthetic import chain_log
from tests.widgets.test_stills import drawn

SPLIT = leave_one_out(chain_log())
LENGTH = 8


class LeftPadded(nn.Module):
    """A Transformer over left-padded rows that asks for no attention weights and attends to the padding too."""

    def __init__(self, n_items):
        super().__init__()
        self.items, self.places = nn.Embedding(n_items + 1, 8, padding_idx=0), nn.Embedding(LENGTH, 8)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2))

    def score(self, items):
        x = self.items(items) + self.places.weight
        causal = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        for layer in self.layers:
            x = layer(x, src_mask=causal, is_causal=True)
        return x[:, -1] @ self.items.weight.T


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(0)
    model = LeftPadded(SPLIT.n_items).eval()
    seqlab.tap(model, {"layers.*.self_attn": "user head query_event key_event", "layers.*": "user event dim"})
    return seqlab.open_model(seqlab.wrap(model.score, "theirs", LENGTH, padding="left"), SPLIT)


def test_attention_is_that_of_the_events_and_of_no_padding(run):
    history = history_of(SPLIT, 3, longest=5)
    found = attention.attention_of(run.model, history)
    items = torch.zeros(1, LENGTH, dtype=torch.long)
    items[0, -5:] = history.items
    with torch.no_grad(), seqlab.watch(run.model) as trace:
        run.model.module.score(items)
    assert found.weights.shape == (2, 2, 5, 5) and found.one_token_per_event
    torch.testing.assert_close(found.weights, trace["attention"].values[:, 0, :, -5:, -5:])
    assert bool((found.weights.sum(-1) < 1).all()) and bool(found.layout.readout[0, -1])


def test_a_module_keeps_its_mode_while_it_is_looked_at():
    module = LeftPadded(SPLIT.n_items).eval()
    system = seqlab.wrap(module.score, "theirs", LENGTH, padding="left")
    scores_of(system, [history_of(SPLIT, 3, longest=5)])
    assert system.training and not any(part.training for part in module.modules())


def test_patching_finds_where_two_users_differ(run):
    mine, other = history_of(SPLIT, 3, longest=5), history_of(SPLIT, 5, longest=7)
    grid = patching.tracing_grid(run.model, mine, other)
    assert not grid.attrs["left_out"]
    last = grid[grid["from_end"] == 0].set_index("tap")["recovered"]
    assert last["module.layers.1"] == pytest.approx(1, abs=1e-4) and len(last) == 4


def test_the_views_of_a_tapped_module(run, monkeypatch):
    monkeypatch.setenv("SEQLAB_REPORT", "1")
    fitting = {one.__name__ for one in widgets.fitting(run)}
    assert {"HistoryEditor", "Why", "AttentionView", "Patching", "LogitLens"} <= fitting
    for view in widgets.fitting(run):
        assert drawn(view(run, SPLIT, user=3).still())


def test_the_workbench_opens_it(run, monkeypatch):
    monkeypatch.setenv("SEQLAB_REPORT", "1")
    page = widgets.Workbench([run], SPLIT, user=3).still().markup
    assert "attention" in page and "module.layers.1" in page and "role='alert'" not in page
