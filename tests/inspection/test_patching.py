"""Patching between two users: positions that must and must not be recovered, and the grid against single patches."""

import math

import pytest
import torch

import seqlab
from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.inspection import influence, patched, patching, tracing_grid
from seqlab.training.fit import prepare
from tests.inspection.small_models import history_of_items
from tests.synthetic import chain_log, coded

torch.set_num_threads(1)

SPLIT = leave_one_out(chain_log(0))


MINE, SAME_LENGTH, SHORTER, LONGER = (
    history_of_items(3, 7, 1, 9, 20), history_of_items(11, 4, 8, 2, 6), history_of_items(5, 12, 13),
    history_of_items(4, 2, 17, 8, 22, 6, 15),
)  # fmt: skip
OTHERS = {"same": SAME_LENGTH, "shorter": SHORTER, "longer": LONGER}
every_other = pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)


def scaled(name, **settings):
    """An untrained system with large weights, so that every part changes the scores."""
    torch.manual_seed(0)
    known = {"max_length": 8, "dim": 16} | ({} if name == "gru4rec" else {"heads": 2})
    model = models.build(name, SPLIT.n_items, known | {"layers": 2} | settings)
    prepare(model, SPLIT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model.eval()


NAMES = ["sasrec", "sasrec_side", "gru4rec", "bert4rec", "setrec", "recgpt"]
MODELS = {name: scaled(name) for name in NAMES}
every_model = pytest.mark.parametrize("name", NAMES)


def log_p(model, history):
    return influence.scores_of(model, [history])[0].log_softmax(0)


@every_other
def test_the_last_state_of_the_last_block_recovers_everything(other):
    model = MODELS["sasrec"]
    found = patched(model, MINE, other, "blocks.1.hidden", [-1])
    theirs = log_p(model, other)
    assert found.item == int(theirs.argmax()) and found.positions == (4,)
    assert found.before == pytest.approx(float(log_p(model, MINE)[found.item]), abs=1e-5)
    assert found.other == pytest.approx(float(theirs[found.item]), abs=1e-5)
    assert found.after == pytest.approx(found.other, abs=1e-4) and found.recovered == pytest.approx(1, abs=1e-4)
    ranking = found.ranking[found.ranking["status"] != "left"]
    assert ranking["item"].tolist() == theirs.topk(10).indices.tolist()
    own = log_p(model, MINE)
    was = [int((own > own[item]).sum()) + 1 for item in ranking["item"]]
    assert ranking["was"].tolist() == was


def test_an_earlier_state_of_the_last_block_changes_nothing():
    found = patched(MODELS["sasrec"], MINE, SAME_LENGTH, "blocks.1.hidden", [0, 1, 2, 3])
    assert found.after == pytest.approx(found.before, abs=1e-5) and found.recovered == pytest.approx(0, abs=1e-5)
    assert set(found.ranking["status"]) == {"same"}


@every_model
def test_patching_a_user_with_the_same_user_changes_nothing(name):
    grid = tracing_grid(MODELS[name], MINE, MINE, item=5)
    assert len(grid) and grid["log_probability"].to_numpy() == pytest.approx(grid.attrs["before"], abs=1e-4)
    assert grid["recovered"].isna().all()


@every_model
@every_other
def test_the_grid_equals_single_patches(name, other, monkeypatch):
    model = MODELS[name]
    monkeypatch.setattr(influence, "POSITIONS_PER_PASS", 15)  # three copies of the history in a pass
    grid = tracing_grid(model, MINE, other)
    assert set(grid["tap"]) | set(grid.attrs["left_out"]) == set(seqlab.tracing.taps(model))
    assert (grid["log_probability"] - grid.attrs["before"]).abs().max() > 0.1
    for row in grid.iloc[:: max(1, len(grid) // 6)].itertuples():
        found = patched(model, MINE, other, row.tap, [row.position])
        assert found.item == grid.attrs["item"]
        assert row.log_probability == pytest.approx(found.after, abs=2e-4)
        assert row.recovered == pytest.approx((found.after - found.before) / (found.other - found.before), abs=2e-4)
    for tap, rows in grid.groupby("tap"):
        assert rows["from_end"].tolist() == list(range(len(rows)))[::-1], tap


@every_other
def test_a_patch_equals_one_made_with_seqlab_patch(other):
    """A hidden state in the middle, patched with `seqlab.patch` directly."""
    model = MODELS["sasrec"]
    with seqlab.watch(model) as trace:
        influence.scores_of(model, [other])
    theirs = trace["blocks.0.hidden"].values

    def change(x):
        x = x.clone()
        x[:, -2:] = theirs[:, -2:]
        return x

    with seqlab.patch(model, {"blocks.0.hidden": change}):
        by_hand = log_p(model, MINE)
    found = patched(model, MINE, other, "blocks.0.hidden", [3, -1])
    assert found.after == pytest.approx(float(by_hand[found.item]), abs=1e-4)
    assert found.ranking["item"].tolist()[:10] == by_hand.topk(10).indices.tolist()


@every_other
@pytest.mark.parametrize("name", ["sasrec", "bert4rec"])
def test_patched_attention_is_that_of_the_other_users_last_events(name, other):
    """The patched weights are the other's among as many events as the user has, and each row sums to one."""
    model, tap = MODELS[name], "blocks.0.mixer.weights"
    more = 1 if name == "bert4rec" else 0  # the mask behind the last event
    both = min(5, len(other)) + more
    with seqlab.watch(model) as trace:
        influence.scores_of(model, [other.last(5)])
    theirs = trace[tap].values[0]  # (H, T', T')
    recorded = []
    pair = patching._Pair(model, MINE, other, None, False)
    replace = pair._replacing(tap, [list(pair.matched(tap))])
    with seqlab.patch(model, {tap: lambda x: recorded.append(replace(x)) or recorded[0]}):
        influence.scores_of(model, [MINE])
    weights = recorded[0][0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 5 + more))
    torch.testing.assert_close(weights[:, -both:, -both:], theirs)
    assert not weights[:, -both:, :-both].any()


def test_histories_are_aligned_at_the_end():
    model = MODELS["sasrec"]
    found = patched(model, MINE, SHORTER, "blocks.0.hidden")
    assert found.positions == (2, 3, 4)
    assert found.alignment.startswith("the user's 5 events and the other's 3 are aligned at the end")
    assert "aligned at the end" not in patched(model, MINE, SAME_LENGTH, "blocks.0.hidden").alignment
    with pytest.raises(ValueError, match=r"position 1 of blocks\.0\.hidden has no counterpart; there are 2 to 4"):
        patched(model, MINE, SHORTER, "blocks.0.hidden", [1])
    long = history_of_items(*range(1, 13))
    found = patched(model, long, SAME_LENGTH, "blocks.0.hidden")
    assert found.positions == (3, 4, 5, 6, 7) and "the user's 8 events" in found.alignment  # the 8 that are read
    assert patched(model, SAME_LENGTH, long, "blocks.0.hidden").positions == (0, 1, 2, 3, 4)
    assert patched(model, MINE, SHORTER, "blocks.0.hidden", []).recovered == pytest.approx(0, abs=1e-5)


def test_a_tap_without_positions_is_replaced_as_a_whole():
    model = MODELS["setrec"]
    found = patched(model, MINE, LONGER, "slot_scores")
    assert found.positions is None and found.recovered == pytest.approx(1, abs=1e-4)
    assert set(tracing_grid(model, MINE, LONGER).attrs["left_out"]) == {"generated", "slot_scores"}
    with pytest.raises(ValueError, match="slot_scores has no positions"):
        patched(model, MINE, LONGER, "slot_scores", [0])


def test_the_watched_item_and_the_filter():
    model = MODELS["sasrec"]
    order = log_p(model, SAME_LENGTH).argsort(descending=True).tolist()
    unseen = next(item for item in order if item not in SAME_LENGTH.items)
    found = patched(model, MINE, SAME_LENGTH, "blocks.1.hidden", [-1], seen_filter=True)
    assert found.item == unseen
    assert not set(found.ranking["item"]) & set(MINE.items.tolist())
    requested = patched(model, MINE, SAME_LENGTH, "blocks.1.hidden", [-1], item=order[5])
    assert requested.item == order[5] and requested.recovered == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="there is no item 99"):
        patched(model, MINE, SAME_LENGTH, "blocks.1.hidden", item=99)


def test_an_impossible_patch_is_refused_and_leaves_no_hook():
    model = MODELS["sasrec"]
    before = log_p(model, MINE)
    with pytest.raises(KeyError, match="no tap is called 'blocks'"):
        patched(model, MINE, SHORTER, "blocks")
    with pytest.raises(ValueError, match="returns lists without scoring"):
        tracing_grid(coded("tiger"), MINE, SHORTER)
    tracing_grid(model, MINE, SHORTER)
    assert torch.equal(log_p(model, MINE), before)
    assert not any(tap.active for tap in seqlab.tracing.taps(model).values())
    assert math.isnan(patched(model, MINE, MINE, "blocks.0.hidden").recovered)
