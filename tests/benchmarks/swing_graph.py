"""How long the exact Swing graph takes: SEQLAB_DATA=... python tests/benchmarks/swing_graph.py [datasets]

On the training events of leave-one-out, one thread, nothing read from the cache. "CPU, s" is what counts on a machine
that does other things too. The last columns say what the graph holds.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import torch

from seqlab import datasets
from seqlab.items import swing_graph as module

LINE = "{:<18} | {:>9} | {:>7} | {:>7} | {:>6} | {:>7} | {:>7} | {:>9} | {:>14}"


def main() -> None:
    torch.set_num_threads(1)
    module.WORTH_KEEPING = sys.maxsize
    heads = ("dataset", "events", "users", "items", "road", "wall, s", "CPU, s", "peak GB", "has neighbours")
    print(LINE.format(*heads))
    for name in sys.argv[1:] or ["amazon-beauty", "amazon2018-games", "ml-1m"]:
        split = datasets.leave_one_out(datasets.load(name))
        wall, own = time.perf_counter(), time.process_time()
        graph = module.swing(split)
        wall, own = time.perf_counter() - wall, time.process_time() - own
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes on Linux
        road = "table" if max(split.n_users, split.n_items) < module.TABLE else "pairs"
        counts = f"{len(split.train.items):,}", f"{split.n_users:,}", f"{split.n_items:,}"
        share = np.mean(graph.neighbours[1:, 0].numpy() > 0)
        print(LINE.format(name, *counts, road, f"{wall:.1f}", f"{own:.1f}", f"{peak:.2f}", f"{share:.1%}"), flush=True)


if __name__ == "__main__":
    main()
