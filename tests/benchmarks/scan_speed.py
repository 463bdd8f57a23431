"""How fast the scans are, against their plain loops: python tests/benchmarks/scan_speed.py

The selective scan of (8, 1000, 64, 16) users, steps, channels and states, forward and backward, beside the loop over
`unbind`; its errors against the loop in double precision, as parts of the largest number of each tensor; the same by
length, which should be linear; and the FFT of S4D beside its recurrence. Then whole layers and an epoch's batches of
whole systems, by length of the history. Seconds of the processor on one thread, taken in turns, the best turn of each,
all in one run: ratios hold on any machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqlab import models
from seqlab.datasets.events import Events
from seqlab.datasets.sequences import Batch
from seqlab.layers.mixers.s4d import S4D
from seqlab.layers.mixers.scan import selective_loop, selective_scan

TURNS = 5
USERS, CHANNELS, STATES = 8, 64, 16
SYSTEMS = {"sasrec": {}, "gru4rec": {}, "s4rec": {}, "mamba4rec": {}}


def in_turns(actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of the processor of each action, the best of the turns; a first turn is not counted."""
    best = dict.fromkeys(actions, math.inf)
    for turn in range(TURNS + 1):
        for name, action in actions.items():
            began = time.process_time()
            action()
            if turn:
                best[name] = min(best[name], time.process_time() - began)
    return best


def inputs(length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """x, dt, A, B and C of a Mamba layer as it begins."""
    torch.manual_seed(0)
    x = torch.randn(USERS, length, CHANNELS)
    dt = torch.exp(torch.empty(USERS, length, CHANNELS).uniform_(math.log(1e-3), math.log(0.1)))
    A = -torch.arange(1.0, STATES + 1).repeat(CHANNELS, 1)
    B, C = torch.randn(2, USERS, length, STATES).unbind(0)
    return [part.to(dtype).requires_grad_() for part in (x, dt, A, B, C)]


def both(scan: Callable, parts: list[Tensor], weight: Tensor | None = None) -> tuple[Tensor, ...]:
    """Outputs and gradients."""
    y, _ = scan(*parts)
    return y.detach(), *torch.autograd.grad(y, parts, torch.ones_like(y) if weight is None else weight)


def scans() -> None:
    single, double = inputs(1000), inputs(1000, torch.float64)
    weight = torch.randn(USERS, 1000, CHANNELS)
    expected = both(selective_loop, double, weight.double())
    for name, scan in (("scan", selective_scan), ("loop", selective_loop)):
        found = both(scan, single, weight)
        errors = [float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)]
        print(f"{name}: largest errors of y, dx, ddt, dA, dB, dC: {' '.join(f'{error:.1e}' for error in errors)}")
    del expected, double
    with torch.no_grad():
        forward = in_turns({"loop": lambda: selective_loop(*single), "scan": lambda: selective_scan(*single)})
    seconds = in_turns({"loop": lambda: both(selective_loop, single), "scan": lambda: both(selective_scan, single)})
    for name, found in (("forward", forward), ("forward and backward", seconds)):
        ratio = found["loop"] / found["scan"]
        print(f"{name}: loop {found['loop']:.4f} s, scan {found['scan']:.4f} s, {ratio:.2f} times")
    parts = {length: inputs(length) for length in (250, 500, 1000, 2000, 4000)}
    seconds = in_turns({str(n): lambda n=n: both(selective_scan, parts[n]) for n in parts})
    print("scan by length, ms a step:", {n: round(1e3 * value / int(n), 4) for n, value in seconds.items()})


def convolutions() -> None:
    """The layer by FFT, by `step`, and the convolution alone beside a loop with the same decays for all steps."""
    for users, length in ((8, 50), (8, 200), (8, 1000), (1, 1000)):
        layer, x = S4D(64, 32), torch.randn(users, length, 64)

        def steps(layer: S4D = layer, x: Tensor = x) -> None:
            state = layer.prefill(x[:, :1], torch.zeros(len(x), 1, dtype=torch.bool))[1]
            for event in x.unbind(1):
                state = layer.step(event, state)[1]

        with torch.no_grad():
            seconds = in_turns({
                "layer": lambda: layer(x), "steps": steps, "fft": lambda: layer.convolve(x),  # noqa: B023
                "loop": lambda: layer.recur(x),  # noqa: B023
            })  # fmt: skip
        whole = in_turns({
            "loop": lambda: layer.recur(x).sum().backward(), "fft": lambda: layer.convolve(x).sum().backward()  # noqa: B023
        })  # fmt: skip
        print(f"S4D, {users} users, {length} events: layer {1e3 * seconds['layer']:.2f} ms, "
              f"steps {seconds['steps'] / seconds['layer']:.0f} times that; convolution {1e3 * seconds['fft']:.2f} ms, "
              f"loop {seconds['loop'] / seconds['fft']:.1f} times that, {whole['loop'] / whole['fft']:.1f} with the "
              "backward pass")  # fmt: skip


def systems() -> None:
    """Seconds for 4096 positions of training, 2000 items, at the default sizes (SASRec's layers for all)."""
    torch.manual_seed(0)
    for length in (50, 200, 1000):
        users = max(1, 4096 // length)
        items = torch.randint(1, 2001, (users, length + 1))
        times = torch.zeros(users, length, dtype=torch.float64)
        batch = Batch(Events(items[:, :-1], times), torch.full((users,), length), torch.arange(users),
                      Events(items[:, 1:], times))  # fmt: skip

        def step(model: nn.Module) -> Callable[[], object]:
            return lambda: model.loss(batch).total.backward()  # noqa: B023

        built = {name: models.build(name, 2000, {"max_length": length, **own}) for name, own in SYSTEMS.items()}
        seconds = in_turns({name: step(model) for name, model in built.items()})
        ratios = {name: f"{value / seconds['sasrec']:.2f}" for name, value in seconds.items()}
        print(f"{length} events a history: {ratios} of SASRec's {seconds['sasrec']:.3f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    scans()
    convolutions()
    systems()
