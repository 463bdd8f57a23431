"""The zoo: trained runs that come with the project, found by the name of their system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.runtime.included import included
from seqlab.runtime.text import did_you_mean

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split


def zoo_runs() -> dict[str, Path]:
    """The folders of the trained runs that come with the project, by system (`seqlab zoo` makes them)."""
    return {path.parent.name: path.parent for path in sorted(included("zoo").glob("[!.]*/provenance.json"))}


def run_folder(run: str | Path) -> Path:
    """The folder of a run: `run` itself, or the run of the zoo with this name where no such folder is there.

    Raises `FileNotFoundError` for a name that is neither.
    """
    folder = Path(run)
    if folder.is_dir() or len(folder.parts) != 1:
        return folder
    known = zoo_runs()
    if folder.name not in known:
        there = f"There are: {', '.join(known)}." if known else "It has none: make them by `seqlab zoo --make`."
        raise FileNotFoundError(
            f"{folder.name} is no finished run: there is no such folder, and no run of that name comes with "
            f"the project.{did_you_mean(folder.name, known)} {there}"
        )
    return known[folder.name]


def place(folder: Path) -> str:
    """Where a run lies, for a person: a run that comes with the project has no path worth reading."""
    return "comes with the project" if folder.resolve().parent == included("zoo").resolve() else str(folder)


def trained_on(name: str, split: Split) -> Path | None:
    """The run of the zoo of this system, if it was trained on this split of these data."""
    from seqlab.datasets.split_names import current_name  # slow, and only this function needs it

    folder = zoo_runs().get(name)
    if folder is None:
        return None
    data = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["data"]
    if (data["name"], current_name(data["split"])) != (split.log.name, split.name):
        return None
    return folder if data["fingerprint"] == split.log.fingerprint(data["fingerprint_version"]) else None
