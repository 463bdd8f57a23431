"""Makes the zoo: a small run folder of every trained system on data that come with the project.

A system is trained as the leaderboard trains it on the first such home of its card: with the preset of the data, on the
card's split, with seed 0. A finished run of this training is taken from the given folders, else it is trained.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from seqlab import models, tasks
from seqlab.contracts import Learns, needs_of, supports
from seqlab.datasets import card as dataset_card
from seqlab.datasets import load
from seqlab.datasets.split_names import split as make_split
from seqlab.datasets.split_names import with_columns
from seqlab.evaluation import metrics
from seqlab.presets import default_options
from seqlab.runs import store
from seqlab.runs.find import finished_runs, run_folder
from seqlab.runs.identity import differences, find, identity, stored_identity
from seqlab.runs.run import Run, load_run
from seqlab.runtime import provenance
from seqlab.training.fit import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd
    from torch import Tensor

    from seqlab.datasets.splits import Split

SEED = 0
SMALL = 4096
"""A tensor with fewer numbers stays as it is."""
ROUNDING = 2**-11
"""The relative error of half precision."""
TOLERANCE = 5e-4
"""By how much half precision may change the primary metric, else the weights stay in single precision."""
ROWS = 12_000
"""How many rows of an outcome are stored at most."""


@dataclass(frozen=True)
class Arm:
    """A system that the zoo has, and what it is trained on."""

    system: str
    dataset: str
    split: str
    seen_filter: bool


def arms() -> list[Arm]:
    """The trained systems whose cards have a home among the datasets that come with a Python package."""
    found = []
    for name in models.names():
        card = models.card(name)
        homes = [home for home in card.homes if dataset_card(home).package]
        if homes and supports(models.system(name), Learns):
            kept = dataset_card(homes[0]).repeats if card.seen_filter is None else not card.seen_filter
            found.append(Arm(name, homes[0], card.split, not kept))
    return found


def make(
    out: str | Path,
    runs: str | Path = "data/runs",
    also: Iterable[str | Path] = (),
    systems: Iterable[str] = (),
    echo: Callable[[str], None] = print,
) -> list[Path]:
    """Make the runs of the zoo that `out` lacks; returns the folders of all.

    runs: where new trainings are kept, and go on from their checkpoints. also: further folders that are searched for
    finished runs. systems: only these; () = all. Raises `ValueError` for a system that the zoo cannot have, and what
    `fit` raises.
    """
    wanted, chosen = {one.system: one for one in arms()}, list(systems)
    if wrong := [name for name in chosen if name not in wanted]:
        raise ValueError(f"the zoo cannot have {wrong[0]}; it has the systems {', '.join(wanted)}.")
    known = [one.folder for below in (runs, *also) for one in finished_runs(below)]
    splits: dict[tuple[str, str], Split] = {}
    made = []
    for arm in (one for one in wanted.values() if not chosen or one.system in chosen):
        place = arm.dataset, arm.split
        if place not in splits:
            splits[place] = make_split(load(arm.dataset), arm.split)
        made.append(_make(arm, splits[place], Path(out) / arm.system, Path(runs), known, echo))
    return made


def _make(
    arm: Arm, split: Split, folder: Path, runs: Path, known: list[Path], echo: Callable[[str], None]
) -> Path:  # fmt: skip
    model = models.create(arm.system, split, {}, SEED)
    options = dataclasses.replace(default_options(model, split), seed=SEED)
    if (folder / "provenance.json").is_file():
        there = stored_identity(folder)
        if not differences(there, identity(model, options, split, arm.seen_filter, there.version)):
            echo(f"{arm.system}: there already.")
            return folder
    source = find(known, model, options, split, arm.seen_filter)
    if source is not None:
        echo(f"{arm.system}: from {source}.")
        run = load_run(source, split)
    else:
        source = run_folder(runs, model, split, options, arm.seen_filter)
        run = fit(model, split, options, source, resume=True, seen_filter=arm.seen_filter)
        if run.interrupted:
            raise KeyboardInterrupt
    small = pack(run, split, folder)
    primary = small.outcome.primary
    size = sum(path.stat().st_size for path in folder.iterdir())
    echo(f"{arm.system}: {primary} {small.metrics['test'][primary]:.4f} (trained: {run.metrics['test'][primary]:.4f}), "
         f"{size / 1e6:.2f} MB, {run.metrics['seconds'] / 60:.1f} minutes of training.")  # fmt: skip
    return folder


def pack(run: Run, split: Split, out: str | Path) -> Run:
    """A smaller copy of a finished run: large tensors in half precision, measured anew on test; written to `out`.

    Weights stay in single precision where half precision would move the primary metric by more than TOLERANCE. Of an
    outcome with more than ROWS rows those of some users are stored. Its provenance is that of the training, with the
    date, the revision and the metrics of both measurements under "zoo"; its validation metrics and its history are
    those of the training. A folder that is there is replaced.
    """
    out, split = Path(out), with_columns(split, needs_of(run.model))
    full, half = store.tensors(run.model), _fit_half(store.tensors(run.model))
    run.model.load_state_dict({name: one.half().float() if name in half else one for name, one in full.items()})
    outcome = tasks.measure(run.model.eval(), split, "test", run.seen_filter)
    before, after = run.metrics["test"], metrics(outcome)
    if abs(after[outcome.primary] - before[outcome.primary]) > TOLERANCE:
        run.model.load_state_dict(full)
        outcome, half = tasks.measure(run.model, split, "test", run.seen_filter), ()
        after = metrics(outcome)
    frame = _sample(outcome.frame)
    if len(frame) < len(outcome.frame):
        note = f"; the rows of {frame['user'].nunique():,} users are stored"
        outcome = dataclasses.replace(outcome, protocol=outcome.protocol + note)
    outcome = dataclasses.replace(outcome, frame=frame)
    summary = run.metrics | {"test": after, "protocol": outcome.protocol}
    small = dataclasses.replace(run, outcome=outcome, metrics=summary, folder=out)
    _write(small, run.folder, {"test": before, "half": sorted(half)}, split.n_items, half)
    return small


def _write(small: Run, source: Path, about: dict[str, Any], n_items: int, half: Iterable[str]) -> None:
    """Write the five files of a packed run to a temporary folder, and put that in the place of `small.folder`."""
    origin = json.loads((source / "provenance.json").read_text(encoding="utf-8"))
    now = provenance.describe()
    origin["zoo"] = {key: now[key] for key in ("date", "git", "versions")} | about
    origin["evaluation"] = {"seen_filter": small.seen_filter, "outcome": small.outcome.description()}
    small.folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{small.folder.name}-", dir=small.folder.parent))
    try:
        store.save(small.model, partial, small.system, n_items, set(half))
        small.outcome.frame.to_parquet(partial / "outcome.parquet", index=False, compression="zstd")
        for name, content in {"metrics": small.metrics, "provenance": origin}.items():
            text = json.dumps(content, indent=None if name == "provenance" else 2, allow_nan=False)
            (partial / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        for path in (partial, *partial.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(small.folder, ignore_errors=True)
        os.replace(partial, small.folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fit_half(state: dict[str, Tensor]) -> set[str]:
    """The names of the large tensors of single precision that half precision holds up to its rounding."""
    return {
        name
        for name, one in state.items()
        if one.dtype is torch.float and one.numel() >= SMALL and bool(one.isfinite().all())
        and bool(((one.half().float() - one).abs() <= ROUNDING * one.abs() + 1e-7).all())
    }  # fmt: skip


def _sample(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of so many users, drawn alike every time, that there are at most ROWS; numbers in single precision."""
    drawn = frame.groupby("user").size().sample(frac=1, random_state=0).cumsum()
    kept = frame[frame["user"].isin(drawn.index[drawn <= ROWS])].reset_index(drop=True)
    if len(kept) == len(frame):
        return frame
    return kept.astype({name: "float32" for name in kept.select_dtypes("float64") if name != "time"})
