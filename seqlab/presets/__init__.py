"""Settings that suit a system, by dataset. <system>.toml has a section per dataset and one for all other logs."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from seqlab.contracts import name_of
from seqlab.optimization.options import Options

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.splits import Split

EVENTS = 200_000
"""The events of a log for which the epochs of [default] are meant."""

SPAN = 5
"""How many times as many epochs, or as few, [default] has at most for logs of another size."""


@dataclass(frozen=True)
class Preset:
    """Settings of a system and options of its training that stand over their defaults."""

    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def preset(system: str, card: str, events: int) -> Preset:
    """What suits `system` on a log of so many events that came with this dataset's card ("" for one's own).

    The section of a dataset stands alone. Without one, [default] holds, which trains 200,000 events in minutes. Its
    epochs follow the size of the log, so that the number of steps stays about the same: up to five times as many for a
    smaller one, down to a fifth for a larger one.
    """
    found = sections(system)
    if card in found:
        return found[card]
    usual = found.get("default", Preset())
    more = min(max(EVENTS / max(events, 1), 1 / SPAN), SPAN)
    counts = {name: usual.options[name] for name in ("epochs", "validate_every") if name in usual.options}
    scaled = {name: max(1, round(count * more)) for name, count in counts.items()}
    return Preset(usual.settings, usual.options | scaled)


def default_options(model: nn.Module, split: Split) -> Options:
    """The options that suit this system on these data (see `presets`), over the defaults."""
    return Options(**preset(name_of(model), split.log.card, split.log.n_events).options)


def sections(system: str) -> dict[str, Preset]:
    """By dataset, and for "default", all that is known to suit a system; nothing for one without a file."""
    return {name: Preset(**section) for name, section in tomllib.loads(_text(system)).items()}


def systems() -> list[str]:
    """The systems that have presets."""
    here = files(__name__).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in here if entry.name.endswith(".toml"))


@cache
def _text(system: str) -> str:
    entry = files(__name__).joinpath(f"{system}.toml")
    return entry.read_text(encoding="utf-8") if entry.is_file() else ""
