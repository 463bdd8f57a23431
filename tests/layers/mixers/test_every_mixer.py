"""The contract of `seqlab.layers.mixers`, held for every mixer of the package: a new file there is tested as it is."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

import seqlab
from seqlab.layers import mixers
from seqlab.layers.transformer import Block

torch.set_num_threads(1)

USERS, LENGTH, DIM = 4, 7, 16
LENGTHS = torch.tensor([7, 1, 4, 0])
REAL = torch.arange(LENGTH) < LENGTHS[:, None]


def kinds():
    """Every mixer class, with each value of `causal` that it can be built with."""
    for found in pkgutil.iter_modules(mixers.__path__, f"{mixers.__name__}."):
        for name, kind in vars(importlib.import_module(found.name)).items():
            own = inspect.isclass(kind) and kind.__module__ == found.name and not name.startswith("_")
            if not own or not ("causal" in inspect.get_annotations(kind) or hasattr(kind, "causal")):
                continue
            chosen = "causal" in inspect.signature(kind).parameters
            for causal in [True, False] if chosen else [kind.causal]:
                options = {"causal": causal} if chosen else {}
                yield pytest.param((kind, options), id=f"{name}-{'causal' if causal else 'two-way'}")


ALL = list(kinds())
CAUSAL = [one for one in ALL if one.values[0][1].get("causal", getattr(one.values[0][0], "causal", None))]


def build(kind, block=False):
    torch.manual_seed(0)
    mixer = kind[0](DIM, **kind[1])
    for parameter in mixer.parameters():  # a bias of zero hides what it does
        if parameter.dim() == 1 and not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.1)
    return (Block(mixer, DIM, 0.0) if block else mixer).eval(), torch.randn(USERS, LENGTH, DIM)


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def forward(mixer, x, mask):
    """A causal mixer gets no mask: padding is on the right."""
    return mixer(x, None if getattr(mixer, "mixer", mixer).causal else mask)


both = pytest.mark.parametrize("block", [False, True], ids=["alone", "in a block"])


def test_attention_and_a_recurrence_are_among_them():
    names = {one.id for one in ALL}
    assert {"Attention-causal", "Attention-two-way", "GRU-causal"} <= names


@pytest.mark.parametrize("kind", ALL)
def test_positions_exchange_information_as_causal_says(kind):
    mixer, x = build(kind)
    x.requires_grad_()
    y = forward(mixer, x, torch.ones(USERS, LENGTH, dtype=torch.bool))
    assert y.shape == x.shape
    for place in range(LENGTH):
        grown = torch.autograd.grad(y[:, place].pow(2).sum(), x, retain_graph=True)[0].abs().sum((0, 2))  # (T,)
        assert bool(grown.isfinite().all()) and bool((grown[: place + 1] > 0).all()), "all events before are read"
        unread = grown[place + 1 :] <= 1e-5 * grown.max()  # not 0: a convolution by FFT rounds
        assert bool(unread.all()) is (mixer.causal or place == LENGTH - 1)


@pytest.mark.parametrize("kind", CAUSAL)
def test_changing_later_events_changes_nothing_before(kind):
    mixer, x = build(kind)
    before = mixer(x)
    changed = torch.where((torch.arange(LENGTH) >= 3)[:, None], torch.randn_like(x), x)
    close(mixer(changed)[:, :3], before[:, :3])
    assert bool(((mixer(changed) - before)[:, 3:].abs().amax(-1) > 0).all())


@both
@pytest.mark.parametrize("kind", ALL)
def test_neither_padding_nor_batch_mates_change_an_output(kind, block):
    mixer, x = build(kind, block)
    together = forward(mixer, x, REAL)
    other = torch.where(REAL[..., None], x, 7 * torch.randn_like(x))
    close(forward(mixer, other, REAL)[REAL], together[REAL])
    wider = torch.cat([x, torch.randn(USERS, 5, DIM)], 1)
    close(forward(mixer, wider, torch.nn.functional.pad(REAL, (0, 5)))[:, :LENGTH][REAL], together[REAL])
    for user, length in enumerate(LENGTHS.tolist()[:-1]):
        alone = forward(mixer, x[user : user + 1, :length], torch.ones(1, length, dtype=torch.bool))
        close(alone[0], together[user, :length])


@both
@pytest.mark.parametrize("kind", CAUSAL)
def test_steps_from_nothing_equal_the_forward_pass(kind, block):
    mixer, x = build(kind, block)
    none = torch.zeros(USERS, 1, dtype=torch.bool)
    outputs, state = [], mixer.prefill(x[:, :1], none)[1]  # the state of empty rows
    for place in range(LENGTH):
        y, state = mixer.step(x[:, place], state)
        outputs.append(y)
    close(torch.stack(outputs, 1), mixer(x))


@both
@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("padded", [False, True])
def test_prefill_and_steps_equal_the_forward_pass_with_the_same_gradients(kind, block, padded):
    mixer, x = build(kind, block)
    mask, lengths = (REAL, LENGTHS) if padded else (None, torch.full_like(LENGTHS, LENGTH))
    x.requires_grad_()
    more = torch.randn(USERS, 3, DIM)
    y, state = mixer.prefill(x, mask)
    close(y[REAL], mixer(x)[REAL])
    steps = []
    for place in range(3):
        out, state = mixer.step(more[:, place], state)
        steps.append(out)
    wanted = [
        mixer(torch.cat([x[user : user + 1, :length], more[user : user + 1]], 1))[0, length:]
        for user, length in enumerate(lengths.tolist())
    ]
    found, wanted = torch.stack(steps, 1), torch.stack(wanted)
    close(found, wanted)
    leaves = [x, *mixer.parameters()]
    weight = torch.randn_like(found)
    one, other = (torch.autograd.grad((states * weight).sum(), leaves, allow_unused=True) for states in (found, wanted))
    for mine, expected in zip(one, other, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_step_does_not_modify_its_state(kind):
    mixer, x = build(kind)
    state = mixer.prefill(x, REAL)[1]
    first = mixer.step(x[:, 0], state)[0].clone()
    mixer.step(x[:, 1], mixer.step(x[:, 2], state)[1])
    close(mixer.step(x[:, 0], state)[0], first)


@pytest.mark.parametrize("kind", ALL)
def test_watched_is_the_same(kind):
    mixer, x = build(kind)
    plain = forward(mixer, x, REAL)
    with seqlab.watch(mixer) as trace:
        watched = forward(mixer, x, REAL)
    close(watched[REAL], plain[REAL])
    for name in trace:
        assert len(trace[name].axes) == trace[name].values.dim()
