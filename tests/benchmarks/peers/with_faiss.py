"""faiss' ResidualQuantizer on the item vectors that seqlab's tokenizers get; run by its own Python.

    .bench/peers/faiss/bin/python tests/benchmarks/peers/with_faiss.py tokenize amazon-beauty --data .bench/data

Its defaults but for the beam, which is 1 (greedy, as the other tokenizers are), 5 (its default) and 16; codes are
looked up with the beam they were trained with. Seconds of `train`, and the variance that the codes leave unexplained.
"""

from __future__ import annotations

import time

import clock
import faiss
import numpy as np
import protocol


def tokenize(given) -> None:
    vectors = np.load(given.folder / "vectors.npy")
    data = np.ascontiguousarray(vectors - vectors.mean(0))
    points, ends = [], time.perf_counter() + 60 * given.minutes
    for beam in (1, 5, 16):
        if time.perf_counter() > ends:
            break
        quantiser = faiss.ResidualQuantizer(data.shape[1], protocol.LEVELS, protocol.CODES.bit_length() - 1)
        quantiser.max_beam_size = beam
        began = time.perf_counter()
        quantiser.train(data)
        seconds = time.perf_counter() - began
        left = protocol.variance_left(data, quantiser.decode(quantiser.compute_codes(data)))
        points.append({"tool": "faiss", "beam": beam, "seconds": seconds, "left": left})
    protocol.tell(given, ("faiss-cpu", "numpy"), points=points, memory_mb=clock.peak_mb())


if __name__ == "__main__":
    given = protocol.options(__doc__.splitlines()[0])
    faiss.omp_set_num_threads(given.threads)
    {"tokenize": tokenize}[given.measurement](given)
