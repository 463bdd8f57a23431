"""How long tokenizers take and what they reach: SEQLAB_DATA=... python tests/benchmarks/tokenizer_fit.py [sizes]

First table: every tokenizer on the sentence embeddings (12,101 x 384) of amazon-beauty, or, without that dataset or the
`text` extra, on clustered Gaussian vectors of that shape, named synthetic. Use of a level is compared with that of
residual k-means, tuples are counted before collisions are resolved. Second table (`sizes`): residual k-means and the
balanced tree on 12,000 and 200,000 synthetic items.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from seqlab import datasets, tokenizers
from seqlab.items.vectors import sentence
from seqlab.tokenizers import codebook_report

LINE = "{:<46} | {:>7} | {:>8} | {:>28} | {:>13} | {:>7}"


def synthetic(n: int, dim: int) -> np.ndarray:
    """Lumps within lumps, as text embeddings have them."""
    random = np.random.default_rng(0)
    coarse, fine = random.normal(size=(40, dim)), 0.6 * random.normal(size=(2000, dim))
    lump = random.integers(2000, size=n)
    return (coarse[lump % 40] + fine[lump] + 0.3 * random.normal(size=(n, dim))).astype(np.float32)


def vectors() -> tuple[str, np.ndarray]:
    try:
        return "amazon-beauty, sentence embeddings", sentence(datasets.load("amazon-beauty"))
    except (datasets.DataError, ImportError) as error:
        print(f"({str(error).splitlines()[0][:100]}: synthetic vectors instead)")
        return "synthetic", synthetic(12_101, 384)


def measure(tokenizer: object, X: np.ndarray) -> None:
    began = time.perf_counter()
    tokenizer.fit(X)
    fitted = time.perf_counter() - began
    book = tokenizers.make_codebook(tokenizer, X, resolve="none")
    used = ", ".join(str(one) for one in codebook_report.report(book)["used"])
    unique = f"{codebook_report.summary(book)['unique share']:.2%}"
    peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f}"  # kilobytes on Linux
    left = f"{book.residual[-1]:.3f}"
    print(LINE.format(repr(tokenizer)[:46], f"{fitted:.1f}", unique, used, left, peak), flush=True)


def main() -> None:
    heads = ("tokenizer", "fit, s", "unique", "codes used per level", "variance left", "peak GB")
    if "sizes" in sys.argv[1:]:
        for n in (12_000, 200_000):
            X = synthetic(n, 64)
            print(f"\nsynthetic: {n:,} items x 64\n" + LINE.format(*heads))
            for name, settings in (("rq_kmeans", {"levels": 4}), ("balanced_tree", {})):
                measure(tokenizers.create(name, settings), X)
        return
    where, X = vectors()
    print(f"{where}: {X.shape[0]:,} items x {X.shape[1]}\n" + LINE.format(*heads))
    for name in tokenizers.names():
        measure(tokenizers.create(name), X)
    measure(tokenizers.create("balanced_tree", {"anchors": "aligned"}), X)


if __name__ == "__main__":
    main()
