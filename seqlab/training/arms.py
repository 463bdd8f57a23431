"""Arms: systems with settings in the form of `seqlab leaderboard`, and the finished or new trainings of them.

And what notebooks open: a run that is there, else a new one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import models
from seqlab.presets import default_options
from seqlab.runs import zoo
from seqlab.runs.find import run_folder
from seqlab.runs.run import load_run
from seqlab.training.fit import fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seqlab.datasets.splits import Split
    from seqlab.optimization.options import Options
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


def open_run(
    run: str | Path, split: Split, settings: Mapping[str, Any] | None = None, options: Options | None = None,
    keep: str | Path = "", seed: int = 0,
) -> Run:  # fmt: skip
    """The run that a notebook shows: one that is there, else a new one.

    run: the folder of a finished run on this split, or the name of a system. A system with neither `settings` nor
    `options`, and with seed 0, is that of the zoo, if it was trained on this split (see `models.pretrained`); else it
    is trained, with these settings over those of the preset, and with these options, else those of the preset.
    keep: the folder that is searched for a new training and keeps it, "" = none. seed: of a training without `options`.
    Raises what `load_run` and `fit` do.
    """
    name = str(run)
    if not models.known(name):
        return load_run(run, split)
    if not settings and options is None and seed == 0 and (there := zoo.trained_on(name, split)) is not None:
        return load_run(there, split)
    model = models.create(name, split, settings, seed if options is None else options.seed)
    options = dataclasses.replace(default_options(model, split), seed=seed) if options is None else options
    folder = run_folder(keep, model, split, options)
    return fit(model, split, options, folder, resume=folder is not None)
