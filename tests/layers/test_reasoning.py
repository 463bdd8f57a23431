"""Thoughts: kept keys give what a whole forward pass gives, every place thinks for itself, who stops costs nothing."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import seqlab
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.reasoning import Stack, reason
from seqlab.layers.transformer import Block
from seqlab.tracing import Tap

torch.set_num_threads(1)

USERS, LENGTH, DIM, STEPS = 4, 6, 8, 3
LENGTHS = torch.tensor([6, 1, 4, 2])
END = (LENGTHS - 1)[:, None]
REAL = torch.arange(LENGTH) < LENGTHS[:, None]

both_kinds = pytest.mark.parametrize("causal", [True, False])


def parts(causal, layers=2):
    """Blocks with weights large enough to matter, in a module of their own; histories; reasoning positions."""
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "blocks": nn.ModuleList(Block(Attention(DIM, 2, causal), DIM, 0.0) for _ in range(layers)),
            "norm": nn.LayerNorm(DIM),
        }
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model, torch.randn(USERS, LENGTH, DIM), torch.randn(STEPS, DIM)


def stack(model):
    return Stack(model["blocks"], model["norm"])


def at_end(model, x, positions, steps=STEPS, **options):
    """Thoughts at the end of each history: (B, S + 1, D)."""
    encoder = stack(model)
    first, cache = encoder.prefill_last(x, END, REAL)
    return reason(encoder, first, cache, steps, positions, **options)[:, 0]


def uncached(model, history, positions, steps=STEPS):
    """One history (T, D) without padding and without a cache: all is read again for every thought."""
    tokens, states = history, []
    causal = model["blocks"][0].mixer.causal
    for step in range(steps + 1):
        sees = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
        if not causal:
            sees[: len(history), : len(history)] = True
        x = tokens[None]
        for block in model["blocks"]:
            query, key, value = block.mixer.project(block.before_mixer(x))
            mixed = F.scaled_dot_product_attention(query, key, value, sees)
            x = block.feed(x + block.mixer.project_out(mixed.transpose(1, 2).flatten(2)))
        states.append(model["norm"](x)[0, -1])
        if step < steps:
            thought = states[-1] if positions is None else states[-1] + positions[step]
            tokens = torch.cat([tokens, thought[None]])
    return torch.stack(states)  # (S + 1, D)


@both_kinds
@pytest.mark.parametrize("naive", [False, True])
def test_steps_from_the_cache_equal_the_full_pass(causal, naive):
    model, x, positions = parts(causal)
    positions = None if naive else positions
    wanted = torch.stack([uncached(model, x[user, : LENGTHS[user]], positions) for user in range(USERS)])
    torch.testing.assert_close(at_end(model, x, positions), wanted, atol=1e-5, rtol=1e-5)
    encoder, row = stack(model), torch.arange(USERS)[:, None]
    states, cache = encoder.prefill(x, END, REAL)
    read_whole = reason(encoder, states[row, END], cache, STEPS, positions)[:, 0]
    torch.testing.assert_close(read_whole, wanted, atol=1e-5, rtol=1e-5)


@both_kinds
def test_no_steps_are_the_plain_encoder(causal):
    model, x, positions = parts(causal)
    plain = x
    for block in model["blocks"]:
        plain = block(plain, None if causal else REAL)
    wanted = model["norm"](plain)[torch.arange(USERS), LENGTHS - 1]
    states = at_end(model, x, positions, steps=0)
    assert states.shape == (USERS, 1, DIM)
    torch.testing.assert_close(states[:, 0], wanted, atol=1e-5, rtol=1e-5)


def test_every_position_reasons_as_if_its_history_ended_there_with_the_same_gradients():
    model, x, positions = parts(causal=True)
    at = torch.tensor([[5, 0, 3], [0, 0, 0], [1, 3, 2], [1, 0, 1]])
    encoder, weight = stack(model), torch.randn(USERS, 3, STEPS + 1, DIM)
    x.requires_grad_()
    leaves = [x, *model.parameters()]
    states, cache = encoder.prefill(x, at)
    together = reason(encoder, states[torch.arange(USERS)[:, None], at], cache, STEPS, positions)
    alone = torch.stack(
        [torch.stack([uncached(model, x[user, : place + 1], positions) for place in at[user]]) for user in range(USERS)]
    )
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    one, other = (torch.autograd.grad((states * weight).sum(), leaves) for states in (together, alone))
    for mine, wanted in zip(one, other, strict=True):
        torch.testing.assert_close(mine, wanted, atol=2e-4, rtol=1e-3)


@both_kinds
def test_a_step_attends_to_nothing_after_its_position(causal):
    """Not at padding either: its mask is one row, that of its own place."""
    model, x, positions = parts(causal)
    before = at_end(model, x, positions)
    other = torch.randn_like(x)  # a norm would not see a shift
    changed = torch.where(REAL[..., None], x, other)
    torch.testing.assert_close(at_end(model, changed, positions), before, atol=1e-5, rtol=1e-5)
    changed = torch.where(torch.arange(LENGTH)[:, None] == 0, other, x)
    assert float((at_end(model, changed, positions) - before).abs().amax((1, 2)).detach().min()) > 1e-3


@both_kinds
def test_a_watched_pass_is_the_same_and_records_history_and_steps(causal):
    model, x, positions = parts(causal)
    unwatched = at_end(model, x, positions)
    with seqlab.watch(model) as trace:
        watched = at_end(model, x, positions)
    torch.testing.assert_close(watched, unwatched, atol=1e-5, rtol=1e-5)
    weights = trace["attention"].passes[-1].values  # (layer, B, H, T + S, T + S)
    assert weights.shape == (2, USERS, 2, LENGTH + STEPS, LENGTH + STEPS)
    history, thoughts = weights[..., :LENGTH, :], weights[..., LENGTH:, :]
    assert float(history[..., LENGTH:].abs().max()) == 0, "the history does not know what is thought of it"
    torch.testing.assert_close(thoughts.sum(-1), torch.ones(2, USERS, 2, STEPS))
    allowed = torch.cat([REAL[:, None].expand(-1, STEPS, -1), torch.ones(USERS, STEPS, STEPS).tril().bool()], -1)
    assert torch.equal(thoughts > 0, allowed[None, :, None].expand_as(thoughts))
    lengths = range(LENGTH, LENGTH + STEPS + 1)  # every step is one token more
    assert [one.values.shape for one in trace["hidden"].passes] == [(2, USERS, length, DIM) for length in lengths]


@both_kinds
def test_without_attention_each_step_depends_on_the_one_before_only(causal):
    model, x, positions = parts(causal)
    off = {f"blocks.{layer}.mixer.weights": torch.zeros_like for layer in range(2)}
    with seqlab.patch(model, off):
        before = at_end(model, x, positions)
        x[:, 0] = torch.randn(USERS, DIM)
        after = at_end(model, x, positions)
    longer = LENGTHS > 1  # whose last event is another one than the first
    torch.testing.assert_close(after[longer], before[longer])
    assert not torch.allclose(after[~longer], before[~longer])


@both_kinds
def test_replacing_one_state_changes_those_after_it_only(causal):
    model, x, positions = parts(causal)
    model["reasoning_step"] = nn.ModuleList(Tap("reasoning_step", "user dim") for _ in range(STEPS + 1))
    before = at_end(model, x, positions, taps=model["reasoning_step"])
    torch.testing.assert_close(before, at_end(model, x, positions))
    with (
        seqlab.patch(model, {"reasoning_step.1": lambda state: state.roll(1, 0)}),
        seqlab.watch(model, "reasoning_step") as trace,
    ):
        after = at_end(model, x, positions, taps=model["reasoning_step"])
    torch.testing.assert_close(after[:, 0], before[:, 0])
    torch.testing.assert_close(after[:, 1], before[:, 1].roll(1, 0))
    assert float((after - before)[:, 2:].abs().amax(-1).detach().min()) > 1e-3
    torch.testing.assert_close(trace["reasoning_step"].values.transpose(0, 1), after.detach())


class Echo:
    """An encoder whose states are its input, and which counts the rows."""

    def __init__(self):
        self.heard = []

    def decode_step(self, x, cache):
        self.heard.append(len(x))
        return x, cache


class Rows:
    def select(self, which):
        return self


def test_what_is_fed_back_is_the_rescaled_state_its_position_and_noise_after_dropout():
    first, positions = torch.randn(3, 2, DIM), torch.randn(STEPS, DIM)
    states = reason(Echo(), first, None, 2, positions, rescale=lambda r: 2 * r, dropout=lambda x: -x)
    torch.testing.assert_close(states[:, :, 1], -(2 * first + positions[0]))
    torch.testing.assert_close(states[:, :, 2], -(2 * states[:, :, 1] + positions[1]))
    torch.manual_seed(0)
    noisy = reason(Echo(), torch.zeros(64, 64, DIM), None, 2, noise=0.3)
    assert float(noisy[:, :, 0].abs().max()) == 0
    assert float(noisy[:, :, 1].std()) == pytest.approx(0.3, rel=0.02)
    assert float(noisy[:, :, 2].std()) == pytest.approx(0.3 * math.sqrt(2), rel=0.02)  # it was fed noise already


def test_a_stopped_user_keeps_the_state_and_is_not_computed_further():
    first, positions, echo = torch.zeros(4, 1, 1), torch.ones(3, 1), Echo()
    leave_after = torch.tensor([2, 0, 3, 1])  # thoughts, by user
    here = torch.arange(4)

    def keep_going(step, states):
        nonlocal here
        assert torch.equal(states[:, 0, 0], torch.full((len(here),), float(step)))
        staying = leave_after[here] > step
        here = here[staying]
        return staying

    states = reason(echo, first, Rows(), 3, positions, keep_going=keep_going)
    assert states[:, 0, :, 0].tolist() == [[0, 1, 2, 2], [0, 0, 0, 0], [0, 1, 2, 3], [0, 1, 1, 1]]
    assert echo.heard == [3, 2, 1]
    echo.heard.clear()
    assert reason(echo, first, Rows(), 3, positions, keep_going=lambda step, states: states[:, 0, 0] < 0).shape == (
        4,
        1,
        4,
        1,
    )
    assert echo.heard == []


@both_kinds
@pytest.mark.parametrize("watched", [False, True])
def test_active_users_do_not_depend_on_stopped_ones(causal, watched):
    model, x, positions = parts(causal)
    whole = at_end(model, x, positions)
    steps = torch.tensor([1, 3, 0, 2])
    who = [torch.tensor([0, 1, 3]), torch.tensor([1, 3]), torch.tensor([1])]

    def keep_going(step, states):
        return torch.isin(torch.arange(USERS) if step == 0 else who[step - 1], who[step])

    with seqlab.watch(model, *(() if watched else ("nothing",))):
        some = at_end(model, x, positions, keep_going=keep_going)
    kept = torch.arange(STEPS + 1).minimum(steps[:, None])  # the step whose state each one holds
    wanted = whole.gather(1, kept[..., None].expand(-1, -1, DIM))
    torch.testing.assert_close(some, wanted, atol=1e-5, rtol=1e-5)


def test_wrong_arguments_are_refused():
    model, x, positions = parts(causal=False)
    with pytest.raises(ValueError, match="encoded both ways can be reasoned about at one position, not 2"):
        stack(model).prefill(x, torch.tensor([[0, 1]]).expand(USERS, -1), REAL)
    with pytest.raises(ValueError, match="4 steps need as many reasoning positions; there are 3"):
        at_end(model, x, positions, steps=4)
    with pytest.raises(ValueError, match="taps see one position per user, not 2"):
        reason(Echo(), torch.zeros(1, 2, DIM), None, 1, taps=[Tap("reasoning_step", "user dim")] * 2)


@both_kinds
def test_half_precision_has_nearly_the_same_states_and_finite_gradients(causal):
    model, x, positions = parts(causal)
    positions.requires_grad_()
    whole = at_end(model, x, positions)
    with torch.autocast("cpu", torch.bfloat16):
        half = at_end(model, x, positions)
    off = (half.float() - whole).norm(dim=-1) / whole.norm(dim=-1)
    assert float(off.detach().max()) < 0.05
    half.float().pow(2).sum().backward()
    assert bool(positions.grad.isfinite().all()) and float(positions.grad.abs().amax(1).min()) > 0


def test_compiled_steps_are_the_same():
    model, x, positions = parts(causal=True, layers=1)

    def places(x, at):
        encoder = stack(model)
        states, cache = encoder.prefill(x, at)
        first = states[torch.arange(len(x))[:, None], at]
        return reason(encoder, first, cache, 2, positions)

    at = torch.stack([torch.zeros_like(LENGTHS), LENGTHS - 1], 1)
    compiled = torch.compile(places, fullgraph=True, backend="aot_eager")  # in one piece: no detour through Python
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, at), places(x, at), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@both_kinds
def test_states_on_a_gpu_are_the_same(causal):
    model, x, positions = parts(causal)
    wanted = at_end(model, x, positions)
    encoder = stack(model.cuda())
    first, cache = encoder.prefill_last(x.cuda(), END.cuda(), REAL.cuda())
    states = reason(encoder, first, cache, STEPS, positions.cuda())[:, 0]
    torch.testing.assert_close(states.cpu(), wanted, atol=1e-4, rtol=1e-4)
