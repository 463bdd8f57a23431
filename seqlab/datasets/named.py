"""Named datasets, a card each (cards/*.toml): in your data folder, the cache, a package, or downloaded."""

from __future__ import annotations

import inspect
import os
import tomllib
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd

from seqlab.datasets.log import InteractionLog, make_log
from seqlab.datasets.reading import read, read_folder
from seqlab.runtime.cache import cache_folder
from seqlab.runtime.text import DataError, listed, nearest

UNPINNED = "no checksum of this file is known for certain, and seqlab downloads nothing it cannot check"


@dataclass(frozen=True)
class OfficialFile:
    """A file at its official address; checksum "md5:..." or "sha256:...", "" = unknown: not downloaded."""

    file: str
    url: str
    checksum: str = ""
    needed: bool = True


@dataclass(frozen=True)
class Card:
    """What there is to know about a named dataset before loading it; one cards/*.toml each.

    order and ties: see `make_log`; users, items, events: the counts a load is held against; columns: name ->
    meaning; format: the reader of the official files (see formats.py) and core: the k-core taken (0 = none);
    package: the Python package the data come with; unread: text columns that item vectors leave out unless they are
    asked for; published: what the literature has on this split, each a dict of system, recall@10, ndcg@10, seen_filter,
    source and differs (from this library).
    """

    name: str
    title: str
    about: str
    source: str
    url: str
    licence: str
    citation: str
    users: int
    items: int
    events: int
    order: str = "time"
    ties: str = "source"
    repeats: bool = False
    package: str = ""
    format: str = ""
    core: int = 0
    official: tuple[OfficialFile, ...] = ()
    columns: dict = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    published: tuple[dict, ...] = ()


@cache
def _cards() -> dict[str, Card]:
    found = {}
    for entry in sorted(
        files("seqlab.datasets").joinpath("cards").iterdir(), key=lambda one: one.name.removesuffix(".toml")
    ):
        if entry.name.endswith(".toml"):
            told = tomllib.loads(entry.read_text(encoding="utf-8"))
            told["official"] = tuple(OfficialFile(**one) for one in told.get("official", []))
            for key in ("unread", "published"):
                told[key] = tuple(told.get(key, []))
            found[told["name"]] = Card(**told)
    return found


def card(name: str) -> Card:
    """The card of a named dataset; DataError with the nearest name if there is none."""
    if name not in _cards():
        raise DataError(
            f"there is no dataset called {name!r}.{nearest(name, _cards())} "
            f"The named ones: {', '.join(_cards())}. A file or a folder of yours works too."
        )
    return _cards()[name]


def published(card: str) -> tuple[dict, ...]:
    """What a card (`log.card`) says the literature has on its leave-one-out split; see `Card`."""
    return _cards()[card].published if card in _cards() else ()


def unread(card: str) -> tuple[str, ...]:
    """Text columns that a card (`log.card`) says item vectors should not read by default."""
    return _cards()[card].unread if card in _cards() else ()


def catalog() -> pd.DataFrame:
    """One row per named dataset: counts, terms, and where a load would take it from (column `have`)."""
    rows = [
        {
            "name": one.name,
            "title": one.title,
            "users": one.users,
            "items": one.items,
            "events": one.events,
            "repeats": one.repeats,
            "ties": one.ties,
            "order": one.order,
            "licence": one.licence,
            "source": one.source,
            "url": one.url,
            "have": _have(one),
        }
        for one in _cards().values()
    ]
    return pd.DataFrame(rows)


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
    if text in _cards():
        if given:
            raise ValueError(
                f"{text} is a named dataset and is read as its card says, without {_options(given)}; "
                "give the path of a file to read it in another way."
            )
        return replace(_checked(_named(_cards()[text]), _cards()[text]), card=text, origin={"dataset": text})
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


def _places(one: Card) -> list[Path]:
    """The folders a dataset may lie in, first choice first."""
    mine = [Path(os.environ["SEQLAB_DATA"]) / one.name] if os.environ.get("SEQLAB_DATA") else []
    return [*mine, cache_folder() / one.name]


def _prepared(one: Card) -> Path | None:
    """The first folder with a ready interactions.tsv[.gz]."""
    return next(
        (place for place in _places(one) for ending in ("", ".gz") if (place / f"interactions.tsv{ending}").is_file()),
        None,
    )


def _have(one: Card) -> str:
    if one.package:
        return f"with the package {one.package}"
    if _prepared(one) is not None:
        return "on this machine"
    needed = [part for part in one.official if part.needed]
    if all(any((place / part.file).is_file() for place in _places(one)) for part in needed):
        return "on this machine"
    return "by download" if all(part.checksum for part in needed) else "by hand"


def _named(one: Card) -> InteractionLog:
    if one.package:
        from seqlab.datasets.complete_journey import complete_journey

        return complete_journey(one.name, cache_folder())
    if (folder := _prepared(one)) is not None:
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
        found = next((place / part.file for place in _places(one) if (place / part.file).is_file()), None)
        if found is not None:
            _check(found, part)
            paths.append(found)
        elif part.needed:
            hand = (
                f"Fetch {part.url} by hand and put it at "
                + " or ".join(str(place / part.file) for place in _places(one))
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


def catalog_markdown() -> str:
    """data/README.md, made from the cards."""
    lines = [
        "# What data there are, and under which terms",
        "",
        "Made from the cards in `seqlab/datasets/cards/`; a test holds it equal to them. To make it anew:",
        "",
        "```",
        "python -c 'from seqlab.datasets import named; print(named.catalog_markdown())' > data/README.md",
        "```",
        "",
        "`seqlab.datasets.load(name)` looks in `$SEQLAB_DATA/<name>/` (`interactions.tsv.gz` with columns",
        "user_id, item_id, timestamp; `items.tsv.gz` with item_id, title, ...; tab-separated, no quoting; or",
        "the official files), then in the local cache (`$SEQLAB_CACHE`), then at the official address if the",
        "checksum is pinned. Of the datasets here, such a prepared file keeps its order; a folder of your own is",
        "sorted by time where every event has one.",
        "Nothing of this is committed; the benchmarks are for research only.",
        "",
        "| name | users | items | events | repeats | equal timestamps | terms |",
        "|---|---:|---:|---:|---|---|---|",
    ]
    lines += [
        f"| `{one.name}` | {one.users:,} | {one.items:,} | {one.events:,} | "
        f"{'yes' if one.repeats else 'no'} | {'shuffled' if one.ties == 'shuffle' else 'source order'} | "
        f"{one.licence} |"
        for one in _cards().values()
    ]
    for one in _cards().values():
        lines += [
            "",
            f"## {one.name}: {one.title}",
            "",
            one.about.strip(),
            "",
            f"- Source: {one.source}, <{one.url}>",
            f"- Licence: {one.licence}",
            f"- Cite: {one.citation}",
        ]
        lines += [f"- Comes with the Python package `{one.package}`: no download."] if one.package else []
        lines += [
            f"- File: <{part.url}> ({part.checksum or 'no pinned checksum: fetch it by hand'}"
            f"{'' if part.needed else ', optional'})"
            for part in one.official
        ]
        lines += [f"- `{column}`: {meaning}" for column, meaning in one.columns.items()]
    return "\n".join(lines)
