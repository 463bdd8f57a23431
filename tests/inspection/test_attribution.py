"""The logit lens and direct attribution, against the computations that they replace."""

import functools

import pytest
import torch

from seqlab import models, tracing
from seqlab.contracts import GeneratesCodes, Reasons, Scores, supports
from seqlab.datasets import leave_one_out
from seqlab.datasets.history import batch_of
from seqlab.inspection.attribution import direct_attribution, logit_lens
from seqlab.inspection.influence import scores_of
from seqlab.training import fit
from tests.inspection.small_models import history_of_items
from tests.synthetic import chain_log, coded, enlarged, small

torch.set_num_threads(1)

SPLIT = leave_one_out(chain_log(0))
HISTORY = history_of_items(3, 7, 1, 9, 20)
SUMS = {"sasrec": {}, "sasrec_side": {}, "bert4rec": {}, "rearec": {"steps": 2}, "mancar": {"steps": 2}, "setrec": {},
        "s4rec": {}}  # fmt: skip
"""Systems whose logits are sums of parts, with settings."""


@functools.cache
def made(name, **settings):
    """A small untrained system of two layers with large weights; it is built once."""
    if supports(models.system(name), GeneratesCodes):
        return coded(name)  # without a tokenizer to train
    torch.manual_seed(0)
    sizes = {"layers": 2, "dim": 16} if {"layers", "dim"} <= set(small(name)) else {}
    model = models.build(name, SPLIT.n_items, small(name, **sizes) | settings)
    fit.prepare(model, SPLIT)
    return enlarged(model, 0.3)


def layered(name):
    """Whether a system scores items and has "hidden" taps."""
    if models.card(name).task != "next_item" or not supports(models.system(name), Scores):
        return False
    return any(tap.kind == "hidden" for tap in tracing.taps(models.build(name, 8, small(name))).values())


LAYERED = [name for name in models.names() if layered(name)]


@pytest.mark.parametrize("name", LAYERED)
def test_the_last_layer_read_by_the_lens_is_what_the_system_scores(name):
    model = made(name)
    lens = logit_lens(model, HISTORY)
    if supports(model, Reasons):
        with torch.no_grad():
            expected = model.step_scores(model.reasoning_states(batch_of([HISTORY], 8)))[0]
    else:
        expected = scores_of(model, [HISTORY])
    torch.testing.assert_close(lens.scores[:, -1, 1:], expected[:, 1:], rtol=1e-4, atol=1e-4)
    assert len(lens.layers) == lens.scores.shape[1] >= 2
    assert not torch.allclose(lens.scores[:, 0, 1:], lens.scores[:, -1, 1:], atol=1e-3)
    torch.testing.assert_close(lens.probabilities.sum(-1), torch.ones(lens.scores.shape[:2]))


@torch.no_grad()
def test_earlier_layers_pass_the_norm_and_the_item_table():
    model, batch = made("sasrec"), batch_of([HISTORY], 8)
    lens = logit_lens(model, HISTORY)
    x = model.items(batch.items) * 4 + model.positions.weight[:5]
    states = [x]
    for block in model.blocks:
        states.append(block(states[-1]))
    expected = model.norm(torch.stack(states)[:, 0, -1]) @ model.item_vectors().T
    torch.testing.assert_close(lens.scores[0, :, 1:], expected[:, 1:], rtol=1e-4, atol=1e-4)
    assert lens.layers == ("input", "layer 1", "layer 2")


@torch.no_grad()
def test_bert4rec_is_read_at_its_mask_through_its_head():
    model = made("bert4rec")
    with tracing.watch(model, "hidden") as trace:
        model.score(batch_of([HISTORY], 8))
    mask = trace["hidden"].values[0, 0, 5]  # after the first layer, the token after five events
    expected = model.head(model.after(mask)) @ model.item_vectors().T + model.bias
    torch.testing.assert_close(logit_lens(model, HISTORY).scores[0, 1, 1:], expected[1:], rtol=1e-4, atol=1e-4)


def test_the_lens_lists_unseen_items_and_ranks_a_watched_one_among_them():
    lens = logit_lens(made("sasrec"), HISTORY, seen_filter=True)
    top = lens.top(4)
    assert not set(top["item"]) & {3, 7, 1, 9, 20}
    scores = lens.scores[0, 1].clone()
    scores[[3, 1, 9, 20]] = -torch.inf  # the watched item stays, though it was seen
    watched = lens.watch(7).set_index("layer").loc[1]
    assert watched["rank"] == 1 + int((scores > scores[7]).sum())
    assert watched["probability"] == pytest.approx(float(lens.scores[0, 1].softmax(-1)[7]), rel=1e-5)
    first = top[(top["layer"] == 1) & (top["rank"] == 1)]["item"].item()
    assert first == int(scores.index_fill(0, torch.tensor([7]), -torch.inf).argmax())


@pytest.mark.parametrize("name", LAYERED)
def test_parts_sum_to_the_logit_or_a_sentence_says_why_not(name):
    model = made(name, **SUMS.get(name, {}))
    if name not in SUMS:
        with pytest.raises(ValueError, match="no sum of what each layer adds"):
            direct_attribution(model, HISTORY)
        return
    scores = scores_of(model, [HISTORY])[0]
    found = direct_attribution(model, HISTORY)
    assert found.item == int(scores.argmax())
    for item, other in ((found.item, None), (11, None), (11, 4)):
        found = direct_attribution(model, HISTORY, item, other)
        logit = float(scores[item] - (scores[other] if other else 0))
        assert found.parts["value"].sum() == pytest.approx(logit, rel=1e-4)
        assert found.by_part()["value"].sum() == pytest.approx(logit, rel=1e-4)
        heads = found.parts.query("part == 'attention'")["value"].sum()
        assert found.by_event()["value"].sum() == pytest.approx(heads)


def test_a_mean_of_reasoning_steps_is_refused_and_no_step_is_a_sum():
    with pytest.raises(ValueError, match="several passes"):
        direct_attribution(made("rearec", objective="erl", steps=2), HISTORY)
    found = direct_attribution(made("rearec", steps=0), HISTORY, 11)
    expected = float(scores_of(made("rearec", steps=0), [HISTORY])[0, 11])
    assert found.parts["value"].sum() == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_the_part_of_a_head_and_event_is_its_value_through_the_output_projection():
    """By hand for one head and event of the last layer: the state without it, under the norm's scale."""
    model, batch = made("sasrec"), batch_of([HISTORY], 8)
    with tracing.watch(model, "hidden", "attention") as trace:
        model.score(batch)
    before, last = trace["hidden"].values[:, 0]
    block, head, event = model.blocks[1], 1, 2
    value = block.mixer.project(block.before_mixer(before[None]))[2][0, head, event]  # (D / H,)
    added = block.mixer.project_out.weight[:, 8:] @ value * trace["attention"].values[1, 0, head, -1, event]
    state = last[-1]
    scale = (state.var(correction=0) + model.norm.eps).sqrt()
    without = (state - added - (state - added).mean()) / scale * model.norm.weight + model.norm.bias
    expected = (model.norm(state) - without) @ model.item_vectors()[11]
    found = direct_attribution(model, HISTORY, 11).by_event().set_index(["layer", "head", "event"])["value"]
    assert found[2, 2, 2] == pytest.approx(float(expected), rel=1e-3)


def test_tokens_that_are_no_events_keep_their_share():
    found = direct_attribution(made("mancar", steps=2), HISTORY)
    assert set(found.by_event()["event"]) == {-1, 0, 1, 2, 3, 4}
