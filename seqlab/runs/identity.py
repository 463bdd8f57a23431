"""What defines a run. A run that is found must match all of it; the name of its folder is only a hint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import models
from seqlab.contracts import name_of
from seqlab.optimization.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from seqlab.datasets.splits import Split


@dataclass(frozen=True)
class Identity:
    """One training: the system, its settings, the options with the seed, and the data with their split.

    settings, options: JSON values. fingerprint: that of `version` of the log (see `InteractionLog.fingerprint`).
    """

    system: str
    settings: dict[str, Any]
    options: dict[str, Any]
    seen_filter: bool
    split: str
    data: str
    fingerprint: str
    version: int

    def chosen(self) -> dict[str, Any]:
        """All that defines the run, but of settings and options those alone that differ from the defaults.

        A field that is added later with a default that changes nothing leaves this as it is.
        """
        return {
            "system": self.system, "settings": _beyond(self.settings, _default_settings(self.system)),
            "options": _beyond(self.options, _default_options()), "seen_filter": self.seen_filter,
            "split": self.split, "fingerprint": self.fingerprint,
        }  # fmt: skip

    def folder_name(self) -> str:
        """sasrec-0-1f2e3d4c: the system, the seed, and a hash of `chosen`."""
        digest = hashlib.sha256(json.dumps(self.chosen(), sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.system}-{self.options['seed']}-{digest}"


def identity(model: nn.Module, options: Options, split: Split, seen_filter: bool, version: int = 2) -> Identity:
    """What training this model so would be."""
    return Identity(
        name_of(model), _json(dataclasses.asdict(model.config)), _json(dataclasses.asdict(options)), bool(seen_filter),
        split.how, split.log.name, split.log.fingerprint(version), version,
    )  # fmt: skip


def stored_identity(folder: Path) -> Identity:
    """That of a finished run. A field that did not exist when it was made has its default.

    Raises `OSError`, `ValueError` or `KeyError` where the folder holds none.
    """
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    system, data = described["system"], origin["data"]
    return Identity(
        system, _default_settings(system) | described["config"], _default_options() | origin["options"],
        origin["evaluation"]["seen_filter"], data["split"], data["name"], data["fingerprint"],
        data.get("fingerprint_version", 1),
    )  # fmt: skip


def differences(found: Identity, wanted: Identity) -> list[str]:
    """In what a run that was found is not the one that is wanted: "dim 16 instead of 64", ...

    Fingerprints must be of one version.
    """
    if found.system != wanted.system:
        return [f"the system {found.system} instead of {wanted.system}"]
    differ = []
    for part in ("settings", "options"):
        has, wants = getattr(found, part), getattr(wanted, part)
        keys = [key for key in {**wants, **has} if has.get(key) != wants.get(key)]
        differ += [f"{key} {has.get(key)} instead of {wants.get(key)}" for key in keys]
    if found.seen_filter != wanted.seen_filter:
        differ.append("seen items filtered instead of kept" if found.seen_filter else "seen items kept, not filtered")
    if found.split != wanted.split:
        differ.append(f"the split {found.split} instead of {wanted.split}")
    if found.fingerprint != wanted.fingerprint:
        differ.append(f"other data, called {found.data}, than this {wanted.data}")
    return differ


def find(folders: Iterable[Path], model: nn.Module, options: Options, split: Split, seen_filter: bool) -> Path | None:
    """The first of these folders that holds a finished run of this training, whatever the folder is called."""
    wanted: dict[int, Identity] = {}  # by version: a fingerprint reads the whole log
    for folder in folders:
        try:
            found = stored_identity(folder)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # somebody else's files
        if found.version not in wanted:
            wanted[found.version] = identity(model, options, split, seen_filter, found.version)
        if not differences(found, wanted[found.version]):
            return folder
    return None


def _default_settings(system: str) -> dict[str, Any]:
    # a system that lives outside the package has a Config without defaults known here
    return _json(dataclasses.asdict(models.configure(system, {}))) if system in models.names() else {}


def _default_options() -> dict[str, Any]:
    return _json(dataclasses.asdict(Options()))


def _beyond(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in usual or value != usual[key]}


def _json(values: dict[str, Any]) -> dict[str, Any]:
    """Values as they come back from a file: lists for tuples."""
    return json.loads(json.dumps(values))
