"""The named datasets: their cards (cards/*.toml) with contents and licence, and the folders they are searched in."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd

from seqlab.runtime.cache import cache_folder
from seqlab.runtime.text import DataError, did_you_mean


@dataclass(frozen=True)
class OfficialFile:
    """A file at its official address. checksum: "md5:..." or "sha256:..."; "": unknown, so it is not downloaded."""

    file: str
    url: str
    checksum: str = ""
    needed: bool = True


@dataclass(frozen=True)
class Card:
    """The facts about a named dataset, from its cards/*.toml.

    order, ties, repeats: see `make_log`. users, items, events: the counts that a load must have. columns: name ->
    meaning. format: the reader of the official files (see formats.py). core: the k of the k-core (0 = none). package:
    the Python package that contains the data. unread: text columns that item vectors leave out by default. category:
    the item column that completes a short title (see `item_names`).
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
    category: str = ""


@cache
def cards() -> dict[str, Card]:
    """name -> card of every named dataset."""
    found = {}
    for entry in sorted(
        files("seqlab.datasets").joinpath("cards").iterdir(), key=lambda one: one.name.removesuffix(".toml")
    ):
        if entry.name.endswith(".toml"):
            facts = tomllib.loads(entry.read_text(encoding="utf-8"))
            facts["official"] = tuple(OfficialFile(**one) for one in facts.get("official", []))
            facts["unread"] = tuple(facts.get("unread", []))
            found[facts["name"]] = Card(**facts)
    return found


def card(name: str) -> Card:
    """The card of a named dataset. Raises `DataError` with the closest name if there is none."""
    if name not in cards():
        raise DataError(
            f"there is no dataset called {name!r}.{did_you_mean(name, cards())} "
            f"There are: {', '.join(cards())}. The path of a file, of its card (.toml), or of a folder works too."
        )
    return cards()[name]


def unread(card: str) -> tuple[str, ...]:
    """The text columns that item vectors leave out by default; card: `log.card`."""
    return cards()[card].unread if card in cards() else ()


def catalog() -> pd.DataFrame:
    """One row per named dataset: counts, licence, source, and where a load would find it (column `have`)."""
    facts = ("name", "title", "users", "items", "events", "repeats", "ties", "order", "licence", "source", "url")
    return pd.DataFrame(
        [{fact: getattr(one, fact) for fact in facts} | {"have": _have(one)} for one in cards().values()]
    )


def _have(one: Card) -> str:
    if one.package:
        return f"with the package {one.package}"
    if prepared_folder(one) is not None:
        return "on this machine"
    needed = [part for part in one.official if part.needed]
    if all(any((folder / part.file).is_file() for folder in folders(one)) for part in needed):
        return "on this machine"
    return "by download" if all(part.checksum for part in needed) else "by hand"


def folders(one: Card) -> list[Path]:
    """The folders that are searched for a dataset, in order."""
    data = [Path(os.environ["SEQLAB_DATA"]) / one.name] if os.environ.get("SEQLAB_DATA") else []
    return [*data, cache_folder() / one.name]


def prepared_folder(one: Card) -> Path | None:
    """The first folder with an interactions.tsv or interactions.tsv.gz; None without one."""
    names = ("interactions.tsv", "interactions.tsv.gz")
    return next((folder for folder in folders(one) if any((folder / name).is_file() for name in names)), None)


def catalog_markdown() -> str:
    """The text of data/README.md, generated from the cards."""
    lines = [
        "# The datasets and their licences",
        "",
        "Generated from the cards in `seqlab/datasets/cards/`; a test checks that it is up to date. To update it:",
        "",
        "```",
        "python -c 'from seqlab.datasets import named; print(named.catalog_markdown())' > data/README.md",
        "```",
        "",
        "`seqlab.datasets.load(name)` searches `$SEQLAB_DATA/<name>/`, then the local cache (`$SEQLAB_CACHE`), then",
        "the official address if the card has a checksum. A folder contains the official files, or",
        "`interactions.tsv.gz` (user_id, item_id, timestamp, ...) and optionally `items.tsv.gz` (item_id, title, ...)",
        "and `users.tsv.gz` (user_id, ...), tab-separated without quoting. A prepared file of a dataset listed here",
        "keeps its order; your own folder is sorted by time if every event has a timestamp. No data are committed to",
        "this repository; the benchmarks are for research only.",
        "",
        "| name | users | items | events | repeats | equal timestamps | licence | source |",
        "|---|---:|---:|---:|---|---|---|---|",
    ]
    lines += [
        f"| `{one.name}` | {one.users:,} | {one.items:,} | {one.events:,} | "
        f"{'yes' if one.repeats else 'no'} | {'shuffled' if one.ties == 'shuffle' else 'source order'} | "
        f"{one.licence} | [{one.source.partition(', through')[0]}]({one.url}) |"
        for one in cards().values()
    ]
    for one in cards().values():
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
        lines += [f"- Included in the Python package `{one.package}`: no download."] if one.package else []
        lines += [
            f"- File: <{part.url}> ({part.checksum or 'no checksum: download it by hand'}"
            f"{'' if part.needed else ', optional'})"
            for part in one.official
        ]
        lines += [f"- `{column}`: {meaning}" for column, meaning in one.columns.items()]
    return "\n".join(lines)
