"""The card of your own data: a TOML file that says where a log is and how it is read, wherever a dataset is named."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seqlab.datasets.roles import ROLES
from seqlab.datasets.tables import no_such_file
from seqlab.runtime.settings import construct
from seqlab.runtime.text import DataError, did_you_mean

COLUMN_ROLES = ("user", "item", "time", "title", *ROLES)
FACTS = ("about", "source", "url", "licence", "citation", "columns")
"""The keys of a card that describe the data, and do not change how they are read."""


@dataclass(frozen=True)
class LogCard:
    """A card, with the keys of a named dataset's (see `named.Card`) and those of `read`; only `file` is needed.

    file: the log (or a folder, see `read_folder`); items: its item table. Both are relative to the folder of the card.
    name: of the log; None: that of the card's file. title, about, source, url, licence, citation: of the data.
    roles: role -> column, such as {"user": "customer_id", "title": "product_title", "basket": "order_no"}; further
    ones are guessed. columns: column -> its meaning. The others: see `read`.
    """

    file: str
    items: str | None = None
    name: str | None = None
    title: str = ""
    about: str = ""
    source: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    roles: dict[str, str | int] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    sep: str | None = None
    encoding: str | None = None
    time_format: str | None = None
    order: Literal["time", "source"] | None = None
    ties: Literal["source", "shuffle"] | None = None
    repeats: bool | None = None
    keep: dict[str, list[str]] = field(default_factory=dict)
    bad: Literal["refuse", "drop"] | None = None
    merge_ids: bool | None = None
    since: str | None = None
    until: str | None = None
    duplicates: Literal["keep", "drop"] | None = None


def read_card(path: str | Path) -> LogCard:
    """The card in a TOML file. Raises `DataError` for a file that is none, with the line or the key."""
    path = Path(path)
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{no_such_file(path)} `seqlab card log.csv` writes a card of log.csv.") from error
    except (ValueError, RecursionError) as error:  # also of bytes and numbers that are none
        raise DataError(f"{path}: this is not TOML ({error}). Text stands in quotes: file = 'log.csv'.") from error
    if "file" not in facts:
        raise DataError(f"{path}: the card names no file. Add file = 'log.csv', relative to the folder of the card.")
    for key in ("since", "until"):
        if isinstance(facts.get(key), datetime.date):
            facts[key] = facts[key].isoformat()
    keep = facts.get("keep")
    if isinstance(keep, dict):
        facts["keep"] = {name: [str(one) for one in values] if isinstance(values, list) else values
                         for name, values in keep.items()}  # fmt: skip
    try:
        card = construct(LogCard, path.name, facts)
    except (ValueError, TypeError) as error:
        raise DataError(str(error)) from None
    for role in card.roles:
        if role not in COLUMN_ROLES:
            raise DataError(
                f"{path}: there is no role {role!r} for [roles].{did_you_mean(role, COLUMN_ROLES)} "
                f"There are: {', '.join(COLUMN_ROLES)}."
            )
    return card


def arguments_of(card: LogCard, path: str | Path) -> tuple[Path, dict[str, Any]]:
    """The file of a card and the arguments of `load` for it. path: that of the card."""
    folder = Path(path).parent
    given = {one.name: getattr(card, one.name) for one in dataclasses.fields(card)}
    given = {key: value for key, value in given.items() if key not in (*FACTS, "file", "title", "roles")}
    roles = dict(card.roles)
    given |= {role: roles.pop(role, None) for role in ("user", "item", "time", "title")}
    given |= {"columns": roles, "name": card.name or Path(path).stem}
    given |= {"items": None if card.items is None else Path(os.path.normpath(folder / card.items))}
    return Path(os.path.normpath(folder / card.file)), {
        key: value for key, value in given.items() if value not in (None, {})
    }


def facts_note(card: LogCard) -> tuple[str, ...]:
    """The description of the data in a sentence; () for a card without one."""
    words = [card.title, card.about.strip(), card.source and f"Source: {card.source}", card.url]
    words += [card.licence and f"Licence: {card.licence}", card.citation and f"Cite: {card.citation}"]
    return (". ".join(word.rstrip(".") for word in words if word) + ".",) if any(words) else ()


def card_text(facts: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """A card as TOML; tables come last. comments: key ("keep", or "keep.event_type") -> what stands behind it."""
    lines, tables = [], {key: value for key, value in facts.items() if isinstance(value, Mapping)}
    for table, pairs in (("", {key: value for key, value in facts.items() if key not in tables}), *tables.items()):
        if table:
            lines += ["", f"[{table}]" + _comment(comments.get(table))]
        lines += [
            f"{_key(key)} = {_value(value)}" + _comment(comments.get(f"{table}.{key}" if table else key))
            for key, value in pairs.items()
        ]
    return "\n".join(lines) + "\n"


def _comment(text: str | None) -> str:
    return f"  # {' '.join(text.split())}" if text else ""


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _value(text)


def _value(value: Any) -> str:
    """A value as TOML: JSON, which differs in control characters only."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007F")
