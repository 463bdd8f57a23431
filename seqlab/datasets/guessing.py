"""Guesses the columns of users, items, times, titles, ranks and scores, by their names and values."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from seqlab.datasets.columns import NUMBER, to_text
from seqlab.datasets.timestamps import guess_time_formats, parse_times, unix_seconds
from seqlab.runtime.text import DataError, listed

COLUMN_NAMES = {  # compared without case and punctuation, most likely first
    "user": "user userid uid customer customerid householdid visitor visitorid reviewer reviewerid member "
    "memberid account accountid client clientid username sessionid",
    "item": "item itemid iid product productid sku asin parentasin movie movieid article articleid track "
    "trackid song songid book bookid isbn contentid businessid stockcode",
    "time": "timestamp time datetime date when ts unixtime unixtimestamp unixreviewtime eventtime eventdate createdat "
    "ratedat tdat transactiontimestamp invoicedate purchasedate orderdate timestampms timems",
    "title": "title name itemtitle itemname producttitle productname movietitle description text",
    "category": "category productcategory itemcategory categories maincategory producttype department genre",
    "rank": "rank ranking position place",
    "score": "score scores prediction predictedscore predictedrating relevance similarity probability rating",
    "basket": "basket basketid order orderid orderno invoice invoiceid invoiceno transaction transactionid receipt",
    "action": "action actiontype event eventtype eventname behavior behaviour behaviortype interaction type",
    "price": "price unitprice itemprice",
    "quantity": "quantity qty units",
    "rating": "rating stars overall",
    "store": "store storeid shop shopid branch branchid",
}
TIMELIKE = re.compile(r"time|date|stamp|epoch|(^|[^a-z])(ts|at|when|utc)($|[^a-z])", re.IGNORECASE)
SMALLEST_DATE = 1e8
"""Unix seconds; smaller numbers are taken as counters."""
MOST_TYPES = 20
"""A column with more values than this is none of types of events."""
SAMPLE = 200_000
"""The approximate number of events (of complete users) by which columns of times are compared."""
TITLED = 0.5
"""A column of titles has a single text for at least this share of the items that occur more than once."""


def guess_name(columns, role: str):
    """The most likely column for a role, a key of `COLUMN_NAMES`, by its name, or None."""
    plain: dict = {}
    for column in columns:
        typeless = re.sub(r":(token|float)(_seq)?$", "", str(column))  # as RecBole writes its columns
        plain.setdefault(re.sub(r"[^a-z0-9]", "", typeless.lower()), column)
    return next((plain[word] for word in COLUMN_NAMES[role].split() if word in plain), None)


def guess_column(
    frame: pd.DataFrame, role: str, where: str, notes: list[str], needed: bool = True, option: str = "--{role} ..."
):
    """The column for a role by its name, with a note. Raises `DataError` if it is needed and there is none.

    option: that of the command line which names the column.
    """
    if (found := guess_name(frame.columns, role)) is not None:
        notes.append(f"{where}: column {found!r} taken as the {role}.")
    elif needed:
        hint = " or pass order='source' if each user's rows are already oldest first" if role == "time" else ""
        raise DataError(
            f"{where}: no column looks like the {role}. Name it with {role}=... (in a shell: "
            f"{option.format(role=role)}){hint}; the columns are: "
            f"{listed([repr(str(column)) for column in frame.columns], 30) or 'none'}. If these are data, add a header "
            "line."
        )
    return found


def guess_time_column(
    frame: pd.DataFrame, user, where: str, notes: list[str], needed: bool, time_format: str | None = None
):
    """The column of times, with a note; of several that agree on the order, the one with the fewest ties per user.

    Of a column with an unusual name that looks like a time (ordered_at), most values can be read.
    """
    first = guess_name(frame.columns, "time")
    others = [name for name in frame.columns if name not in (first, user) and TIMELIKE.search(str(name))]
    if first is None:
        likely = [name for name in others if _mostly_times(frame[name], time_format)]
        if likely:
            notes.append(f"{where}: column {likely[0]!r} taken as the time.")
            return likely[0]
    if first is None or not others:
        return guess_column(frame, "time", where, notes, needed)
    try:
        users = pd.factorize(frame[user])[0]
    except (TypeError, ValueError, KeyError):  # make_log raises for this column
        return guess_column(frame, "time", where, notes, needed)
    sample = np.flatnonzero(users % (1 + len(frame) // SAMPLE) == 0)
    users, coarse, best = users[sample], _times(frame[first].iloc[sample], time_format), first
    if coarse is None:
        return guess_column(frame, "time", where, notes, needed)
    ties = {first: _ties(users, coarse)}
    for name in others:
        fine = _times(frame[name].iloc[sample], time_format) if isinstance(frame[name], pd.Series) else None
        if fine is None:
            continue
        ties[name] = _ties(users, fine)
        if ties[name] < ties[best] and _agree(coarse, fine):
            best = name
    if best == first:
        return guess_column(frame, "time", where, notes, needed)
    notes.append(
        f"{where}: column {best!r} taken as the time: {first!r} agrees with it but has {ties[first]:,} ties within "
        f"users, {best!r} {ties[best]:,}{'' if len(sample) == len(frame) else ' (in a sample)'}."
    )
    return best


def _times(values: pd.Series, time_format: str | None = None) -> np.ndarray | None:
    """A column as unix seconds; None if a value cannot be read as a time."""
    try:
        return unix_seconds(values, "", time_format=time_format)[0] if len(values) else None
    except DataError:
        return None


def _mostly_times(values: pd.Series, time_format: str | None) -> bool:
    """Whether a column is of dates: more than half of its values can be read, or have a format in common use."""
    if not isinstance(values, pd.Series):
        return False
    values = values.iloc[:: 1 + len(values) // SAMPLE]
    try:
        times, blank, _ = parse_times(values, "", time_format)
    except DataError:
        return False
    dates = np.isfinite(times) & (times > SMALLEST_DATE)
    return dates.sum() * 2 > (~blank).sum() or (not dates.any() and bool(guess_time_formats(values)))


def _agree(coarse: np.ndarray, fine: np.ndarray) -> bool:
    """Whether two columns of times have the same order (up to 1 %) and, for dates, differ by at most 32 days."""
    backwards = np.diff(coarse[np.lexsort((coarse, fine))]) < 0
    dates = min(abs(np.median(coarse)), abs(np.median(fine))) > SMALLEST_DATE
    return backwards.mean() <= 0.01 and not (dates and np.median(np.abs(fine - coarse)) > 32 * 86_400)


def _ties(users: np.ndarray, times: np.ndarray) -> int:
    """The number of events with the user and the time of an earlier row."""
    return int(pd.DataFrame({"user": users, "time": times}).duplicated().sum())


def event_types(values: pd.Series) -> dict[str, int]:
    """The types of events in a column and how many there are of each; {} for one type, and for very many."""
    counts = to_text(values).value_counts()
    counts = counts[counts.index != ""]
    return counts.to_dict() if 1 < len(counts) <= MOST_TYPES else {}


def event_type_note(frame: pd.DataFrame, kept) -> tuple[str, ...]:
    """A note on a column of several types of events, all of which are kept. kept: columns that a choice was made by."""
    column = guess_name(frame.columns, "action")
    if column is None or column in kept or not isinstance(frame[column], pd.Series):
        return ()
    shown = ", ".join(f"{value} {count:,}" for value, count in event_types(frame[column]).items())
    return (f"Column {column!r} has several types of events, and all are kept: {shown}.",) if shown else ()


def guess_title_column(frame: pd.DataFrame, item, taken: set, where: str, notes: list[str]):
    """The column of item titles in a table of events, with a note: words, mostly the same for one item; or None."""
    title = guess_name([name for name in frame.columns if name not in taken], "title")
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
    events, distinct = known["item"].value_counts(), known.drop_duplicates()["item"].value_counts()
    distinct = distinct.reindex(events.index[events > 1])
    if len(distinct) and (distinct == 1).mean() < TITLED:
        return None
    notes.append(f"{where}: column {title!r} taken as the title.")
    return title
