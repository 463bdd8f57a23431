"""Published systems, one per file: its card, its Config, its class. Functions here find them by name.

Systems outside the package are found too: files in the folder $SEQLAB_MODELS, and modules that an installed package
names as entry points of the group `seqlab.models`. They have the same parts; their presets are in <name>.toml beside
the file.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import json
import pkgutil
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.runtime import outside
from seqlab.runtime.included import included
from seqlab.runtime.settings import construct, field_types
from seqlab.runtime.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from torch import nn

    from seqlab.contracts import Card
    from seqlab.datasets.splits import Split
    from seqlab.decoding.settings import Decoding


def names() -> list[str]:
    """The names of the systems in the package, which are the names of the files in the folders below this one."""
    return sorted(_files())


def names_outside() -> list[str]:
    """The names of the systems outside the package. Raises `FileNotFoundError` if $SEQLAB_MODELS is no folder."""
    return sorted(outside.sources())


def known(name: str) -> bool:
    """Whether there is a system of this name, in the package or outside."""
    return name in _files() or name in outside.sources()


def code(name: str) -> str:
    """What identifies the code of a system outside the package, which no version does; "" for one in the package."""
    return "" if name in _files() else "".join(source.code() for source in outside.sources().get(name, ())[:1])


def _files() -> dict[str, str]:
    """The module of each system, by name. Raises `TypeError` for a name in two folders."""
    found: dict[str, str] = {}
    for folder in pkgutil.iter_modules(__path__, f"{__name__}."):
        for file in pkgutil.iter_modules(importlib.import_module(folder.name).__path__):
            if file.name in found:
                raise TypeError(f"{found[file.name]} and {folder.name}.{file.name} have the same name; rename one.")
            found[file.name] = f"{folder.name}.{file.name}"
    return found


def path(name: str) -> Path | None:
    """The file of a system, which is not imported; None where it is not found. Raises what `_place` does."""
    place = _place(name)
    return place.file() if isinstance(place, outside.Source) else Path(importlib.util.find_spec(place).origin)


def module(name: str) -> types.ModuleType:
    """The module of a system.

    Raises what `_place` does, and `ValueError` for a file outside the package that does not import or lacks a part of a
    system.
    """
    place = _place(name)
    return _outside(place) if isinstance(place, outside.Source) else importlib.import_module(place)


def _place(name: str) -> str | outside.Source:
    """The dotted name of the module of a system in the package, or where one outside it is.

    Raises `ValueError` for an unknown name, with the nearest one, and for a name that several systems have.
    """
    files, others = _files(), outside.sources()
    places = [source.place for source in others.get(name, ())]
    if name in files and places:
        raise ValueError(f"{places[0]} has the name of a system of seqlab, {name}; rename it.")
    if len(places) > 1:
        raise ValueError(f"{' and '.join(places)} have the same name; rename one.")
    if places:
        return others[name][0]
    if name not in files:
        own = f"; outside: {', '.join(sorted(others))}" if others else ""
        near = did_you_mean(name, [*files, *others])
        raise ValueError(f"there is no system {name!r}.{near} There are: {', '.join(sorted(files))}{own}.")
    return files[name]


def _outside(source: outside.Source) -> types.ModuleType:
    """The module of a system outside the package, which has all parts of one."""
    from seqlab.contracts import Card

    file = source.load()
    if source.module.rpartition(".")[2] != source.name or not source.name.isidentifier():
        raise ValueError(f"{source.place}: a system has the name of its module, which is a Python name; rename it.")
    kinds = {"CARD": ("a seqlab.contracts.Card", Card), "TINY": ("a dict of settings small enough for tests", Mapping)}
    for part, (words, kind) in kinds.items():
        if not isinstance(getattr(file, part, None), kind):
            raise ValueError(f"{source.place} has no {part}; a system's file defines {part}, {words}.")
    if not dataclasses.is_dataclass(getattr(file, "Config", None)):
        raise ValueError(f"{source.place} has no Config; a system's file defines Config, a dataclass of its settings.")
    for field in dataclasses.fields(file.Config):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{source.place}: Config.{field.name} has no default; every setting has one.")
    if len(found := _systems(file)) != 1:
        raise ValueError(
            f"{source.place} must define exactly one class with (config, n_items), the system (found {len(found)})."
        )
    return file


def system(name: str) -> type[nn.Module]:
    """The class of a system: the only one in its file that is built with (config, n_items).

    Raises `TypeError` for none or several.
    """
    file = module(name)
    found = _systems(file)
    if len(found) != 1:
        raise TypeError(f"{file.__name__} must define exactly one class with (config, n_items) (found {len(found)}).")
    return found[0]


def _systems(file: types.ModuleType) -> list[type[nn.Module]]:
    """The classes in a file that are built with (config, n_items)."""
    return [
        member
        for _, member in inspect.getmembers(file, inspect.isclass)
        if member.__module__ == file.__name__ and [*inspect.signature(member).parameters] == ["config", "n_items"]
    ]


def card(name: str) -> Card:
    """The card of a system. Raises `TypeError` for a file without a `CARD`."""
    from seqlab.contracts import Card

    found = getattr(module(name), "CARD", None)
    if not isinstance(found, Card):
        raise TypeError(f"{module(name).__name__} must define CARD, a seqlab.contracts.Card.")
    return found


def family(name: str) -> str:
    """The folder of a system, such as "encoders"; "outside" for one that is outside the package."""
    return module(name).__name__.split(".")[-2] if name in _files() else "outside"


def configure(name: str, settings: dict[str, Any], also: Mapping[str, Iterable[str]] | None = None) -> Any:
    """The Config of a system with `settings` instead of its defaults; those of its decoding are validated and left out.

    Values may be text, as from a command line; they are converted to the types of the fields. Raises `ValueError` that
    names the field for an unknown one (with the nearest name among the fields and `also`), for a value of another
    type or outside the bounds of the field, and for a decoding that the system does not have.
    also: further names, by what has them, for the message.
    """
    from seqlab.decoding.settings import SETTINGS, methods, resolve

    config_type, (settings, lists) = module(name).Config, split_settings(name, settings)
    if lists.settings():
        resolve(system(name), lists)
    decoding = {"decoding": SETTINGS} if methods(system(name)) else {}
    return construct(config_type, name, settings, decoding | dict(also or {}))


def split_settings(name: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], Decoding]:
    """The settings of the Config of a system among `settings`, which are not validated, and its decoding.

    Raises `ValueError` for a value that a setting of the decoding cannot have.
    """
    from seqlab.decoding.settings import SETTINGS, parse

    own = field_types(module(name).Config)
    lists = {key: value for key, value in settings.items() if key in SETTINGS and key not in own}
    return {key: value for key, value in settings.items() if key not in lists}, parse(lists)


def separate(name: str, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of a system, with its decoding's, and the training options among `given`, all validated.

    Raises what `configure` does.
    """
    from seqlab.optimization.options import Options

    kinds = field_types(Options)
    settings = {key: value for key, value in given.items() if key not in kinds}
    configure(name, settings, also={"training": kinds})
    options = {key: value for key, value in given.items() if key in kinds}
    Options(**options)
    return settings, options


