"""Who recalls the item seen k events ago: python tests/benchmarks/recall_by_lag.py --folder recall

Logs of 50 items in which the next event is, with probability 0.8, the item that was seen k events before it, and else
a random one; so no system can find more than 81.6 % of the last items. A user has k + 100 events, and the systems read
k + 28 of them, at 64 dimensions and two layers, with three learning rates each, of which validation chooses one.
SASRec must find the event by its position, GRU4Rec must keep it in its state, the convolution of S4Rec has a weight for
every age, and Mamba4Rec (with two layers, so with residuals) keeps what its step sizes let it. It continues where it
was stopped; the table is in the folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from seqlab import models
from seqlab.datasets import leave_one_out
from seqlab.datasets.log import InteractionLog, make_log
from seqlab.optimization.options import Options
from seqlab.training.fit import fit

ITEMS, COPIED, SYSTEMS, RATES = 50, 0.8, ("sasrec", "gru4rec", "s4rec", "mamba4rec"), (1e-3, 2.5e-3, 6e-3)


def copied_log(lag: int, users: int, seed: int = 0) -> InteractionLog:
    """A log of events that are mostly copies of those `lag` before them."""
    random = np.random.default_rng(seed)
    items = random.integers(1, ITEMS + 1, (users, lag + 100))
    copied = random.random(items.shape) < COPIED
    for t in range(lag, items.shape[1]):
        items[:, t] = np.where(copied[:, t], items[:, t - lag], items[:, t])
    user, time = np.indices(items.shape)
    events = pd.DataFrame({"user": user.ravel() + 1, "item": items.ravel(), "timestamp": time.ravel().astype(float)})
    return make_log(events, name=f"lag {lag}", repeats=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("recall"))
    parser.add_argument("--lags", type=int, nargs="+", default=[5, 20, 100])
    parser.add_argument("--systems", nargs="+", default=[*SYSTEMS])
    parser.add_argument("--users", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rates", type=float, nargs="+", default=[*RATES])
    given = parser.parse_args()
    rows = []
    for lag in given.lags:
        split = leave_one_out(copied_log(lag, given.users))
        for name in given.systems:
            for rate in given.rates:
                settings = {"max_length": lag + 28, "dropout": 0.1, "layers": 2}
                options = Options(epochs=given.epochs, tokens=512, learning_rate=rate, decay="cosine",
                                  validate_every=5)  # fmt: skip
                out = given.folder / f"{lag}-{name}-{rate:g}"
                run = fit(models.build(name, split.n_items, settings), split, options, out, resume=True)
                rows.append({
                    "lag": lag, "system": name, "learning_rate": rate,
                    "valid recall@1": run.metrics["valid"]["recall@1"], "recall@1": run.metrics["test"]["recall@1"],
                    "seconds an epoch": run.metrics["seconds"] / run.metrics["epochs"],
                })  # fmt: skip
                table = pd.DataFrame(rows)
                table.to_csv(given.folder / "recall.csv", index=False)
    best = table.loc[table.groupby(["lag", "system"], sort=False)["valid recall@1"].idxmax()]
    print(best.to_string(index=False))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
