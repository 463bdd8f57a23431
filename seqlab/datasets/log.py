"""InteractionLog: a validated table of which user interacted with which item, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath

import numpy as np
import pandas as pd

from seqlab.datasets.columns import select_column
from seqlab.datasets.event_order import count_repeats, out_of_order, rising_share, ties_previous
from seqlab.datasets.fingerprint import fingerprint
from seqlab.datasets.ids import number_ids
from seqlab.datasets.item_table import item_table, user_table
from seqlab.datasets.roles import check_roles, column_name, event_column, further_columns, renumbered, user_column
from seqlab.datasets.timestamps import unix_seconds
from seqlab.runtime.text import DataError

__all__ = ["DataError", "InteractionLog", "make_log"]

ORDERS = ("time", "source")
TIES = ("source", "shuffle")
SUMMARY = """<div class='seqlab-log'><h4>{{ name }}</h4><table>{% for fact, value in facts %}
<tr><th style='text-align:left;padding-right:1.5em'>{{ fact }}</th><td style='text-align:left'>{{ value }}</td></tr>
{% endfor %}
</table><ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul></div>"""
"""A log as HTML: a template of jinja2, rendered with autoescape."""


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """A validated table of events with its users and items.

    events: user int64 1..U, item int64 1..N, timestamp float64 (unix seconds, NaN = unknown), then the
            source's other columns (see `column`); grouped by user, oldest first.
    users:  index 1..U; column user_id (the original id), then further columns (see `user_column`): text ("" = missing)
            or numbers (NaN = missing), such as age, or observed_until (unix seconds) where observation has an end.
    items:  index 1..N; columns item_id (the original id), title (never missing), then other text columns.
    ties:   "source": events with equal timestamps keep the source's order; "shuffle": that order has no meaning
            and is random (seeded).
    repeats: whether users repeat items, so that by default seen items are not filtered from recommendations.
    source_ties_sorted: among consecutive events of one user and timestamp, the share whose item label is larger than
            the previous one in the source (NaN without ties): 0.5 is chance, near 1 the source was sorted by item.
    notes:  sentences on what was detected, dropped (with counts) or repaired.
    card:   the name of a named dataset ("ml-1m"), whose card has presets and unread columns; "": your own data.
    origin: the arguments of `datasets.reload`: {"dataset": name}, or {"path": absolute path} and the arguments of the
            reader, with the path of the "card" that they come from (see `log_card`); None for a log that is not the
            content of a file (of a frame, or a selection).
    roles:  a standard role (basket, action, price, quantity, rating, domain, store) -> the event column that has it. A
            column that is called like a role needs no entry.
    declared: the event columns that version 2 of the fingerprint leaves out, besides all further columns of the users.
    tables: name -> a further table of the source, such as coupons. Its columns user and item, if it has them, are
            numbers of this log, 0 for one that is not in it; the original ids stand beside them.
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
    roles: Mapping[str, str] = field(default_factory=dict)
    declared: tuple[str, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

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
        """SHA-256 (hex) of the content of the log: equal fingerprints, equal training and evaluation.

        version 3: all there is: users, items and times in their order, ids, the tables of items and users and further
            columns with their names, `ties`, `repeats`, `roles` and `tables`; neither the name and the notes of the log
            nor the dtype of a column.
        version 2: the same without `declared` columns, further columns of the users, `roles` and `tables`: for systems
            that read none of them.
        version 1: users, items and times only, for runs and leaderboard rows that were written with it.
        """
        return fingerprint(self, version)

    def column(self, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """An event column by its role or its name: (E,) values and their categories.

        Numbers: float64, NaN = missing, and None. Text: int64 codes 1..V, 0 = missing, and the V texts in the order of
        the codes. The roles basket, action, domain and store are categories even where they are numbers, and so are
        whole numbers beyond 2**53: as float64, ids could lose digits. A column is converted when it is requested.
        Raises `DataError`, with the columns there are and how to declare one, for a column that is not there.
        """
        return event_column(self, name)

    def column_name(self, name: str) -> str:
        """The name of the event column of a role, or of that name. Raises the `DataError` of `column`, at no cost."""
        return column_name(self, name)

    def user_column(self, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """A column of the users, (U,) values and their categories, as `column`. Raises `DataError` without it."""
        return user_column(self, name)

    def select(self, rows, note: str, keep_numbering: bool = False) -> InteractionLog:
        """Keep some events and the users and items that occur in them, renumbered in their order.

        rows: boolean mask (E,) or integer positions in `events`, whose order is kept. note: a sentence that is added to
        the notes. keep_numbering: users and items keep their numbers and tables, also those without an event, so that
        what is known of an item elsewhere holds here; else `tables` are renumbered, with 0 for what is dropped. The
        card is kept, the origin is None. Raises `DataError` if no event is left.
        """
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.sort(rows.astype(np.int64))
        if not len(rows):
            raise DataError(f"{self.name}: no event is left ({note})")
        events = self.events.iloc[rows].reset_index(drop=True)
        kept = replace(self, events=events, notes=(*self.notes, note), origin=None)
        if keep_numbering:
            return kept
        user_ids, user = np.unique(events["user"].to_numpy(), return_inverse=True)
        item_ids, item = np.unique(events["item"].to_numpy(), return_inverse=True)
        events = events.assign(user=user.astype(np.int64) + 1, item=item.astype(np.int64) + 1)
        users = self.users.loc[user_ids].set_axis(pd.RangeIndex(1, len(user_ids) + 1, name="user"))
        items = self.items.loc[item_ids].set_axis(pd.RangeIndex(1, len(item_ids) + 1, name="item"))
        numbers = {"user": np.zeros(self.n_users + 1, np.int64), "item": np.zeros(self.n_items + 1, np.int64)}
        numbers["user"][user_ids] = users.index
        numbers["item"][item_ids] = items.index
        tables = {name: renumbered(table, numbers) for name, table in self.tables.items()}
        return replace(kept, events=events, users=users, items=items, tables=tables)

    def summary(self) -> pd.DataFrame:
        """Statistics of the log: a table with columns fact and value (text)."""
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
            "equal timestamps": "order of the source" if self.ties == "source" else "order has no meaning: shuffled",
            "repeats": "users repeat items: seen items stay candidates" if self.repeats else "seen items are filtered",
            "item text": ", ".join(str(column) for column in self.items.columns[1:]),
        }
        roles = {column: role for role, column in self.roles.items()}
        columns = {
            "event columns": [f"{one} ({roles[one]})" if one in roles else one for one in further_columns(self)],
            "user columns": [str(column) for column in self.users.columns[1:]],
            "further tables": [f"{name} ({len(table):,} rows)" for name, table in self.tables.items()],
        }
        facts |= {fact: ", ".join(names) for fact, names in columns.items() if names}
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
    users: pd.DataFrame | None = None,
    title: str | None = None,
    name: str = "log",
    ties: str = "source",
    repeats: bool | None = None,
    order: str = "time",
    where: str = "the frame",
    items_where: str = "the item table",
    users_where: str = "the user table",
    row_numbers=None,
    item_row_numbers=None,
    user_row_numbers=None,
    roles: Mapping[str, str] | None = None,
    declared: tuple[str, ...] = (),
    tie_key: str | None = None,
    time_format: str | None = None,
    notes: tuple[str, ...] = (),
    seed: int = 0,
) -> InteractionLog:
    """Validate a table of events, number its users and items from 1, and sort the events of each user by time.

    user, item, time: column names. time None: the source has no times (then order must be "source").
    items: item table whose key column is also called `item`; title: its column of titles (without `items`, a column of
        `frame`). users: table of users whose key column is also called `user`.
    roles, declared: see `InteractionLog`; columns of `frame`.
    order: "time" sorts each user's events by time, stable for equal times; "source" keeps the source's order, and
        timestamps may be missing; a note counts the events out of order.
    repeats None: detected (more than 1 % of events repeat an item of the same user; exact duplicates do not count).
    time_format: see `parse_times`.
    tie_key: column (dropped afterwards) by which the source may be sorted at equal times, if not the item.
    Users and items are numbered by `ids.number_ids`. Raises `DataError` for a table that is not a log.
    """
    if order not in ORDERS or ties not in TIES:
        raise ValueError(f"order must be one of {ORDERS} and ties one of {TIES} (got {order!r} and {ties!r})")
    roles = dict(roles or {})
    check_roles(roles)
    for column in roles.values():
        select_column(frame, column, where)
    if not len(frame):
        raise DataError(f"{where}: there are no rows. A log needs a user, an item and a time per row.")
    all_notes = list(notes)
    user_of, user_labels, more_notes = number_ids(select_column(frame, user, where), where, row_numbers)
    all_notes += more_notes
    item_of, item_labels, more_notes = number_ids(select_column(frame, item, where), where, row_numbers)
    all_notes += more_notes
    if time is None and order == "time":
        raise DataError(
            f"{where}: there is no column of times. Name it with time=..., or pass order='source' if each user's "
            "rows are already oldest first."
        )
    times = np.full(len(frame), np.nan)
    if time is not None:
        times, more_notes = unix_seconds(
            select_column(frame, time, where), where, row_numbers, order == "source", time_format
        )
        all_notes += more_notes
    if len(item_labels) == 1:
        raise DataError(
            f"{where}: column {item!r} contains a single item ({item_labels[0]}), so there is nothing to rank. "
            "Is this the right column?"
        )
    lengths = np.bincount(user_of)[1:]
    if lengths.max() == 1:
        raise DataError(
            f"{where}: every user in column {user!r} has a single event, so there is no history to learn from. "
            "Is this the right column?"
        )
    if (lengths == 1).any():
        all_notes.append(f"{(lengths == 1).sum():,} users have a single event; they are kept.")

    rows = np.lexsort((times, user_of)) if order == "time" else np.argsort(user_of, kind="stable")
    tied = ties_previous(user_of[rows], times[rows])
    measured = item_of if tie_key is None else number_ids(select_column(frame, tie_key, where), where, row_numbers)[0]
    rising = rising_share(measured[rows], tied)
    if ties == "shuffle":
        group = np.cumsum(~tied)
        rows = rows[np.lexsort((np.random.default_rng(seed).random(len(rows)), group))]

    table, more_notes = _items(frame, items, item, title, item_labels, item_of, where, items_where, item_row_numbers)
    all_notes += more_notes
    events = pd.DataFrame({"user": user_of[rows], "item": item_of[rows], "timestamp": times[rows]})
    from_frame = title if items is None else None
    names = {user: "user", item: "item"} | ({} if time is None else {time: "timestamp"})
    left_out = {tie_key, from_frame} - set(roles.values()) | set(names)
    for column in frame.columns:
        if column not in left_out:
            names[column] = target = f"{column} (source)" if str(column) in events.columns else str(column)
            events[target] = select_column(frame, column, where).iloc[rows].to_numpy()
    back = out_of_order(events["user"].to_numpy(), events["timestamp"].to_numpy())
    if back.any():
        all_notes.append(
            f"{back.sum():,} events of {events['user'][back].nunique():,} users are earlier than the previous event: "
            "the order of the source is kept (order='source')."
        )
    again, copies = count_repeats(events, len(item_labels))
    if copies:
        all_notes.append(
            f"{copies:,} events are exact duplicates (user, item and timestamp); they are kept, and do not count as "
            "repeats."
        )
    if repeats is None:
        share = again / (len(events) - copies)
        repeats = share > 0.01
        all_notes.append(
            f"{share:.1%} of events repeat an item of the same user: "
            f"repeats={repeats} (seen items {'stay candidates' if repeats else 'are filtered'})."
        )
        if again and np.isnan(times).any():
            all_notes.append("Without timestamps, duplicates cannot be distinguished from repeats.")
    elif again and not repeats:
        all_notes.append(
            f"{again:,} events repeat an item of the same user; they are kept, but seen items are filtered from "
            "recommendations (repeats=False)."
        )
    described, more_notes = user_table(user_labels, users, user, users_where, user_row_numbers)
    all_notes += more_notes
    for place in (where, items_where, users_where):  # reports show notes, so paths are reduced to file names
        all_notes = [note.replace(place, PurePath(place).name) for note in all_notes]
    return InteractionLog(
        events,
        described,
        table,
        str(name),
        ties,
        bool(repeats),
        rising,
        tuple(all_notes),
        roles={role: names[column] for role, column in roles.items()},
        declared=tuple(names[column] for column in declared),
    )


def _items(frame, items, item, title, labels, item_of, where, items_where, item_row_numbers):
    """The item table from the source's item table, from a title column of the events, or from the ids only."""
    if items is not None or title is None:
        return item_table(labels, items, item, title, items_where, item_row_numbers)
    titles = select_column(frame, title, where)
    first = np.unique(item_of, return_index=True)[1]
    described = pd.DataFrame({"item": labels, "title": titles.iloc[first].to_numpy()})
    several = pd.DataFrame({"item": item_of, "title": titles.to_numpy()}).drop_duplicates()["item"].duplicated().any()
    table, notes = item_table(labels, described, "item", "title", where)
    return table, notes + (["Some items have several titles; the first one is used."] if several else [])
