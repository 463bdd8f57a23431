"""Exposures: the log of what was shown, one slate of items at a time, and which of them was clicked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from seqlab.datasets.columns import describe_rows, finite_numbers, select_column, to_text
from seqlab.datasets.event_order import count_repeats
from seqlab.datasets.ids import number_ids
from seqlab.datasets.item_table import item_table
from seqlab.datasets.log import InteractionLog
from seqlab.datasets.timestamps import unix_seconds
from seqlab.runtime.text import DataError, MissingDataError, listed

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TABLE = "exposures"
"""The name of the table in `InteractionLog.tables`."""


@dataclass(frozen=True, eq=False)
class Exposures:
    """Slates that were shown to users, grouped by user, oldest first; a slate of A items has the slots 1 to A.

    user: (S,) int64 from 1. times: (S,) float64 unix seconds. items: (E,) int64 from 1, the items of all slates one
    after another, in the order of their slots. offsets: (S + 1,) int64, slate s has `items[offsets[s]:offsets[s + 1]]`.
    clicked: (S,) int64 the slot that was clicked, 0 = none. propensity: (E,) float64 in (0, 1], the probability with
    which the item was shown in its slot given the items above it (their product is the probability of the slate); None:
    unknown.
    """

    user: NDArray
    times: NDArray
    items: NDArray
    offsets: NDArray
    clicked: NDArray
    propensity: NDArray | None = None

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        shown = f"{len(self.items):,} items shown, {self.click_rate:.1%} of the slates clicked"
        return f"Exposures({len(self):,} slates of {len(np.unique(self.user)):,} users, {shown})"

    @property
    def lengths(self) -> NDArray:
        """The number of items of each slate: (S,)."""
        return np.diff(self.offsets)

    @property
    def slate(self) -> NDArray:
        """The slate of each shown item, from 0: (E,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def slot(self) -> NDArray:
        """The slot of each shown item, from 1: (E,)."""
        return np.arange(1, len(self.items) + 1) - np.repeat(self.offsets[:-1], self.lengths)

    @property
    def is_clicked(self) -> NDArray:
        """Whether each shown item was clicked: (E,) bool."""
        return self.slot == np.repeat(self.clicked, self.lengths)

    @property
    def item(self) -> NDArray:
        """The item that was clicked in each slate, 0 = none: (S,)."""
        at = self.offsets[:-1] + np.maximum(self.clicked, 1) - 1
        return np.where(self.clicked > 0, self.items[at], 0)

    @property
    def click_rate(self) -> float:
        """The share of slates with a click."""
        return float((self.clicked > 0).mean()) if len(self) else float("nan")

    def padded(self, width: int | None = None) -> NDArray:
        """The items of the slates, padded with 0: (S, A) for the longest slate, or (S, `width`)."""
        longest = int(self.lengths.max()) if len(self) else 0
        table = np.zeros((len(self), longest if width is None else width), np.int64)
        table[self.slate, self.slot - 1] = self.items
        return table

    def select(self, rows: ArrayLike) -> Exposures:
        """Some of the slates, in their order: a boolean mask (S,) or integer positions."""
        rows = np.asarray(rows)
        kept = np.zeros(len(self), bool)
        kept[rows] = True
        shown = np.repeat(kept, self.lengths)
        offsets = np.concatenate([[0], self.lengths[kept].cumsum()])
        propensity = None if self.propensity is None else self.propensity[shown]
        return Exposures(
            self.user[kept], self.times[kept], self.items[shown], offsets, self.clicked[kept], propensity
        )  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """One row per shown item: slate (from 1), user, timestamp, slot, item, clicked (bool), propensity if known."""
        slate = self.slate
        columns = {
            "slate": slate + 1, "user": self.user[slate], "timestamp": self.times[slate], "slot": self.slot,
            "item": self.items, "clicked": self.is_clicked,
        }  # fmt: skip
        return pd.DataFrame(columns if self.propensity is None else {**columns, "propensity": self.propensity})

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content."""
        digest = hashlib.sha256(f"exposures 1 {len(self)} {len(self.items)}".encode())
        for values in (self.user, self.items, self.offsets, self.clicked):
            digest.update(np.ascontiguousarray(values, "<i8").data)
        for values in (self.times, self.propensity):
            digest.update(b"none" if values is None else np.ascontiguousarray(values, "<f8").data)
        return digest.hexdigest()

    def attach(self, log: InteractionLog) -> InteractionLog:
        """The log with these exposures as its table "exposures"; they have the log's numbers of users and items.

        Raises `DataError` for a user or an item that the log does not have.
        """
        for name, values, most in (("user", self.user, log.n_users), ("item", self.items, log.n_items)):
            if len(values) and values.max() > most:
                raise DataError(
                    f"{log.name}: the exposures have {name} {values.max():,}, but the log has {most:,} {name}s."
                )
        return replace(log, tables={**log.tables, TABLE: self.to_frame()})

    @classmethod
    def of_log(cls, log: InteractionLog) -> Exposures:
        """The exposures of a log, from its table "exposures".

        Slates of a user, or with an item, that the log does not have (0, as `InteractionLog.select` leaves them) are
        dropped whole. Raises `DataError` for a log without exposures, or if none is left.
        """
        if TABLE not in log.tables:
            raise MissingDataError(
                f"{log.name}: the log has no exposures, the table of what was shown: put an exposures.tsv into its "
                "folder, attach one with Exposures.attach, or make the log from one with log_of_exposures."
            )
        table, where = log.tables[TABLE], f"{log.name}: table {TABLE!r}"
        unknown = (table["user"] == 0) | (table["item"] == 0)
        if unknown.any():
            table = table[~table["slate"].isin(table["slate"][unknown])]
        if not len(table):
            raise DataError(f"{where}: no slate is left whose user and items are all in the log.")
        return _validated(table, table["timestamp"].to_numpy(np.float64), where=where)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        log: InteractionLog | None = None,
        *,
        slate: str = "slate",
        user: str = "user",
        time: str = "timestamp",
        item: str = "item",
        clicked: str = "clicked",
        slot: str | None = None,
        propensity: str | None = None,
        where: str = "the exposures",
    ) -> Exposures:
        """Validate a table with one row per shown item.

        slate: the id of the slate, of any type. clicked: 0 or 1. slot: the order of the rows within a slate (any
        numbers); None: the column "slot" if there is one, else the order of the rows. propensity: None: the column
        "propensity" if there is one.
        log: whose users and items are meant by their original ids; None: the columns have numbers from 1 already.
        Slates are sorted by user and time. Raises `DataError` for rows of one slate with different users or times,
        several clicks in a slate, an item twice in a slate, and values that are no ids, times, clicks or probabilities.
        """
        if not len(frame):
            raise DataError(f"{where}: there are no rows; exposures need a slate, a user, a time, an item and a click.")
        slot = "slot" if slot is None and "slot" in frame.columns else slot
        propensity = "propensity" if propensity is None and "propensity" in frame.columns else propensity
        given = {"slate": slate, "user": user, "item": item, "clicked": clicked, "slot": slot, "propensity": propensity}
        columns = {key: select_column(frame, name, where) for key, name in given.items() if name is not None}
        times, _ = unix_seconds(select_column(frame, time, where), where)
        labels = (None, None) if log is None else (log.users["user_id"], log.items["item_id"])
        return _validated(columns, times, *labels, where=where)


def log_of_exposures(
    frame: pd.DataFrame,
    *,
    slate: str = "slate",
    user: str = "user",
    time: str = "timestamp",
    item: str = "item",
    clicked: str = "clicked",
    slot: str | None = None,
    propensity: str | None = None,
    items: pd.DataFrame | None = None,
    title: str | None = None,
    name: str = "exposures",
    where: str = "the exposures",
) -> InteractionLog:
    """The log of a table with one row per shown item: its events are the clicks, its exposures all slates.

    The columns are those of `Exposures.from_frame`, with ids of any type. Users without a click and items that were
    never clicked belong to the log. items: a table whose key column is also called `item`; title: its column of titles.
    Raises `DataError` for a table that is no log of slates, and if nothing was clicked.
    """
    user_of, user_ids, notes = number_ids(select_column(frame, user, where), where)
    item_of, item_ids, more = number_ids(select_column(frame, item, where), where)
    described, further = item_table(item_ids, items, item, title, "the item table")
    shown = Exposures.from_frame(
        frame.assign(**{user: user_of, item: item_of}), slate=slate, user=user, time=time, item=item, clicked=clicked,
        slot=slot, propensity=propensity, where=where,
    )  # fmt: skip
    chosen = shown.clicked > 0
    if not chosen.any():
        raise DataError(f"{where}: no row of column {clicked!r} is 1, so there is no event to learn from.")
    events = pd.DataFrame({"user": shown.user, "item": shown.item, "timestamp": shown.times})[chosen]
    again, copies = count_repeats(events, len(item_ids))
    people = pd.DataFrame({"user_id": user_ids}, pd.RangeIndex(1, len(user_ids) + 1, name="user"))
    note = f"{len(shown):,} slates were shown; the events are the {len(events):,} clicks on them."
    log = InteractionLog(
        events.reset_index(drop=True), people, described, name, repeats=again / max(len(events) - copies, 1) > 0.01,
        notes=(*notes, *more, *further, note),
    )  # fmt: skip
    return shown.attach(log)


def _validated(columns, times: NDArray, user_ids=None, item_ids=None, where: str = "") -> Exposures:
    """Exposures from the columns slate, user, item, clicked, and slot and propensity if known; times: (E,)."""
    codes, labels = pd.factorize(columns["slate"])
    if (codes < 0).any():
        raise DataError(f"{where}: column {columns['slate'].name!r} has no slate in {describe_rows(codes < 0, None)}.")
    rank = finite_numbers(columns["slot"], where) if "slot" in columns else np.zeros(len(codes))
    users, items = _ids(columns["user"], where, user_ids), _ids(columns["item"], where, item_ids)
    clicks = finite_numbers(columns["clicked"], where)
    if (wrong := ~np.isin(clicks, (0, 1))).any():
        name = columns["clicked"].name
        raise DataError(f"{where}: column {name!r} must be 0 or 1: {describe_rows(wrong, None)}.")
    chance = finite_numbers(columns["propensity"], where) if "propensity" in columns else None
    if chance is not None and (wrong := ~((chance > 0) & (chance <= 1))).any():
        name = columns["propensity"].name
        raise DataError(f"{where}: column {name!r} must be a probability above 0: {describe_rows(wrong, None)}.")

    first = np.unique(codes, return_index=True)[1]
    for name, values in (("user", users), ("time", times)):
        if (differs := values != values[first][codes]).any():
            some = listed(labels[np.unique(codes[differs])])
            raise DataError(f"{where}: the rows of a slate have one {name}; those of slate {some} have several.")
    if (several := np.bincount(codes, clicks) > 1).any():
        raise DataError(
            f"{where}: a slate has one click or none, but {several.sum():,} have several (slate "
            f"{listed(labels[several])}): end a slate at its click, or make a slate of each click."
        )
    if (twice := pd.DataFrame({"slate": codes, "item": items}).duplicated().to_numpy()).any():
        some = listed(labels[np.unique(codes[twice])])
        raise DataError(f"{where}: a slate shows an item once, but slate {some} shows one again: keep its first slot.")

    rows = np.lexsort((rank, codes, times, users))
    starts = np.flatnonzero(np.diff(codes[rows], prepend=-1))
    offsets = np.append(starts, len(rows))
    slots = np.arange(1, len(rows) + 1) - np.repeat(starts, np.diff(offsets))
    clicked = np.add.reduceat(slots * clicks[rows].astype(np.int64), starts)
    of_slates = rows[starts]
    propensity = None if chance is None else chance[rows]
    return Exposures(users[of_slates], times[of_slates], items[rows], offsets, clicked, propensity)


def _ids(column: pd.Series, where: str, labels: pd.Series | None) -> NDArray:
    """A column of users or items as numbers from 1: those of the ids `labels`, or as they are."""
    if labels is None:
        numbers = finite_numbers(column, where)
        if (wrong := (numbers < 1) | (numbers != np.floor(numbers))).any():
            raise DataError(
                f"{where}: column {column.name!r} must be whole numbers from 1: {describe_rows(wrong, None)}."
            )
        return numbers.astype(np.int64)
    codes, unique = pd.factorize(to_text(column))
    found = pd.Series(labels.index, index=to_text(labels)).reindex(unique).to_numpy(np.float64)[codes]
    if (wrong := np.isnan(found)).any():
        unknown = listed(column[wrong].unique())
        raise DataError(f"{where}: column {column.name!r} has ids that the log does not have: {unknown}.")
    return found.astype(np.int64)
