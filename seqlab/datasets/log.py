"""InteractionLog: which user interacted with which item, when; checked once, so that nothing downstream has to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
import pandas as pd

from seqlab.datasets.columns import select_column
from seqlab.datasets.event_order import repeated, run_backwards, share_rising, ties_with_previous
from seqlab.datasets.fingerprint import fingerprint
from seqlab.datasets.ids import number_ids
from seqlab.datasets.item_table import item_table
from seqlab.datasets.timestamps import seconds
from seqlab.runtime.text import DataError

__all__ = ["DataError", "InteractionLog", "make_log"]

ORDERS = ("time", "source")
TIES = ("source", "shuffle")
SUMMARY = """<h4>{{ name }}</h4><table>{% for fact, value in facts %}
<tr><th style='text-align:left'>{{ fact }}</th><td style='text-align:left'>{{ value }}</td></tr>{% endfor %}
</table><ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>"""
"""A log as HTML: a template of jinja2, rendered with autoescape."""


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """A validated table of events with its users and items.

    events: user int64 1..U, item int64 1..N, timestamp float64 (unix seconds, NaN = unknown), then the
            source's other columns; grouped by user, oldest first.
    users:  index 1..U; column user_id, the label as given.
    items:  index 1..N; columns item_id (the label as given), title (never missing), then free text columns.
    ties:   "source": events with one timestamp keep the source's order; "shuffle": that order means nothing
            and was drawn at random (seeded).
    repeats: a user may meet an item again, so by default nothing seen is filtered from recommendations.
    source_ties_sorted: among neighbours of one user with one timestamp, the share whose item labels rise in
            the source's order (NaN without ties): 0.5 is chance, near 1 the file was sorted by item.
    notes:  sentences on what was detected, dropped (with counts) or repaired.
    card:   the named dataset that this is ("ml-1m"), whose card holds presets and unread columns; "": one's own data,
            whatever its file is called.
    origin: what `datasets.reload` needs to read the log again: {"dataset": name}, or {"path": absolute path} and the
            arguments it was read with; None for a log that no file holds as it is (of a frame, or a selection).
    """

    events: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame
    name: str
    ties: str = "source"
    repeats: bool = False
    source_ties_sorted: float = float("nan")
    notes: tuple[str, ...] = ()
    card: str = ""
    origin: dict | None = None

    @property
    def n_users(self) -> int:
        """Number of users, U."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items, N."""
        return len(self.items)

    @property
    def n_events(self) -> int:
        """Number of events, E."""
        return len(self.events)

    def fingerprint(self, version: int = 2) -> str:
        """sha256 (hex) of what the log holds: equal prints, equal training and evaluation. The name does not count.

        version 2: all that a system may read: users, items and times in their order, labels, item table and further
            columns with their names, and how ties and repeats are taken. How pandas stores a column does not count.
        version 1: users, items and times alone, for runs and rows that were written with it.
        """
        return fingerprint(self.events, self.users, self.items, self.ties, self.repeats, version)

    def select(self, rows, note: str) -> InteractionLog:
        """Keep some events: users and items left without one go, the others are renumbered in their order.

        rows: boolean mask (E,) or integer positions over `events` (their order is not changed). `note` is a
        sentence that joins the notes. The card stays, the origin does not. DataError if nothing is left.
        """
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.sort(rows.astype(np.int64))
        if not len(rows):
            raise DataError(f"{self.name}: no event is left ({note})")
        events = self.events.iloc[rows].reset_index(drop=True)
        user_ids, user = np.unique(events["user"].to_numpy(), return_inverse=True)
        item_ids, item = np.unique(events["item"].to_numpy(), return_inverse=True)
        events = events.assign(user=user.astype(np.int64) + 1, item=item.astype(np.int64) + 1)
        users = self.users.loc[user_ids].set_axis(pd.RangeIndex(1, len(user_ids) + 1, name="user"))
        items = self.items.loc[item_ids].set_axis(pd.RangeIndex(1, len(item_ids) + 1, name="item"))
        return replace(self, events=events, users=users, items=items, notes=(*self.notes, note), origin=None)

    def summary(self) -> pd.DataFrame:
        """What the log holds, as a table with columns fact and value (text)."""
        lengths = np.bincount(self.events["user"], minlength=self.n_users + 1)[1:]
        counts = np.bincount(self.events["item"], minlength=self.n_items + 1)[1:]
        times = self.events["timestamp"].to_numpy()
        known = ~np.isnan(times)
        span = "no timestamps"
        if known.any():
            first, last = (pd.Timestamp(edge, unit="s") for edge in (times[known].min(), times[known].max()))
            span = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
        facts = {
            "users": f"{self.n_users:,}",
            "items": f"{self.n_items:,}",
            "events": f"{self.n_events:,}",
            "events per user": f"median {np.median(lengths):g}, longest {lengths.max():,}",
            "events per item": f"median {np.median(counts):g}, most {counts.max():,}",
            "from, to": span,
            "events without a timestamp": f"{(~known).sum():,}",
            "equal timestamps": "order of the source" if self.ties == "source" else "order means nothing: shuffled",
            "repeats": "items come back: seen ones stay candidates" if self.repeats else "seen items are filtered",
            "item text": ", ".join(str(column) for column in self.items.columns[1:]),
        }
        return pd.DataFrame({"fact": list(facts), "value": list(facts.values())})

    def __repr__(self) -> str:
        return (
            f"InteractionLog({self.name!r}: {self.n_users:,} users, {self.n_items:,} items, {self.n_events:,} events)"
        )

    def _repr_html_(self) -> str:
        import jinja2

        facts = self.summary().itertuples(index=False)
        return jinja2.Template(SUMMARY, autoescape=True).render(name=self.name, facts=facts, notes=self.notes)


