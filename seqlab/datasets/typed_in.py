"""Items as a person types or pastes them: ids or titles, in any mix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from seqlab.datasets.columns import as_seen
from seqlab.runtime.text import DataError, listed

if TYPE_CHECKING:
    from seqlab.datasets.log import InteractionLog

SEPARATORS = "\t;,"
"""What may stand between entries of one line; the first of these that a line has divides it."""

PIECES = 6
"""Between how many separators of one line a title may lie and still be known; with more it needs its own line."""

SHOWN = 60
"""Characters of an entry or a title that a complaint shows."""

_LINES = re.compile(r"\r\n|\r|\n")


def typed_items(log: InteractionLog, typed: str | Iterable[str | int]) -> list[int]:
    """The items (1..N) that a text, or a list of entries, names: in its order, repeats kept.

    A text has one entry per line, or several between tabs, semicolons or commas. An entry is looked for as an id of
    the source, then as a whole title, then as the beginning, at last as a part of one title alone; case, spacing and
    invisible characters do not count. A line, or neighbours on it, that are a whole name are read as one entry, so
    titles may contain commas. Blank lines and places mean nothing; everything else is found or refused: `DataError`
    names the first entry that is unknown or could be several items, its line, and the nearest titles.
    """
    names = _Names(log)
    if isinstance(typed, str):
        items = [item for number, line in enumerate(_LINES.split(typed), 1) for item in names.line(line, number)]
    else:
        items = [names.entry(str(entry), f"entry {number}") for number, entry in enumerate(typed, 1)]
    if not items:
        raise DataError("nothing is typed in: give an id or a title per line.")
    return items


class _Names:
    """Ids and titles of a catalogue, as written and as compared."""

    def __init__(self, log: InteractionLog) -> None:
        self.ids, self.titles = list(map(str, log.items["item_id"])), list(map(str, log.items["title"]))
        self.keys = list(map(_key, self.titles))
        readings = (self.ids, self.titles, list(map(_key, self.ids)), self.keys)  # the most literal first
        self.whole: list[dict[str, list[int]]] = []
        for names in readings:
            items: dict[str, list[int]] = {}
            for item, name in enumerate(names, 1):
                items.setdefault(name, []).append(item)
            items.pop("", None)  # what shows nothing matches nothing
            self.whole.append(items)

    def line(self, text: str, number: int, advice: str = "") -> list[int]:
        """The items of one line: one entry if it is a name as it stands, else its parts, else a part of one name."""
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
        """A line divided, but for neighbours that together are a whole name."""
        pieces, parts, at = text.split(separator), [], 0
        while at < len(pieces):
            ends = range(min(at + PIECES, len(pieces)), at, -1)
            end = next((end for end in ends if self._exactly(separator.join(pieces[at:end]))), at + 1)
            parts.append(separator.join(pieces[at:end]))
            at = end
        return parts

    def entry(self, text: str, where: str, advice: str = "") -> int:
        """The one item of this name; `DataError` for none or several."""
        found = self._exactly(text) or self._within(text)
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{where}: {_short(text)} could be any of {len(found):,} items: {self._show(found)}. "
                "Type more of the title, or the id."
            )
        key = _key(text)[:SHOWN]
        pieces = {key[at : at + 3] for at in range(len(key) - 2)}  # comparing with every title takes seconds
        likely = {
            name[:SHOWN]: item for item, name in enumerate(self.keys, 1) if any(piece in name for piece in pieces)
        }
        near = difflib.get_close_matches(key, likely, 3, 0.5)
        nearest = f" The nearest: {self._show([likely[name] for name in near])}." if near else ""
        raise DataError(f"{where}: {_short(text)} is no id and in no title of the catalogue.{nearest}{advice}")

    def _exactly(self, text: str) -> list[int]:
        """Items of this id or title, by the most literal reading that any has."""
        key = _key(text)
        for names, name in zip(self.whole, (text.strip(), text, key, key), strict=True):
            if name in names:
                return names[name]
        return []

    def _within(self, text: str) -> list[int]:
        """Items whose title begins with the text; where none does, those whose title contains it."""
        key = _key(text)
        holding = [item for item, name in enumerate(self.keys, 1) if key in name] if key else []
        return [item for item in holding if self.keys[item - 1].startswith(key)] or holding

    def _show(self, items: list[int]) -> str:
        return listed([f"{_short(self.titles[item - 1])} (id {_short(self.ids[item - 1])})" for item in items], 3)


def _key(text: str) -> str:
    """A name as it is compared: one case, single spaces, accents composed, no characters that show nothing."""
    return as_seen(text.casefold())


def _short(text: str) -> str:
    """A name in quotes for a sentence: on one line, escapes instead of what would steer the text around it."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")
