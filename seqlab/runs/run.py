"""A finished training, in memory and as a folder: the model, its metrics and its history."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from seqlab import models
from seqlab.datasets.fingerprint import item_numbering
from seqlab.datasets.split_names import current_name
from seqlab.decoding.settings import identify
from seqlab.evaluation.outcome import Outcome, described
from seqlab.runs import store, zoo
from seqlab.runs.data import split_of
from seqlab.runs.identity import fingerprint_version
from seqlab.runs.start import Start, fingerprint
from seqlab.runtime import processes, provenance
from seqlab.tasks import next_item

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.optimization.options import Options


@dataclass(frozen=True)
class TrainingData:
    """The data of a training: name, split, and the numbering of the items (`datasets.fingerprint.item_numbering`)."""

    name: str
    split: str
    numbering: str
    n_items: int

    @classmethod
    def of(cls, split: Split) -> TrainingData:
        return cls(split.log.name, split.name, item_numbering(split.log), split.n_items)


@dataclass(frozen=True)
class Run:
    """A trained system with its metrics; on disk, a folder (see `load_run`).

    history: one row per epoch (epoch, loss, seconds, and the validation metric where it was measured).
    metrics: {"test": ..., "valid": ..., "seconds": ..., "targets_per_second": ..., "epochs": ..., "best_epoch": ...}.
    outcome: of the test queries. trained_on: the data; None for a run that was put together by hand. start: the run
    whose weights the training began from; None: new weights.
    """

    system: str
    model: nn.Module
    metrics: dict[str, Any]
    outcome: Outcome
    history: list[dict[str, float]] = field(default_factory=list)
    folder: Path | None = None
    interrupted: bool = False
    trained_on: TrainingData | None = None
    start: Start | None = None

    @property
    def seen_filter(self) -> bool:
        """Whether the rankings of the evaluation leave out the items of the history."""
        return self.outcome.seen_filter

    @property
    def decoding(self) -> dict[str, Any]:
        """What identifies the decoding of the outcome; {} for a system without codes."""
        return identify(self.model, getattr(self.model, "decoding", None))

    @property
    def ranks(self) -> Outcome:
        """The outcome of the test queries."""
        return self.outcome

    def as_start(self) -> Start:
        """What a training that begins from this run stores of it."""
        data, split = ("", "") if self.trained_on is None else (self.trained_on.name, self.trained_on.split)
        return Start(fingerprint(self.model), "" if self.folder is None else self.folder.name, data, split)

    def __repr__(self) -> str:
        test = self.metrics["test"]
        numbers = ", ".join(f"{name} {test[name]:.4f}" for name in self.outcome.headline if name in test)
        start = f", from {self.start}" if self.start else ""
        plain = identify(self.model, None)
        lists = "".join(f", {key}={one}" for key, one in self.decoding.items() if plain.get(key) != one)
        return f"Run({self.system}: {numbers}{lists}{start}{f', {zoo.place(self.folder)}' if self.folder else ''})"


def load_run(run: str | Path, split: Split | None = None) -> Run:
    """Read a finished run. run: the folder that `fit` wrote, or a name in `models.pretrained()`, such as "sasrec".

    split: that of the training; None: its data are read again (`runs.data.split_of` gives them). Raises `ValueError`
    for a run on other data, `FileNotFoundError` for a folder that is no finished run and for an unknown name.
    """
    folder = zoo.run_folder(run)
    model = store.load(folder)
    split = split_of(folder) if split is None else split
    system = json.loads((folder / "config.json").read_text(encoding="utf-8"))["system"]
    summary = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    data = origin["data"]
    fingerprint = split.log.fingerprint(data.get("fingerprint_version", 1))
    if data["fingerprint"] != fingerprint or current_name(data["split"]) != split.name:
        raise ValueError(
            f"{folder} was trained on {data['name']} ({data['split']}), not on this split of "
            f"{split.log.name} ({split.name}); load the data it was trained on."
        )
    outcome = _read_outcome(folder, origin["evaluation"], summary, split.n_items)
    start = Start(**origin["start"]) if "start" in origin else None
    return Run(
        system, model, summary, outcome, origin["history"], folder, trained_on=TrainingData.of(split), start=start
    )


def _read_outcome(folder: Path, stored: dict[str, Any], summary: dict[str, Any], n_items: int) -> Outcome:
    """The outcome of a run; one that was written before there were tasks has ranks in ranks.parquet."""
    import pandas as pd

    if "outcome" in stored:
        return described(pd.read_parquet(folder / "outcome.parquet"), stored["outcome"])
    frame = pd.read_parquet(folder / "ranks.parquet")
    frame.insert(0, "query", range(len(frame)))
    of_lists = {name: value for name, value in summary["test"].items() if name not in next_item.METRIC_NAMES}
    return next_item.outcome(frame, n_items, stored["seen_filter"], of_lists)


def write(run: Run, split: Split, options: Options, seen_filter: bool, partial: Path) -> None:
    """Write a run to its temporary folder `partial`, then rename that to `run.folder`.

    seen_filter: the one that was requested, whether or not the task has rankings.
    """
    version = fingerprint_version(run.model, split)
    origin = provenance.describe() | {
        "options": dataclasses.asdict(options),
        "data": {"name": split.log.name, "card": split.log.card, "origin": split.log.origin, "split": split.name,
                 "fingerprint": split.log.fingerprint(version), "fingerprint_version": version},
        "evaluation": {"seen_filter": seen_filter, "outcome": run.outcome.description()},
        "history": run.history,
        "processes": processes.count(),
    } | ({} if run.start is None else {"start": dataclasses.asdict(run.start)})  # fmt: skip
    origin |= {"code": code} if (code := models.code(run.system)) else {}
    partial.mkdir(parents=True, exist_ok=True)
    store.save(run.model, partial, run.system, split.n_items)
    run.outcome.frame.to_parquet(partial / "outcome.parquet", index=False)
    for name, content in {"metrics": run.metrics, "provenance": origin}.items():
        text = json.dumps(content, indent=2, allow_nan=False)
        (partial / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(partial / "checkpoint", ignore_errors=True)
    os.replace(partial, run.folder)
