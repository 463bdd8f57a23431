"""The lists of a system for many users: a stream of tables, and a file that is written table by table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import Recommends, Scores, name_of, supports
from seqlab.ranking import catalogue_scorer, check_k, top, top_unseen
from seqlab.runtime.files import atomic_path
from seqlab.runtime.modules import device_of, evaluating
from seqlab.tasks.next_item import MAX_TOKENS, distinct_items, rows_per_batch

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.log import InteractionLog
    from seqlab.datasets.sequences import Queries
    from seqlab.datasets.unanswered import Unanswered

QUERIES_PER_TABLE = 1 << 11
"""Batches of similar lengths are made of the queries of a table; memory does not grow with the number of users."""

LISTS_PER_BATCH = 256
"""Rows per batch of a system that makes its lists by a search."""

SUFFIXES = (".csv", ".parquet")


def tables(
    model: nn.Module, log: InteractionLog, queries: Unanswered, k: int = 20, seen_filter: bool = False
) -> Iterator[pd.DataFrame]:
    """Tables with the k best items of every query, best first, in the order of the queries.

    Columns user and item (ids of the source), rank (from 1), score, and title where the items have titles. seen_filter:
    leave out the items of the whole history, not only of what the system reads of it. A query has fewer than k rows
    where fewer items are left. Scores of different users cannot be compared. Raises `ValueError` for a system that
    recommends no items, and for scores that are not finite.
    """
    import pandas as pd

    if not (supports(model, Scores) or supports(model, Recommends)):
        raise ValueError(f"{name_of(model)} recommends no items.")
    item_ids, titles = (log.items[name].to_numpy() for name in ("item_id", "title"))
    has_titles = bool((item_ids.astype(str) != titles.astype(str)).any())
    for first in range(0, len(queries), QUERIES_PER_TABLE):
        part = queries.select(np.arange(first, min(first + QUERIES_PER_TABLE, len(queries))))
        items, scores = (x.cpu().numpy() for x in best_items(model, part.queries, k, log.n_items, seen_filter))
        row, place = np.nonzero(items)
        item = items[row, place] - 1
        found = {"user": part.user_ids[row], "item": item_ids[item], "rank": (place + 1).astype(np.int32)}
        found |= {"score": scores[row, place]} | ({"title": titles[item]} if has_titles else {})
        yield pd.DataFrame(found)


@torch.no_grad()
def best_items(
    model: nn.Module, queries: Queries, k: int, n_items: int, seen_filter: bool = False
) -> tuple[Tensor, Tensor]:
    """The k best items of every query and their scores, (Q, k); item 0 with score -inf where there are fewer."""
    k, queries = min(check_k(k), n_items), queries.to(device_of(model))
    items = queries.user.new_zeros(len(queries), k)
    scores = torch.full(items.shape, -torch.inf, device=items.device)
    score = catalogue_scorer(model)
    at_most = rows_per_batch(items.device, n_items + 1) if score else LISTS_PER_BATCH
    with evaluating(model):
        for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, at_most):
            if seen_filter:
                best = top_unseen(model, batch, k, distinct_items(queries, rows, n_items))
            else:
                best = top(score(batch), k) if score else model.recommend(batch, k)
            if bool((best.scores.isnan() | (best.scores == torch.inf)).any()):
                raise ValueError(f"{name_of(model)} gave scores that are not finite; training may have diverged.")
            width = best.items.shape[1]
            items[rows, :width], scores[rows, :width] = best.items, best.scores.float()
    return items, scores


def check_file(file: Path) -> None:
    """Raise `ValueError` for a file that `write` cannot write, before any work is done."""
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file}: the suffix must be {' or '.join(SUFFIXES)}.")
    if not file.parent.is_dir():
        raise ValueError(f"{file}: there is no folder {file.parent}; make it first.")


def write(found: Iterable[pd.DataFrame], file: Path) -> int:
    """Write tables of the same columns as one CSV or Parquet file, by its suffix; the number of rows.

    The file appears when it is complete; after an error there is none, or the one before. Raises `ValueError` as
    `check_file`, and `OSError` if it cannot be written.
    """
    check_file(file)
    with atomic_path(file) as unfinished:
        return (_write_parquet if file.suffix == ".parquet" else _write_csv)(found, unfinished)


def _write_csv(found: Iterable[pd.DataFrame], file: Path) -> int:
    count = 0
    with file.open("w", encoding="utf-8", newline="") as stream:
        for table in found:
            table.to_csv(stream, index=False, header=not count)
            count += len(table)
    return count


def _write_parquet(found: Iterable[pd.DataFrame], file: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    count, writer = 0, None
    try:
        for table in found:
            rows = pa.Table.from_pandas(table, preserve_index=False, schema=writer and writer.schema)
            writer = writer or parquet.ParquetWriter(file, rows.schema)
            writer.write_table(rows)
            count += len(table)
    finally:
        if writer is not None:
            writer.close()
    return count
