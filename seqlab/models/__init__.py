"""Published systems, one per file: its card, its Config, its class. Functions here find them by name."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import pkgutil
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
    """The names of all systems, which are the names of the files in the folders below this one."""
    return sorted(_files())


def _files() -> dict[str, str]:
    """The module of each system, by name. Raises `TypeError` for a name in two folders."""
    found: dict[str, str] = {}
    for folder in pkgutil.iter_modules(__path__, f"{__name__}."):
        for file in pkgutil.iter_modules(importlib.import_module(folder.name).__path__):
            if file.name in found:
                raise TypeError(f"{found[file.name]} and {folder.name}.{file.name} have the same name; rename one.")
            found[file.name] = f"{folder.name}.{file.name}"
    return found


def module(name: str) -> types.ModuleType:
    """The module of a system. Raises `ValueError` with the nearest name for an unknown one."""
    if name not in names():
        raise ValueError(f"there is no system {name!r}.{did_you_mean(name, names())} There are: {', '.join(names())}.")
    return importlib.import_module(_files()[name])


def system(name: str) -> type[nn.Module]:
    """The class of a system: the only one in its file that is built with (config, n_items).

    Raises `TypeError` for none or several.
    """
    file = module(name)
    found = [
        member
        for _, member in inspect.getmembers(file, inspect.isclass)
        if member.__module__ == file.__name__ and [*inspect.signature(member).parameters] == ["config", "n_items"]
    ]
    if len(found) != 1:
        raise TypeError(f"{file.__name__} must define exactly one class with (config, n_items) (found {len(found)}).")
    return found[0]


def card(name: str) -> Card:
    """The card of a system. Raises `TypeError` for a file without a `CARD`."""
    from seqlab.contracts import Card

    found = getattr(module(name), "CARD", None)
    if not isinstance(found, Card):
        raise TypeError(f"{module(name).__name__} must define CARD, a seqlab.contracts.Card.")
    return found


def family(name: str) -> str:
    """The folder of a system, such as "encoders"."""
    return module(name).__name__.split(".")[-2]


def configure(name: str, settings: dict[str, Any], also: Iterable[str] = ()) -> Any:
    """The Config of a system with `settings` instead of its defaults; those of its decoding are validated and left out.

    Values may be text, as from a command line; they are converted to the types of the fields. Raises `ValueError` that
    names the field for an unknown one (with the nearest name among the fields and `also`), for a value of another
    type or outside the bounds of the field, and for a decoding that the system does not have.
    """
    from seqlab.decoding.settings import SETTINGS, methods, resolve

    config_type, (settings, lists) = module(name).Config, split_settings(name, settings)
    if lists.settings():
        resolve(system(name), lists)
    return construct(config_type, name, settings, [*also, *(SETTINGS if methods(system(name)) else ())])


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
    configure(name, settings, also=kinds)
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
    """A row per system: family, paper, the first line of its file, settings (then its decoding's) with defaults."""
    import pandas as pd

    from seqlab.decoding.settings import identify

    rows = []
    for name in names():
        file, facts = module(name), card(name)
        settings = ", ".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(file.Config))
        lists = identify(system(name), None)
        settings += f"; {', '.join(f'{key}={value!r}' for key, value in lists.items())}" if lists else ""
        rows.append({
            "system": name, "family": family(name), "paper": facts.paper, "year": facts.year or "",
            "venue": facts.venue, "what it is": file.__doc__.strip().splitlines()[0], "settings": settings,
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


def gallery_markdown() -> str:
    """The README's table of systems, by family."""
    shown = table()[["system", "paper", "year", "venue", "family"]].sort_values(["family", "system"])
    shown["system"] = "`" + shown["system"] + "`"
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in shown.itertuples(index=False)]
    return "\n".join(["| " + " | ".join(shown) + " |", "|---|---|---|---|---|", *lines]) + "\n"
