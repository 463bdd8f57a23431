"""Splits whose queries have candidates with labels: what came next beside drawn items, or a value of each event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from seqlab.datasets.log import InteractionLog
from seqlab.datasets.sequences import Queries
from seqlab.datasets.split_rules import leave_one_out
from seqlab.datasets.splits import Split, ends_before, order_note, prefix, whole_log
from seqlab.runtime.text import DataError

ROUNDS = 16
"""How often rejected candidates are drawn again, before they are drawn from the exact distribution."""

CELLS_AT_ONCE = 1 << 22
"""Weights (rows x items) per draw from the exact distribution: 16 MB."""


def candidates(log: InteractionLog, count: int = 2, seed: int = 0, columns: tuple[str, ...] = ()) -> Split:
    """Leave-one-out, where each answer stands beside `count` drawn items: label 1 for the answer, 0 for the others.

    The others are distinct and drawn by their number of training events, seeded. They are never the answer, and never
    in the history of the query, unless the log has repeats; an item that the user has only later may be drawn. The
    order of the candidates is random. A user for whom there are fewer such items has no query, which a note counts.
    Raises `DataError` unless `count` is at least 1, and if no query is left.
    """
    if count < 1:
        raise DataError(f"candidates: there must be at least 1 drawn item beside the answer (got {count}).")
    split = leave_one_out(log, columns)
    popularity, notes = split.train.item_counts(split.n_items), list(split.notes)
    parts = {}
    for offset, part in enumerate(("valid", "test")):
        queries = getattr(split, part)
        excluded = _excluded(queries, split.n_items, seen=not log.repeats)
        generator = torch.Generator().manual_seed(2 * seed + offset)
        drawn, enough = _draw(popularity, excluded, len(queries), count, generator)
        if left := int((~enough).sum()):
            notes.append(f"{left:,} users have no {count} other items to choose from: they have no {part} query.")
        if not bool(enough.any()):
            raise DataError(f"{log.name}: candidates: no {part} query has {count} other items to choose from.")
        queries, drawn = queries.select(enough), drawn[enough]
        items = torch.cat([queries.item[:, None], drawn], 1)  # (Q, 1 + count)
        order = torch.rand(items.shape, generator=generator).argsort(1)
        parts[part] = replace(queries, candidates=items.gather(1, order), labels=(order == 0).double())
    name = f"candidates {count}" + (f" {seed}" if seed else "")
    return replace(split, **parts, name=name, notes=tuple(notes), task="clicks")


def labelled(
    log: InteractionLog, column: str, least: float, share: float = 0.2, columns: tuple[str, ...] = ()
) -> Split:
    """The last `share` of each user's events are test queries, one per event: is its value at least `least`?

    The share before them are validation queries, the rest is training. A query has one candidate, the item of its
    event, labelled 1 where the value of `column` is at least `least` and else 0; its history is all events before it,
    also earlier queries. An event without a value is no query. A user with fewer than 1 / share events has none.
    Raises `DataError` for a share outside (0, 1/2), a column that is missing or holds words, equal labels in a part,
    and if there is no query.
    """
    if not 0 < share < 0.5:
        raise DataError(f"labelled: share must be between 0 and 0.5 (got {share}).")
    labels = _labels(log, column, least)
    whole, lengths = whole_log(log, columns)
    held = (lengths * share + 1e-9).long()  # (U,) events of a user in each part
    notes, users = order_note(log), whole.users
    from_end = whole.offsets[users] - torch.arange(len(users))  # 1 is the last event of a user
    parts = {}
    for part, first in (("valid", 2 * held), ("test", held)):
        inside = (from_end <= first[users - 1]) & (from_end > (first - held)[users - 1])
        if left := int((inside & labels.isnan()).sum()):
            notes.append(f"{left:,} {part} events have no {column}: they are no queries.")
        at = (inside & ~labels.isnan()).nonzero()[:, 0]
        start, end = whole.offsets[users[at] - 1], at
        if log.ties == "shuffle":
            end = ends_before(whole, start, end, whole.times[at])
            if left := int((end == start).sum()):
                notes.append(f"{left:,} {part} events have no event strictly before them: they are no queries.")
        at, start, end = (column[end > start] for column in (at, start, end))
        if not len(at):
            raise DataError(f"{log.name}: labelled: there is no {part} query; a user needs {1 / share:.3g} events.")
        queries, value = Queries(whole, users[at], whole.events[at], start, end), labels[at]
        if bool((value == value[0]).all()):
            raise DataError(
                f"{log.name}: labelled: all {part} labels are {int(value[0])} with {column} >= {least:g}. "
                "Choose another threshold."
            )
        parts[part] = replace(queries, candidates=queries.item[:, None], labels=value[:, None])
    if left := int((held == 0).sum()):
        notes.append(f"{left:,} users have fewer than {1 / share:.3g} events: they are trained on and have no query.")
    name = f"labelled {column} {least:.10g} {share:.10g}"
    return Split(log, prefix(whole, lengths - 2 * held), parts["valid"], parts["test"], name, tuple(notes), "clicks")


def _labels(log: InteractionLog, column: str, least: float) -> Tensor:
    """Whether the value of each event is at least `least`: (E,) float64, NaN where there is none."""
    values, words = log.column(column)
    if words is not None:
        raise DataError(f"{log.name}: the column {column!r} holds words, and labels need numbers.")
    values = np.asarray(values, dtype=np.float64)
    return torch.from_numpy(np.where(np.isnan(values), np.nan, values >= least))


def _excluded(queries: Queries, n_items: int, seen: bool) -> Tensor:
    """The (query, item) pairs that are no candidates, as sorted keys `query * (n_items + 1) + item`.

    They are the answers and, if `seen`, the items of the histories.
    """
    rows = torch.arange(len(queries))
    keys = rows * (n_items + 1) + queries.item
    if seen:
        lengths = queries.end - queries.start
        row = torch.repeat_interleave(rows, lengths)
        at = torch.arange(len(row)) - (lengths.cumsum(0) - lengths - queries.start)[row]
        keys = torch.cat([keys, row * (n_items + 1) + queries.sequences.items[at]])
    return keys.unique()


def _draw(
    popularity: Tensor, excluded: Tensor, rows: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`count` distinct items for each row, drawn one after the other by popularity (N + 1,) from what is not excluded.

    excluded: sorted keys, see `_excluded`. Returns the items (rows, count), and whether a row has that many (rows,).
    """
    width, weights = len(popularity), popularity.double()
    out = torch.bincount(excluded[popularity[excluded % width] > 0] // width, minlength=rows)
    enough = int((popularity > 0).sum()) - out >= count
    cumulative, found = weights.cumsum(0), torch.zeros(rows, count, dtype=torch.long)
    for column in range(count):  # rejection: a draw from what is left, without a matrix of rows x items
        open_rows = enough.nonzero()[:, 0]
        for _ in range(ROUNDS):
            point = torch.rand(len(open_rows), generator=generator, dtype=torch.float64) * cumulative[-1]
            item = torch.searchsorted(cumulative, point, right=True)
            keys = open_rows * width + item
            at = torch.searchsorted(excluded, keys).clamp(max=len(excluded) - 1)
            wrong = (excluded[at] == keys) | (found[open_rows] == item[:, None]).any(1)
            found[open_rows[~wrong], column] = item[~wrong]
            open_rows = open_rows[wrong]
        for some in open_rows.split(max(1, CELLS_AT_ONCE // width)):
            mask = weights.expand(len(some), -1).clone()  # (R, N + 1)
            first, after = (torch.searchsorted(excluded, key) for key in (some * width, (some + 1) * width))
            row = torch.repeat_interleave(torch.arange(len(some)), after - first)
            place = torch.arange(len(row)) - ((after - first).cumsum(0) - (after - first) - first)[row]
            mask[row, excluded[place] % width] = 0
            mask.scatter_(1, found[some], 0)  # column 0 is padding, without weight
            found[some, column] = torch.multinomial(mask, 1, generator=generator)[:, 0]
    return found, enough
