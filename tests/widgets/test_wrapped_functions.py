"""Every widget of a system that scores works for a wrapped function, live and as a still."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import seqlab
from seqlab import models, tracing, widgets
from seqlab.datasets import leave_one_out
from seqlab.inspection import edits
from seqlab.training.fit import fit
from tests.synthetic import chain_log
from tests.widgets.test_stills import drawn

SPLIT = leave_one_out(chain_log())
FOLLOWS = torch.zeros(SPLIT.n_items + 1, SPLIT.n_items + 1)
FOLLOWS.index_put_((SPLIT.train.items[:-1], SPLIT.train.items[1:]), torch.ones(1), accumulate=True)


def follows(items):
    """How often each item followed the last events, the latest one counting most."""
    counts = FOLLOWS.numpy()[np.asarray(items)]  # (B, T, N + 1)
    length = (np.asarray(items) > 0).sum(1, keepdims=True)
    weight = 0.5 ** np.maximum(length - 1 - np.arange(items.shape[1]), 0) * (np.asarray(items) > 0)
    return (counts * weight[:, :, None]).sum(1)


@pytest.fixture(scope="module")
def run():
    return seqlab.open_model(seqlab.wrap(follows, "follows", max_length=10), SPLIT)


SCORING = {"HistoryEditor", "Why", "WhatWouldChange", "Reliability", "InfluenceView"}


def test_the_views_of_a_function(run):
    assert {one.__name__ for one in widgets.fitting(run)} == SCORING


@pytest.mark.parametrize("name", sorted(SCORING))
def test_the_still_of_a_view_is_drawn(name, run, report):
    assert drawn(getattr(widgets, name)(run, SPLIT, user=3).still())


@pytest.mark.parametrize("name", sorted(SCORING))
def test_a_view_follows_an_edited_history(name, run, live):
    view = getattr(widgets, name)(run, SPLIT, user=3)
    history = seqlab.datasets.history.history_of(SPLIT, 5, longest=6)
    view.show(history.drop(0))
    assert view.view is not None and not view.status.view.value


def test_an_edit_and_its_undoing_are_scored_once(live):
    model = seqlab.wrap(follows, max_length=10)
    editor = widgets.HistoryEditor(seqlab.open_model(model, SPLIT), SPLIT, user=3)
    editor.buttons["Drop"].click()
    scored = model.scored
    editor.buttons["Undo"].click()
    assert model.scored == scored and editor.history is editor.original


def test_what_would_change_finds_what_the_scores_without_a_cache_say(run):
    history = seqlab.datasets.history.history_of(SPLIT, 4, longest=8)
    models_of = [seqlab.open_model(seqlab.wrap(follows, cache_mb=size), SPLIT).model for size in (64, 0)]
    item = int(run.model.recommend(seqlab.datasets.history.batch_of([history]), 1).items[0, 0])
    found = [[edits.smallest_edit(one, history, item, into=False, k=3) for _ in range(2)] for one in models_of]
    assert len({(edit.dropped, edit.rank_after, edit.scored) for edit in (*found[0], *found[1])}) == 1
    cached, plain = (one.scored - len(SPLIT.test) for one in models_of)
    assert 0 < 2 * cached <= plain == 2 * found[1][0].scored


def test_a_function_is_a_row_of_the_comparison(run, report):
    floor = fit(models.create("popularity", SPLIT), SPLIT)
    compared = widgets.CompareSystems([run, floor], SPLIT)
    board = compared.board().set_index("system")
    assert board.loc["follows", "kind"] == "outside" and compared.reference == "popularity"
    assert board.loc["follows", "ndcg@10"] == pytest.approx(run.metrics["test"]["ndcg@10"])
    assert board.loc["follows", ["parameters", "seconds"]].isna().all() and board.loc["follows", "milliseconds"] > 0
    assert compared.best == "follows" and "not trained here" in compared.still()
    assert compared.configurations().set_index("system").loc["follows", "training"] == "not here"
    table = seqlab.evaluation.compare(run.outcome, floor.outcome)
    assert table.loc["ndcg@10", "difference"] == pytest.approx(
        run.metrics["test"]["ndcg@10"] - floor.metrics["test"]["ndcg@10"]
    )


def test_two_functions_of_one_name_are_no_seeds_of_each_other(run, report):
    other = seqlab.open_model(seqlab.wrap(lambda items: -follows(items), "follows", max_length=10), SPLIT)
    with pytest.raises(ValueError, match="two functions are called 'follows'"):
        widgets.CompareSystems([run, other], SPLIT)
    board = widgets.CompareSystems({"it": run, "its opposite": other}, SPLIT).board()
    assert board["system"].tolist() == ["it", "its opposite"]


def test_the_workbench_opens_a_function_beside_a_system(run, live):
    floor = fit(models.create("markov", SPLIT), SPLIT)
    bench = widgets.Workbench([run, floor], SPLIT, user=3)
    assert set(bench.runs) == {"follows", "markov"}
    bench.views.tabs.buttons.value = "History editor"
    assert not bench.views.tabs.status.view.value
    with pytest.raises(ValueError, match="follows was never written to a folder"):
        bench.pin("somewhere")


def test_the_still_of_the_workbench(run, report):
    assert drawn(widgets.Workbench([run], SPLIT, user=3).still())


class Attending(nn.Module):
    """A module of a user's own, with attention over right-padded events."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(SPLIT.n_items + 1, 8, padding_idx=0)
        self.attention = tracing.Tap("attention", "user head query_event key_event")

    def forward(self, items):
        x = self.table(items)  # (B, T, D)
        later = torch.ones(items.shape[1], items.shape[1]).triu(1).bool()
        weights = (x @ x.mT).masked_fill(later, -torch.inf).softmax(-1)  # (B, T, T)
        x = self.attention(weights[:, None])[:, 0] @ x
        last = (items > 0).sum(1) - 1
        return x[torch.arange(len(x)), last] @ self.table.weight.T


def test_the_attention_of_a_wrapped_module_is_shown(report):
    run = seqlab.open_model(seqlab.wrap(Attending(), "attending", max_length=10), SPLIT)
    assert widgets.AttentionView in widgets.fitting(run)
    assert drawn(widgets.AttentionView(run, SPLIT, user=3).still())
