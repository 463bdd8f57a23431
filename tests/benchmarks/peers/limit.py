"""What this machine allows: the multiply-adds of a SASRec target over the rate at which it multiplies matrices.

    python tests/benchmarks/peers/limit.py limit amazon-beauty --data .bench/data

Prints the multiply-adds of one true target (see `multiply_adds`), and the rates of the machine in float32 and bf16: of
large square matrices, and of the shapes that training multiplies, each weighted by its share of the work. What trains
at a rate of targets has reached the share `targets per second * multiply-adds / rate` of what is possible; a machine
that others use too has another rate every minute, so `with_seqlab.py` asks for `shapes` after every epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import clock
import protocol
import torch
from torch import Tensor

from seqlab import presets
from seqlab.layers import losses
from seqlab.optimization.options import Options

BACKWARD = 3  # a product costs one in the forward pass, and one for the gradient of each of its factors
CUBE, SECONDS, GLANCE = 1024, 0.5, 0.1


def multiply_adds(lengths: Tensor, n_items: int, dim: int, layers: int) -> dict[str, float]:
    """Multiply-adds that one target needs in training, forward and backward, by kind of product.

    lengths (U,): inputs of each history, at most L; each has as many targets, and nothing is spent on padding.
    layers: 4 D**2 for queries, keys, values and output and 8 D**2 for a feed-forward layer four times as wide, so
        12 D**2 a position and layer.
    attention: position t looks at t keys (what lies ahead is not needed): t D for the weights and t D for the mix, so
        D (n + 1) on average over a history of n, and a layer.
    softmax: N D for the logits over the catalogue.
    Looking up embeddings, norms, dropout, exponentials and the optimiser multiply no matrices and are left out.
    """
    targets = lengths.sum()
    keys = (lengths * (lengths + 1)).sum() / targets  # 2 t summed over a history is n (n + 1)
    parts = {"layers": layers * 12 * dim**2, "attention": layers * dim * float(keys), "softmax": n_items * dim}
    return {name: BACKWARD * float(part) for name, part in parts.items()}


def rate(product: Callable[[], Tensor], work: float, seconds: float) -> float:
    """Multiply-adds a second of a product that needs so many, the best turn within `seconds`, of two at least."""
    best, turns, ends = 0.0, 0, time.perf_counter() + seconds
    while turns < 2 or time.perf_counter() < ends:
        began, times = clock.now(), max(1, int(2e8 / work))
        for _ in range(times):
            product()
        best, turns = max(best, times * work / (clock.now() - began)), turns + 1
    return best


@dataclass(frozen=True)
class Work:
    """What training a dataset multiplies: its shapes, and how much of each kind."""

    positions: int  # of a batch
    length: int  # of a history, on average
    n_items: int
    needed: dict[str, float]  # `multiply_adds` of a target

    @classmethod
    def of(cls, given) -> Work:
        data = protocol.handed(given.folder)
        lengths = (data.starts.diff() - 1).clamp(max=given.max_length)
        chosen = presets.sections("sasrec")[given.base].options
        needed = multiply_adds(lengths, data.n_items, protocol.DIM, protocol.LAYERS)
        length = max(1, int(lengths.float().mean()))
        return cls(chosen.get("tokens", Options().tokens), length, data.n_items, needed)


def rates(work: Work, dtype: torch.dtype, device: str, seconds: float = SECONDS) -> dict[str, float]:
    """Multiply-adds a second of a large cube, of the shapes of each kind, and of all "shapes" by their share."""

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).to(dtype)

    def of(a: Tensor, b: Tensor) -> float:
        return rate(lambda: a @ b, a.numel() * b.shape[-1], seconds)

    positions, length, n_items = work.positions, work.length, work.n_items
    dim, each = protocol.DIM, protocol.DIM // protocol.HEADS
    groups = max(1, positions // length) * protocol.HEADS
    wide, narrow = drawn(positions, 4 * dim), drawn(positions, dim)
    table = drawn(n_items, dim)
    rows = losses.rows_at_once(table)
    logits, states = drawn(rows, n_items), drawn(rows, dim)
    kinds = {
        "layers": [(narrow, drawn(dim, 4 * dim)), (wide, drawn(4 * dim, dim)), (narrow.T, wide)],
        "attention": [
            (drawn(groups, length, each), drawn(groups, each, length)),
            (drawn(groups, length, length), drawn(groups, length, each)),
        ],
        "softmax": [(states, table.T), (logits, table), (logits.T, states)],
    }
    found = {"cube": of(drawn(CUBE, CUBE), drawn(CUBE, CUBE))}
    for kind, pairs in kinds.items():
        found[kind] = len(pairs) / sum(1 / of(a, b) for a, b in pairs)
    found["shapes"] = sum(work.needed.values()) / sum(work.needed[kind] / found[kind] for kind in work.needed)
    return found


def limit(given) -> None:
    work = Work.of(given)
    numbers = {"multiply_adds": work.needed}
    for dtype in (torch.float32, torch.bfloat16):
        numbers[str(dtype).removeprefix("torch.")] = rates(work, dtype, given.device)
    protocol.tell(given, ("torch", "numpy"), **numbers)


if __name__ == "__main__":
    given = protocol.options(__doc__.splitlines()[0])
    torch.set_num_threads(given.threads)
    {"limit": limit}[given.measurement](given)
