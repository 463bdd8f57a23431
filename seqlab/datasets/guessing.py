"""Which column holds users, items, times or titles, where nobody says: by its name, then by what it holds."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from seqlab.datasets.columns import NUMBER
from seqlab.datasets.timestamps import seconds
from seqlab.runtime.text import DataError, listed

GUESSES = {  # compared without case and punctuation, the likeliest first
    "user": "user userid uid customer customerid householdid visitor visitorid reviewer reviewerid member "
    "memberid account accountid client clientid username sessionid",
    "item": "item itemid iid product productid sku asin parentasin movie movieid article articleid track "
    "trackid song songid book bookid isbn contentid businessid stockcode",
    "time": "timestamp time datetime date when ts unixtime unixtimestamp unixreviewtime eventtime eventdate createdat "
    "ratedat tdat transactiontimestamp invoicedate purchasedate orderdate timestampms timems",
    "title": "title name itemtitle itemname producttitle productname movietitle description text",
}
TIMELIKE = re.compile(r"time|date|stamp|epoch|(^|[^a-z])(ts|at|when|utc)($|[^a-z])", re.IGNORECASE)
SMALLEST_DATE = 1e8
"""Unix seconds; smaller numbers are counters."""
SAMPLE = 200_000
"""Events of whole users, by which columns of times are compared."""
TITLED = 0.5
"""Of the items that occur twice, the share that must have one text alone, for a column of the events to be titles."""


def guess(columns, role: str):
    """The first of the names of columns that says it holds users, items, times or titles (`GUESSES`), or None."""
    plain: dict = {}
    for column in columns:
        typeless = re.sub(r":(token|float)(_seq)?$", "", str(column))  # as RecBole writes its columns
        plain.setdefault(re.sub(r"[^a-z0-9]", "", typeless.lower()), column)
    return next((plain[word] for word in GUESSES[role].split() if word in plain), None)


def guessed(frame: pd.DataFrame, role: str, where: str, told: list[str], needed: bool = True):
    """The column whose name says it holds users, items or times; DataError without one, if it is needed."""
    if (found := guess(frame.columns, role)) is not None:
        told.append(f"{where}: column {found!r} taken as the {role}.")
    elif needed:
        hint = " or pass order='source' if each user's rows are already oldest first" if role == "time" else ""
        raise DataError(
            f"{where}: no column looks like the {role}. Name it with {role}=... (in a shell: --{role} ...){hint}; "
            f"the columns are: {listed([repr(str(column)) for column in frame.columns], 30) or 'none'}. If that is a "
            "row of data, put a line of names above it."
        )
    return found


def guessed_time(frame: pd.DataFrame, user, where: str, told: list[str], needed: bool):
    """The column of times; where several agree on the order, the one with the fewest ties within users."""
    first = guess(frame.columns, "time")
    others = [name for name in frame.columns if name not in (first, user) and TIMELIKE.search(str(name))]
    if first is None or not others:
        return guessed(frame, "time", where, told, needed)
    try:
        users = pd.factorize(frame[user])[0]
    except (TypeError, ValueError, KeyError):  # make_log says what is wrong with this column
        return guessed(frame, "time", where, told, needed)
    some = np.flatnonzero(users % (1 + len(frame) // SAMPLE) == 0)
    users, rough, best = users[some], _times(frame[first].iloc[some]), first
    if rough is None:
        return guessed(frame, "time", where, told, needed)
    ties = {first: _ties(users, rough)}
    for name in others:
        fine = _times(frame[name].iloc[some]) if isinstance(frame[name], pd.Series) else None
        if fine is None:
            continue
        ties[name] = _ties(users, fine)
        if ties[name] < ties[best] and _agree(rough, fine):
            best = name
    if best == first:
        return guessed(frame, "time", where, told, needed)
    told.append(
        f"{where}: column {best!r} taken as the time: {first!r} agrees with it but leaves {ties[first]:,} events of "
        f"a user at one time as another, {best!r} {ties[best]:,}{'' if len(some) == len(frame) else ' (of a sample)'}."
    )
    return best


def _times(values: pd.Series) -> np.ndarray | None:
    """Unix seconds of a column that can be read as times throughout; None for any other."""
    try:
        return seconds(values, "")[0] if len(values) else None
    except DataError:
        return None


def _agree(rough: np.ndarray, fine: np.ndarray) -> bool:
    """Whether both tell of the same moments: the rough one never runs back along the fine one, nor is it far away."""
    backwards = np.diff(rough[np.lexsort((rough, fine))]) < 0
    dates = min(abs(np.median(rough)), abs(np.median(fine))) > SMALLEST_DATE
    return backwards.mean() <= 0.01 and not (dates and np.median(np.abs(fine - rough)) > 32 * 86_400)


def _ties(users: np.ndarray, times: np.ndarray) -> int:
    """Events that have the user and the time of another."""
    return int(pd.DataFrame({"user": users, "time": times}).duplicated().sum())


def title_among_events(frame: pd.DataFrame, item, taken: set, where: str, told: list[str]):
    """The column of the events that holds titles of items: words, mostly the same wherever an item occurs."""
    title = guess([name for name in frame.columns if name not in taken], "title")
    if title is None or not isinstance(frame[title], pd.Series) or not isinstance(frame.get(item), pd.Series):
        return None
    try:
        items, texts = pd.factorize(frame[item])[0], pd.factorize(frame[title])
    except TypeError:
        return None
    words = pd.Series(texts[1], dtype=object)
    if not words.map(lambda one: isinstance(one, str)).all() or words.str.fullmatch(NUMBER).all():
        return None
    known = pd.DataFrame({"item": items, "text": texts[0]})[(texts[0] >= 0) & (items >= 0)]
    events, several = known["item"].value_counts(), known.drop_duplicates()["item"].value_counts()
    often = several.reindex(events.index[events > 1])
    if len(often) and (often == 1).mean() < TITLED:
        return None
    told.append(f"{where}: column {title!r} taken as the title.")
    return title
