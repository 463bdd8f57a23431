"""What every library is handed, its sizes, and how all of them are validated: one protocol, the same for each.

The scripts beside this file import it, each in the environment of its library; it needs torch, numpy and pandas, and
those only where a function uses them. `hand_over.py` writes the files that are handed over:

    events.csv      user, item, part (train, valid, test): ids from 1, every user's events oldest first
    <name>.inter    the training events and the validation answer, as RecBole reads them
    users.npy, items.npy    states of users and items to evaluate with
    vectors.npy     item vectors for the tokenizers
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

DIM, LAYERS, HEADS, LEARNING_RATE = 64, 2, 2, 1e-3
MAX_LENGTH = {"amazon-beauty": 50, "ml-1m": 200}
DROPOUT = {"amazon-beauty": 0.5, "ml-1m": 0.25}  # for all
LEVELS, CODES = 3, 256  # of a tokenizer
ROWS_AT_ONCE = 256  # users validated at a time: less than any library trains on


def options(about: str) -> argparse.Namespace:
    """The command line that all scripts share; with it `base`, the dataset of a variant, `folder`, and its sizes."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("measurement", help="what to do: export, train, evaluate, tokenize or limit")
    parser.add_argument("name", help="the dataset: amazon-beauty or ml-1m; -x4: users repeated, -first-1000: cut")
    parser.add_argument("--data", type=Path, required=True, help="folder of what is handed over")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers (default: they are printed)")
    parser.add_argument("--minutes", type=float, default=30.0, help="budget of a training, validation aside")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    given.base = next(known for known in MAX_LENGTH if given.name.startswith(known))
    given.folder, given.max_length, given.dropout = given.data / given.name, MAX_LENGTH[given.base], DROPOUT[given.base]
    return given


@dataclass(frozen=True)
class Handed:
    """Training events and validation answers, as every library gets them.

    train: columns user, item; grouped by user, oldest first. answers: (U,), of users 1..U. starts: (U + 1,) where
    each user's training events begin.
    """

    n_items: int
    train: pd.DataFrame
    answers: Tensor
    starts: Tensor


def handed(folder: Path) -> Handed:
    """Read `events.csv`."""
    import pandas as pd
    import torch

    events = pd.read_csv(folder / "events.csv")
    train = events[events["part"] == "train"].reset_index(drop=True)
    valid = events[events["part"] == "valid"]
    counts = torch.bincount(torch.from_numpy(train["user"].to_numpy(copy=True)), minlength=len(valid) + 1)
    return Handed(
        int(events["item"].max()), train[["user", "item"]], torch.from_numpy(valid["item"].to_numpy(copy=True)),
        counts.cumsum(0),
    )  # fmt: skip


def by_item(scores: Tensor, ids: Tensor, n_items: int) -> Tensor:
    """Scores (B, n) of the items `ids` (n,) in the columns of these: (B, N + 1), -inf for what a library never met."""
    return scores.new_full((len(scores), n_items + 1), float("-inf")).index_copy_(1, ids.to(scores.device), scores)


def ndcg_at_10(score: Callable[[int, int], Tensor], data: Handed) -> float:
    """NDCG@10 of the validation answers: all items ranked but those of the user's history, ties at their mean rank.

    score(first, last): fresh scores (last - first, N + 1) of users first + 1 .. last; column 0 is nobody's.
    """
    import torch

    items = torch.from_numpy(data.train["item"].to_numpy(copy=True))
    rows = torch.from_numpy(data.train["user"].to_numpy(copy=True)) - 1
    total, users = 0.0, len(data.answers)
    for first in range(0, users, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, users)
        with torch.no_grad():
            scores = score(first, last).float()  # (B, N + 1)
        answers = data.answers[first:last, None].to(scores.device)
        own = scores.gather(1, answers)
        met = slice(int(data.starts[first]), int(data.starts[last]))
        scores[(rows[met] - first).to(scores.device), items[met].to(scores.device)] = -torch.inf
        scores[:, 0] = -torch.inf
        scores.scatter_(1, answers, own)
        flags = torch.empty_like(scores)  # counting booleans is slow on a CPU
        better = torch.gt(scores, own, out=flags).sum(1)
        rank = (1 + better + torch.ge(scores, own, out=flags).sum(1)).double() / 2
        total += float(((rank <= 10) / torch.log2(rank + 1)).sum())
    return total / users


def variance_left(vectors: np.ndarray, decoded: np.ndarray) -> float:
    """Squared distance of vectors (n, d) to what codes say of them, over that to their mean."""
    return float(((vectors - decoded) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum())


def tell(given: argparse.Namespace, packages: tuple[str, ...], **numbers: Any) -> None:
    """Write the numbers of one measurement, with versions, as JSON."""
    if given.device == "cuda":
        import torch

        numbers["gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / (1 << 20), 1)
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    told = {
        "measurement": given.measurement, "dataset": given.name, "minutes": given.minutes, "threads": given.threads,
        "device": given.device, "versions": versions, "numbers": numbers,
    }  # fmt: skip
    text = json.dumps(told, indent=1) + "\n"
    if given.out is None:
        print(text)
        return
    aside = given.out.with_suffix(".new")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, given.out)
