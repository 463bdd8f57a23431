"""Arms: systems with settings in the form of `seqlab leaderboard`, and the finished or new trainings of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from seqlab import models
from seqlab.presets import default_options
from seqlab.runs.find import run_folder
from seqlab.training.fit import fit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run


def parse_arm(arm: str, given: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The system of an arm such as "sasrec:layers=3:epochs=20", its settings, and its training options.

    given: settings and options that those of the arm replace. Raises `ValueError` for a word that is no key=value, for
    an unknown system or setting, and for a seed.
    """
    system, *words = arm.split(":")
    if wrong := [word for word in words if "=" not in word]:
        raise ValueError(f"{wrong[0]!r} in {arm!r} is no key=value; an arm looks like sasrec:layers=3:epochs=20.")
    settings, changes = models.separate(system, {**(given or {}), **dict(word.split("=", 1) for word in words)})
    if "seed" in changes:
        raise ValueError("The seed is no setting of an arm: it is among the seeds, which all arms have.")
    return system, settings, changes


def trained(
    arm: str, split: Split, seed: int = 0, runs: str | Path = "", seen_filter: bool | None = None,
    given: Mapping[str, Any] | None = None,
) -> Run:  # fmt: skip
    """The run of an arm with the preset of its data: loaded if it is finished, else trained.

    runs: the folder that is searched and keeps the run, "" = none. given, seen_filter: as in `parse_arm` and `fit`.
    Raises what `parse_arm` and `fit` do.
    """
    system, settings, changes = parse_arm(arm, given)
    model = models.create(system, split, settings, seed)
    options = dataclasses.replace(default_options(model, split), **changes, seed=seed)
    folder = run_folder(runs, model, split, options, seen_filter)
    return fit(model, split, options, folder, resume=folder is not None, seen_filter=seen_filter)
