"""What is known of finished runs without their weights: whether a workbench shows them, their split, their data."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import datasets, models
from seqlab.contracts import Recommends, supports
from seqlab.datasets.split_names import DEFAULT
from seqlab.runs.identity import stored_identity
from seqlab.runtime.text import DataError, listed

if TYPE_CHECKING:
    from torch import nn

    from seqlab.datasets.log import InteractionLog
    from seqlab.runs.find import RunSummary

UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)


def fits(model: nn.Module | type[nn.Module]) -> bool:
    """Whether the workbench can show a system: it recommends items, from items and times alone.

    An edited history has no further event columns. Of a class whose settings decide on these it is not known: True.
    """
    needs = getattr(model, "needs", ())
    return supports(model, Recommends) and (isinstance(needs, property) or not needs)


def fitting(runs: Iterable[RunSummary]) -> tuple[list[RunSummary], str]:
    """The runs that the workbench can show, and a sentence that counts the others ("": none)."""
    runs = list(runs)
    can = {name: _may_fit(name) for name in {run.system for run in runs}}
    others = [run for run in runs if not can[run.system]]
    if not others:
        return runs, ""
    one = len(others) == 1
    names = listed(sorted({run.system for run in others}))
    sentence = (
        f"{len(others):,} finished run{'' if one else 's'} of {names} {'is' if one else 'are'} not offered: no such "
        "system recommends items from an edited history alone."
    )
    return [run for run in runs if can[run.system]], sentence


def _may_fit(name: str) -> bool:
    """Whether the workbench can show a system; True where its file is gone or broken, which opening a run then says."""
    try:
        return fits(models.system(name))
    except ValueError:
        return True


def split_name_of(folders: Iterable[Path]) -> str:
    """The split of finished runs. Raises `ValueError` where they differ; folders without a run have none."""
    names = {}
    for folder in folders:
        with contextlib.suppress(*UNREADABLE):
            names[folder] = stored_identity(folder).split
    if len(set(names.values())) > 1:
        (a, first), (b, other) = next((one, two) for one in names.items() for two in names.items() if one[1] != two[1])
        raise ValueError(
            f"runs of different splits cannot be open together: {a.name} is of {first}, {b.name} of {other}."
        )
    return next(iter(names.values()), DEFAULT)


def data_of(folder: Path, dataset: str) -> InteractionLog:
    """The data of a finished run, read again as for its training, else the dataset of that name or path.

    Raises what `datasets.load` does.
    """
    if origin := _origin(folder):
        with contextlib.suppress(DataError, *UNREADABLE):
            return datasets.reload(origin)
    return datasets.load(dataset)


def dataset_of(folder: Path, name: str) -> str:
    """The name or path of the data of a finished run, as `datasets.load` takes it; name: that of its log."""
    origin = _origin(folder) or {}
    return str(origin.get("dataset") or origin.get("card") or origin.get("path") or name)


def _origin(folder: Path) -> dict[str, Any] | None:
    """The stored `InteractionLog.origin` of a run; None where there is none."""
    with contextlib.suppress(*UNREADABLE):
        return json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["data"].get("origin")
    return None
