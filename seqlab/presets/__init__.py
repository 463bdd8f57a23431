"""Presets: tuned settings of a system by dataset. <system>.toml has a section per dataset and one for other logs.

Those of a system outside the package are beside its file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from seqlab.contracts import name_of
from seqlab.decoding.settings import Decoding, parse
from seqlab.optimization.options import Options
from seqlab.runtime import outside
from seqlab.runtime.settings import construct

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.splits import Split

EVENTS = 200_000
"""The size of a log, in events, for which the epochs of [default] are set."""

MAX_FACTOR = 5
"""The largest factor by which the epochs of [default] are multiplied or divided for a log of another size."""


@dataclass(frozen=True)
class Preset:
    """Settings of a system, training options, and settings of its decoding, that replace the defaults."""

    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    decoding: dict[str, Any] = field(default_factory=dict)

    @property
    def lists(self) -> Decoding:
        """The decoding by which the system makes its lists."""
        return parse(self.decoding)


def preset(system: str, card: str, events: int) -> Preset:
    """The preset of `system` for a log of so many `events`. card: the name of its dataset's card, "" without one.

    It is the section of the dataset, if there is one, else [default], which trains 200,000 events in minutes. The
    epochs of [default] are scaled by the size of the log, so that the number of steps stays about the same: at most
    five times as many for a smaller log, and at least a fifth for a larger one.
    """
    found = sections(system)
    if card in found:
        return found[card]
    default = found.get("default", Preset())
    factor = min(max(EVENTS / max(events, 1), 1 / MAX_FACTOR), MAX_FACTOR)
    counts = {name: default.options[name] for name in ("epochs", "validate_every") if name in default.options}
    scaled = {name: max(1, round(count * factor)) for name, count in counts.items()}
    return Preset(default.settings, default.options | scaled, default.decoding)


def default_options(model: nn.Module, split: Split) -> Options:
    """The options of the preset for this system on these data (see `preset`), else the defaults of `Options`."""
    name = name_of(model)
    return construct(Options, f"the preset of {name}", preset(name, split.log.card, split.log.n_events).options)


def default_decoding(model: nn.Module, split: Split) -> Decoding:
    """The decoding of the preset for this system on these data (see `preset`), by which its epochs are compared."""
    return preset(name_of(model), split.log.card, split.log.n_events).lists


def sections(system: str) -> dict[str, Preset]:
    """The presets of a system by dataset and for "default"; {} for a system without a file.

    Raises `ValueError` for a file beside a system outside the package that is no TOML, or has other parts.
    """
    entry = files(__name__).joinpath(f"{system}.toml")
    if entry.is_file():
        return _parsed(entry.read_text(encoding="utf-8"), entry.name)
    path = next((path for one in outside.sources().get(system, ()) if (path := one.preset())), None)
    return {} if path is None else _parsed(path.read_text(encoding="utf-8"), str(path))


def systems() -> list[str]:
    """The names of the systems with presets."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in files(__name__).iterdir() if entry.name.endswith(".toml")
    )


@cache
def _parsed(text: str, place: str) -> dict[str, Preset]:
    parts = [one.name for one in fields(Preset)]
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{place} is no TOML: {error}.") from error
    for name, section in found.items():
        given = section if isinstance(section, dict) else {name: section}
        if wrong := [key for key, value in given.items() if key not in parts or not isinstance(value, dict)]:
            raise ValueError(
                f"{place}: {wrong[0]!r} has no place there; a preset is [<dataset>.settings], [<dataset>.options] or "
                "[<dataset>.decoding], with the name of a dataset or default."
            )
    return {name: Preset(**section) for name, section in found.items()}
