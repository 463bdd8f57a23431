"""The pages of one system and of one dataset in the shell."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seqlab.runtime.declared import Declared

WIDTH = 118
"""Characters of a line."""

NAMES = 28
"""Characters of the first column of a table; a longer name has a line of its own."""

MEANINGS = {
    "max_length": "most recent events read", "dim": "width of the states", "layers": "blocks, one after the other",
    "heads": "of the attention", "dropout": "share of the activations that are dropped in training",
    "loss": "the training objective", "negatives": "drawn by the sampling losses",
}  # fmt: skip
"""The settings that many systems have, where the comment in a file only gives the paper's value."""


def system_page(name: str) -> str:
    """The page of a system: paper, claim, settings with their meaning, presets, training options, where it stands.

    Raises `ValueError` for an unknown system.
    """
    from seqlab import models

    place = models.path(name)  # before the slow imports
    from seqlab.cli.names import decoding_settings, training_options
    from seqlab.contracts import Learns, supports
    from seqlab.decoding.settings import methods
    from seqlab.presets import sections

    file, card, system = models.module(name), models.card(name), models.system(name)
    title, _, prose = (file.__doc__ or "").strip().partition("\n")
    parts = [
        f"{name} ({models.family(name)})\n{title}",
        _facts({
            "Paper": ", ".join(map(str, filter(None, (card.paper, card.venue, card.year)))) or "none",
            "Claim": card.claim, "Found here": _found(name), "Controls": card.control_words or "none",
            "Task": f"{card.task}, split {card.split}", "At home on": ", ".join(card.homes),
            "File": "" if place is None else _shown(place), "Trained run": _pretrained(name),
        }),
        prose.strip(), _settings("Settings (--set NAME=VALUE)", _declared(name), file.Config.__doc__ or ""),
        _presets({place: {**one.settings, **one.options, **one.decoding} for place, one in sections(name).items()}),
    ]  # fmt: skip
    if methods(system):
        chosen = ", ".join(methods(system))
        parts.append(_settings(f"Decoding ({chosen}; --set decoding=NAME)", decoding_settings()))
    if supports(system, Learns):
        parts.append(_settings("Training (--set NAME=VALUE)", training_options()))
    parts.append(_standings(name))
    return "\n\n".join(part for part in parts if part)


def dataset_page(name: str) -> str:
    """The page of a named dataset: what it is, its counts, columns, source, licence, and where it is found.

    Raises `DataError` for an unknown name.
    """
    from seqlab.datasets import named

    card = named.card(name)
    have = named.catalog().set_index("name").loc[name, "have"]
    files = [
        f"{one.url} ({one.checksum or 'no checksum: download it by hand'}{'' if one.needed else ', optional'})"
        for one in card.official
    ]
    ties = "are shuffled" if card.ties == "shuffle" else "stay in the order of the source"
    facts = {
        "Size": f"{card.users:,} users, {card.items:,} items, {card.events:,} events",
        "Repeats": "yes, people take the same item again" if card.repeats else "no, an item once per user",
        "Ties": f"events of one user at the same time {ties}",
        "Source": f"{card.source}, {card.url}", "Licence": card.licence, "Cite": card.citation,
        "Files": "\n".join(files) or f"in the Python package {card.package}", "Here": have,
        "Folders": "" if card.package else ", ".join(map(str, named.folders(card))),
    }  # fmt: skip
    columns = _table([(column, "", meaning) for column, meaning in card.columns.items()])
    parts = [f"{name}: {card.title}", card.about.strip(), _facts(facts), f"Further columns\n{columns}"]
    return "\n\n".join(parts if card.columns else parts[:-1])


def _declared(name: str) -> Iterable[Declared]:
    """The settings of a system as its file has them; without their meaning where that file cannot be read."""
    import dataclasses

    from seqlab import models
    from seqlab.cli.names import system_settings
    from seqlab.runtime.declared import Declared

    fields = dataclasses.fields(models.module(name).Config)
    return system_settings(name) or [Declared(one.name, str(one.type), repr(one.default), "") for one in fields]


