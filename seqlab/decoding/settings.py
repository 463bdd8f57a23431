"""The setting `decoding`: how a system that generates codes makes its lists. It belongs to an evaluation alone.

A system is trained once and its lists are made by any of METHODS. The settings are those of a system's arm, as
`seqlab leaderboard` takes it: `tiger:decoding=diverse:width=20:groups=5`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field

from seqlab.contracts import GeneratesCodes, Scores, supports
from seqlab.runtime.settings import (
    Count,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    Share,
    field_types,
    settings,
    validate,
)

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.sequences import Batch

METHODS: dict[str, dict[str, Any]] = {
    "exact": {},
    "beam": {"width": 20},
    "diverse": {"width": 20, "groups": 4, "strength": 0.5},
    "typical": {"draws": 100, "mass": 0.9, "draw_seed": 0},
    "sample": {"draws": 100, "temperature": 1.0, "draw_seed": 0},
}
"""The methods, and the settings that each takes with their defaults."""


@settings
class Decoding:
    """How a system makes its lists: a method and its settings. None: the method's default (METHODS)."""

    method: Literal["", "exact", "beam", "diverse", "typical", "sample"] = ""  # "": the system's own
    width: Count | None = None  # beam, diverse: prefixes kept at every step, at least; a longer list needs a wider one
    groups: Count | None = None  # diverse: beams that choose in turn; the width is rounded up to a multiple
    strength: NonNegativeFloat | None = None  # diverse: what a code costs per earlier group that chose it, in nats
    draws: Count | None = None  # typical, sample: tuples drawn per user
    mass: Annotated[Share, Field(gt=0)] | None = None  # typical: probability of the codes that may be drawn
    temperature: PositiveFloat | None = None  # sample: log-probabilities are divided by it
    draw_seed: NonNegativeInt | None = None  # typical, sample: of the draws, which depend on it and the user alone
    prune: Annotated[Share, Field(lt=1)] | None = None  # beam of reg4rec: candidates dropped for disagreement (CORP)

    def settings(self) -> dict[str, Any]:
        """The settings that are given, as an arm has them: {"decoding": "diverse", "width": 20}."""
        return {_KEYS.get(name, name): value for name, value in asdict(self).items() if value not in (None, "")}

    def over(self, other: Decoding) -> Decoding:
        """This decoding, with the settings of another one where it has none and its method takes them."""
        own, theirs = (
            {name: value for name, value in asdict(one).items() if value not in (None, "")} for one in (self, other)
        )
        if self.method and self.method != other.method:
            theirs = {name: value for name, value in theirs.items() if name in METHODS[self.method]}
        return Decoding(**theirs | own)


_KEYS = {"method": "decoding"}

SETTINGS: dict[str, Any] = {_KEYS.get(name, name): kind for name, kind in field_types(Decoding).items()}
"""The names of the settings, as in an arm, and their types."""


def parse(given: Mapping[str, Any]) -> Decoding:
    """The decoding of settings as in an arm; values may be text. Raises `ValueError` naming the setting."""
    names = {key: name for name, key in _KEYS.items()}
    return Decoding(**{names.get(key, key): validate(SETTINGS[key], value, key) for key, value in given.items()})


class SearchesPaths(Protocol):
    """Fills in the codes of an item in an order that every path chooses: found by a beam of its own."""

    def paths(self, batch: Batch, width: int, prune: float) -> Any:
        """The result of a search of this width: its attribute `beams` has what was found (`Beams`)."""
        ...


@dataclass(frozen=True)
class _Ways:
    """The methods of a system, its own first, and further settings of its beam."""

    methods: tuple[str, ...]
    beam: tuple[tuple[str, Any], ...] = ()

    def takes(self, method: str) -> dict[str, Any]:
        return METHODS[method] | (dict(self.beam) if method == "beam" else {})


@functools.cache
def _ways(system: type) -> _Ways:
    if supports(system, GeneratesCodes):
        own = "exact" if supports(system, Scores) else "beam"
        return _Ways((own, *(method for method in METHODS if method != own)))
    if supports(system, SearchesPaths):
        return _Ways(("beam", "exact"), (("prune", 0.0),))
    return _Ways(())


def methods(system: nn.Module | type) -> tuple[str, ...]:
    """The methods that can make a system's lists, its own first; () for one that generates no codes."""
    return _ways(system if isinstance(system, type) else type(system)).methods


def resolve(system: nn.Module | type, chosen: Decoding) -> Decoding:
    """A decoding of this system with its method, and all settings that it takes, filled in.

    Raises `ValueError` for a system without codes, a method that is not the system's, and a setting that the method
    does not take.
    """
    return _resolve(system if isinstance(system, type) else type(system), chosen)


@functools.lru_cache(maxsize=256)
def _resolve(system: type, chosen: Decoding) -> Decoding:
    ways, name = _ways(system), system.__module__.rpartition(".")[2]
    if not ways.methods:
        raise ValueError(f"{name} generates no codes, so there is no decoding to choose; leave it out.")
    method = chosen.method or ways.methods[0]
    if method not in ways.methods:
        raise ValueError(f"{name} has no decoding={method}; it has: {', '.join(ways.methods)}.")
    takes = ways.takes(method)
    for field in fields(Decoding)[1:]:
        if getattr(chosen, field.name) is not None and field.name not in takes:
            others = [other for other in ways.methods if field.name in ways.takes(other)]
            of = f" (a setting of {', '.join(others)})" if others else ""
            raise ValueError(
                f"{name}: decoding={method} takes no {field.name}{of}; "
                f"it takes {', '.join(takes) if takes else 'no settings'}."
            )
    given = {name: value for name in takes if (value := getattr(chosen, name)) is not None}
    return Decoding(**takes | given, method=method)


def identify(system: nn.Module | type, chosen: Decoding | None) -> dict[str, Any]:
    """What identifies the decoding of an evaluation, as JSON values; {} for a system without codes."""
    return resolve(system, chosen or Decoding()).settings() if methods(system) else {}


def differs(model: nn.Module, other: Decoding) -> bool:
    """Whether another decoding than the model's would make its lists."""
    return identify(model, getattr(model, "decoding", None)) != identify(model, other)


@contextlib.contextmanager
def using(model: nn.Module, chosen: Decoding) -> Iterator[None]:
    """The lists of the model are made by another decoding inside; a system without codes is left as it is."""
    if not methods(model):
        yield
        return
    own = getattr(model, "decoding", None)
    model.decoding = chosen
    try:
        yield
    finally:
        model.decoding = own


def stored(system: nn.Module | type, given: Mapping[str, Any]) -> Decoding:
    """The decoding of a run or row written before, whose settings may have some that its method does not take."""
    chosen = parse({key: value for key, value in given.items() if key in SETTINGS})
    if not methods(system):
        return Decoding()
    kind = system if isinstance(system, type) else type(system)
    takes = _ways(kind).takes(chosen.method or _ways(kind).methods[0])
    unused = {field.name: None for field in fields(Decoding)[1:] if field.name not in takes}
    return replace(chosen, **unused)
