"""vector-quantize-pytorch's ResidualVQ on the item vectors that seqlab's tokenizers get; run by seqlab's Python.

    python tests/benchmarks/peers/with_vector_quantize.py tokenize amazon-beauty --data .bench/data

As its README has it: codes started by k-means, dead ones replaced, moving averages; everything else is its default.
Twice: batches of 1,024 items, and all items at once. After 1, 2, 5, 10, ... epochs: the seconds of training so far and
the variance that its codes leave unexplained, until that gets no better or half the budget is spent.
"""

from __future__ import annotations

import time

import clock
import numpy as np
import protocol
import torch
from vector_quantize_pytorch import ResidualVQ

EPOCHS = (1, 2, 5, 10, 20, 50, 100, 200)


def tokenize(given) -> None:
    vectors = np.load(given.folder / "vectors.npy")
    data = torch.from_numpy(vectors - vectors.mean(0))
    points = []
    for batch in (1024, len(data)):
        torch.manual_seed(0)
        ends = time.perf_counter() + 30 * given.minutes
        quantiser = ResidualVQ(
            dim=data.shape[1], codebook_size=protocol.CODES, num_quantizers=protocol.LEVELS, kmeans_init=True,
            kmeans_iters=10, threshold_ema_dead_code=2,
        )  # fmt: skip
        seconds, best = 0.0, float("inf")
        for epoch in range(1, EPOCHS[-1] + 1):
            quantiser.train()
            began = time.perf_counter()
            for rows in torch.randperm(len(data)).split(batch):
                quantiser(data[rows][None])
            seconds += time.perf_counter() - began
            if epoch not in EPOCHS:
                continue
            quantiser.eval()
            with torch.no_grad():
                left = protocol.variance_left(data.numpy(), quantiser(data[None])[0][0].numpy())
            points.append({"tool": "ResidualVQ", "batch": batch, "epochs": epoch, "seconds": seconds, "left": left})
            if left > 0.999 * best or time.perf_counter() > ends:
                break
            best = left
    packages = ("vector-quantize-pytorch", "torch", "numpy")
    protocol.tell(given, packages, points=points, memory_mb=clock.peak_mb())


if __name__ == "__main__":
    given = protocol.options(__doc__.splitlines()[0])
    torch.set_num_threads(given.threads)
    {"tokenize": tokenize}[given.measurement](given)
