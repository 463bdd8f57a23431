"""What a beam costs as the catalogue grows: python tests/benchmarks/beam_growth.py

Synthetic catalogues of 1,000 to 200,000 items with random codes (4 levels of 256, the low ones more often), the
default TIGER with random weights, 128 users with 20 items of history, a beam of 20. Prints a table: seconds to build
the trie, milliseconds of processor time per user on one thread, the same as a multiple of the smallest catalogue's and
of the logarithm's growth, and the most memory the process ever held.
"""

from __future__ import annotations

import math
import resource
import time

import torch

from seqlab import models
from seqlab.datasets.sequences import Batch
from seqlab.tokenizers import CodeBook

LEVELS, WIDTH, USERS, HISTORY, BATCH = (256, 256, 256, 256), 20, 128, 20, 64
CATALOGUES = (1_000, 12_000, 50_000, 200_000)


def measure(n_items: int) -> tuple[float, float]:
    """Seconds to build code book and trie, and processor seconds per user (the best of five)."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.rand(n_items + 1, len(LEVELS), generator=generator).square().mul(256).long()
    began = time.process_time()
    book = CodeBook(codes, LEVELS)
    built = time.process_time() - began
    torch.manual_seed(0)
    model = models.build("tiger", n_items).eval()
    model.ids.assign(book)
    items = torch.randint(1, n_items + 1, (USERS, HISTORY), generator=generator)
    parts = (items, items.double(), torch.full((USERS,), HISTORY), torch.arange(USERS))
    batches = [Batch(*(part[first : first + BATCH] for part in parts)) for first in range(0, USERS, BATCH)]
    best = math.inf
    for _ in range(5):
        began = time.process_time()
        for batch in batches:
            model.recommend(batch, WIDTH)
        best = min(best, (time.process_time() - began) / USERS)
    return built, best


def main() -> None:
    torch.set_num_threads(1)
    first = 0.0
    print("  items | trie, s | ms per user | times the first | log of items, times the first | peak memory, GB")
    for n_items in CATALOGUES:
        built, each = measure(n_items)
        first = first or each
        growth = math.log(n_items) / math.log(CATALOGUES[0])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes on Linux
        print(f"{n_items:7,} | {built:7.2f} | {each * 1e3:11.2f} | {each / first:15.2f} | {growth:29.2f} | {peak:.2f}")


if __name__ == "__main__":
    main()
