"""The scan against its plain loop: values, gradients, strong decays; and against Mamba's reference."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seqlab.layers.mixers import scan
from seqlab.layers.mixers.scan import selective_loop, selective_scan

torch.set_num_threads(1)

AUTHORS = load_file(Path(__file__).with_name("mamba.safetensors"))
"""selective_scan_ref and the Mamba layer of state-spaces/mamba at e9594ce, on random inputs and weights."""


def selective_inputs(users=3, length=37, channels=6, states=4, dt=0.5, dtype=torch.float64):
    torch.manual_seed(0)
    x, B, C = (torch.randn(users, length, size) for size in (channels, states, states))
    steps = torch.nn.functional.softplus(torch.randn(users, length, channels)) * dt
    A, initial = -torch.arange(1.0, states + 1).repeat(channels, 1), torch.randn(users, channels, states)
    return [part.to(dtype).requires_grad_() for part in (x, steps, A, B, C, initial)]


def values_and_gradients(function, inputs):
    """Results of a function of tensors, and the gradients of a fixed weighing of them."""
    results = function(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    torch.manual_seed(1)
    total = sum((part * torch.randn(part.shape, dtype=part.dtype)).sum() for part in results)
    return [*results, *torch.autograd.grad(total, inputs)]


def errors(found, expected):
    """The largest error of each tensor, as a part of the largest of its numbers."""
    return [
        float((one.detach().double() - other.detach()).abs().max() / other.detach().abs().max())
        for one, other in zip(found, expected, strict=True)
    ]


@pytest.mark.parametrize("block", [1, 100, 1 << 16])
@pytest.mark.parametrize("length", [1, 2, 37])
def test_selective_scan_is_the_loop_in_value_and_gradient(block, length, monkeypatch):
    """In blocks of one step, of some with a shorter last one, and in one block."""
    monkeypatch.setattr(scan, "BLOCK", block)
    inputs = selective_inputs(length=length, users=1 if block == 100 else 3)
    found = values_and_gradients(selective_scan, inputs)
    assert max(errors(found, values_and_gradients(selective_loop, inputs))) < 1e-12


def test_single_precision_is_within_a_millionth_of_the_loop_in_double():
    single = selective_inputs(2, 400, 16, 8, dt=0.1, dtype=torch.float32)
    double = [part.detach().double().requires_grad_() for part in single]
    found = values_and_gradients(selective_scan, single)
    results = selective_loop(*double)
    torch.manual_seed(1)
    weights = [torch.randn(part.shape) for part in found[:2]]
    total = sum((part * weight.double()).sum() for part, weight in zip(results, weights, strict=True))
    assert max(errors(found, [*results, *torch.autograd.grad(total, double)])) < 1e-6


@pytest.mark.parametrize("dt", [1e-6, 50.0, 1e4])
def test_no_decay_makes_nan(dt):
    """Products of decays underflow within a few steps, and a division by them would be 0 / 0."""
    inputs = selective_inputs(length=300, dt=dt, dtype=torch.float32)
    assert all(bool(part.isfinite().all()) for part in values_and_gradients(selective_scan, inputs))


def test_a_step_of_0_keeps_the_state_and_a_scan_goes_on_from_a_state():
    x, dt, A, B, C, initial = (part.detach() for part in selective_inputs())
    dt[1, 20:] = 0
    y, last = selective_scan(x, dt, A, B, C, initial)
    _, before = selective_scan(*(part[:, :20] for part in (x, dt)), A, *(part[:, :20] for part in (B, C)), initial)
    torch.testing.assert_close(last[1], before[1])
    rest, end = selective_scan(*(part[:, 20:] for part in (x, dt)), A, *(part[:, 20:] for part in (B, C)), before)
    torch.testing.assert_close(rest, y[:, 20:])
    torch.testing.assert_close(end, last)


def test_half_precision_is_scanned_in_single():
    inputs = [part.detach().float() for part in selective_inputs()]
    halves = [part.bfloat16() if index in (0, 3, 4) else part for index, part in enumerate(inputs)]
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = selective_scan(*halves)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, selective_scan(*(part.float() for part in halves))[0])


def test_values_and_gradients_are_those_of_the_authors():
    names = ("x", "dt", "A", "B", "C")
    inputs = {name: AUTHORS[name].clone() for name in names}
    for name in ("x", "dt", "B", "C"):
        inputs[name] = inputs[name].transpose(1, 2).contiguous()  # theirs: time last
    for part in inputs.values():
        part.requires_grad_()
    y, last = selective_scan(*inputs.values())
    torch.testing.assert_close(y.transpose(1, 2), AUTHORS["y"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, AUTHORS["last"], atol=1e-5, rtol=1e-5)
    total = (y.transpose(1, 2) * AUTHORS["weight"]).sum()
    for name, found in zip(names, torch.autograd.grad(total, list(inputs.values())), strict=True):
        expected = AUTHORS[f"grad.{name}"]
        found = found if name == "A" else found.transpose(1, 2)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
