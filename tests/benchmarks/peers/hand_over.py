"""Write what every library is handed, for one dataset.

    python tests/benchmarks/peers/hand_over.py export amazon-beauty --data .bench/data

Needs the dataset (see data/README.md). Behind its name may stand -first-1000, its first users alone, and -x4, every
user four times, which is synthetic. The files are described in protocol.py.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import protocol

from seqlab import datasets
from seqlab.items import vectors
from seqlab.runtime.files import atomic_write


def export(given) -> None:
    """Write what is handed over for a dataset, or for a variant of it: -x4 has every user four times."""
    log = datasets.load(given.base)
    kind = re.fullmatch(r"(?:-first-(\d+))?(?:-x(\d+))?", given.name.removeprefix(given.base))
    if kind is None:
        raise SystemExit(f"{given.name} is no dataset, nor one with -first-<users> or -x<copies> behind its name.")
    if kind[1]:
        log = log.select(log.events["user"].to_numpy() <= int(kind[1]), f"the first {kind[1]} users")
    copies = int(kind[2] or 1)
    split = datasets.leave_one_out(log)
    if len(split.valid) != log.n_users:
        raise SystemExit(f"{given.name}: some users are never asked, which the other libraries would not know.")
    given.folder.mkdir(parents=True, exist_ok=True)
    events = log.events[["user", "item"]].copy()
    left = events.groupby("user").cumcount(ascending=False)
    events["part"] = left.map({0: "test", 1: "valid"}).fillna("train")
    events = pd.concat([events.assign(user=events["user"] + copy * log.n_users) for copy in range(copies)])
    shown = events[events["part"] != "test"]
    inter = pd.DataFrame(
        {"user_id:token": shown["user"], "item_id:token": shown["item"],
         "timestamp:float": shown.groupby("user").cumcount()}
    )  # fmt: skip
    inter.to_csv(given.folder / f"{given.name}.inter", sep="\t", index=False)
    known = np.isin(np.arange(log.n_items + 1), events["item"][events["part"] == "train"])
    users, items = states(events["item"][events["part"] == "valid"].to_numpy(), known)
    np.save(given.folder / "users.npy", users)
    np.save(given.folder / "items.npy", items)
    if copies == 1:
        np.save(given.folder / "vectors.npy", vectors.item_vectors(split, vectors.usual(log)))
    atomic_write(given.folder / "events.csv", events.to_csv(index=False))  # last: what is there is complete


def states(answers: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """States of users (U + 1, D) and items (N + 1, D) whose products are exact and no two of a user's are equal.

    Small whole numbers, and one feature that adds item / 2**14: every sum of a product is a multiple of 2**-14 below
    2**10, so float32 holds it whatever the order of summing, and all libraries see the same scores to the last bit.
    A user's state leans to that of the answer, so that the metrics are those of a system that works. What is not known
    from training scores below all that is: some libraries cannot rank it at all.
    """
    n_items = len(known) - 1
    if n_items >= 1 << 14:
        raise SystemExit("exact scores without ties are made for fewer than 16,384 items.")
    draw = np.random.default_rng(0)
    items = draw.integers(-3, 4, (n_items + 1, protocol.DIM)).astype(np.float32)
    noise = draw.normal(scale=3.5, size=(len(answers) + 1, protocol.DIM))
    users = np.rint(noise + 0.5 * items[np.concatenate([[0], answers])]).clip(-3, 3).astype(np.float32)
    items[:, -1] = np.arange(n_items + 1) / (1 << 14)
    items[~known, :-1], items[~known, -1] = 0, items[~known, -1] - 1000
    users[:, -1] = 1
    return users, items


if __name__ == "__main__":
    export(protocol.options(__doc__.splitlines()[0]))
