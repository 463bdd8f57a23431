"""Queries without an answer: what comes after all that is known of a user, in a log or in a file of new histories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from seqlab.datasets.cleaning import Cleaning, clean
from seqlab.datasets.columns import fold_ids, select_column, to_text
from seqlab.datasets.delimited import GUESS
from seqlab.datasets.events import Events, offsets_of
from seqlab.datasets.guessing import guess_column, guess_name
from seqlab.datasets.ids import number_ids
from seqlab.datasets.roles import encode
from seqlab.datasets.sequences import Queries, Sequences
from seqlab.datasets.splits import whole_log
from seqlab.datasets.tables import SourceTable, read_table
from seqlab.datasets.timestamps import unix_seconds
from seqlab.runtime.text import DataError, listed

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog
    from seqlab.datasets.splits import Split

PARTS = ("all", "valid", "test")
"""Where histories end: after all events, or before the answers of the validation or the test part."""


@dataclass(frozen=True)
class Unanswered:
    """Queries, and the id of each one's user in the source, (Q,). notes: sentences on what was left out."""

    queries: Queries
    user_ids: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.queries)

    def select(self, rows: np.ndarray) -> Unanswered:
        """Some of the queries, by row."""
        return replace(self, queries=self.queries.select(torch.from_numpy(rows)), user_ids=self.user_ids[rows])

    def of_users(self, wanted: list[str], where: str) -> Unanswered:
        """The queries of these users, ids of the source as text, in the order given; unknown ones are in the notes.

        where: what the ids come from, for messages. Raises `DataError` if none of the users has a query.
        """
        wanted = list(dict.fromkeys(wanted))
        rows = pd.Series(np.arange(len(self)), index=self.user_ids.astype(str)).groupby(level=0).agg(list)
        unknown = [user for user in wanted if user not in rows.index]
        if len(unknown) == len(wanted):
            raise DataError(
                f"{where}: none of these users is in the data: {_named(unknown, 'user')}; an example of an id is "
                f"{str(self.user_ids[0])!r}. New users need a file of histories."
            )
        note = f"{where}: not in the data, so without a list: {_named(unknown, 'user')}."
        chosen = [row for user in wanted if user in rows.index for row in rows[user]]
        return replace(self.select(np.array(chosen)), notes=(*self.notes, note) if unknown else self.notes)