def make_log(
    frame: pd.DataFrame,
    *,
    user: str = "user",
    item: str = "item",
    time: str | None = "timestamp",
    items: pd.DataFrame | None = None,
    title: str | None = None,
    name: str = "log",
    ties: str = "source",
    repeats: bool | None = None,
    order: str = "time",
    where: str = "the frame",
    items_where: str = "the item table",
    row_numbers=None,
    item_row_numbers=None,
    tie_key: str | None = None,
    notes: tuple[str, ...] = (),
    seed: int = 0,
) -> InteractionLog:
    """Check a table of events, number its users and items 1.., and put every user's events oldest first.

    user, item, time: names of columns. time None: the source keeps no time (then order must be "source").
    items: item table whose key column is also called `item`; title: its column with the words people read
        (without `items`, a column of `frame`).
    order: "time" sorts each user's events by time, keeping the source's order at equal times; "source" keeps
        the source's order throughout, and timestamps may then be missing; where they run backwards, a note says so.
    repeats None: detected (more than 1 % of events bring back an item of the same user; exact copies are no repeats).
    tie_key: column (dropped afterwards) by which the source may be sorted at equal times, if not the item.
    Users and items are numbered in the order of their sorted labels, which tells nothing of popularity or
    time; labels that are exactly 1..N keep their numbers. DataError for anything that is not a log.
    """
    if order not in ORDERS or ties not in TIES:
        raise ValueError(f"order is one of {ORDERS} and ties one of {TIES}, not {order!r} and {ties!r}")
    if not len(frame):
        raise DataError(f"{where}: there are no rows; a log needs a user, an item and a time per row.")
    all_notes = list(notes)
    user_of, user_labels, more_notes = number_ids(select_column(frame, user, where), where, row_numbers)
    all_notes += more_notes
    item_of, item_labels, more_notes = number_ids(select_column(frame, item, where), where, row_numbers)
    all_notes += more_notes
    if time is None and order == "time":
        raise DataError(
            f"{where}: no column says when. Name it with time=..., or pass order='source' if each user's "
            "rows are already oldest first."
        )
    times = np.full(len(frame), np.nan)
    if time is not None:
        times, more_notes = seconds(
            select_column(frame, time, where), where, row_numbers, may_be_missing=order == "source"
        )
        all_notes += more_notes
    if len(item_labels) == 1:
        raise DataError(
            f"{where}: column {item!r} holds one item alone ({item_labels[0]}); there is nothing to rank. "
            "Is this the right column?"
        )
    lengths = np.bincount(user_of)[1:]
    if lengths.max() == 1:
        raise DataError(
            f"{where}: every user in column {user!r} has one event, so there is no history to learn from. "
            "Is this the right column?"
        )
    if (lengths == 1).any():
        all_notes.append(f"{(lengths == 1).sum():,} users have a single event; they are kept.")

    rows = np.lexsort((times, user_of)) if order == "time" else np.argsort(user_of, kind="stable")
    tied = ties_with_previous(user_of[rows], times[rows])
    measured = item_of if tie_key is None else number_ids(select_column(frame, tie_key, where), where, row_numbers)[0]
    rising = share_rising(measured[rows], tied)
    if ties == "shuffle":
        group = np.cumsum(~tied)
        rows = rows[np.lexsort((np.random.default_rng(seed).random(len(rows)), group))]

    table, more_notes = _items(frame, items, item, title, item_labels, item_of, where, items_where, item_row_numbers)
    all_notes += more_notes
    events = pd.DataFrame({"user": user_of[rows], "item": item_of[rows], "timestamp": times[rows]})
    from_frame = title if items is None else None
    for column in frame.columns:
        if column not in (user, item, time, tie_key, from_frame):
            kept = f"{column} (source)" if str(column) in events.columns else str(column)
            events[kept] = select_column(frame, column, where).iloc[rows].to_numpy()
    back = run_backwards(events["user"].to_numpy(), events["timestamp"].to_numpy())
    if back.any():
        all_notes.append(
            f"{back.sum():,} events of {events['user'][back].nunique():,} users are earlier than the event before "
            "them: times run backwards there, and the order of the source is kept (order='source')."
        )
    again, copies = repeated(events, len(item_labels))
    if copies:
        all_notes.append(
            f"{copies:,} events repeat another exactly (user, item and timestamp); they are kept, and do not count as "
            "items that come back."
        )
    if repeats is None:
        share = again / (len(events) - copies)
        repeats = share > 0.01
        all_notes.append(
            f"{share:.1%} of events bring back an item of the same user: "
            f"repeats={repeats} (seen items {'stay candidates' if repeats else 'are filtered'})."
        )
        if again and np.isnan(times).any():
            all_notes.append("Without timestamps, copies of one event cannot be distinguished from repeats.")
    elif again and not repeats:
        all_notes.append(
            f"{again:,} events bring back an item the user already had; they are kept, though seen items "
            "are filtered from recommendations (repeats=False)."
        )
    users = pd.DataFrame({"user_id": user_labels}, index=pd.RangeIndex(1, len(user_labels) + 1, name="user"))
    for place in (where, items_where):  # notes travel into reports: a file's name is enough there
        all_notes = [note.replace(place, PurePath(place).name) for note in all_notes]
    return InteractionLog(events, users, table, str(name), ties, bool(repeats), rising, tuple(all_notes))


def _items(frame, items, item, title, labels, item_of, where, items_where, item_row_numbers):
    """The item table from its own table, from a title column of the events, or from the ids alone."""
    if items is not None or title is None:
        return item_table(labels, items, item, title, items_where, item_row_numbers)
    titles = select_column(frame, title, where)
    first = np.unique(item_of, return_index=True)[1]
    own = pd.DataFrame({"item": labels, "title": titles.iloc[first].to_numpy()})
    several = pd.DataFrame({"item": item_of, "title": titles.to_numpy()}).drop_duplicates()["item"].duplicated().any()
    table, all_notes = item_table(labels, own, "item", "title", where)
    return table, all_notes + (["Some items have several titles; the first one is shown."] if several else [])
