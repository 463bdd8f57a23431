"""The runs of a comparison: their labels, configurations and costs, and whether they are comparable."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqlab.adapters.functions import ScoringFunction
from seqlab.contracts import Learns, Recommends, needs_of, supports
from seqlab.datasets.split_names import with_columns
from seqlab.evaluation.comparison import seconds_per_user
from seqlab.experiments import leaderboard
from seqlab.experiments.arm_names import differing_settings, format_settings
from seqlab.optimization.options import Options
from seqlab.runs.identity import stored_identity

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.comparison import Standings
    from seqlab.runs.run import Run


def labelled(runs: Sequence[Run] | Mapping[str, Run | Sequence[Run]]) -> dict[str, list[Run]]:
    """Label -> the runs of a system, one per seed."""
    if isinstance(runs, Mapping):
        return {str(label): list(some) if isinstance(some, (list, tuple)) else [some] for label, some in runs.items()}
    found: dict[str, dict[str, tuple[dict, list[Run]]]] = {}
    for run in runs:
        values = dataclasses.asdict(run.model.config) | ({"start": str(run.start)} if run.start else {})
        if supports(run.model, Learns):
            values |= {key: value for key, value in (_options(run) or {}).items() if key != "seed"}
        found.setdefault(run.system, {}).setdefault(repr(values), (values, []))[1].append(run)
    labels = {}
    for system, kinds in found.items():
        words = _distinguishing_labels([values for values, _ in kinds.values()])
        labels |= {f"{system}{word}": some for word, (_, some) in zip(words, kinds.values(), strict=True)}
    return labels


def validate_queries(standings: Standings, split: Split) -> None:
    """Raises `ValueError` for runs that were not evaluated on the test queries of this split."""
    import numpy as np

    test, frame = split.test, standings.frame  # by ascending id
    order = test.id.argsort()
    same = len(test) == len(frame) and np.array_equal(frame["user"], test.user[order].cpu().numpy())
    if not same or ("item" in frame and not np.array_equal(frame["item"], test.item[order].cpu().numpy())):
        raise ValueError(
            f"these runs were not evaluated on the test queries of this split of {split.log.name} "
            f"({split.name}): pass the split they were trained on."
        )


def configurations(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """One row per system: label, seeds, settings, training and run folders.

    settings, training: the differences from the defaults; training options are known for runs with a folder.
    """
    import pandas as pd

    rows = []
    for label, some in runs.items():
        options = _options(some[0]) or {}
        seeds = [str((_options(run) or {}).get("seed", "")) for run in some]
        rows.append({
            "system": label, "seeds": ", ".join(filter(None, seeds)) or f"{len(some)}",
            "settings": _non_defaults(dataclasses.asdict(some[0].model.config), type(some[0].model.config)()),
            "training": _training(some[0], options),
            "folders": ", ".join(str(run.folder) for run in some if run.folder) or "not saved",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _training(run: Run, options: dict[str, Any]) -> str:
    """How a run was trained: its options that differ from the defaults, and the run it began from."""
    kinds = {"floor": "none (a floor)", "outside": "not here"}
    words = kinds.get(_kind(run)) or _non_defaults(options, Options())
    return f"{words}, from {run.start}" if run.start else words


def costs_of(runs: Mapping[str, Sequence[Run]], split: Split, seen_filter: bool) -> pd.DataFrame:
    """Per system: kind, seeds, parameters, seconds of training (means over seeds), milliseconds per user.

    Milliseconds are NaN for a system that recommends no items.
    """
    import numpy as np
    import pandas as pd

    rows = {}
    for label, some in runs.items():
        model, spent = some[0].model, float("nan")
        if supports(model, Recommends):
            uncached = model.measured() if isinstance(model, ScoringFunction) else contextlib.nullcontext()
            with uncached:
                spent = seconds_per_user(model, with_columns(split, needs_of(model)), seen_filter)
        rows[label] = {
            "kind": _kind(some[0]),
            "seeds": len(some),
            "parameters": np.mean([one.metrics["parameters"] for one in some]),
            "seconds": np.mean([one.metrics["seconds"] for one in some]),
            "milliseconds": 1000 * spent,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _kind(run: Run) -> str:
    """The kind of a system, one of `figures.comparison_tables.KINDS`: what has no known training was made elsewhere."""
    if supports(run.model, Learns):
        return "trained"
    return "outside" if math.isnan(run.metrics.get("seconds", 0.0)) else "floor"


def leaderboard_rows(
    measured: pd.DataFrame | None, standings: Standings, runs: Mapping[str, Sequence[Run]], split: Split
) -> tuple[pd.DataFrame, str]:
    """The leaderboard rows of these data under this protocol, without these runs, and the number of others, in words.

    Others are rows of a dataset of this name with other data or another protocol.
    """
    import pandas as pd

    if measured is None or not len(measured):
        return pd.DataFrame(), ""
    of_dataset = int((measured["dataset"] == split.log.name).sum())
    measured = measured[measured["task"] == standings.task]
    if "seen_filter" not in next(iter(runs.values()))[0].outcome.about:  # it has no effect on this task
        measured = measured.assign(seen_filter=standings.seen_filter)
    found = leaderboard.standings(measured, split, standings.seen_filter)
    others = of_dataset - int(found["seeds"].sum())
    means = standings.table(next(iter(runs))).set_index(["system", "metric"])["mean"]
    here = [(some[0].system, label) for label, some in runs.items()]
    names = [name for name in standings.metrics if name in found]
    again = [
        any(system == row["system"] and all(abs(means[label, name] - row[name]) < 1e-5 for name in names)
            for system, label in here)
        for row in found.to_dict("records")
    ]  # fmt: skip
    found = found[[not one for one in again]].drop(columns="system").rename(columns={"arm": "system"})
    empty = {
        f"{name}{end}": float("nan") for name in standings.metrics for end in ("", " low", " high") if name not in names
    }
    found = found.assign(kind="number", milliseconds=float("nan"), **empty)
    return found, f"{others} rows" if others > 1 else "1 row" if others else ""


def _distinguishing_labels(variants: list[dict[str, Any]]) -> list[str]:
    """A suffix for each variant, of as few settings and options as distinguish them all."""
    keys, most = [], 1
    for key in dict.fromkeys(key for values in variants for key in values):
        if (distinct := len({repr([values.get(one) for one in [*keys, key]]) for values in variants})) > most:
            keys, most = [*keys, key], distinct
    return differing_settings([{key: values[key] for key in keys if key in values} for values in variants])


def _options(run: Run) -> dict[str, Any] | None:
    """The training options of a run; None without a folder."""
    return stored_identity(run.folder).options if run.folder is not None else None


def _non_defaults(values: dict[str, Any], defaults: Any) -> str:
    """The settings that differ from the defaults, in words."""
    defaults = json.loads(json.dumps(dataclasses.asdict(defaults)))
    return format_settings({
        key: value for key, value in values.items()
        if key != "seed" and json.loads(json.dumps(value)) != defaults.get(key)
    }).replace(":", ", ") or "the defaults"  # fmt: skip