def of_split(split: Split, part: str = "all", columns: tuple[str, ...] = ()) -> Unanswered:
    """The histories of the users of a log: whole ones ("all"), or those of the queries of "valid" or "test".

    columns: the further event columns to gather for "all"; the other parts have those of the split. Raises `ValueError`
    for another part.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)} (got {part!r}).")
    users = split.log.users["user_id"].to_numpy()
    if part == "all":
        queries = after_all(whole_log(split.log, columns)[0])
    else:
        queries = {"valid": split.valid, "test": split.test}[part]
    return Unanswered(queries, users[queries.user.cpu().numpy() - 1])


def of_file(file: Path | str, log: InteractionLog, columns: tuple[str, ...] = ()) -> Unanswered:
    """The histories of a CSV, TSV or Parquet file, one row per event; its items have the ids of the log's source.

    The columns of users, items and times are called as in the source of the log, or guessed; without times the rows of
    each user are oldest first. A user whom the log has too is that user, any other is unknown to the system; only the
    events of the file count. columns: the further event columns that the system needs, by role or name.
    Rows are selected and repaired as those of the log were (see `cleaning.Cleaning`; `until` does not hold), and events
    of unknown items are left out; all are counted in the notes. Raises `DataError` for a file without such columns,
    with bad values, and without any known item.
    """
    origin: Mapping[str, Any] = log.origin or {}
    given = {role: origin.get(role) for role in ("user", "item", "time")}
    table = read_table(file, "", origin.get("sep"), origin.get("encoding"), tuple(given.values()), GUESS)
    where, notes = table.where, []
    columns_of = {role: _column(table, role, given[role], role != "time") for role in given}
    user, item, time = columns_of.values()
    cleaning = _cleaning(origin, table.frame)
    frame, rows, _ = clean(table.frame, table.rows, columns_of, cleaning, "source", where, notes)
    table = replace(table, frame=frame, rows=rows)
    user_of, user_ids, _ = number_ids(select_column(table.frame, user, where), where, table.rows)
    item_of, item_ids, _ = number_ids(select_column(table.frame, item, where), where, table.rows)
    times = np.full(len(table.frame), np.nan)
    if time is not None:
        column, time_format = select_column(table.frame, time, where), cleaning.time_format
        times, _ = unix_seconds(column, where, table.rows, may_be_missing=True, time_format=time_format)
    fold = fold_ids if cleaning.merge_ids else (lambda texts: texts)
    ids = [pd.Index(fold(pd.Series(one).astype("str"))) for one in (log.items["item_id"].to_numpy(), item_ids)]
    numbers = ids[0].get_indexer(ids[1]) + 1  # (I,)
    items = numbers[item_of - 1]
    known = items > 0
    if not known.any():
        raise DataError(
            f"{where}: no item of column {str(item)!r} is in the data of the run ({listed(map(repr, item_ids), 3)}); "
            f"an example of an id there is {str(log.items['item_id'].iloc[0])!r}."
        )
    if not known.all():
        unknown = item_ids[numbers == 0]
        notes.append(f"{where}: not in the data of the run: {_named(unknown, 'item')}, {(~known).sum():,} events.")
    rows = np.lexsort((times, user_of))  # NaN last, equal times in the order of the file
    rows = rows[known[rows]]
    counts = np.bincount(user_of[rows], minlength=len(user_ids) + 1)[1:]
    if (lost := counts == 0).any():
        notes.append(f"{where}: without any other event, so without a list: {_named(user_ids[lost], 'user')}.")
    extra = {name: torch.from_numpy(_further(table, log, name)[rows]) for name in columns}
    events = Events(torch.from_numpy(items[rows].astype(np.int64)), torch.from_numpy(times[rows]), extra)
    queries = after_all(Sequences(events, offsets_of(torch.from_numpy(counts))))
    known_users = pd.Index(log.users["user_id"].astype(str)).get_indexer(pd.Index(user_ids).astype(str)) + 1  # 0: new
    place = queries.user - 1
    queries = replace(queries, user=torch.from_numpy(known_users.astype(np.int64))[place])
    return Unanswered(queries, user_ids[place.numpy()], tuple(notes))


def read_user_ids(file: Path | str) -> list[str]:
    """The ids of users in a file, as text: one a line, or the column of users of a CSV, TSV or Parquet file.

    Raises `DataError` for a file without any.
    """
    file = Path(file)
    if file.suffix == ".parquet" or "\t" in (text := _text_of(file)) or "," in text:
        table = read_table(file, "")
        column = guess_column(table.frame, "user", table.where, []) if table.has_header else table.frame.columns[0]
        found = to_text(select_column(table.frame, column, table.where)).tolist()
    else:
        found = [line.strip() for line in text.splitlines()]
        if found and guess_name(found[:1], "user"):
            found = found[1:]
    found = [one for one in found if one]
    if not found:
        raise DataError(f"{file}: there is no id of a user in this file. Write one a line.")
    return found


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{file}: there is no such file.") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise DataError(f"{file}: this is not a text file in UTF-8. Write the id of a user a line.") from error


def after_all(sequences: Sequences) -> Queries:
    """A query after all events of every user who has any."""
    users = (sequences.lengths > 0).nonzero()[:, 0] + 1
    none = sequences.events[torch.zeros_like(users)].map(torch.zeros_like)
    return Queries(sequences, users, none, sequences.offsets[users - 1], sequences.offsets[users])


def _column(table: SourceTable, role: str, name: str | int | None, needed: bool = True) -> str | None:
    """The column of a role: that of the source of the log if the file has it too, else a guess."""
    own = None if name is None else table.column(name)
    return own if own in table.frame.columns else guess_column(table.frame, role, table.where, [], needed)


def _cleaning(origin: Mapping[str, Any], frame: pd.DataFrame) -> Cleaning:
    """The cleaning of the source of a log, for a file of later events, which may not have every column and value."""
    names = ("bad", "merge_ids", "since", "duplicates", "time_format")
    keep = {}
    for column in origin.get("keep", {}).keys() & set(frame.columns):
        there, wanted = set(to_text(frame[column])), origin["keep"][column]
        keep[column] = [value for value in wanted if value in there] or wanted
    return Cleaning(keep, **{name: origin[name] for name in names if name in origin})


def _further(table: SourceTable, log: InteractionLog, name: str) -> np.ndarray:
    """A further column (E,) with the values, or the codes, that the log has for them."""
    column = log.column_name(name)
    given = column if column in table.frame.columns else name
    categories = log.column(name)[1]
    values, own = encode(select_column(table.frame, given, table.where), categorical=categories is not None)
    if categories is None:
        if own is not None:
            raise DataError(f"{table.where}: column {given!r} must be numbers, as in the data of the run.")
        return values
    codes = pd.Index(categories).get_indexer(pd.Index(own)) + 1 if own else np.zeros(0, np.int64)
    if log.roles.get("basket", "basket") == column:  # a new basket is one of its own, not a missing one
        codes = np.where(codes > 0, codes, len(categories) + 1 + np.arange(len(codes)))
    return np.append(0, codes).astype(np.int64)[values]


def _named(ids, what: str) -> str:
    """Ids in a message: "2 users ('a', 'b')"."""
    ids = [repr(str(one)) for one in ids]
    return f"{len(ids):,} {what}{'' if len(ids) == 1 else 's'} ({listed(ids, 3)})"
