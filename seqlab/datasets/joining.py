"""Several logs as one: shops, domains or months with one numbering of users and items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from seqlab.datasets.event_order import count_repeats
from seqlab.datasets.log import InteractionLog
from seqlab.datasets.roles import renumbered
from seqlab.runtime.text import DataError, listed

DOMAIN = "domain"
WAYS = ("same", "apart")


def join(
    logs: Iterable[InteractionLog] | Mapping[str, InteractionLog], *, users: str = "same", items: str = "same"
) -> InteractionLog:
    """One log of all events, whose declared column `domain` is the name of the log that an event is from.

    logs: with different names; or name -> log, for logs that have none of their own, such as months of one log.
    users, items: "same": equal ids are one user or item, as in months of one shop, or people in two shops; "apart":
        equal ids are different, as movies and books that are both numbered from 1, and get the log's name before them.
    Users and items are numbered by their sorted ids. Events are sorted by time within each user (equal times in the
    order of the logs); if any event has none, those of a user follow each other log by log. Where tables differ, the
    first log that has a value gives it. A column with a role keeps its name if it is the same everywhere, and is called
    like the role otherwise. Baskets with equal ids are one basket where items are, as in months of one shop. Further
    tables of one name are put below each other, with a column domain. Notes count what was merged.
    Raises `DataError` for fewer than two logs or for equal names, and `ValueError` for another way.
    """
    named = dict(logs) if isinstance(logs, Mapping) else None
    parts = list(logs.values()) if named is not None else list(logs)
    names = [str(name) for name in named] if named is not None else [log.name for log in parts]
    if users not in WAYS or items not in WAYS:
        raise ValueError(f"users and items must be one of {WAYS} (got {users!r} and {items!r})")
    if len(parts) < 2 or len(set(names)) < len(names):
        raise DataError(
            f"join: needs two logs or more with different names (got {listed(names) or 'none'}). "
            "Pass them as a dict to name them."
        )
    notes = [f"{name}: {note}" for name, log in zip(names, parts, strict=True) for note in log.notes]
    user_table, user_numbers = _joined([log.users for log in parts], "user", names, users, notes)
    item_table, item_numbers = _joined([log.items for log in parts], "item", names, items, notes)
    roles = _roles(parts)
    frames = [log.events.rename(columns=_names(log, roles)) for log in parts]
    if items == "apart":
        frames = _distinct_baskets(frames, roles.get("basket", "basket"), names, notes)
    numbers = [{"user": one, "item": two} for one, two in zip(user_numbers, item_numbers, strict=True)]
    frames = [renumbered(frame, new) for frame, new in zip(frames, numbers, strict=True)]
    domain = pd.Series(pd.Categorical.from_codes(np.repeat(np.arange(len(frames)), list(map(len, frames))), names))
    events = pd.concat([_nullable(frame, frames) for frame in frames], ignore_index=True)
    events[DOMAIN] = events[DOMAIN].astype(object).where(events[DOMAIN].notna(), domain) if DOMAIN in events else domain
    user, times = events["user"].to_numpy(), events["timestamp"].to_numpy()
    if unknown := int(np.isnan(times).sum()):
        notes.append(f"{unknown:,} events have no timestamp, so a user's events follow each other log by log.")
    order = np.argsort(user, kind="stable") if unknown else np.lexsort((times, user))
    events = events.iloc[order].reset_index(drop=True)
    again, copies = count_repeats(events, len(item_table))
    repeats = any(log.repeats for log in parts) or again > 0.01 * (len(events) - copies)
    notes.append(f"{again:,} events repeat an item of the same user in the joined log: repeats={repeats}.")
    declared = {column for log in parts for column in map(_names(log, roles).get, log.declared)} | {DOMAIN}
    sorting = [log.source_ties_sorted for log in parts if not np.isnan(log.source_ties_sorted)]
    cards = {log.card for log in parts}
    return InteractionLog(
        events,
        user_table,
        item_table,
        " + ".join(names),
        "shuffle" if any(log.ties == "shuffle" for log in parts) else "source",
        bool(repeats),
        max(sorting, default=float("nan")),
        tuple(notes),
        cards.pop() if len(cards) == 1 else "",
        roles={role: column for role, column in roles.items() if role != column},
        declared=tuple(column for column in events.columns if column in declared),
        tables=_tables(parts, numbers, names),
    )


def _joined(tables: list[pd.DataFrame], what: str, names: list[str], way: str, notes: list[str]):
    """The joined table of users or items, and for each log the new number by the old one (0 stays 0)."""
    key = f"{what}_id"
    if way == "apart":
        tables = [table.assign(**{key: f"{name}:" + table[key].map(str)})
                  for name, table in zip(names, tables, strict=True)]  # fmt: skip
    if not all(pd.api.types.is_integer_dtype(table[key].dtype) for table in tables):
        tables = [table.assign(**{key: table[key].map(str).astype("str")}) for table in tables]
    labels = pd.concat([table[key] for table in tables], ignore_index=True)
    codes, _ = pd.factorize(labels, sort=True)
    ends = np.cumsum(list(map(len, tables)))
    numbers = [np.append(0, part + 1) for part in np.split(codes, ends[:-1])]
    stacked = pd.concat(tables, ignore_index=True)
    texts = [column for column in stacked if column != key and pd.api.types.is_string_dtype(stacked[column].dtype)]
    stacked[texts] = stacked[texts].mask(stacked[texts] == "")
    table = stacked.groupby(codes).first()
    table[texts] = table[texts].fillna("")
    table.index = pd.RangeIndex(1, len(table) + 1, name=what)
    counts = np.bincount(codes)
    if way == "same":
        notes.append(f"{(counts > 1).sum():,} of {len(counts):,} {what}s are in several logs: their ids are equal.")
    if "title" in table and (several := stacked.groupby(codes)["title"].nunique() > 1).any():
        notes.append(f"{several.sum():,} items have several titles in the logs; the first one is used.")
    return table, numbers


def _roles(logs: list[InteractionLog]) -> dict[str, str]:
    """role -> the column that has it in the joined log, for the roles that any log declares; domain is always one."""
    found: dict[str, set[str]] = {}
    for log in logs:
        for role, column in log.roles.items():
            found.setdefault(role, set()).add(column)
            for other in logs:
                if role not in other.roles and (role in other.events or column in other.events):
                    found[role].add(role)
    same = {role: columns.pop() if len(columns) == 1 else role for role, columns in found.items()}
    return same | {DOMAIN: DOMAIN}


def _names(log: InteractionLog, roles: Mapping[str, str]) -> dict[str, str]:
    """The event columns of a log -> their names in the joined log."""
    new = {log.roles[role]: column for role, column in roles.items() if role in log.roles}
    taken = set(new.values())
    rest = {column: f"{column} (source)" if column in taken else column for column in log.events if column not in new}
    return {column: (new | rest)[column] for column in log.events}


def _nullable(frame: pd.DataFrame, frames: list[pd.DataFrame]) -> pd.DataFrame:
    """A frame whose whole numbers stay whole where other frames lack their column."""
    alone = [column for column in frame if not all(column in other for other in frames)]
    whole = [column for column in alone if frame[column].dtype == np.int64]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def _distinct_baskets(frames: list[pd.DataFrame], column: str, names: list[str], notes: list[str]):
    """The events, whose baskets have the log's name before their id if an id occurs in several logs."""
    ids = [pd.Series(frame[column].dropna().unique()).map(str) for frame in frames if column in frame]
    if not ids or not pd.concat(ids).duplicated().any():
        return frames
    notes.append(f"baskets of different logs have equal ids: column {column!r} has the log's name before each.")
    return [
        frame.assign(**{column: (f"{name}:" + frame[column].map(str)).where(frame[column].notna())})
        if column in frame
        else frame
        for name, frame in zip(names, frames, strict=True)
    ]


def _tables(logs: list[InteractionLog], numbers: list[dict], names: list[str]) -> dict[str, pd.DataFrame]:
    """The further tables of all logs in the new numbering; those of one name below each other."""
    found: dict[str, list[pd.DataFrame]] = {}
    for log, new, domain in zip(logs, numbers, names, strict=True):
        for name, table in log.tables.items():
            found.setdefault(name, []).append(renumbered(table, new).assign(**{DOMAIN: domain}))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items()}
