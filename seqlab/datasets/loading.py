"""Loads a dataset by name, or from your folder or file; named ones are found locally, in a package, or downloaded."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from seqlab.datasets.log import InteractionLog, make_log
from seqlab.datasets.log_card import arguments_of, facts_note, read_card
from seqlab.datasets.named import Card, OfficialFile, card, cards, folders, prepared_folder
from seqlab.datasets.reading import read, read_folder
from seqlab.datasets.tables import no_such_file
from seqlab.runtime.cache import cache_folder
from seqlab.runtime.text import DataError, listed

UNPINNED = "its card has no checksum, without which seqlab downloads nothing"


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
    columns: Mapping[str, str] | None = None,
    time_format: str | None = None,
    keep: Mapping[str, Sequence[str]] | None = None,
    merge_ids: bool | None = None,
    since: str | None = None,
    until: str | None = None,
    duplicates: str | None = None,
) -> InteractionLog:
    """A named dataset, or a folder or file of yours, as an InteractionLog.

    name: a name in `catalog()`; a folder, in $SEQLAB_DATA or elsewhere, with interactions.tsv.gz; a CSV, TSV or Parquet
        file; or the card of one, a TOML file (see `log_card.LogCard`; `seqlab card log.csv` writes a first one).
    The others: as in `read`, for a file; they replace what a card says. A folder takes only order, repeats, ties and
        columns. None: guessed, or the default.
    A named dataset is searched in $SEQLAB_DATA/<name>/, then in the local cache ($SEQLAB_CACHE or that of the
    platform), then downloaded from its official address if its card has a checksum. Its counts must equal its card's.
    Raises `DataError` for a missing file (with where to put it) and for bad data, and `ValueError` for an argument
    that a named dataset or a folder does not take.
    """
    places = {"user": user, "item": item, "time": time, "title": title, "items": items, "sep": sep,
              "encoding": encoding, "bad": bad, "time_format": time_format, "keep": keep or None,
              "merge_ids": merge_ids, "since": since, "until": until, "duplicates": duplicates}  # fmt: skip
    ways = {"order": order, "repeats": repeats, "ties": ties, "columns": columns or None}
    given = {key: value for key, value in (places | ways).items() if value is not None}
    text = str(name)
    if text in cards():
        if given:
            raise ValueError(
                f"{text} is a named dataset, which does not take {_options(given)}. "
                "Pass the path of a file to read it with these."
            )
        one = cards()[text]
        return replace(_with_card_counts(_load_named(one), one), card=text, origin={"dataset": text})
    path = _path_of(text)
    if path.suffix == ".toml" and not path.is_dir():
        return _from_card(path, given)
    if path.is_dir():
        if wrong := [key for key in given if key in places]:
            raise ValueError(
                f"{path} is a folder, whose files have fixed column names; it does not take {_options(wrong)}. "
                "Pass the path of the file in it to read it with these."
            )
        return read_folder(path, **given)
    return read(path, **given)


def require(name: str | Path) -> None:
    """Raise `DataError` for what is neither a named dataset nor the path of something, at no cost."""
    if str(name) not in cards() and not (path := _path_of(str(name))).exists():
        raise no_such_file(path)


def _path_of(text: str) -> Path:
    """The path of a file or folder of yours; a folder may be in $SEQLAB_DATA. Raises `DataError` for a name."""
    mine = Path(os.environ["SEQLAB_DATA"]) / text if os.environ.get("SEQLAB_DATA") else Path(text)
    path = mine if text and Path(text).name == text and mine.is_dir() else Path(text)
    if not text or not (path.exists() or path.suffix or len(path.parts) > 1):
        card(text)  # raises
    return path


def _from_card(path: Path, given: dict) -> InteractionLog:
    """The log that a card describes. given: arguments that replace those of the card."""
    described = read_card(path)
    source, arguments = arguments_of(described, path)
    if "columns" in given:
        given = given | {"columns": arguments.get("columns", {}) | dict(given["columns"])}
    name = arguments.pop("name")
    if source.suffix == ".toml" or str(source) in cards():
        raise DataError(f"{path}: file must name the data themselves, not {described.file}.")
    log = load(source, **arguments | given) if source.is_dir() else read(source, name=name, **arguments | given)
    origin = (log.origin or {}) | {"name": name, "card": os.path.abspath(path)}
    return replace(log, name=name, origin=origin, notes=(*facts_note(described), *log.notes))


def _options(names) -> str:
    return listed([f"{name}=" for name in names])


def reload(origin: dict) -> InteractionLog:
    """Read a log again with the same arguments: `reload(log.origin)`.

    The files may have changed: compare the fingerprints. Raises `ValueError` for an invalid origin, and the errors of
    `load` and `read`.
    """
    given = dict(origin) if isinstance(origin, dict) else {}
    if given.keys() == {"dataset"}:
        return load(given["dataset"])
    path, _ = given.pop("path", None), given.pop("card", None)
    reader = read_folder if isinstance(path, str) and Path(path).is_dir() else read
    known = list(inspect.signature(reader).parameters)[1:]
    if not isinstance(path, str) or not given.keys() <= set(known):
        raise ValueError(
            f"{origin!r} is not the origin of a log, which has a dataset, or a path and arguments of {reader.__name__}."
        )
    return reader(path, **given)


def _load_named(one: Card) -> InteractionLog:
    if one.package:
        from seqlab.datasets.complete_journey import complete_journey

        return complete_journey(one.name, cache_folder())
    if (folder := prepared_folder(one)) is not None:
        return read_folder(folder, one.name, ties=one.ties, order=one.order, repeats=one.repeats)
    return _from_official(one, _fetch(one))


def _from_official(one: Card, paths: list[Path]) -> InteractionLog:
    """The log of the official files, sorted by time and reduced to the k-core of the benchmark."""
    from seqlab.datasets.formats import READERS

    events, items, users = READERS[one.format](paths)
    titled = "title" if items is not None else None
    # the order of official files is arbitrary, so events are sorted by time
    log = make_log(
        events.reset_index(drop=True),
        user="user_id",
        item="item_id",
        time="timestamp",
        items=items,
        users=users,
        title=titled,
        name=one.name,
        ties=one.ties,
        repeats=one.repeats,
        order="time",
        where=str(paths[0]),
        items_where=str(paths[-1]),
    )
    if one.core:
        from seqlab.datasets.k_core import k_core

        log = k_core(log, users=one.core, items=one.core)
    return log


def _fetch(one: Card, base_url: str | None = None) -> list[Path]:
    """The official files of a card, found locally or downloaded into the cache, with verified checksums.

    Optional files are used only if they exist locally. base_url replaces the official address.
    """
    import pooch

    paths = []
    for part in one.official:
        found = next((folder / part.file for folder in folders(one) if (folder / part.file).is_file()), None)
        if found is not None:
            _verify_checksum(found, part)
            paths.append(found)
        elif part.needed:
            hand = (
                f"Download {part.url} by hand to "
                + " or ".join(str(folder / part.file) for folder in folders(one))
                + (
                    ""
                    if os.environ.get("SEQLAB_DATA")
                    else f" (or set SEQLAB_DATA to a folder that contains {one.name}/{part.file})"
                )
                + f", or put a prepared {one.name}/interactions.tsv.gz there. Terms: {one.licence}"
            )
            if not part.checksum:
                raise DataError(f"{one.name}: {part.file} is not on this machine, and {UNPINNED}. {hand}")
            url = part.url if base_url is None else f"{base_url}/{part.file}"
            try:
                paths.append(
                    Path(pooch.retrieve(url, known_hash=part.checksum, fname=part.file, path=cache_folder() / one.name))
                )
            except ValueError as error:
                raise DataError(
                    f"{one.name}: the download from {url} is not the file of the card (its checksum is not "
                    f"{part.checksum}) and was deleted. {hand}"
                ) from error
            except OSError as error:  # also the errors of requests
                reason = " ".join(str(error).split())[:200]
                raise DataError(f"{one.name}: {url} could not be downloaded ({reason}). {hand}") from error
    return paths


def _verify_checksum(path: Path, part: OfficialFile) -> None:
    """Raise `DataError` if the checksum of a file differs from the card's."""
    if not part.checksum:
        return
    import pooch

    kind, wanted = part.checksum.split(":")
    if pooch.file_hash(str(path), alg=kind) != wanted:
        raise DataError(
            f"{path}: its checksum is not {part.checksum}, so it is not the official file. Delete it and "
            f"download it again from {part.url}"
        )


def _with_card_counts(log: InteractionLog, one: Card) -> InteractionLog:
    """The log; raises `DataError` if its counts differ from its card's."""
    expected = {"users": one.users, "items": one.items, "events": one.events}
    actual = {"users": log.n_users, "items": log.n_items, "events": log.n_events}
    differ = [f"{actual[key]:,} {key} instead of {expected[key]:,}" for key in expected if actual[key] != expected[key]]
    if differ:
        raise DataError(
            f"{one.name}: this is not the dataset of its card: {', '.join(differ)}. Replace the file, "
            "or load it as your own data by its path."
        )
    return log
