"""What a log holds as one sha256: equal prints, equal training and evaluation."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from seqlab.datasets.columns import text_of


def fingerprint(
    events: pd.DataFrame, users: pd.DataFrame, items: pd.DataFrame, ties: str, repeats: bool, version: int = 2
) -> str:
    """sha256 (hex) of the parts of a log; what each version covers is said at `InteractionLog.fingerprint`."""
    if version == 1:
        return _print_of_events(events, users, items).hexdigest()
    if version != 2:
        raise ValueError(f"fingerprints have the versions 1 and 2 (got {version!r}).")
    digest = hashlib.sha256(f"2 {ties} {repeats} {_print_of_events(events, users, items).hexdigest()}".encode())
    further = events.columns.difference(["user", "item", "timestamp"], sort=False)
    for table in (events[further], users, items):
        digest.update(f"{table.shape}".encode())
        for place, column in enumerate(table.columns):
            _add_text(digest, [str(column)])
            _add_column(digest, table.iloc[:, place])
    return digest.hexdigest()


def _print_of_events(events: pd.DataFrame, users: pd.DataFrame, items: pd.DataFrame):
    """The hash, version 1, of users, items and times in their order."""
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
    """Add a column by what its values are, however pandas stores them: numbers where all are, else texts.

    1, 1.0 and "1" are one value, and a missing one is "": a file tells no more.
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
    texts = text_of(pd.Series(unique).infer_objects()).to_numpy(object)
    same, texts = pd.factorize(np.append(texts, ""))  # missing, code -1, is the last
    codes, used = pd.factorize(same[codes])  # numbered as they come, which depends on nothing else
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
    """Whether these texts are numbers as Python writes them, 2 or 2.0 or 2.5: 007 and 1.50 are none."""
    numbers = pd.to_numeric(texts, errors="coerce")
    if numbers.isna().any():
        return False
    written = numbers.astype(object).map(str)
    return bool(((texts == written) | (texts + ".0" == written)).all())


def _add_numbers(digest, numbers: np.ndarray, known: np.ndarray) -> None:
    """Add numbers, 0 where they are not known: as int64 where all are whole, else as float64."""
    whole = (np.abs(numbers) < 2**53) & (numbers == np.floor(numbers)) if numbers.dtype.kind == "f" else True
    values = numbers.astype("<i8") if np.all(whole) else numbers.astype("<f8") + 0.0  # + 0.0: one zero
    digest.update(f"numbers {values.dtype.str}".encode() + np.packbits(known).tobytes())
    digest.update(values.data)


def _add_text(digest, texts) -> None:
    """Add texts so that no others add the same: how many, their lengths, then the texts."""
    parts = [str(text).encode("utf-8", "surrogatepass") for text in texts]
    digest.update(np.array([len(parts), *map(len, parts)], "<i8").tobytes())
    digest.update(b"".join(parts))
