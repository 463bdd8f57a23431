"""The labels of tokens name what the tokens are made of: an item, code or vector is changed, and its tokens change."""

import numpy as np
import pytest
import torch

import seqlab
from seqlab import models
from seqlab.inspection.attention import attention_of, layout_of
from seqlab.tokenizers import CodeBook
from tests.inspection.small_models import history_of_items
from tests.synthetic import batch_of, coded, enlarged, small

torch.set_num_threads(1)

ITEMS, LEVELS = 40, (5, 4, 6)
HISTORY = [3, 17, 3, 29, 20]
NEAR = {20: [5, 6, 8], 29: [11, 3]}  # of ManCAR's two last items
TITLES = ["", *(f"item {item:02}" for item in range(1, ITEMS + 1))]


def setrec():
    sizes = {"features": 7, "factors": 6, "hidden": (12,), "semantic": 2}
    model = enlarged(models.build("setrec", ITEMS, small("setrec", **sizes)))
    random = np.random.default_rng(0)
    model.assign(random.standard_normal((ITEMS, 7)), random.standard_normal((ITEMS, 6)))
    return model


def mancar(**settings):
    sizes = {"triggers": 2, "neighbours": 3, "taught": 3, "steps": 3, "rescale": False}
    model = enlarged(models.build("mancar", ITEMS, small("mancar", **(sizes | settings))))
    model.near.zero_()
    for item, near in NEAR.items():
        model.near[item, : len(near)] = torch.tensor(near)
    return model


def rearec(**settings):
    return enlarged(models.build("rearec", ITEMS, small("rearec", **({"steps": 3} | settings))))


SYSTEMS = {
    "recgpt": lambda: coded("recgpt", dense=False),
    "setrec": setrec,
    "mancar": mancar,
    "mancar without context": lambda: mancar(context=False),
    "rearec": rearec,
    "rearec, erl": lambda: rearec(objective="erl"),
    "rearec, both ways": lambda: rearec(backbone="bert4rec"),
}
every_system = pytest.mark.parametrize("system", SYSTEMS)


@torch.no_grad()
def passes(model, history=HISTORY):
    """The input tokens (L, D) of the first block in every pass of one history, and the last block's output."""
    inputs, batch = [], batch_of([history])
    hook = model.blocks[0].register_forward_pre_hook(lambda block, given: inputs.append(given[0][0]))
    with seqlab.watch(model, "attention", "hidden") as trace:
        model.score(batch)
    hook.remove()
    hidden = trace["hidden"].passes[-1]
    return inputs, hidden.values[-1, 0] if hidden.axes[0] == "layer" else hidden.values[0]


def labels_of(model, history=HISTORY):
    return layout_of(model, batch_of([history])).labels(TITLES)


def moved(before, after):
    """The tokens (L,) that are not the same."""
    return (before - after).abs().amax(-1).gt(1e-6).nonzero()[:, 0].tolist()


@torch.no_grad()
def change(model, item, slot=None):
    """Other codes or vectors for an item; slot: in one of its codes or parts alone."""
    if hasattr(model, "ids"):
        codes = model.ids.codes.clone()
        at = slice(None) if slot is None else slot
        codes[item, at] = (codes[item, at] + 1) % torch.tensor(LEVELS)[at]
        model.ids.assign(CodeBook(codes, LEVELS))
    elif hasattr(model, "content"):
        model.content[item] += 1.0 if slot != 0 else 0.0
        model.collaborative[item] += 1.0 if slot in (None, 0) else 0.0
    else:
        model.items.weight[item] += 1.0


@every_system
def test_an_item_is_in_the_tokens_with_its_title(system):
    model = SYSTEMS[system]()
    before, _ = passes(model)
    labels = labels_of(model)
    for item in {*HISTORY, *NEAR[20], *NEAR[29], 40}:
        changed = SYSTEMS[system]()
        change(changed, item)
        named = [at for at, label in enumerate(labels) if TITLES[item] in label]
        assert moved(before[0], passes(changed)[0][0]) == named, TITLES[item]
    assert sum(TITLES[3] in label for label in labels) >= 2, "a repeated item has tokens for each of its events"


