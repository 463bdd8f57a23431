"""Finds the items that a person types or pastes, as ids or titles in any mix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from seqlab.datasets.columns import normalize_text
from seqlab.datasets.item_names import item_names
from seqlab.runtime.text import DataError, listed

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog

SEPARATORS = "\t;,"
"""Separators of the entries of a line; a line is split at the first of these that it contains."""

MAX_PIECES = 6
"""A title with separators in it is found within a line if they split it into at most this many pieces."""

MAX_SHOWN = 60
"""Maximum length of an entry or a title in a message, in characters."""

_LINES = re.compile(r"\r\n|\r|\n")


def typed_items(log: InteractionLog, typed: str | Iterable[str | int]) -> list[int]:
    """The items (1..N) of a text or a list of entries, in its order, with repetitions.

    A text has one entry per line, or several separated by tabs, semicolons or commas. An entry is matched as an id of
    the source, then as a whole title or name (`item_names`), then as the beginning, and last as a part of a single
    title, ignoring case, spacing and invisible characters. Neighbouring pieces of a line that form a whole title are
    one entry, so titles may contain commas. Blank entries are skipped. Raises `DataError` for the first entry that is
    unknown or ambiguous, with its line and the closest names.
    """
    names = _Names(log)
    if isinstance(typed, str):
        items = [item for number, line in enumerate(_LINES.split(typed), 1) for item in names.line(line, number)]
    else:
        items = [names.entry(str(entry), f"entry {number}") for number, entry in enumerate(typed, 1)]
    if not items:
        raise DataError("the text is empty. Type an id or a title per line.")
    return items


class _Names:
    """The ids and titles of a catalogue, unchanged and normalised."""

    def __init__(self, log: InteractionLog) -> None:
        self.ids, self.names = list(map(str, log.items["item_id"])), item_names(log)
        titles = list(map(str, log.items["title"]))
        self.keys, named = list(map(_key, titles)), list(map(_key, self.names))
        forms = (self.ids, titles, list(map(_key, self.ids)), self.keys, named)  # in the order of preference
        self.whole: list[dict[str, list[int]]] = []
        for names in forms:
            items: dict[str, list[int]] = {}
            for item, name in enumerate(names, 1):
                items.setdefault(name, []).append(item)
            items.pop("", None)
            self.whole.append(items)

    def line(self, text: str, number: int, advice: str = "") -> list[int]:
        """The items of one line: a whole name, else separated entries, else a part of a single title."""
        whole = self._exactly(text)
        if not whole and not _key(re.sub(f"[{SEPARATORS}]", " ", text)):
            return []
        separator = next((one for one in SEPARATORS if one in text), None)
        if whole or separator is None:
            return [self.entry(text, f"line {number}", advice)]
        parts = self._parts(text, separator)
        exact = [self._exactly(part) for part in parts if _key(part) or self._exactly(part)]
        if all(len(found) == 1 for found in exact):
            return [found[0] for found in exact]
        within = self._within(text)
        if len(within) == 1:
            return within
        advice = " A title that contains a separator needs a line of its own."
        return [item for part in parts for item in self.line(part, number, advice)]

    def _parts(self, text: str, separator: str) -> list[str]:
        """A line split at the separator, except inside a whole name."""
        pieces, parts, at = text.split(separator), [], 0
        while at < len(pieces):
            ends = range(min(at + MAX_PIECES, len(pieces)), at, -1)
            end = next((end for end in ends if self._exactly(separator.join(pieces[at:end]))), at + 1)
            parts.append(separator.join(pieces[at:end]))
            at = end
        return parts

    def entry(self, text: str, where: str, advice: str = "") -> int:
        """The only item of this name. Raises `DataError` if there is none or more than one."""
        found = self._exactly(text) or self._within(text)
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{where}: {_short(text)} could be any of {len(found):,} items: {self._show(found)}. "
                "Type more of the title, or the id."
            )
        key = _key(text)[:MAX_SHOWN]
        trigrams = {key[at : at + 3] for at in range(len(key) - 2)}  # to compare with few titles only, for speed
        likely = {
            name[:MAX_SHOWN]: item for item, name in enumerate(self.keys, 1) if any(part in name for part in trigrams)
        }
        near = difflib.get_close_matches(key, likely, 3, 0.5)
        closest = f" The closest: {self._show([likely[name] for name in near])}." if near else ""
        raise DataError(f"{where}: {_short(text)} is not an id or part of a title of the catalogue.{closest}{advice}")

    def _exactly(self, text: str) -> list[int]:
        """The items with this id or title, in the first form of `whole` that has any."""
        key = _key(text)
        for names, name in zip(self.whole, (text.strip(), text, key, key, key), strict=True):
            if name in names:
                return names[name]
        return []

    def _within(self, text: str) -> list[int]:
        """Items whose title begins with the text; where none does, those whose title contains it."""
        key = _key(text)
        matches = [item for item, name in enumerate(self.keys, 1) if key in name] if key else []
        return [item for item in matches if self.keys[item - 1].startswith(key)] or matches

    def _show(self, items: list[int]) -> str:
        return listed([f"{_short(self.names[item - 1])} (id {_short(self.ids[item - 1])})" for item in items], 3)


def _key(text: str) -> str:
    """A name in the form that is compared: case-folded, and `normalize_text`."""
    return normalize_text(text.casefold())


def _short(text: str) -> str:
    """A name for a message: quoted, shortened, control characters escaped."""
    return repr(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…")
