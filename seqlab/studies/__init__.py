"""Studies done with trained systems, one per file: its card, its Config, its `run`. Functions here find them by name.

A study's file has `CARD` (a `contracts.Card`: the claim, the paper, the datasets and the seeds it is measured on),
`Config` (frozen settings with defaults), and `run(split, systems, config, runs) -> Findings`; systems: by arm, the
runs of its seeds on this split; runs: the folder where further trainings are found and kept, "" = none.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.runtime.settings import construct
from seqlab.runtime.text import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.contracts import Card
    from seqlab.datasets.splits import Split
    from seqlab.runs.findings import Findings
    from seqlab.runs.run import Run


def names() -> list[str]:
    """The names of all studies, which are the names of the files here."""
    return sorted(file.name for file in pkgutil.iter_modules(__path__))


def module(name: str) -> types.ModuleType:
    """The module of a study. Raises `ValueError` with the nearest name for an unknown one."""
    if name not in names():
        raise ValueError(f"there is no study {name!r}.{did_you_mean(name, names())} There are: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")


def card(name: str) -> Card:
    """The card of a study. Raises `TypeError` for a file without a `CARD`."""
    from seqlab.contracts import Card

    found = getattr(module(name), "CARD", None)
    if not isinstance(found, Card):
        raise TypeError(f"{module(name).__name__} must define CARD, a seqlab.contracts.Card.")
    return found


def configure(name: str, settings: Mapping[str, Any]) -> Any:
    """The Config of a study with `settings`, which may be text, instead of its defaults.

    Raises `ValueError` that names the field for an unknown one, and for a value that is not allowed.
    """
    return construct(module(name).Config, name, settings)


def conduct(
    name: str,
    split: Split,
    systems: Mapping[str, Run | Sequence[Run]],
    settings: Mapping[str, Any] | None = None,
    out: str | Path = "",
    runs: str | Path = "",
) -> Findings:
    """The findings of a study: loaded where they are stored, else made, and stored in the folder `out`.

    systems: by arm, a trained run or those of its seeds. settings: of the study, over its defaults. out: the folder of
    these findings, "" = none is read or written. runs: as in `run`. Raises `ValueError` for unknown settings and where
    `out` holds the findings of something else, and what the study raises.
    """
    from seqlab.runs import findings as stored

    config = configure(name, settings or {})
    systems = {label: [*some] if isinstance(some, Sequence) else [some] for label, some in systems.items()}
    if not systems or not all(systems.values()):
        raise ValueError(f"the study {name} needs at least one trained system.")
    wanted = identity(name, split, systems, config)
    if str(out) and Path(out).exists():
        found = stored.load_findings(out)
        if found.study != name or dict(found.identity) != wanted:
            raise ValueError(f"{out} holds the findings of another study, of other systems, settings or data.")
        return found
    started = time.perf_counter()
    made = module(name).run(split, systems, config, runs)
    made = dataclasses.replace(made, study=name, identity=wanted, seconds=time.perf_counter() - started)
    return stored.write(made, out) if str(out) else made


def identity(name: str, split: Split, systems: Mapping[str, Sequence[Run]], config: Any) -> dict[str, Any]:
    """What identifies a study: JSON values, without settings at their defaults, so that a new one changes nothing."""
    from seqlab.runs.identity import settings_defaults, stored_identity
    from seqlab.runs.start import fingerprint

    def of_run(run: Run) -> dict[str, Any]:
        if run.folder is not None:
            return stored_identity(run.folder).non_defaults()
        settings, defaults = dataclasses.asdict(run.model.config), settings_defaults(run.system)
        changed = {key: value for key, value in settings.items() if value != defaults.get(key)}
        return {"system": run.system, "settings": changed, "weights": fingerprint(run.model)}  # in memory

    defaults = dataclasses.asdict(module(name).Config())
    values = dataclasses.asdict(config)
    found = {
        "settings": {key: value for key, value in values.items() if value != defaults[key]},
        "data": split.log.name, "fingerprint": split.log.fingerprint(), "split": split.name,
        "systems": {label: [of_run(run) for run in some] for label, some in systems.items()},
    }  # fmt: skip
    return json.loads(json.dumps(found))


def default_folder(
    below: str | Path, name: str, split: Split, systems: Mapping[str, Sequence[Run]], config: Any
) -> Path:
    """The folder of these findings below another: that with this identity, else `<dataset>/<study>-<hash>`."""
    from seqlab.runs import findings as stored

    wanted = identity(name, split, systems, config)
    return stored.find(below, name, wanted) or Path(below) / split.log.name / stored.folder_name(name, wanted)


def table() -> pd.DataFrame:
    """A row per study: its claim, paper, datasets, the first line of its file, settings with their defaults."""
    import pandas as pd

    rows = []
    for name in names():
        file, facts = module(name), card(name)
        settings = ", ".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(file.Config))
        rows.append({
            "study": name, "claim": facts.claim, "paper": facts.paper, "year": facts.year or "", "venue": facts.venue,
            "datasets": ", ".join(facts.homes), "what it is": file.__doc__.strip().splitlines()[0],
            "settings": settings,
        })  # fmt: skip
    return pd.DataFrame(rows)
