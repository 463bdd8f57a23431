"""The systems of a comparison, runs and tables: labels, outcomes, configurations, costs, and lists they share."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from seqlab.adapters.functions import ScoringFunction
from seqlab.adapters.recommendations import Recommendations
from seqlab.contracts import Learns, Recommends, needs_of, supports
from seqlab.datasets.split_names import with_columns
from seqlab.evaluation.comparison import seconds_per_user
from seqlab.experiments import leaderboard
from seqlab.experiments.arm_names import differing_settings, format_settings
from seqlab.inspection.overlap import shared_items
from seqlab.optimization.options import Options
from seqlab.runs.identity import stored_identity
from seqlab.runs.lists import best_items
from seqlab.runs.zoo import place

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.comparison import Standings
    from seqlab.evaluation.outcome import Outcome
    from seqlab.runs.run import Run

    Compared = Run | Recommendations
    Systems = Mapping[str, Sequence[Compared]]


def labelled(runs: Sequence[Compared] | Mapping[str, Compared | Sequence[Compared]]) -> dict[str, list[Compared]]:
    """Label -> the runs of a system, one per seed, or a table of recommendations.

    Raises `ValueError` for a table that is called like another system, and for two functions of one name, which are no
    seeds of each other.
    """
    if isinstance(runs, Mapping):
        return {str(label): list(some) if isinstance(some, (list, tuple)) else [some] for label, some in runs.items()}
    labels = _labels_of_runs([one for one in runs if not isinstance(one, Recommendations)])
    for table in runs:
        if isinstance(table, Recommendations):
            if table.name in labels:
                raise ValueError(f"two systems are called {table.name!r}; read the table with another name=.")
            labels[table.name] = [table]
    return labels


def _labels_of_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Label -> the runs of a system, by their settings and options."""
    functions = [run.system for run in runs if isinstance(run.model, ScoringFunction)]
    if same := [name for at, name in enumerate(functions) if name in functions[:at]]:
        raise ValueError(f"two functions are called {same[0]!r}; wrap one of them with another name=.")
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


def outcomes(systems: Systems, split: Split) -> dict[str, list[Outcome]]:
    """Label -> the outcome of every run, and of a table under the seen filter of the runs."""
    filters = [one.seen_filter for some in systems.values() for one in some if not isinstance(one, Recommendations)]
    seen_filter = filters[0] if filters else None
    return {
        label: [one.outcome(split, seen_filter) if isinstance(one, Recommendations) else one.outcome for one in some]
        for label, some in systems.items()
    }


def configurations(systems: Systems) -> pd.DataFrame:
    """One row per system: label, seeds, settings, training and run folders.

    settings, training: the differences from the defaults; training options are known for runs with a folder.
    """
    import pandas as pd

    rows = []
    for label, some in systems.items():
        if isinstance(some[0], Recommendations):
            about = {"seeds": "1", "settings": "a table of recommendations", "training": "not here"}
            rows.append({"system": label, **about, "folders": some[0].source})
            continue
        options = _options(some[0]) or {}
        seeds = [str((_options(run) or {}).get("seed", "")) for run in some]
        rows.append({
            "system": label, "seeds": ", ".join(filter(None, seeds)) or f"{len(some)}",
            "settings": _non_defaults(dataclasses.asdict(some[0].model.config), type(some[0].model.config)()),
            "training": _training(some[0], options),
            "folders": ", ".join(place(run.folder) for run in some if run.folder) or "not saved",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _training(run: Run, options: dict[str, Any]) -> str:
    """How a run was trained: its options that differ from the defaults, and the run it began from."""
    kinds = {"floor": "none (a floor)", "outside": "not here"}
    words = kinds.get(_kind(run)) or _non_defaults(options, Options())
    return f"{words}, from {run.start}" if run.start else words


def costs_of(systems: Systems, split: Split, seen_filter: bool) -> pd.DataFrame:
    """Per system: kind, seeds, parameters, seconds of training (means over seeds), milliseconds per user.

    Milliseconds are NaN for a system that recommends no items, and all costs for a table of recommendations.
    """
    import numpy as np
    import pandas as pd

    rows, unknown = {}, dict.fromkeys(("parameters", "seconds", "milliseconds"), float("nan"))
    for label, some in systems.items():
        if isinstance(some[0], Recommendations):
            rows[label] = {"kind": "outside", "seeds": 1, **unknown}
            continue
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


def overlap(systems: Systems, split: Split, seen_filter: bool, k: int = 10, users: int = 1000) -> pd.DataFrame:
    """`inspection.overlap.shared_items` of the k best items for `users` test queries, evenly spaced.

    Of a system with several seeds, the first; systems that recommend no items are left out.
    """
    rows = torch.linspace(0, len(split.test) - 1, min(users, len(split.test))).long()
    lists = {}
    for label, some in systems.items():
        one = some[0]
        if isinstance(one, Recommendations):
            lists[label] = torch.from_numpy(one.top(split, k, seen_filter))[rows]
        elif supports(one.model, Recommends):
            queries = with_columns(split, needs_of(one.model)).test.select(rows)
            lists[label] = best_items(one.model, queries, k, split.n_items, seen_filter)[0].cpu()
    return shared_items(lists)


def protocol(systems: Systems, measured: Mapping[str, Sequence[Outcome]]) -> str:
    """The protocol of the runs in a sentence, and for each table one about its lists. measured: their `outcomes`."""
    tables = [label for label, some in systems.items() if isinstance(some[0], Recommendations)]
    first = next((label for label in systems if label not in tables), next(iter(systems)))
    whole = measured[first][0].protocol
    lists = {label: measured[label][0].protocol.removeprefix(f"{whole}; ") for label in tables if label != first}
    return " ".join([f"{whole}.", *(f"{label}: {words}." for label, words in lists.items())])


def board(table: pd.DataFrame, costs: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """One row per system with its costs and metrics, as `figures.standings` takes it, then the rows of `measured`.

    table: what `evaluation.Standings.table` returns. costs: what `costs_of` returns.
    """
    import pandas as pd

    rows = []
    for label, rows_of in table.groupby("system", sort=False):
        row = {"system": label, **costs.loc[label].to_dict()}
        for one in rows_of.to_dict("records"):
            row[one["metric"]] = one["mean"]
            row |= {f"{one['metric']} {name}": value for name, value in one.items() if name not in
                    ("system", "metric", "mean")}  # fmt: skip
        rows.append(row)
    return pd.concat([pd.DataFrame(rows), measured]) if len(measured) else pd.DataFrame(rows)


def leaderboard_rows(
    measured: pd.DataFrame | None, standings: Standings, systems: Systems, split: Split
) -> tuple[pd.DataFrame, str]:
    """The leaderboard rows of these data under this protocol, without these runs, and the number of others, in words.

    Others are rows of a dataset of this name with other data or another protocol.
    """
    import pandas as pd

    if measured is None or not len(measured):
        return pd.DataFrame(), ""
    of_dataset = int((measured["dataset"] == split.log.name).sum())
    measured = measured[measured["task"] == standings.task]
    if "seen_filter" not in standings.about:  # it has no effect on this task
        measured = measured.assign(seen_filter=standings.seen_filter)
    found = leaderboard.standings(measured, split, standings.seen_filter)
    others = of_dataset - int(found["seeds"].sum())
    means = standings.table(next(iter(systems))).set_index(["system", "metric"])["mean"]
    here = [(some[0].system, label) for label, some in systems.items() if not isinstance(some[0], Recommendations)]
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
