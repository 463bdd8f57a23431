"""The data that a finished run was trained on, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.datasets import catalog, load, reload
from seqlab.datasets import split as make_split
from seqlab.runs.zoo import run_folder

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split


def split_of(run: str | Path, name: str | None = None) -> Split:
    """The split that a run was trained on. run: its folder, or a name in `models.pretrained()`.

    name: of another split of the same data, as `datasets.split` takes it; None = that of the training.
    Raises `FileNotFoundError` for what is no run, `ValueError` for one that does not store where its data are, and what
    `datasets.load` raises.
    """
    folder = run_folder(run)
    if not (folder / "provenance.json").is_file():
        raise FileNotFoundError(f"{folder} is no finished run: provenance.json is missing.")
    data = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["data"]
    if not data.get("origin") and data["name"] not in {*catalog()["name"]}:
        raise ValueError(
            f"{folder} does not store the path of its data, {data['name']!r}: name the file with --dataset, or load it "
            "and pass its split."
        )
    return make_split(reload(data["origin"]) if data.get("origin") else load(data["name"]), name or data["split"])
