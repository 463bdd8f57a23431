"""A finished training, in memory and as a folder: the model, its metrics and its history."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from seqlab.evaluation.outcome import Ranks
from seqlab.runs import store
from seqlab.runtime import processes, provenance

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.optimization.options import Options


@dataclass(frozen=True)
class Run:
    """A trained system with its metrics; on disk, a folder (see `load_run`).

    history: one row per epoch (epoch, loss, seconds, and the validation metric where it was measured).
    metrics: {"test": ..., "valid": ..., "seconds": ..., "targets_per_second": ..., "epochs": ..., "best_epoch": ...}.
    ranks: the test ranks.
    """

    system: str
    model: nn.Module
    metrics: dict[str, Any]
    ranks: Ranks
    history: list[dict[str, float]] = field(default_factory=list)
    folder: Path | None = None
    interrupted: bool = False

    def __repr__(self) -> str:
        test = self.metrics["test"]
        where = f", {self.folder}" if self.folder else ""
        return f"Run({self.system}: recall@10 {test['recall@10']:.4f}, ndcg@10 {test['ndcg@10']:.4f}{where})"


def load_run(folder: str | Path, split: Split) -> Run:
    """Read the run that `fit` wrote to `folder`. split: that of the training.

    Raises `ValueError` for a run on other data, `FileNotFoundError` for a folder that is no finished run.
    """
    import pandas as pd

    folder = Path(folder)
    model = store.load(folder)
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    summary = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    data = origin["data"]
    fingerprint = split.log.fingerprint(data.get("fingerprint_version", 1))
    if data["fingerprint"] != fingerprint or data["split"] != split.name:
        raise ValueError(
            f"{folder} was trained on {data['name']} ({data['split']}), not on this split of "
            f"{split.log.name} ({split.name}); load the data it was trained on."
        )
    stored = origin["evaluation"]
    ranks = Ranks(
        pd.read_parquet(folder / "ranks.parquet"), torch.tensor(stored["exposure"]),
        split.train.item_counts(split.n_items), stored["seen_filter"], split.n_items,
    )  # fmt: skip
    return Run(described["system"], model, summary, ranks, origin["history"], folder)


def write(run: Run, split: Split, options: Options, partial: Path) -> None:
    """Write a run to its temporary folder `partial`, then rename that to `run.folder`."""
    origin = provenance.describe() | {
        "options": dataclasses.asdict(options),
        "data": {"name": split.log.name, "card": split.log.card, "origin": split.log.origin, "split": split.name,
                 "fingerprint": split.log.fingerprint(), "fingerprint_version": 2},
        "evaluation": {"seen_filter": run.ranks.seen_filter, "exposure": run.ranks.exposure.tolist()},
        "history": run.history,
        "processes": processes.count(),
    }  # fmt: skip
    partial.mkdir(parents=True, exist_ok=True)
    store.save(run.model, partial, run.system, split.n_items)
    run.ranks.frame.to_parquet(partial / "ranks.parquet", index=False)
    for name, content in {"metrics": run.metrics, "provenance": origin}.items():
        text = json.dumps(content, indent=2, allow_nan=False)
        (partial / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(partial / "checkpoint", ignore_errors=True)
    os.replace(partial, run.folder)
