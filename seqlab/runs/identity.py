"""The identity of a run: the fields that a stored run must match to be found. Its folder name is only a hint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import models
from seqlab.contracts import name_of, needs_of
from seqlab.datasets.split_names import current_name
from seqlab.decoding.settings import SETTINGS, identify, stored
from seqlab.optimization.options import Options
from seqlab.presets import default_decoding
from seqlab.tasks import task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from seqlab.datasets.splits import Split


@dataclass(frozen=True)
class Identity:
    """What identifies a training: the system, its settings, the options with the seed, the data and their split.

    settings, options: JSON values. fingerprint: of the log, in this `version` (see `InteractionLog.fingerprint`).
    start: SHA-256 of the weights that the training began from, "" = new ones.
    code: of the file of a system outside the package (`models.code`), "" = it is in the package.
    validated_by: where it is not the default, the decoding of the preset, by which a training compares its epochs; it
    is a part of the folder's name, and of no comparison: a run is not trained anew for another decoding.
    """

    system: str
    settings: dict[str, Any]
    options: dict[str, Any]
    seen_filter: bool
    split: str
    data: str
    fingerprint: str
    version: int
    start: str = ""
    code: str = ""
    validated_by: dict[str, Any] = field(default_factory=dict, compare=False)

    def non_defaults(self) -> dict[str, Any]:
        """The identity, with only those settings and options that differ from the defaults.

        So it does not change when a field is added whose default keeps the old behaviour.
        """
        settings = _changed(self.settings, settings_defaults(self.system)) | self.validated_by
        return {
            "system": self.system, "settings": settings,
            "options": _changed(self.options, options_defaults()), "seen_filter": self.seen_filter,
            "split": self.split, "fingerprint": self.fingerprint,
        } | {name: value for name, value in (("start", self.start), ("code", self.code)) if value}  # fmt: skip

    def folder_name(self) -> str:
        """The system, the seed and a hash of `non_defaults`, such as sasrec-0-1f2e3d4c."""
        digest = hashlib.sha256(json.dumps(self.non_defaults(), sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.system}-{self.options['seed']}-{digest}"


def fingerprint_version(model: nn.Module, split: Split) -> int:
    """The version of the fingerprint that covers all that is read: 3 with declared columns or slates, else 2."""
    return 3 if needs_of(model) or split.task == "slates" else 2


def identity(
    model: nn.Module, options: Options, split: Split, seen_filter: bool, version: int | None = None, start: str = ""
) -> Identity:
    """The identity of the training of a model with these options. version: None = `fingerprint_version`.

    start: the SHA-256 of the weights that it begins from (`start.fingerprint`), "" = new ones.
    """
    version, system = fingerprint_version(model, split) if version is None else version, name_of(model)
    return Identity(
        system, _json(dataclasses.asdict(model.config)), canonical(system, _json(dataclasses.asdict(options))),
        bool(seen_filter), split.name, split.log.name, split.log.fingerprint(version), version, start,
        models.code(system), _changed(identify(model, default_decoding(model, split)), identify(model, None)),
    )  # fmt: skip


def canonical(system: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options with metric "" where it is the primary one of the system's task, as older runs have it written out."""
    if not models.known(system) or options["metric"] != task(models.card(system).task).PRIMARY:
        return options
    return options | {"metric": ""}


def stored_identity(folder: Path) -> Identity:
    """The identity of a finished run. A field that did not exist when the run was written has its default.

    Raises `OSError`, `ValueError` or `KeyError` for a folder without a run.
    """
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    system, data = described["system"], origin["data"]
    return Identity(
        system, stored_settings(system)(described["config"])[0],
        canonical(system, options_defaults() | origin["options"]), origin["evaluation"]["seen_filter"],
        current_name(data["split"]), data["name"], data["fingerprint"], data.get("fingerprint_version", 1),
        origin["start"]["weights"] if "start" in origin else "", origin.get("code", ""),
    )  # fmt: skip


def differences(found: Identity, wanted: Identity) -> list[str]:
    """The differences of a stored run from the wanted one, such as "dim 16 instead of 64".

    The two fingerprints must be of one version.
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
    if found.code != wanted.code:
        differ.append(f"another version of the code of {wanted.system}")
    if found.start != wanted.start:
        has, wants = (f"the weights {one[:8]}" if one else "new weights" for one in (found.start, wanted.start))
        differ.append(f"begun from {has} instead of {wants}")
    return differ


def find(
    folders: Iterable[Path], model: nn.Module, options: Options, split: Split, seen_filter: bool, start: str = ""
) -> Path | None:
    """The first of these folders with a finished run of this training, whatever the name of the folder.

    Where runs of older versions differ in their decoding alone, the one with the model's, else with the preset's.
    """
    wanted: dict[int, Identity] = {}  # by version, since computing a fingerprint reads the whole log
    same: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        try:
            found = stored_identity(folder)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # other files
        if found.version not in wanted:
            wanted[found.version] = identity(model, options, split, seen_filter, found.version, start)
        if not differences(found, wanted[found.version]):
            same[folder] = stored_decoding(folder)
    own = identify(model, getattr(model, "decoding", None)), identify(model, default_decoding(model, split))
    return min(same, key=lambda folder: [same[folder] != one for one in own], default=None)


def stored_decoding(folder: Path) -> dict[str, Any]:
    """The decoding of a finished run's own outcome, as `decoding.settings.identify` has it."""
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return stored_settings(described["system"])(described["config"] | described.get("decoding", {}))[1]


def stored_settings(system: str) -> Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]:
    """A function that reads stored settings of a system: into those of its Config, and its decoding, with all defaults.

    Older versions counted the settings of a decoding among the system's.
    """
    if not models.known(system):
        return lambda given: (given, {})
    kind, defaults = models.system(system), settings_defaults(system)

    def read(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        given = {} | given  # raises `TypeError` for what is no dict
        lists = {key: value for key, value in given.items() if key in SETTINGS and key not in defaults}
        own = {key: value for key, value in given.items() if key not in lists}
        return defaults | own, identify(kind, stored(kind, lists))

    return read


def settings_defaults(system: str) -> dict[str, Any]:
    """The default settings of a system as JSON values; {} for one that is not known."""
    return _json(dataclasses.asdict(models.configure(system, {}))) if models.known(system) else {}


def options_defaults() -> dict[str, Any]:
    """The default options as JSON values."""
    return _json(dataclasses.asdict(Options()))


def _changed(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}


def _json(values: dict[str, Any]) -> dict[str, Any]:
    """Values as `json` reads them from a file: lists for tuples."""
    return json.loads(json.dumps(values))
