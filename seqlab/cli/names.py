"""Checks of the names in a command, before the imports that take seconds: a typing error is answered at once.

What is checked here is checked again where it is used. The files of systems are read, not imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

    from seqlab.runtime.declared import Declared

PACKAGE = Path(__file__).parents[1]


def training_options() -> tuple[Declared, ...]:
    """The options of a training, with the comment on each."""
    from seqlab.runtime.declared import declared

    return declared(PACKAGE / "optimization" / "options.py", "Options")


def decoding_settings() -> tuple[Declared, ...]:
    """The settings of a decoding, with the comment on each."""
    import dataclasses

    from seqlab.runtime.declared import declared

    found = declared(PACKAGE / "decoding" / "settings.py", "Decoding")
    return tuple(dataclasses.replace(one, name="decoding") if one.name == "method" else one for one in found)


def system_settings(system: str) -> tuple[Declared, ...]:
    """The settings of a system, with the comment on each; () where its file does not list them all.

    Raises `ValueError` for an unknown system.
    """
    from seqlab import models
    from seqlab.runtime.declared import declared

    path = models.path(system)
    return () if path is None else declared(path, "Config")


def check_arms(arms: Iterable[str], given: Iterable[str] = ()) -> None:
    """Raise `ValueError` for an unknown system, and for an unknown setting in an arm or among `given`."""
    from seqlab.runtime.settings import unknown_setting

    given = [*given]
    options, lists = ([one.name for one in found] for found in (training_options(), decoding_settings()))
    for arm in arms:
        system, *words = arm.split(":")
        own = [one.name for one in system_settings(system)]
        for key in (*given, *(word.split("=")[0] for word in words if "=" in word)) if own else ():
            if key not in {*own, *options, *lists}:
                also = {"decoding": lists} if _generates_codes(system) else {}
                sentences = unknown_setting(system, key, own, also | {"training": options})
                raise ValueError(f"{sentences} `seqlab models {system}` says what they mean.")


def _generates_codes(system: str) -> bool:
    """Whether the file of a system defines what a decoding needs (see `decoding.settings.methods`)."""
    from seqlab import models

    path = models.path(system)
    text = "" if path is None else path.read_text(encoding="utf-8")
    return "    def decoder(" in text or "    def paths(" in text


def is_named(dataset: str) -> bool:
    """Whether this is the name of a dataset."""
    return dataset == Path(dataset).name and (PACKAGE / "datasets" / "cards" / f"{dataset}.toml").is_file()


def check_options(command: click.Group, words: list[str]) -> None:
    """Raise `ValueError` for a setting of a system or of training that is written as an option of a command."""
    called = command.commands.get(words[0]) if words else None
    known = {name for parameter in called.params for name in parameter.opts} if called else set()
    for word in words[1:] if "--set" in known else ():
        name, _, value = word.partition("=")
        setting = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or name in known or setting not in _settings(words[1:]):
            continue
        after = words[words.index(word) + 1 :]
        value = value or (after[0] if after and not after[0].startswith("-") else "VALUE")
        raise ValueError(f"{words[0]} has no option {name}; it is a setting: --set {setting}={value}")


def _settings(words: Iterable[str]) -> set[str]:
    """The names of the settings of training, of decoding, and of the systems that are named among the words."""
    from seqlab import models

    known = [*training_options(), *decoding_settings()]
    for word in words:
        if models.known(system := word.split(":")[0]):
            known += system_settings(system)
    return {one.name for one in known}
