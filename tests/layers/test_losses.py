"""Every loss against its formula written plainly, in float64, value and gradient."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.layers import losses

torch.set_num_threads(1)

N, D = 30, 8


def all_logits(hidden, table, targets):
    """Cross-entropy with all (M, N) logits at once: the oracle of `losses.softmax`."""
    return F.cross_entropy(hidden @ table[1:].T, targets - 1)


def drawn(rows, seed=0, dtype=torch.float32):
    """hidden (rows, D), table (N + 1, D) and targets (rows,), both first with gradients."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, D, generator=generator, dtype=torch.float64)
    table = torch.randn(N + 1, D, generator=generator, dtype=torch.float64)
    targets = torch.randint(1, N + 1, (rows,), generator=generator)
    return hidden.to(dtype).requires_grad_(), table.to(dtype).requires_grad_(), targets


def value_and_gradients(loss, hidden, table):
    return loss.detach(), *torch.autograd.grad(3 * loss, (hidden, table))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 2, 255, 256, 257, 600])
@pytest.mark.parametrize("times", [1, 20])
def test_chunked_softmax_is_cross_entropy_whatever_the_chunks_and_the_size_of_scores(rows, times, dtype):
    exact, ours = drawn(rows, dtype=torch.float64), drawn(rows, dtype=dtype)
    with torch.no_grad():
        for hidden in (exact[0], ours[0]):
            hidden *= times
    expected = value_and_gradients(all_logits(*exact), *exact[:2])
    for got, wanted in zip(value_and_gradients(losses.softmax(*ours), *ours[:2]), expected, strict=True):
        torch.testing.assert_close(got.double(), wanted, atol=2e-6 * times, rtol=1e-5)
    assert float(expected[2][0].abs().sum()) == 0, "padding takes no part"


def test_a_compiler_leaves_the_chunks_alone():
    seen = []  # unrolled, they take it minutes, and it makes them no faster

    def compiler(graph, inputs):
        seen.append(graph.code)
        return graph.forward

    torch.compile(lambda *given: losses.softmax(*given), backend=compiler)(*drawn(600))
    assert not seen


def test_chunked_softmax_survives_scores_beyond_what_exp_can_hold():
    hidden, table, targets = drawn(5)
    with torch.no_grad():
        hidden *= 1e3
    loss = losses.softmax(hidden, table, targets)
    torch.testing.assert_close(loss, all_logits(hidden, table, targets), rtol=1e-5, atol=1e-4)
    loss.backward()
    assert hidden.grad.isfinite().all() and table.grad.isfinite().all()


def test_chunked_softmax_takes_bfloat16_states_as_autocast_makes_them():
    hidden, table, targets = drawn(300)
    half = hidden.detach().bfloat16().requires_grad_()
    loss = losses.softmax(half, table, targets)
    loss.backward()
    assert half.grad.dtype == torch.bfloat16 and table.grad.dtype == torch.float32
    torch.testing.assert_close(loss, all_logits(half.float(), table, targets), rtol=1e-4, atol=1e-4)


def test_chunked_softmax_under_autocast_multiplies_in_half_precision_and_stays_near():
    hidden, table, targets = drawn(300)
    expected = value_and_gradients(all_logits(hidden, table, targets), hidden, table)
    with torch.autocast("cpu", torch.bfloat16):
        got = value_and_gradients(losses.softmax(hidden, table, targets), hidden, table)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == torch.float32 and not torch.equal(one, other)
        assert float((one - other).norm() / other.norm()) < 0.01


def test_sampling_everything_is_the_whole_softmax():
    exact = drawn(7, dtype=torch.float64)
    everything = torch.arange(1, N + 1)
    expected = value_and_gradients(all_logits(*exact), *exact[:2])
    got = value_and_gradients(losses.sampled_softmax(*exact, everything), *exact[:2])
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_negative_that_is_the_target_counts_for_other_rows_only():
    hidden, table, _ = drawn(2)
    loss = losses.sampled_softmax(hidden, table, torch.tensor([4, 5]), torch.tensor([4, 9]))
    plain = [
        F.cross_entropy(hidden[row] @ table[torch.tensor(candidates)].T, torch.tensor(0))
        for row, candidates in enumerate(([4, 9], [5, 4, 9]))
    ]
    torch.testing.assert_close(loss, torch.stack(plain).mean())


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, N - 1), st.floats(0, 1), st.integers(0, 99))
def test_gbce_is_equation_6(rows, count, t, seed):
    exact = drawn(rows, seed, torch.float64)
    hidden, table, targets = exact
    negatives = torch.randint(1, N + 1, (rows, count), generator=torch.Generator().manual_seed(seed))
    alpha = count / (N - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    expected = 0.0
    for row in range(rows):
        positive = torch.sigmoid(hidden[row] @ table[targets[row]]) ** beta
        negative = torch.sigmoid(table[negatives[row]] @ hidden[row])
        expected = expected - (positive.log() + (1 - negative).log().sum()) / (count + 1) / rows
    got = value_and_gradients(losses.gbce(*exact, negatives, t), hidden, table)
    for one, other in zip(got, value_and_gradients(expected, hidden, table), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)


def test_bce_is_the_binary_cross_entropy_of_torch():
    exact = drawn(9, dtype=torch.float64)
    hidden, table, targets = exact
    negatives = torch.randint(1, N + 1, (9, 3))
    positive = (hidden * table[targets]).sum(1, keepdim=True)
    logits = torch.cat([positive, (table[negatives] @ hidden[:, :, None])[:, :, 0]], 1)
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    torch.testing.assert_close(losses.bce(*exact, negatives), F.binary_cross_entropy_with_logits(logits, labels))
    torch.testing.assert_close(losses.gbce(*exact, negatives, 0.0), losses.bce(*exact, negatives))


def test_a_saturated_score_does_not_make_gbce_infinite():
    hidden, table = torch.full((1, 1), 1e3, requires_grad=True), torch.ones(4, 1)
    loss = losses.gbce(hidden, table, torch.tensor([1]), torch.tensor([[2]]))
    loss.backward()
    assert loss.isfinite() and hidden.grad.isfinite().all()


@pytest.mark.parametrize("name", ["softmax", "sampled_softmax", "bce", "gbce"])
def test_losses_are_found_by_name_and_never_sample_padding(name):
    torch.manual_seed(0)
    hidden, table, targets = drawn(40)
    loss = losses.next_item_loss(name, hidden, table, targets, negatives=500)
    _, d_table = torch.autograd.grad(loss, (hidden, table))
    assert float(d_table[0].abs().sum()) == 0 and bool((d_table[1:].abs().sum(1) > 0).all())


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss 'hinge' is unknown; there are softmax"):
        losses.next_item_loss("hinge", *drawn(2), negatives=1)
