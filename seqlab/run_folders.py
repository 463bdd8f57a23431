"""Finished runs on disk, told apart without loading any of them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

DEPTH = 4
"""Folders below the one asked about in which runs are looked for."""


@dataclass(frozen=True)
class Finished:
    """A run folder: its system, the dataset and the split it was trained on, and ndcg@10 on the test part."""

    folder: Path
    system: str
    dataset: str
    split: str
    ndcg: float

    def __str__(self) -> str:
        return f"{self.system}, ndcg@10 {self.ndcg:.4f} ({self.folder.name})"


def finished_runs(below: str | Path) -> list[Finished]:
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
                found.append(Finished(Path(place), system, str(data["name"]), str(data["split"]), ndcg))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue  # somebody else's files
    return sorted(found, key=lambda run: (run.dataset, -run.ndcg, str(run.folder)))


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
