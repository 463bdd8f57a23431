"""Finished runs on disk: found, told apart without loading any of them, and opened together."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.optimization.options import Options
from seqlab.presets import default_options
from seqlab.runs.identity import Identity, find, identity, stored_identity
from seqlab.runs.run import Run, load_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from seqlab.datasets.splits import Split

DEPTH = 4
"""Folders below the one asked about in which runs are looked for."""


def default_folder() -> Path:
    """Where runs lie for which nobody named a folder: `data/runs` of the project, wherever its notebooks run.

    That is the one in the working folder (where the working folder is called notebooks, in the one above it). Where
    there is none, it is that of the checkout which this package is used from, and in an installed package that of the
    working folder again.
    """
    here, checkout = Path.cwd(), Path(__file__).parents[2]
    project = here.parent if here.name == "notebooks" else here
    if not (project / "data" / "runs").is_dir() and (checkout / "notebooks").is_dir():
        project = checkout
    return project / "data" / "runs"


@dataclass(frozen=True)
class RunSummary:
    """A run folder: its system, the dataset and the split it was trained on, ndcg@10 on the test part, and epochs."""

    folder: Path
    system: str
    dataset: str
    split: str
    ndcg: float
    epochs: int

    def __str__(self) -> str:
        trained = f", {self.epochs} epoch{'s' * (self.epochs != 1)}" if self.epochs else ""
        return f"{self.system}, ndcg@10 {self.ndcg:.4f}{trained} ({self.folder.name})"


def finished_runs(below: str | Path) -> list[RunSummary]:
    """The finished runs in a folder and those below it, by dataset, the best first.

    A folder that holds no run, or is being written right now, is passed over; links are not followed.
    """
    found = []
    for place, folders, files in os.walk(below):
        if len(Path(place).relative_to(below).parts) >= DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".partial"))
        if {"provenance.json", "config.json", "metrics.json", "model.safetensors"} <= set(files):
            folders.clear()
            try:
                told = {name: _read(Path(place) / f"{name}.json") for name in ("provenance", "config", "metrics")}
                data = told["provenance"]["data"]
                system, ndcg = str(told["config"]["system"]), float(told["metrics"]["test"]["ndcg@10"])
                epochs = int(told["metrics"].get("epochs") or 0)
                found.append(RunSummary(Path(place), system, str(data["name"]), str(data["split"]), ndcg, epochs))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue  # somebody else's files
    return sorted(found, key=lambda run: (run.dataset, -run.ndcg, str(run.folder)))


def run_folder(
    below: str | Path, model: nn.Module, split: Split, options: Options | None = None, seen_filter: bool | None = None
) -> Path | None:
    """Where the run of this training lies below a folder; None where no folder is given ("").

    That is the folder of the finished run which is this one, whatever it is called, else
    `<dataset>/<system>-<seed>-<hash>`, as `seqlab leaderboard` calls it. options, seen_filter: None as in `fit`.
    """
    if not str(below):
        return None
    options = options or default_options(model, split)
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    found = find((run.folder for run in finished_runs(below)), model, options, split, seen_filter)
    return found or Path(below) / split.log.name / identity(model, options, split, seen_filter).folder_name()


def load_runs(
    below: str | Path, split: Split, loaded: Iterable[Run] = (), seen_filter: bool | None = None
) -> tuple[list[Run], list[str]]:
    """Every finished run below a folder on these data, by system and seed; and what was left out, in sentences.

    loaded: runs with a folder that are in memory already. Of runs that are the same one is taken, and of what only
    counts one whatever its seed and options are, which it does not use. seen_filter: None as in `fit`; runs of the
    other protocol are left out, and runs on other data of the same name. Nothing where no folder is given ("").
    """
    if not str(below):
        return [], []
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    runs, other_data, other_filter = [], 0, 0
    known = [_defining(stored_identity(run.folder), run) for run in loaded]
    for one in finished_runs(below):
        found = _identity(one.folder)
        if found is None or one.dataset != split.log.name or one.split != split.how:
            continue
        if found.fingerprint != split.log.fingerprint(found.version):
            other_data += 1
        elif found.seen_filter != seen_filter:
            other_filter += 1
        else:
            run = load_run(one.folder, split)
            if (same := _defining(found, run)) not in known:
                known.append(same)
                runs.append((run.system, found.options["seed"], run))
    said = {"on other data of this name": other_data, "with the other seen filter": other_filter}
    notes = [f"Left out: {count} finished run{'s' * (count != 1)} below {below} {why}."
             for why, count in said.items() if count]  # fmt: skip
    return [run for *_, run in sorted(runs, key=lambda one: one[:2])], notes


def options_of(folder: str | Path) -> Options:
    """The options that a finished run was trained with."""
    known, stored = {field.name for field in dataclasses.fields(Options)}, stored_identity(Path(folder)).options
    return Options(**{key: value for key, value in stored.items() if key in known})


def _identity(folder: Path) -> Identity | None:
    """That of a finished run; None for somebody else's files."""
    try:
        return stored_identity(folder)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _defining(found: Identity, run: Run) -> Identity:
    """What makes a run another one than the next: of a system without a loss neither the seed nor the options."""
    return found if hasattr(run.model, "loss") else dataclasses.replace(found, options={})


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