def build(name: str, n_items: int, settings: dict[str, Any] | None = None, seed: int = 0) -> nn.Module:
    """A new, untrained system for a catalogue of `n_items`. seed: of the initial weights.

    settings: of its Config and of its decoding, as in an arm: {"dim": 32, "decoding": "diverse", "groups": 5}.
    """
    import torch

    config = configure(name, settings or {})
    with torch.random.fork_rng(devices=[]):  # the global random state stays as it was
        torch.manual_seed(seed)
        model = system(name)(config, n_items)
    lists = split_settings(name, settings or {})[1]
    if lists.settings():
        model.decoding = lists
    return model


def create(name: str, split: Split, settings: dict[str, Any] | None = None, seed: int = 0) -> nn.Module:
    """A new, untrained system for a split. settings: those that replace the preset's for its data (see `presets`)."""
    from seqlab.presets import preset

    settings = {} if settings is None else settings
    if not isinstance(settings, Mapping):
        raise ValueError(f"the settings of {name} are a dict such as {{'dim': 32}} (got {settings!r}).")
    found = preset(name, split.log.card, split.log.n_events)
    own, lists = split_settings(name, settings)
    lists = lists.over(found.lists)
    return build(name, split.n_items, found.settings | own | lists.settings(), seed)


def table() -> pd.DataFrame:
    """A row per system: family, paper, the first line of its file, settings (then its decoding's) with defaults.

    The systems outside the package come last, with the place of each in the column `from`; those that cannot be used
    are left out (see `problems`).
    """
    import pandas as pd

    from seqlab.decoding.settings import identify

    rows, broken = [], problems()
    for name in [*names(), *(name for name in names_outside() if name not in broken)]:
        file, facts = module(name), card(name)
        settings = ", ".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(file.Config))
        lists = identify(system(name), None)
        settings += f"; {', '.join(f'{key}={value!r}' for key, value in lists.items())}" if lists else ""
        rows.append({
            "system": name, "family": family(name), "paper": facts.paper, "year": facts.year or "",
            "venue": facts.venue, "what it is": _title(file), "settings": settings,
            "from": "seqlab" if name in _files() else outside.sources()[name][0].place,
        })  # fmt: skip
    return pd.DataFrame(rows)


