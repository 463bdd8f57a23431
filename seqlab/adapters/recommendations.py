"""A table of recommendations that another system made becomes an `Outcome`, which is compared like that of a run.

A CSV or Parquet file with one row per user and recommended item: user, item, and a rank or a score; ids as in the log.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seqlab.adapters.listed_ranks import MeasuredLists, measure_lists
from seqlab.datasets.bad_rows import drop_incomplete_rows
from seqlab.datasets.columns import finite_numbers, select_column, to_text
from seqlab.datasets.fingerprint import item_numbering, user_numbering
from seqlab.datasets.guessing import guess_column
from seqlab.datasets.ids import number_ids
from seqlab.datasets.tables import SourceTable, read_table
from seqlab.runtime.text import DataError, listed
from seqlab.tasks import DEFAULT, task

if TYPE_CHECKING:
    from types import ModuleType

    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.outcome import Metric, Outcome

MEASURED_BY = ("next_item", "baskets")
"""The tasks that need no more than lists."""


@dataclass(frozen=True, eq=False)
class Recommendations:
    """The lists of another system, one per user.

    table: one row per user and item, sorted by user and rank: user and item (numbers of the log; item 0 is one that the
    log does not have), rank (from 1, ties at their mean rank; unknown items keep their places), score (NaN: not given).
    notes: what was guessed, left out or is missing, a sentence each. source: the file. numbering: of the users and
    items of the log (see `datasets.fingerprint`).
    """

    name: str
    table: pd.DataFrame
    notes: tuple[str, ...]
    source: str
    numbering: tuple[str, str]

    def __repr__(self) -> str:
        return (
            f"Recommendations({self.name}: {len(self.table):,} rows, lists of {self.table['user'].nunique():,} users)"
        )

    def outcome(self, split: Split, seen_filter: bool | None = None, part: str = "test") -> Outcome:
        """The outcome on the queries of `part` ("valid" or "test"), under the protocol of `tasks.measure`.

        Up to its length, a list has the metrics of the system that made it. An answer that is not in its list counts
        as not found: its rank is infinite and its metrics are 0. Metrics at cutoffs that most lists do not reach are
        left out, except those up to the cutoff of the primary one. A user's list answers all queries of that user.
        seen_filter: whether the items of the complete history are removed from the lists, which then close up (answers
        never are); None: unless the log has repeats. Raises `DataError` for the queries of other tasks, and a split of
        another log.
        """
        measuring = self._task(split)
        seen_filter = not split.log.repeats if seen_filter is None else bool(seen_filter)
        queries = {"valid": split.valid, "test": split.test}[part]
        found = self._measured(split, seen_filter, part)
        outcome = measuring.from_ranks(split, queries, found.ranks, found.seen, found.exposure, seen_filter)
        lengths = found.lengths[found.lengths > 0]
        most = max(_cutoff(outcome.metric(outcome.primary)), int(lengths.median()) if len(lengths) else 0)
        metrics = tuple(one for one in outcome.metrics if _cutoff(one) <= most)
        left_out = [one.name for one in outcome.metrics if one not in metrics and one.name in outcome.frame]
        frame, protocol = outcome.frame.drop(columns=left_out), f"{outcome.protocol}; {_lists(found)}"
        return dataclasses.replace(outcome, frame=frame, metrics=metrics, protocol=protocol)

    def top(self, split: Split, k: int = 10, seen_filter: bool | None = None) -> np.ndarray:
        """The k best items of the list of every test query, (Q, k); 0 = none, or an item that the log does not have."""
        seen_filter = not split.log.repeats if seen_filter is None else bool(seen_filter)
        return self._measured(split, seen_filter, "test", k).top.numpy()

    def _task(self, split: Split) -> ModuleType:
        """The task that measures the lists. Raises `DataError` where none does."""
        several = any(part.answers is not None for part in (split.valid, split.test))
        name = split.task or ("baskets" if several else DEFAULT)
        if name not in MEASURED_BY:
            raise DataError(
                f"{self.name}: lists of items cannot be measured on the split {split.name!r}, whose queries are for "
                f"{name}; use a split for {' or '.join(MEASURED_BY)}, such as leave-one-out."
            )
        return task(name)

    def _measured(self, split: Split, seen_filter: bool, part: str, k: int = 10) -> MeasuredLists:
        if _numbering(split) != self.numbering:
            raise DataError(
                f"{self.name}: these recommendations were read for another log than {split.log.name}; read "
                f"{self.source} again for this one."
            )
        queries = {"valid": split.valid, "test": split.test}[part]
        user, item, rank = (self.table[column].to_numpy() for column in ("user", "item", "rank"))
        counts = np.bincount(user, minlength=split.n_users + 1)[1:]
        return measure_lists(item, rank, counts, queries, split.n_items, seen_filter, k)


def read_recommendations(
    file,
    split: Split,
    name: str | None = None,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rank: str | int | None = None,
    score: str | int | None = None,
    sep: str | None = None,
    encoding: str | None = None,
    bad: str = "refuse",
) -> Recommendations:
    """Read a table with one row per user and recommended item, with the ids of the log of `split`.

    file: a pandas frame, or the path of a .csv, .tsv, .dat, .txt (also .gz) or .parquet file. name: None: that of the
    file. user, item, rank, score: column names, or numbers from 0 in a file without a header; None: guessed. If only
    one of rank (ascending, from any number) and score (higher is better) is named, it alone is used. With both, they
    must agree, and items with equal scores share their mean rank, as in all rankings here.
    sep, encoding: as in `datasets.read`. bad: "refuse" raises for rows without a user, an item or a number; "drop"
    drops and counts them.
    Users and items that the log does not have are counted and named in `notes`, and so are items that are twice in a
    list, of which the first place is kept, ties, and users of a test query whose list is short or missing. Raises
    `DataError`, with file, column, rows and remedy, for a table that is none.
    """
    import pandas as pd

    if bad not in ("refuse", "drop"):
        raise ValueError(f"bad must be refuse or drop (got {bad!r}).")
    table = read_table(file, "the recommendations", sep, encoding, (user, item, rank, score))
    where, notes, frame, rows = table.where, list(table.notes), table.frame, table.rows
    user, item, rank, score = _columns(table, user, item, rank, score, notes)
    if bad == "drop":
        needed = {"user": user, "item": item, "rank": rank, "score": score}
        frame, rows = drop_incomplete_rows(frame, rows, needed, where, notes)
    if not len(frame):
        raise DataError(f"{where}: there are no rows; a list has a row per user and item.")
    remedy = "Fill them in or drop these rows (bad='drop' drops and counts them)."
    numbers = {
        role: finite_numbers(select_column(frame, column, where), where, rows, remedy)
        for role, column in (("rank", rank), ("score", score))
        if column is not None
    }
    codes, numbered = {}, {}
    for role, column, ids in (("user", user, split.log.users["user_id"]), ("item", item, split.log.items["item_id"])):
        codes[role], labels, more = number_ids(select_column(frame, column, where), where, rows)
        numbered[role] = _numbers_in_log(labels, ids, f"{where}: column {column!r}", role, notes)
        notes += more
    lists = pd.DataFrame(codes | numbers)  # the codes number the ids of the table, from 1
    user_ids = pd.Series(numbered["user"].index, index=range(1, len(numbered["user"]) + 1))
    _check_agreement(lists, user_ids, where)
    lists = _ranked(lists, user_ids, where, notes)
    known = {role: np.append(0, numbers.to_numpy()) for role, numbers in numbered.items()}
    lists = lists.assign(user=known["user"][lists["user"]], item=known["item"][lists["item"]])
    lists = lists[lists["user"] > 0].sort_values(["user", "rank"], kind="stable", ignore_index=True)
    _describe_lists(lists, split, where, notes)
    if name is None:
        name = "recommendations" if isinstance(file, pd.DataFrame) else Path(file).name.partition(".")[0]
    columns = ["user", "item", "rank", "score"]
    return Recommendations(name, lists.reindex(columns=columns), tuple(notes), where, _numbering(split))


def _numbering(split: Split) -> tuple[str, str]:
    return user_numbering(split.log), item_numbering(split.log)


def _columns(table: SourceTable, user, item, rank, score, notes: list[str]) -> tuple:
    """The columns user, item, rank, score, guessed where they are None; rank or score may stay None."""
    user, item, rank, score = (table.column(one) for one in (user, item, rank, score))
    if not table.has_header and (user is None or item is None or (rank is None and score is None)):
        first = [f"{place}: {str(value)!r}" for place, value in enumerate(table.frame.iloc[0])]
        raise DataError(
            f"{table.where}: there is no header (the first line is data). Pass column numbers from 0, such as user=0, "
            f"item=1, score=2 (in a shell: --table user=0 ...); the first row is {listed(first, 30)}."
        )
    found = {"user": user, "item": item}
    for role, column in found.items():
        if column is None:
            found[role] = guess_column(table.frame, role, table.where, notes, option="--table {role}=...")
    if rank is None and score is None:
        others = table.frame.drop(columns=[one for one in found.values() if one in table.frame])
        table = dataclasses.replace(table, frame=others)
        rank, score = (guess_column(others, role, table.where, notes, needed=False) for role in ("rank", "score"))
        if rank is None and score is None:
            there = listed([repr(str(column)) for column in others.columns], 30) or "none"
            raise DataError(
                f"{table.where}: no column looks like a rank or a score. Name it with rank=... or score=... (in a "
                f"shell: --table rank=... or --table score=...); the other columns are: {there}."
            )
    return found["user"], found["item"], rank, score


def _numbers_in_log(labels: np.ndarray, ids: pd.Series, at: str, role: str, notes: list[str]) -> pd.Series:
    """The number in the log of each label, 0 for one that it does not have; raises `DataError` if it has none."""
    import pandas as pd

    numbers = pd.Series(ids.index, index=to_text(ids)).reindex(to_text(pd.Series(labels))).fillna(0).astype(np.int64)
    numbers.index = pd.Index(labels)
    unknown = numbers.index[numbers == 0]
    if len(unknown) == len(numbers):
        raise DataError(
            f"{at}: the log has none of the {len(numbers):,} {role}s ({listed(unknown, 3)}); its {role}s are called "
            f"{listed(ids, 3)}. Write the ids as in the log; the table may be of other data."
        )
    if len(unknown):
        what = {"user": "left out", "item": "kept in their places, but no answer"}[role]
        count = _counted(len(unknown), role, f"{role}s")
        notes.append(f"{at}: the log does not have {count} ({listed(unknown)}), {what}.")
    return numbers


def _check_agreement(lists: pd.DataFrame, user_ids: pd.Series, where: str) -> None:
    """Raise `DataError` where an item with a better rank has a lower score in the list of a user."""
    if not {"rank", "score"} <= {*lists.columns}:
        return
    user, rank, score = (lists[column].to_numpy() for column in ("user", "rank", "score"))
    order = np.lexsort((-score, rank, user))
    user, score = user[order], score[order]
    wrong = (user[1:] == user[:-1]) & (score[1:] > score[:-1])
    if wrong.any():
        users = np.unique(user[1:][wrong])
        raise DataError(
            f"{where}: rank and score disagree for {_users(users)} ({listed(user_ids[users], 3)}): an item with a "
            "better rank has a lower score. Name the column that is right, with rank=... or score=... (in a shell: "
            "--table rank=... or --table score=...)."
        )


def _ranked(lists: pd.DataFrame, user_ids: pd.Series, where: str, notes: list[str]) -> pd.DataFrame:
    """The lists with ranks from 1, ties at their mean rank, each item once; by scores where there are any."""
    key = -lists["score"].to_numpy() if "score" in lists else lists["rank"].to_numpy()
    order = np.lexsort((key, lists["user"].to_numpy()))
    lists, key = lists.iloc[order], key[order]
    again = lists.duplicated(["user", "item"]).to_numpy()
    if again.any():
        users = np.unique(lists["user"][again])
        count = _counted(again.sum(), "row recommends", "rows recommend")
        notes.append(
            f"{where}: {count} an item that is in the list already, to {_users(users)} "
            f"({listed(user_ids[users], 3)}); the best place of each is kept."
        )
        lists, key = lists[~again], key[~again]
    user = lists["user"].to_numpy()
    new_user = np.r_[True, user[1:] != user[:-1]]
    new = new_user | np.r_[True, key[1:] != key[:-1]]
    tie = new.cumsum() - 1
    first = np.flatnonzero(new)
    size = np.diff(np.r_[first, len(user)])
    start = np.flatnonzero(new_user)[new_user.cumsum() - 1]  # where the list of each row begins
    if (size > 1).any():
        users = np.unique(user[first[size > 1]])
        notes.append(
            f"{where}: {size[size > 1].sum():,} items tie with others of their list, for {_users(users)}; "
            "items that tie share their mean rank."
        )
    return lists.assign(rank=(first[tie] - start + (size[tie] + 1) / 2))


def _describe_lists(lists: pd.DataFrame, split: Split, where: str, notes: list[str]) -> None:
    """Add notes on lists that no test query needs, on short ones, and on missing ones."""
    measured = split.test.user.cpu().numpy()
    lengths = np.bincount(lists["user"], minlength=split.n_users + 1)
    others = np.flatnonzero((lengths > 0) & (np.bincount(measured, minlength=split.n_users + 1) == 0))
    ids, users = split.log.users["user_id"], np.unique(measured)
    if len(others):
        notes.append(f"{where}: the lists of {_users(others)} without a test query are not measured.")
    if len(users) < len(measured):
        notes.append(f"{where}: {len(measured):,} queries of {len(users):,} users are answered by one list per user.")
    enough = min(10, split.n_items)
    none, short = users[lengths[users] == 0], users[(lengths[users] > 0) & (lengths[users] < enough)]
    counted = [_counted(len(some), "has", "have") for some in (none, short)]
    if len(none):
        notes.append(
            f"{where}: of {_users(users)} with a test query, {counted[0]} no list, which counts as not found: "
            f"{listed(ids[none])}."
        )
    if len(short):
        notes.append(
            f"{where}: of {_users(users)} with a test query, {counted[1]} a list of fewer than "
            f"{enough} items, so that metrics at 10 may be too low: {listed(ids[short])}."
        )


def _users(users: np.ndarray) -> str:
    """The number of users, for a message."""
    return _counted(len(users), "user", "users")


def _counted(count: int, one: str, several: str) -> str:
    """A number with the words for one or for several, for a message."""
    return f"{count:,} {one if count == 1 else several}"


def _cutoff(metric: Metric) -> int:
    """The number of items that a metric such as "ndcg@10" looks at; 0 without one."""
    k = metric.name.partition("@")[2]
    return int(k) if k.isdecimal() else 0


def _lists(found: MeasuredLists) -> str:
    """The lengths of the measured lists, as a part of the protocol sentence."""
    lengths = found.lengths[found.lengths > 0]
    least, most = (int(lengths.min()), int(lengths.max())) if len(lengths) else (0, 0)
    span = _counted(most, "item", "items") if least == most else f"{least:,} to {most:,} items"
    removed = _counted(found.removed, "item of a history was removed, ", "items of histories were removed, ")
    removed = removed if found.removed else ""
    none = int((found.lengths == 0).sum())
    missing = f" and none for {_counted(none, 'query', 'queries')}" if none else ""
    return f"{removed}lists of {span}{missing}, and an answer that is not in its list counts as not found"
