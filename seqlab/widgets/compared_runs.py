"""Runs that are compared: their labels, how each was made, what it costs, and whether they may stand side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seqlab.evaluation.comparison import seconds_per_user
from seqlab.experiments import leaderboard
from seqlab.optimization.options import Options
from seqlab.runs.identity import stored_identity

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.comparison import Standings
    from seqlab.runs.run import Run


def labelled(runs: Sequence[Run] | Mapping[str, Run | Sequence[Run]]) -> dict[str, list[Run]]:
    """By label, the runs of each system: its seeds."""
    if isinstance(runs, Mapping):
        return {str(label): list(some) if isinstance(some, (list, tuple)) else [some] for label, some in runs.items()}
    found: dict[str, dict[str, tuple[dict, list[Run]]]] = {}
    for run in runs:
        choice = dataclasses.asdict(run.model.config)
        if hasattr(run.model, "loss"):
            choice |= {key: value for key, value in (_options(run) or {}).items() if key != "seed"}
        found.setdefault(run.system, {}).setdefault(repr(choice), (choice, []))[1].append(run)
    labels = {}
    for system, kinds in found.items():
        words = _shortest([choice for choice, _ in kinds.values()])
        labels |= {f"{system}{word}": some for word, (_, some) in zip(words, kinds.values(), strict=True)}
    return labels


def validate_queries(standings: Standings, split: Split) -> None:
    """`ValueError` for runs that did not answer the queries of this split's test part."""
    import numpy as np

    test, asked = split.test, standings.frame
    order = test.user.argsort()
    same = len(test) == len(asked) and np.array_equal(asked["user"], test.user[order].cpu().numpy())
    if not same or not np.array_equal(asked["item"], test.item[order].cpu().numpy()):
        raise ValueError(
            f"these runs did not answer the test queries of this split of {split.log.name} "
            f"({split.how}): give the split they were trained on."
        )


def made(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """How each system came about: label, seeds, settings, training and run folders, the same for all its seeds.

    settings, training: where they differ from the defaults; training is told of runs that have a folder.
    """
    import pandas as pd

    rows = []
    for label, some in runs.items():
        told = _options(some[0]) or {}
        seeds = [str((_options(run) or {}).get("seed", "")) for run in some]
        rows.append({
            "system": label, "seeds": ", ".join(filter(None, seeds)) or f"{len(some)}",
            "settings": _changed(dataclasses.asdict(some[0].model.config), type(some[0].model.config)()),
            "training": _changed(told, Options()) if hasattr(some[0].model, "loss") else "counts only",
            "folders": ", ".join(str(run.folder) for run in some if run.folder) or "made here, not kept",
        })  # fmt: skip
    return pd.DataFrame(rows)


def costs_of(runs: Mapping[str, Sequence[Run]], split: Split, seen_filter: bool) -> pd.DataFrame:
    """Per system: kind, seeds, parameters, seconds of training (the mean of its seeds), milliseconds per user."""
    import numpy as np
    import pandas as pd

    rows = {}
    for label, some in runs.items():
        spent = seconds_per_user(some[0].model, split, seen_filter)
        rows[label] = {
            "kind": "trained" if hasattr(some[0].model, "loss") else "floor",
            "seeds": len(some),
            "parameters": np.mean([one.metrics["parameters"] for one in some]),
            "seconds": np.mean([one.metrics["seconds"] for one in some]),
            "milliseconds": 1000 * spent,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def leaderboard_rows(
    measured: pd.DataFrame | None, standings: Standings, runs: Mapping[str, Sequence[Run]], split: Split
) -> tuple[pd.DataFrame, str]:
    """Rows of the leaderboard of these data under this protocol, but for these runs, and how many others there are.

    Others are those of this name.
    """
    import pandas as pd

    if measured is None or not len(measured):
        return pd.DataFrame(), ""
    found = leaderboard.standings(measured, split, standings.seen_filter)
    of_dataset = int((measured["dataset"] == split.log.name).sum())
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


def _shortest(choices: list[dict[str, Any]]) -> list[str]:
    """Words that tell each choice from the others, by as few of its settings and options as it takes."""
    keys, told = [], 1
    for key in dict.fromkeys(key for choice in choices for key in choice):
        if (apart := len({repr([choice.get(one) for one in [*keys, key]]) for choice in choices})) > told:
            keys, told = [*keys, key], apart
    return leaderboard.told_apart([{key: choice[key] for key in keys if key in choice} for choice in choices])


def _options(run: Run) -> dict[str, Any] | None:
    """The options of a run that has a folder, those that it was made with."""
    return stored_identity(run.folder).options if run.folder is not None else None


def _changed(values: dict[str, Any], usual: Any) -> str:
    """What differs from the defaults, as words."""
    usual = json.loads(json.dumps(dataclasses.asdict(usual)))
    return leaderboard.as_words({
        key: value for key, value in values.items()
        if key != "seed" and json.loads(json.dumps(value)) != usual.get(key)
    }).replace(":", ", ") or "the defaults"  # fmt: skip
