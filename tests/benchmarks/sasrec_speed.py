"""How fast SASRec trains and ranks here, and which cross-entropy is fastest: python tests/benchmarks/sasrec_speed.py

Needs amazon-beauty (see data/README.md). Prints targets per second of training with full softmax (max_length 50,
dim 64, 2 layers, AdamW), seconds to rank every item for every test user, and forward + backward of each way to
compute the softmax loss, as a ratio to the plain one. Everything in one run, so that ratios hold on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from seqlab import datasets, models, tasks
from seqlab.layers import losses

STEPS, TOKENS = 30, 4096


def seconds(action: Callable[[], object], times: int) -> float:
    """Seconds per call, the first call not counted."""
    action()
    began = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - began) / times


def train(split: datasets.Split) -> float:
    """True targets per second."""
    model = models.build("sasrec", split.n_items, {"max_length": 50, "dim": 64, "layers": 2, "loss": "softmax"})
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    targets, began = 0, time.perf_counter()
    for step, batch in enumerate(split.train.training_batches(50, TOKENS, seed=0)):
        if step == 3:  # after warming up
            targets, began = 0, time.perf_counter()
        if step == 3 + STEPS:
            break
        optimizer.zero_grad(set_to_none=True)
        model.loss(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        targets += int((batch.targets > 0).sum())
    return targets / (time.perf_counter() - began)


def cross_entropies(n_items: int) -> dict[str, float]:
    """Seconds of forward and backward for TOKENS targets, by method."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, 64, generator=generator, requires_grad=True)
    table = (0.2 * torch.randn(n_items + 1, 64, generator=generator)).requires_grad_()
    targets = torch.randint(1, n_items + 1, (TOKENS,), generator=generator)
    linear = torch.nn.LinearCrossEntropyOptions()
    methods = {
        "plain, all logits": lambda: torch.nn.functional.cross_entropy(hidden @ table[1:].T, targets - 1),
        "F.linear_cross_entropy": lambda: F.linear_cross_entropy(hidden, table[1:], targets - 1, options=linear),
        "seqlab.layers.losses.softmax": lambda: losses.softmax(hidden, table, targets),
    }
    return {name: seconds(lambda method=method: method().backward(), 5) for name, method in methods.items()}


def main() -> None:
    split = datasets.leave_one_out(datasets.load("amazon-beauty"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"training, full softmax: {train(split):,.0f} true targets/s")
    model = models.build("sasrec", split.n_items)
    ranking = seconds(lambda: tasks.measure(model, split), 2)
    print(f"full ranking of {len(split.test):,} users x {split.n_items:,} items: {ranking:.2f} s")
    timed = cross_entropies(split.n_items)
    plain = next(iter(timed.values()))
    for name, each in timed.items():
        print(f"{name}: {each * 1e3:.0f} ms, {plain / each:.2f} times as fast as the plain one")


if __name__ == "__main__":
    main()