def pretrained() -> pd.DataFrame:
    """A row per trained run that comes with the project, which `seqlab.load_run` opens by its system's name.

    Columns: system, dataset, split, metric (the primary one of its task), value (on test), megabytes, minutes (of its
    training), folder.
    """
    import pandas as pd

    rows = []
    for path in sorted(included("zoo").glob("[!.]*/provenance.json")):
        origin, metrics = (
            json.loads(path.with_name(f"{one}.json").read_text("utf-8")) for one in (path.stem, "metrics")
        )
        metric = origin["evaluation"]["outcome"]["primary"]
        rows.append({
            "system": path.parent.name, "dataset": origin["data"]["name"], "split": origin["data"]["split"],
            "metric": metric, "value": metrics["test"][metric],
            "megabytes": sum(file.stat().st_size for file in path.parent.iterdir()) / 1e6,
            "minutes": metrics["seconds"] / 60, "folder": str(path.parent),
        })  # fmt: skip
    return pd.DataFrame(
        rows, columns=["system", "dataset", "split", "metric", "value", "megabytes", "minutes", "folder"]
    )


def _title(file: types.ModuleType) -> str:
    """The first line of a file's docstring; "" where it has none."""
    return next(iter((file.__doc__ or "").strip().splitlines()), "")


def problems() -> dict[str, str]:
    """Why systems outside the package cannot be used, by name, in a sentence each."""
    found = {}
    for name in names_outside():
        try:
            configure(name, dict(module(name).TINY))
        except (ValueError, TypeError) as error:
            found[name] = str(error)
    return found


def gallery_markdown() -> str:
    """The README's table of the systems in the package, by family."""
    shown = (
        table()
        .query("`from` == 'seqlab'")[["system", "paper", "year", "venue", "family"]]
        .sort_values(["family", "system"])
    )
    shown["system"] = [
        f"[`{name}`](seqlab/models/{family}/{name}.py)"
        for name, family in zip(shown["system"], shown["family"], strict=True)
    ]
    shown["venue"] = shown["venue"].str.replace(
        r"^arXiv ([\d.]+)$", r"[arXiv \1](https://arxiv.org/abs/\1)", regex=True
    )
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in shown.itertuples(index=False)]
    return "\n".join(["| " + " | ".join(shown) + " |", "|---|---|---|---|---|", *lines]) + "\n"
