"""A dataset by its name, or a folder or file of yours -> InteractionLog: found here, in a package, or downloaded."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from seqlab.datasets.log import InteractionLog, make_log
from seqlab.datasets.named import Card, OfficialFile, card, cards, places, prepared
from seqlab.datasets.reading import read, read_folder
from seqlab.runtime.cache import cache_folder
from seqlab.runtime.text import DataError, listed

UNPINNED = "no checksum of this file is known for certain, and seqlab downloads nothing it cannot check"


def load(
    name: str | Path,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    title: str | None = None,
    items: str | Path | pd.DataFrame | None = None,
    sep: str | None = None,
    encoding: str | None = None,
    bad: str | None = None,
    order: str | None = None,
    repeats: bool | None = None,
    ties: str | None = None,
) -> InteractionLog:
    """A named dataset, or a folder or file of yours, as an InteractionLog.

    name: a name in `catalog()`; a folder, in $SEQLAB_DATA or elsewhere, with interactions.tsv.gz;
        or a CSV, TSV or Parquet file.
    user, item, time, title, items, sep, encoding, bad, order, repeats, ties: as in `read`, for a file of yours; a
        folder takes order, repeats and ties alone. None: found, or the default.
    A named dataset is looked for in $SEQLAB_DATA/<name>/, then in the local cache ($SEQLAB_CACHE or the
    platform's), then downloaded from its official address if its checksum is pinned. Its counts are checked
    against its card.
    Raises DataError that says where to put which file, or what is wrong with the data; ValueError for an argument that
    a named dataset or a folder does not take.
    """
    columns = {"user": user, "item": item, "time": time, "title": title, "items": items, "sep": sep,
               "encoding": encoding, "bad": bad}  # fmt: skip
    ways = {"order": order, "repeats": repeats, "ties": ties}
    given = {key: value for key, value in (columns | ways).items() if value is not None}
    text = str(name)
    if text in cards():
        if given:
            raise ValueError(
                f"{text} is a named dataset and is read as its card says, without {_options(given)}; "
                "give the path of a file to read it in another way."
            )
        return replace(_checked(_named(cards()[text]), cards()[text]), card=text, origin={"dataset": text})
    mine = Path(os.environ["SEQLAB_DATA"]) / text if os.environ.get("SEQLAB_DATA") else Path(text)
    path = mine if text and Path(text).name == text and mine.is_dir() else Path(text)
    if text and path.is_dir():
        if wrong := [key for key in given if key in columns]:
            raise ValueError(
                f"{path} is a folder, whose files have columns of fixed names, without {_options(wrong)}; "
                "give the path of the file in it to read it in another way."
            )
        return read_folder(path, **given)
    if text and (path.exists() or path.suffix or len(path.parts) > 1):
        return read(path, **given)
    card(text)  # raises: names the nearest
    raise AssertionError("unreachable")


def _options(names) -> str:
    return listed([f"{name}=" for name in names])


def reload(origin: dict) -> InteractionLog:
    """Read a log again, with the arguments it was read with: `reload(log.origin)`.

    Nothing says that the files are as they were: compare the fingerprints. Raises ValueError for what is no origin,
    and what `load` and `read` raise.
    """
    given = dict(origin) if isinstance(origin, dict) else {}
    if given.keys() == {"dataset"}:
        return load(given["dataset"])
    path = given.pop("path", None)
    reader = read_folder if isinstance(path, str) and Path(path).is_dir() else read
    known = list(inspect.signature(reader).parameters)[1:]
    if not isinstance(path, str) or not given.keys() <= set(known):
        raise ValueError(
            f"{origin!r} does not say what a log was read from: a dataset, or a path and arguments of "
            f"{reader.__name__}."
        )
    return reader(path, **given)


def _named(one: Card) -> InteractionLog:
    if one.package:
        from seqlab.datasets.complete_journey import complete_journey

        return complete_journey(one.name, cache_folder())
    if (folder := prepared(one)) is not None:
        return read_folder(folder, one.name, ties=one.ties, order=one.order, repeats=one.repeats)
    return _from_official(one, _fetch(one))


def _from_official(one: Card, paths: list[Path]) -> InteractionLog:
    """The log of the official files: their reader, sorted by time, then the k-core the benchmark takes."""
    from seqlab.datasets.formats import READERS

    events, items = READERS[one.format](paths)
    titled = "title" if items is not None else None
    # official files are in no order a user could rely on, so the time decides here
    log = make_log(
        events.reset_index(drop=True),
        user="user_id",
        item="item_id",
        time="timestamp",
        items=items,
        title=titled,
        name=one.name,
        ties=one.ties,
        repeats=one.repeats,
        order="time",
        where=str(paths[0]),
        items_where=str(paths[-1]),
    )
    if one.core:
        from seqlab.datasets.splits import k_core

        log = k_core(log, users=one.core, items=one.core)
    return log


def _fetch(one: Card, base_url: str | None = None) -> list[Path]:
    """The official files of a card, found here or downloaded into the cache; checksums are checked.

    Files that are not needed are used where they lie already. base_url replaces the official address.
    """
    import pooch

    paths = []
    for part in one.official:
        found = next((place / part.file for place in places(one) if (place / part.file).is_file()), None)
        if found is not None:
            _check(found, part)
            paths.append(found)
        elif part.needed:
            hand = (
                f"Fetch {part.url} by hand and put it at "
                + " or ".join(str(place / part.file) for place in places(one))
                + (
                    ""
                    if os.environ.get("SEQLAB_DATA")
                    else f" (or set SEQLAB_DATA to a folder of yours that has {one.name}/{part.file})"
                )
                + f". Or put a ready {one.name}/interactions.tsv.gz there. Terms: {one.licence}"
            )
            if not part.checksum:
                raise DataError(f"{one.name}: {part.file} is not on this machine and {UNPINNED}. {hand}")
            url = part.url if base_url is None else f"{base_url}/{part.file}"
            try:
                paths.append(
                    Path(pooch.retrieve(url, known_hash=part.checksum, fname=part.file, path=cache_folder() / one.name))
                )
            except ValueError as error:
                raise DataError(
                    f"{one.name}: what came from {url} is not the file its card describes: its checksum is "
                    f"not {part.checksum}. Nothing was kept. {hand}"
                ) from error
            except OSError as error:  # requests' own errors are OSErrors
                reason = " ".join(str(error).split())[:200]
                raise DataError(f"{one.name}: {url} could not be downloaded ({reason}). {hand}") from error
    return paths


def _check(path: Path, part: OfficialFile) -> None:
    """DataError if a file has another checksum than the card's."""
    if not part.checksum:
        return
    import pooch

    kind, wanted = part.checksum.split(":")
    if pooch.file_hash(str(path), alg=kind) != wanted:
        raise DataError(
            f"{path}: its checksum is not {part.checksum}, so it is not the official file. Delete it and "
            f"fetch it again from {part.url}"
        )


def _checked(log: InteractionLog, one: Card) -> InteractionLog:
    """The log, if it has the counts of its card."""
    wanted = {"users": one.users, "items": one.items, "events": one.events}
    has = {"users": log.n_users, "items": log.n_items, "events": log.n_events}
    off = [f"{has[what]:,} {what} instead of {wanted[what]:,}" for what in wanted if has[what] != wanted[what]]
    if off:
        raise DataError(
            f"{one.name}: this is not the dataset its card describes: {', '.join(off)}. Replace the file, "
            "or load it as your own data by its path."
        )
    return log