def _settings(title: str, found: Iterable[Declared], about: str = "") -> str:
    rows = []
    for one in found:
        only_paper = not one.meaning or one.meaning.startswith("paper") or one.meaning[0] in ".0123456789"
        common = MEANINGS.get(one.name, "") if only_paper else ""
        choices = f"one of {', '.join(str(choice) for choice in one.choices if choice != '')}" if one.choices else ""
        rows.append((one.name, one.default.strip("'\""), "; ".join(filter(None, (common, one.meaning, choices)))))
    about = f"  {about}\n" if about.strip(". ") not in ("", "Settings") else ""
    return f"{title}\n{about}{_table(rows)}" if rows else ""


def _presets(found: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"  {place}: {', '.join(f'{key}={value}' for key, value in given.items()) or 'the defaults'}"
        for place, given in found.items()
    ]
    text = "\n".join(_wrapped(line, "    ") for line in lines)
    return f"Presets (tuned, by dataset; default: other logs)\n{text}" if lines else ""


def _standings(name: str) -> str:
    from seqlab.experiments.leaderboard_page import RANKINGS
    from seqlab.experiments.standings import standings

    lines = []
    for row in standings().query("system == @name").to_dict("records"):
        best = "" if row["place"] == 1 else f" (the first: {row['best']})"
        filtered = f", seen items {'filtered' if row['seen_filter'] else 'kept'}" if row["task"] in RANKINGS else ""
        lines.append(
            f"  {row['dataset']}, {row['split']}{filtered}: {row['metric']} {row['value']:.4f} "
            f"[{row['low']:.4f}, {row['high']:.4f}], place {row['place']} of {row['systems']}{best}, "
            f"{minutes(row['minutes'])}"
        )
    text = "\n".join(_wrapped(line, "    ") for line in lines)
    return f"Where it stands (its best arm on validation; a place is among systems)\n{text}" if lines else ""


def minutes(count: float) -> str:
    """A duration in words."""
    return "less than a minute" if count < 0.95 else "a minute" if count < 1.5 else f"{count:.0f} minutes"


def _found(name: str) -> str:
    from seqlab.experiments.standings import verdicts

    return verdicts().get(name, "not measured yet")


def _pretrained(name: str) -> str:
    from seqlab import models

    found = models.pretrained()
    lines = [
        f'seqlab.load_run("{name}"): {row.dataset}, {row.split}, {row.metric} {row.value:.4f}, trained in '
        f"{minutes(row.minutes)}"
        for row in found[found["system"] == name].itertuples(index=False)
    ]
    return "\n".join(lines)


def _shown(path) -> str:
    """A file of the package without the folders above it."""
    from seqlab.cli.names import PACKAGE

    return str(path.relative_to(PACKAGE.parent) if path.is_relative_to(PACKAGE) else path)


def _facts(facts: dict[str, str]) -> str:
    return _table([(key, "", line) for key, text in facts.items() if text for line in text.splitlines()])


def _table(rows: list[tuple[str, str, str]]) -> str:
    """Columns of two names and a text, which is wrapped."""
    first = max((len(row[0]) for row in rows if len(row[0]) <= NAMES), default=NAMES)
    second = max(len(row[1]) for row in rows)
    lines = []
    for name, value, text in rows:
        if len(name) > first:
            lines.append(f"  {name}")
            name = ""
        start = f"  {name:<{first}}  " + (f"{value:<{second}}  " if second else "")
        lines.append(_wrapped(text, " " * (first + second + 6), start) if text else start.rstrip())
    return "\n".join(lines)


def _wrapped(text: str, indent: str, start: str = "") -> str:
    """A text in lines, `start` before the first one and `indent` before the others."""
    return textwrap.fill(
        text, WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
