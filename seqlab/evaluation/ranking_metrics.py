"""Recall, NDCG and MRR of queries with one answer, and statistics of top-10 lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seqlab.ranking import check_k

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from torch import Tensor

CUTOFFS = (1, 5, 10, 20)
KINDS = ("recall", "ndcg", "mrr")
METRIC_NAMES = tuple(f"{name}@{k}" for k in CUTOFFS for name in KINDS)


def per_user(ranks: np.ndarray, cutoffs: tuple[int, ...] = CUTOFFS) -> pd.DataFrame:
    """Recall, NDCG and MRR at each cutoff: one row per query, columns such as "ndcg@10".

    ranks: (Q,), from 1, with halves for ties. With one relevant item, Recall@k is the hit rate HR@k, NDCG@k is
    1 / log2(rank + 1) and MRR@k is 1 / rank, each 0 for a rank beyond k. Raises `ValueError` for a cutoff below 1.
    """
    import pandas as pd

    ranks = np.asarray(ranks, dtype=np.float64)
    columns = {}
    for k in map(check_k, cutoffs):
        within = ranks <= k
        columns[f"recall@{k}"] = within.astype(np.float64)
        columns[f"ndcg@{k}"] = within / np.log2(ranks + 1)
        columns[f"mrr@{k}"] = within / ranks
    return pd.DataFrame(columns)


def cutoffs_of(names: Iterable[str]) -> tuple[int, ...]:
    """The cutoffs in names such as "ndcg@10", ascending; other names have none."""
    parts = [name.partition("@") for name in names]
    return tuple(sorted({int(k) for kind, _, k in parts if kind in KINDS and k.isdecimal() and int(k)}))


def list_statistics(exposure: Tensor, train_counts: Tensor) -> dict[str, float]:
    """Three statistics of the top-10 lists of all users.

    exposure: (N + 1,) the number of lists that contain each item. train_counts: (N + 1,) its training events.
    coverage@10: the share of the catalogue that is in at least one list. popularity_bias@10: the mean training count of
    a recommended item over that of the item of a training event (1 = as popular as consumption). novelty@10: the mean
    self-information -log2(share of training events) of recommended items, in bits; items without training events count
    as half an event.
    """
    shown, counts = (one.numpy().astype(np.float64) for one in (exposure, train_counts))
    total, lists = counts.sum(), shown.sum()
    numbers = {"coverage@10": float((shown[1:] > 0).mean())}
    if lists and total:
        numbers["popularity_bias@10"] = float((shown * counts).sum() / lists / ((counts**2).sum() / total))
        numbers["novelty@10"] = float((shown * -np.log2(np.maximum(counts, 0.5) / total)).sum() / lists)
    return numbers
