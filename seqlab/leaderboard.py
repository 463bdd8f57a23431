"""The table of what was measured: `data/leaderboard.csv`, one row per trained system, with how it came about.

    seqlab leaderboard sasrec gru4rec --dataset amazon-beauty --seed 0

trains what the table does not hold yet, with the presets of the dataset's card, and adds a row for each. It can be
killed and called again: a run goes on from its checkpoint, a finished one is never repeated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import models, provenance
from seqlab.datasets import leave_one_out, load
from seqlab.evaluation import intervals
from seqlab.training import Options, Run, fit, preset

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split

KEY = ["dataset", "split", "system", "seed", "settings", "options", "seen_filter"]
METRICS = ("recall@10", "ndcg@10")


def read(path: Path) -> pd.DataFrame:
    """The table as it stands; empty where there is none yet.

    A setting or an option that did not exist when a row was made is filled in with its default.
    """
    import pandas as pd

    if not path.exists():
        return pd.DataFrame(columns=KEY)
    table, options = pd.read_csv(path), dataclasses.asdict(Options())
    del options["seed"]
    table["options"] = [json.dumps(options | json.loads(text)) for text in table["options"]]
    table["settings"] = [
        json.dumps(dataclasses.asdict(models.configure(system, {})) | json.loads(text))
        if system in models.names() else text
        for system, text in zip(table["system"], table["settings"], strict=True)
    ]  # fmt: skip
    return table


def row(run: Run, split: Split, options: Options) -> dict[str, Any]:
    """What the table says of one run: result with 95 % intervals, cost, settings, provenance."""
    told = provenance.describe()
    bounds = intervals(run.ranks)
    result = _key(run.system, run.model.config, split, options, run.ranks.seen_filter)
    result["users"] = len(run.ranks.frame)
    for name in METRICS:
        result[name] = round(run.metrics["test"][name], 5)
        result[f"{name} low"], result[f"{name} high"] = bounds.loc[name, ["low", "high"]].round(5)
        result[f"valid {name}"] = round(run.metrics["valid"][name], 5)
    for name in ("parameters", "epochs", "best_epoch", "seconds", "targets_per_second"):
        result[name] = run.metrics[name]
    result |= {"date": told["date"], "device": told["device"], "threads": told["threads"], "git": told["git"]}
    return result | {"torch": told["versions"]["torch"], "seqlab": told["versions"]["seqlab"]}


def complete(systems: list[str], dataset: str, seeds: list[int], path: Path, runs: Path,
             given: dict[str, Any] | None = None, seen_filter: bool | None = None) -> pd.DataFrame:  # fmt: skip
    """Train what `path` lacks of these systems and seeds on a named dataset; the whole table afterwards.

    `given`: settings and options that differ from the dataset's presets. Run folders go to
    `runs/<dataset>/<system>-<seed>-<hash of all choices>`. The table is rewritten after every run, aside, then renamed.
    """
    split = leave_one_out(load(dataset))
    kinds = models.types_of(Options)
    of_system = {key: value for key, value in (given or {}).items() if key not in kinds}
    changes = {key: models.read_as(kinds[key], value, key) for key, value in (given or {}).items() if key in kinds}
    shown = split.log.repeats is False if seen_filter is None else seen_filter
    for system in systems:
        for seed in seeds:
            model = models.create(system, split, of_system, seed)
            options = dataclasses.replace(preset(model, split), **(changes | {"seed": seed}))
            key = _key(system, model.config, split, options, shown)
            if _holds(read(path), key):
                print(f"{dataset} {system} seed {seed}: in the table already.")
                continue
            digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
            folder = runs / dataset / f"{system}-{seed}-{digest}"
            print(f"{dataset} {system} seed {seed} ({folder}):", flush=True)
            run = fit(model, split, options, folder, resume=True, seen_filter=shown)
            if run.interrupted:
                return read(path)
            add(row(run, split, options), path)
    return read(path)


def add(result: dict[str, Any], path: Path) -> None:
    """Put one row into the table, in place of an older one of the same key."""
    import pandas as pd

    table = read(path)
    older = _same(table, result)
    fresh = pd.DataFrame([result])
    table = pd.concat([table[~older], fresh], ignore_index=True) if len(table) else fresh
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".csv.new")
    table.sort_values(["dataset", "ndcg@10"], ascending=[True, False], kind="stable").to_csv(aside, index=False)
    os.replace(aside, path)


def _key(system: str, config: Any, split: Split, options: Options, seen_filter: bool) -> dict[str, Any]:
    chosen = dataclasses.asdict(options)
    seed = chosen.pop("seed")
    return {
        "dataset": split.log.name, "split": split.how, "system": system, "seed": seed,
        "settings": json.dumps(dataclasses.asdict(config)), "options": json.dumps(chosen), "seen_filter": seen_filter,
    }  # fmt: skip


def _same(table: pd.DataFrame, key: dict[str, Any]) -> pd.Series:
    import pandas as pd

    same = pd.Series(True, index=table.index)
    for column in KEY:
        same &= table[column].astype(str) == str(key[column])
    return same


def _holds(table: pd.DataFrame, key: dict[str, Any]) -> bool:
    return bool(len(table)) and bool(_same(table, key).any())
