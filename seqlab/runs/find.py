"""Finished runs on disk: search in folders, identity without loading the weights, and loading several runs."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import tasks
from seqlab.contracts import Learns, supports
from seqlab.datasets.split_names import current_name
from seqlab.evaluation.outcome import Metric, described
from seqlab.optimization.options import Options
from seqlab.presets import default_options
from seqlab.runs import zoo
from seqlab.runs.identity import Identity, find, identity, stored_decoding, stored_identity
from seqlab.runs.run import Run, load_run
from seqlab.runs.start import Start, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from seqlab.datasets.splits import Split

MAX_DEPTH = 4
"""How many levels of folders below a folder are searched for runs."""


def default_folder() -> Path:
    """The default folder of runs: `data/runs` of the project, both from its root and from its notebooks.

    The project is the working folder, or its parent where the working folder is called notebooks. Where that has no
    `data/runs` and this package is used from a checkout, the project is the checkout.
    """
    here, checkout = Path.cwd(), Path(__file__).parents[2]
    project = here.parent if here.name == "notebooks" else here
    if not (project / "data" / "runs").is_dir() and (checkout / "notebooks").is_dir():
        project = checkout
    return project / "data" / "runs"


@dataclass(frozen=True)
class RunSummary:
    """A finished run without its weights: folder, system, data, split, epochs, and the primary test metric.

    start: the run that its weights began from, in words; "" = new weights.
    """

    folder: Path
    system: str
    dataset: str
    split: str
    metric: Metric
    value: float
    epochs: int
    start: str = ""

    def __str__(self) -> str:
        trained = f", {self.epochs} epoch{'s' * (self.epochs != 1)}" if self.epochs else ""
        start = f", from {self.start}" if self.start else ""
        return f"{self.system}, {self.metric.name} {self.value:.4f}{trained}{start} ({self.folder.name})"


def finished_runs(below: str | Path) -> list[RunSummary]:
    """The finished runs in a folder and the folders below it, sorted by dataset and from the best primary metric.

    Folders without a run and unfinished runs are skipped; symbolic links are not followed.
    """
    found = []
    for place, folders, files in os.walk(below):
        if len(Path(place).relative_to(below).parts) >= MAX_DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".partial"))
        if {"provenance.json", "config.json", "metrics.json", "model.safetensors"} <= set(files):
            folders.clear()
            try:
                stored = {name: _read(Path(place) / f"{name}.json") for name in ("provenance", "config", "metrics")}
                data, metrics = stored["provenance"]["data"], stored["metrics"]
                metric = _primary(stored["provenance"].get("evaluation", {}))
                system, value = str(stored["config"]["system"]), float(metrics["test"][metric.name])
                split, epochs = current_name(data["split"]), int(metrics.get("epochs") or 0)
                start = str(Start(**stored["provenance"]["start"])) if "start" in stored["provenance"] else ""
                found.append(RunSummary(Path(place), system, str(data["name"]), split, metric, value, epochs, start))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue  # other files
    return sorted(found, key=lambda one: (one.dataset, -one.value if one.metric.higher else one.value, str(one.folder)))


def _primary(evaluation: dict[str, Any]) -> Metric:
    """The primary metric of a stored evaluation; those from before there were tasks are of next_item."""
    if "outcome" not in evaluation:
        return tasks.primary(tasks.DEFAULT)
    outcome = described(None, evaluation["outcome"])
    return outcome.metric(outcome.primary)


def run_folder(
    below: str | Path,
    model: nn.Module,
    split: Split,
    options: Options | None = None,
    seen_filter: bool | None = None,
    start: Run | None = None,
) -> Path | None:
    """The folder of this training below another folder; None where that is "".

    It is the folder of the finished run with this identity, whatever its name, else `<dataset>/<system>-<seed>-<hash>`
    as in `seqlab leaderboard`. options, seen_filter, start: as in `fit`.
    """
    if not str(below):
        return None
    options = options or default_options(model, split)
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    weights = "" if start is None else fingerprint(start.model)
    found = find((run.folder for run in finished_runs(below)), model, options, split, seen_filter, weights)
    if found is not None:
        return found
    return Path(below) / split.log.name / identity(model, options, split, seen_filter, start=weights).folder_name()


def load_runs(
    below: str | Path, split: Split, loaded: Iterable[Run] = (), seen_filter: bool | None = None
) -> tuple[list[Run], list[str]]:
    """Load the finished runs on these data below a folder, sorted by system and seed; with notes on those left out.

    loaded: runs with a folder that are in memory already; they are not loaded again. Of runs with equal identity one is
    loaded; systems without a loss do not use seed and options, which are then no part of it. seen_filter: None as in
    `fit`; runs with another seen filter are left out, and so are runs on other data of this name. below: "" = nothing.
    """
    if not str(below):
        return [], []
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    runs, other_data, other_filter = [], 0, 0
    known = [_defining(stored_identity(run.folder), run, run.folder) for run in loaded]
    for one in finished_runs(below):
        found = _identity(one.folder)
        if found is None or one.dataset != split.log.name or one.split != split.name:
            continue
        if found.fingerprint != split.log.fingerprint(found.version):
            other_data += 1
        elif found.seen_filter != seen_filter:
            other_filter += 1
        else:
            run = load_run(one.folder, split)
            if (same := _defining(found, run, one.folder)) not in known:
                known.append(same)
                runs.append((run.system, found.options["seed"], run))
    left_out = {"on other data of this name": other_data, "with the other seen filter": other_filter}
    notes = [f"Left out: {count} finished run{'s' * (count != 1)} below {below} {why}."
             for why, count in left_out.items() if count]  # fmt: skip
    return [run for *_, run in sorted(runs, key=lambda one: one[:2])], notes


def options_of(run: str | Path) -> Options:
    """The training options of a finished run. run: as in `load_run`."""
    known, stored = {field.name for field in dataclasses.fields(Options)}, stored_identity(zoo.run_folder(run)).options
    return Options(**{key: value for key, value in stored.items() if key in known})


def _identity(folder: Path) -> Identity | None:
    """The identity of a finished run; None for other files."""
    try:
        return stored_identity(folder)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _defining(found: Identity, run: Run, folder: Path) -> tuple[Identity, dict[str, Any]]:
    """The identity, without seed and options for a system that has no loss, and the decoding."""
    found = found if supports(run.model, Learns) else dataclasses.replace(found, options={})
    return found, stored_decoding(folder)


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
