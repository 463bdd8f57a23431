"""One user's ten best items in ONNX Runtime and in torch: python tests/benchmarks/onnx_speed.py

Needs the extra: pip install 'seqlab[export]'. SASRec with its default settings and random weights over 12,101 items, as
many as amazon-beauty has; one thread. Prints the median and the fastest of some thousand calls by length of the
history, from a NumPy array of items to NumPy arrays of the ten best, and users per second in batches.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from seqlab import models
from seqlab.datasets.events import Events, offsets_of
from seqlab.datasets.sequences import Batch, Sequences
from seqlab.datasets.unanswered import after_all
from seqlab.ranking import top
from seqlab.runs.export import session_of, to_onnx

N_ITEMS, K, CALLS = 12_101, 10, 2_000


def milliseconds(action: Callable[[], object], calls: int = CALLS) -> tuple[float, float]:
    """The median and the minimum of a call, after some that are not counted."""
    for _ in range(calls // 10):
        action()
    each = []
    for _ in range(calls):
        began = time.perf_counter()
        action()
        each.append(1e3 * (time.perf_counter() - began))
    return statistics.median(each), min(each)


def random_histories(generator: torch.Generator) -> Sequences:
    """Histories of 200 users, of up to 60 random items."""
    lengths = torch.randint(1, 61, (200,), generator=generator)
    items = torch.randint(1, N_ITEMS + 1, (int(lengths.sum()),), generator=generator)
    return Sequences(Events(items, torch.zeros(len(items), dtype=torch.float64)), offsets_of(lengths))


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = models.build("sasrec", N_ITEMS).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        made = to_onnx(model, after_all(random_histories(generator)), N_ITEMS, file, K)
        session = session_of(file)
    print(f"torch {torch.__version__}, one thread; largest difference of a score {made.difference:.1g}")
    print("users events  ONNX ms (fastest)  torch ms (fastest)  ratio")
    for users, events in ((1, 1), (1, 8), (1, 20), (1, 50), (64, 50), (256, 50)):
        items = torch.randint(1, N_ITEMS + 1, (users, events), generator=generator)
        array = items.numpy()

        def with_torch(items: torch.Tensor = items) -> object:
            with torch.inference_mode():
                batch = Batch(Events(items, torch.zeros(items.shape)), (items > 0).sum(1), items[:, 0])
                best = top(model.score(batch), K)
                return best.items.numpy(), best.scores.numpy()

        calls = max(20, CALLS // users)
        ours, fastest = milliseconds(lambda array=array: session.run(None, {"items": array}), calls)
        theirs, torch_fastest = milliseconds(with_torch, calls)
        each = f"{ours:7.3f} ({fastest:.3f})    {theirs:7.3f} ({torch_fastest:.3f})  {theirs / ours:5.1f}"
        print(f"{users:5} {events:6}  {each}")


if __name__ == "__main__":
    main()
