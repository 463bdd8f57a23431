"""The attention of one history: the token labels, the sums over an event's tokens, and the output tokens."""

import pytest
import torch

import seqlab
from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.inspection import influence
from seqlab.inspection.attention import attention_of, has_attention
from seqlab.training import fit
from tests.inspection.small_models import history_of_items
from tests.synthetic import chain_log, small

torch.set_num_threads(1)

SPLIT = leave_one_out(chain_log(0))
TITLES = ["", *(f"item {item}" for item in range(1, SPLIT.n_items + 1))]
ITEMS = [3, 7, 1, 9, 20]
HISTORY = history_of_items(*ITEMS)
EVENTS = [TITLES[item] for item in ITEMS]


def scaled(name, **settings):
    """A small untrained system with large weights, so that heads and layers differ."""
    torch.manual_seed(0)
    more = {"layers": 2} if "layers" in small(name) else {}
    model = models.build(name, SPLIT.n_items, small(name, **more) | settings)
    fit.prepare(model, SPLIT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


def codes(count, word="code"):
    return [f"{title} · {word} {place}" for title in EVENTS for place in range(1, count + 1)]


QUERIES = ["next item? · part 1", "next item? · part 2", "next item? · part 3"]
STEPS = ["reasoning step 1", "reasoning step 2"]
# system and settings; token labels; output tokens, from the end; rows besides the events
TOKENS = {
    "sasrec": (("sasrec", {}), EVENTS, [-1], []),
    "bert4rec": (("bert4rec", {}), [*EVENTS, "next item?"], [-1], ["next item?"]),
    "recgpt": (("recgpt", {}), codes(4), [-1, -2, -3, -4], []),
    "setrec": (("setrec", {}), [*codes(3, "part"), *QUERIES], [-1, -2, -3], ["next item?"]),
    "rearec": (("rearec", {"steps": 2}), [*EVENTS, *STEPS], [-1], STEPS),
    "rearec, erl": (("rearec", {"steps": 2, "objective": "erl"}), [*EVENTS, *STEPS], [-1, -2, -3], STEPS),
    "rearec without reasoning": (("rearec", {"steps": 0}), EVENTS, [-1], []),
    "tiger": (("tiger", {}), ["start", *codes(4)], [-1], ["start"]),
    "tiger, encoder": (("tiger", {"layout": "encoder_decoder"}), ["start", *codes(4)], [], ["start"]),
    "discrec": (("discrec", {}), ["start", *codes(4)], [-1], ["start"]),
    "resid": (("resid", {"field_epochs": 0}), ["start", *codes(3)], [-1], ["start"]),
    "reg4rec": (("reg4rec", {}), EVENTS, [-1], []),
    "mancar alone": (("mancar", {"steps": 2, "context": False}), [*EVENTS, *STEPS], [-1], STEPS),
}


@pytest.mark.parametrize("case", TOKENS)
def test_tokens_are_labelled_and_summed_by_event(case):
    (name, settings), tokens, answers, below = TOKENS[case]
    model = scaled(name, **settings)
    found = attention_of(model, HISTORY)
    assert found.labels(TITLES) == tokens and found.events == 5
    assert found.layout.readout[0].nonzero()[:, 0].tolist() == sorted(at + len(tokens) for at in answers)
    rows = [*below, *EVENTS] if below == ["start"] else [*EVENTS, *below]
    assert found.labels(TITLES, by="event") == rows
    assert found.events_of_rows("event") == [EVENTS.index(word) if word in EVENTS else None for word in rows]
    assert found.one_token_per_event == (case in ("sasrec", "bert4rec", "rearec without reasoning", "reg4rec"))
    with seqlab.watch(model, "attention") as trace:
        influence.scores_of(model, [HISTORY], exact=True)
    weights = trace["attention"].passes[-1].values[:, 0]  # (layers, H, L, L)
    assert weights.shape[-1] == len(tokens)
    own = [[at for at, word in enumerate(tokens) if word.startswith(f"{title} ") or word == title] for title in EVENTS]
    by_event = found.frame("event").set_index(["layer", "head", "query", "key"])["value"]
    for query, key in [(4, 0), (4, 4), (2, 1)]:
        by_hand = sum(float(weights[1, 1, one, two]) for one in own[query] for two in own[key]) / len(own[query])
        there = rows.index(EVENTS[query]), rows.index(EVENTS[key])
        assert by_event[(1, 1, *there)] == pytest.approx(by_hand, abs=1e-6)
    sums = by_event.groupby(["layer", "head", "query"]).sum()
    assert sums.to_numpy() == pytest.approx(1, abs=1e-5)
    if not answers:
        assert found.readout_attention() is None
        return
    looked = sum(weights[1, :, at].mean(0) for at in answers) / len(answers)
    by_hand = [float(looked[rows].sum()) for rows in own]
    assert found.readout_attention()["value"].tolist() == pytest.approx(by_hand, abs=1e-6)
    assert found.readout_attention()["position"].tolist() == [0, 1, 2, 3, 4]


def test_missing_graph_neighbours_are_no_tokens():
    model = scaled("mancar", triggers=2, neighbours=3, steps=2)
    model.near.zero_()
    model.near[20, :2], model.near[9, 0] = torch.tensor([5, 6]), 8
    found = attention_of(model, HISTORY)
    assert found.labels(TITLES) == [*EVENTS, "near: item 5", "near: item 6", "near: item 8", *STEPS]
    assert found.labels(TITLES, by="event") == [*EVENTS, "neighbours in the graph", *STEPS]
    near = found.frame("event").query("layer == 1 and head == 0 and query == 7 and key == 5")["value"].item()
    assert near == pytest.approx(float(found.weights[1, 0, -1, 5:8].sum()), abs=1e-6) and near > 0
    assert found.weights.sum(-1).numpy() == pytest.approx(1, abs=1e-5)


def test_early_stopping_leaves_fewer_step_tokens():
    model = scaled("mancar", context=False, steps=3)
    model.epsilon.fill_(1e9)
    found = attention_of(model, HISTORY)
    assert found.labels(TITLES) == [*EVENTS, "reasoning step 1"]
    assert found.layout.readout[0].tolist() == [False] * 5 + [True]
    assert found.readout_label() == "the last reasoning step"


def test_a_longer_history_is_cut_to_the_models_maximum():

    found = attention_of(scaled("recgpt"), history_of_items(*range(1, 13)))
    assert found.events == 8 and found.labels(TITLES)[0] == "item 5 · code 1"
    assert found.labels(TITLES, by="event") == [f"item {item}" for item in range(5, 13)]


def test_a_model_without_attention_is_refused():
    assert not has_attention(scaled("gru4rec"))
    with pytest.raises(ValueError, match="GRU4Rec has no attention"):
        attention_of(scaled("gru4rec"), HISTORY)