@every_system
def test_an_event_is_in_the_tokens_at_its_position(system):
    model = SYSTEMS[system]()
    layout = layout_of(model, batch_of([HISTORY]))
    before, _ = passes(model)
    found = attention_of(model, history_of_items(*HISTORY))
    assert found.events == len(HISTORY) and found.labels(TITLES, by="event")[:5] == [TITLES[item] for item in HISTORY]
    for event in range(len(HISTORY)):
        codes = model.ids.codes if system == "recgpt" else torch.arange(ITEMS + 1)[:, None]
        other = int((codes[1:] != codes[HISTORY[event]]).all(1).nonzero()[-1, 0]) + 1  # nothing in common
        other = [*HISTORY[:event], other, *HISTORY[event + 1 :]]
        changed = [at for at in moved(before[0], passes(model, other)[0][0]) if int(layout.position[0, at]) >= 0]
        assert changed == (layout.position[0] == event).nonzero()[:, 0].tolist()
        assert all(TITLES[HISTORY[event]] in labels_of(model)[at] for at in changed)


@pytest.mark.parametrize(("system", "word", "slots"), [("recgpt", "code", 3), ("setrec", "part", 3)])
def test_a_code_or_part_is_the_one_of_its_number(system, word, slots):
    before, labels = passes(SYSTEMS[system]())[0][0], labels_of(SYSTEMS[system]())
    for slot in range(slots):
        changed = SYSTEMS[system]()
        change(changed, 3, slot)
        parts = (2, 3) if system == "setrec" and slot else [slot + 1]  # its semantic parts are made of one vector
        wanted = [f"{TITLES[3]} · {word} {part}" for part in parts]
        assert [labels[at] for at in moved(before, passes(changed)[0][0])] == wanted * 2  # item 3 is there twice


def test_the_neighbours_are_those_of_the_last_items_in_their_order():
    model = mancar()
    labels = [label for label in labels_of(model) if label.startswith("near: ")]
    assert labels == [f"near: {TITLES[item]}" for item in (*NEAR[20], *NEAR[29])]
    assert labels_of(model)[5:11][-1] == "padding", "the last item has three neighbours, the one before it two"
    assert attention_of(model, history_of_items(*HISTORY)).labels(TITLES)[5:10] == labels


def test_a_query_of_setrec_is_the_one_of_its_number():
    before, labels = passes(setrec())[0][0], labels_of(setrec())
    for slot in range(3):
        model = setrec()
        with torch.no_grad():
            model.queries[slot] += 1.0
        assert [labels[at] for at in moved(before, passes(model)[0][0])] == [f"next item? · part {slot + 1}"]


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name.startswith(("mancar", "rearec"))])
def test_a_reasoning_step_is_the_state_before_it_with_its_position(system):
    model = SYSTEMS[system]()
    inputs, labels = passes(model)[0], labels_of(model)
    assert len(inputs) == 4 and [len(one) for one in inputs] == list(range(len(labels) - 3, len(labels) + 1))
    with torch.no_grad():
        states = model.reasoning_states(batch_of([HISTORY]))[0]  # (S + 1, D)
    for step in range(3):
        at = labels.index(f"reasoning step {step + 1}")
        torch.testing.assert_close(inputs[-1][at], (states[step] + model.reason[step]).detach())


@every_system
@torch.no_grad()
def test_the_prediction_is_made_from_the_tokens_of_the_readout(system):
    model, batch = SYSTEMS[system](), batch_of([HISTORY])
    readout = model.norm(passes(model)[1][layout_of(model, batch).readout[0]])  # (R, D)
    if system == "recgpt":
        torch.testing.assert_close(model.head(readout).log_softmax(-1), model.slot_log_p(batch)[0])
    elif system == "setrec":
        scores = torch.einsum("cd,ncd,c->n", readout, model.tokens(), model.weights(model.beta))
        torch.testing.assert_close(scores / model.config.dim**0.5, model.score(batch)[0], rtol=1e-4, atol=1e-4)
    else:
        expected = model.score(batch)[0]
        torch.testing.assert_close(model.items.weight @ readout.mean(0), expected, rtol=1e-4, atol=1e-4)
