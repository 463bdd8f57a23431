"""The categories of items as numbers, from a column of the item table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqlab.runtime.text import DataError, did_you_mean

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog

COLUMNS = ("genres", "product_category", "category")
"""The columns that are taken for categories, the first that is there."""


def categories_of(log: InteractionLog, column: str | None = None, most: int | None = None) -> tuple[Tensor, list[str]]:
    """The categories of the items: (N + 1, G), numbered from 1 by frequency up to `most`, 0 = none; and their names.

    column: of the item table, values separated by "|"; None: the first of `COLUMNS`, or no categories. Raises
    `DataError` for a column that is not there.
    """
    column = column or next((name for name in COLUMNS if name in log.items.columns), None)
    if column is None:
        return torch.zeros(log.n_items + 1, 1, dtype=torch.long), []
    if column not in log.items.columns:
        raise DataError(f"{log.name}: items have no column {column!r}.{did_you_mean(column, log.items.columns)}")
    words = log.items[column].fillna("").astype(str).str.split("|").explode().str.strip().rename("word")
    pairs = words[words != ""].rename_axis("item").reset_index().drop_duplicates()
    counts = pairs["word"].value_counts().reset_index().sort_values(["count", "word"], ascending=[False, True])
    names = counts["word"].tolist()[:most]
    pairs = pairs[pairs["word"].isin(names)]
    number = {name: at for at, name in enumerate(names, 1)}
    columns = pairs["item"], pairs.groupby("item").cumcount(), pairs["word"].map(number)
    item, place, code = (torch.from_numpy(column.to_numpy(dtype=np.int64, copy=True)) for column in columns)
    found = torch.zeros(log.n_items + 1, int(place.max()) + 1 if len(place) else 1, dtype=torch.long)
    found[item, place] = code
    return found, names
