"""The fingerprint of a log: a SHA-256 hash of all that training and evaluation can read."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from seqlab.datasets.columns import to_text


def fingerprint(log, version: int = 2) -> str:
    """SHA-256 (hex) of an `InteractionLog`, whose method `fingerprint` describes the versions."""
    events, users = log.events, log.users
    if version == 1:
        return _hash_events(events, users, log.items).hexdigest()
    if version not in (2, 3):
        raise ValueError(f"the version of a fingerprint is 1, 2 or 3 (got {version!r}).")
    left_out = log.declared if version == 2 else ()
    further = events.columns.difference(["user", "item", "timestamp", *left_out], sort=False)
    ids = ["user_id"] if version == 2 else users.columns
    first = _hash_events(events, users, log.items).hexdigest()
    digest = hashlib.sha256(f"{version} {log.ties} {log.repeats} {first}".encode())
    for table in (events[further], users[ids], log.items):
        _add_table(digest, table)
    if version == 3:
        _add_text(digest, [text for role in sorted(log.roles.items()) for text in role])
        for name, table in sorted(log.tables.items()):
            _add_text(digest, [name])
            _add_table(digest, table)
    return digest.hexdigest()


def item_numbering(log) -> str:
    """SHA-256 (hex) of the ids of the items in their order: equal for logs in which every number is the same item."""
    digest = hashlib.sha256(b"items")
    _add_column(digest, log.items["item_id"])
    return digest.hexdigest()


def user_numbering(log) -> str:
    """As `item_numbering`, of the users."""
    digest = hashlib.sha256(b"users")
    _add_column(digest, log.users["user_id"])
    return digest.hexdigest()


def _add_table(digest, table: pd.DataFrame) -> None:
    """Add the shape of a table, and the name and values of each of its columns."""
    digest.update(f"{table.shape}".encode())
    for place, column in enumerate(table.columns):
        _add_text(digest, [str(column)])
        _add_column(digest, table.iloc[:, place])


def _hash_events(events: pd.DataFrame, users: pd.DataFrame, items: pd.DataFrame):
    """The hash of version 1: users, items and times in their order."""
    digest = hashlib.sha256(f"{len(users)} {len(items)} {len(events)}".encode())
    times = events["timestamp"].to_numpy(np.float64)
    for values in (
        events["user"].to_numpy("<i8"),
        events["item"].to_numpy("<i8"),
        np.where(np.isnan(times), np.nan, times).astype("<f8"),
    ):
        digest.update(np.ascontiguousarray(values).data)
    return digest


def _add_column(digest, values: pd.Series) -> None:
    """Add the values of a column, whatever its dtype: as numbers if all are numbers, else as texts.

    1, 1.0 and "1" are equal, and a missing value equals "", because a text file does not distinguish them.
    """
    if values.dtype.kind in "iuf":
        _add_numbers(digest, values.fillna(0).to_numpy(), values.notna().to_numpy(bool))
        return
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, unique = values.cat.codes.to_numpy(np.int64), values.cat.categories
    else:
        try:
            codes, unique = pd.factorize(values)
        except TypeError:  # lists and the like
            codes, unique = pd.factorize(values.map(str))
    texts = to_text(pd.Series(unique).infer_objects()).to_numpy(object)
    same, texts = pd.factorize(np.append(texts, ""))  # code -1 (missing) indexes the last
    codes, used = pd.factorize(same[codes])  # renumber by first occurrence
    texts = texts[used]
    known = texts != ""
    some = pd.Series(texts[known])
    if all(_are_numbers(part) for part in (some.head(100), some)):
        numbers = pd.to_numeric(some).to_numpy()
        each = np.zeros(len(texts), numbers.dtype)
        each[known] = numbers
        _add_numbers(digest, each[codes], known[codes])
        return
    digest.update(b"texts" + np.ascontiguousarray(codes, "<i8").tobytes())
    _add_text(digest, texts)


def _are_numbers(texts: pd.Series) -> bool:
    """Whether all texts are numbers in Python's notation (2, 2.0, 2.5); 007 and 1.50 are texts."""
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.isna().any():
        return False
    written = numbers.astype(object).map(str)
    return bool(((texts == written) | (texts + ".0" == written)).all())


def _add_numbers(digest, numbers: np.ndarray, known: np.ndarray) -> None:
    """Add numbers, 0 where they are missing: as int64 if all are whole, else as float64."""
    whole = (np.abs(numbers) < 2**53) & (numbers == np.floor(numbers)) if numbers.dtype.kind == "f" else True
    values = numbers.astype("<i8") if np.all(whole) else numbers.astype("<f8") + 0.0  # -0.0 becomes 0.0
    digest.update(f"numbers {values.dtype.str}".encode() + np.packbits(known).tobytes())
    digest.update(values.data)


def _add_text(digest, texts) -> None:
    """Add texts with their number and lengths, so that different lists differ."""
    parts = [str(text).encode("utf-8", "surrogatepass") for text in texts]
    digest.update(np.array([len(parts), *map(len, parts)], "<i8").tobytes())
    digest.update(b"".join(parts))
