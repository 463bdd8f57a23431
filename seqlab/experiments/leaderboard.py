"""The leaderboard: a table of measured runs, one row per trained system, with settings and provenance.

    seqlab leaderboard sasrec sasrec:layers=3 --dataset amazon-beauty --seeds 0,1 --against sasrec

trains the runs that the table lacks, with the presets of the dataset, adds a row for each, and computes the gain of
every arm over one of them. A command that was killed continues from its checkpoint; no finished run is repeated. An arm
is a system, optionally with settings and training options: `rearec:steps=1`. Arms that differ only in how their lists
are made (`tiger:decoding=diverse:width=20`) are one training, whose weights are measured by each decoding.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import models
from seqlab.datasets import load
from seqlab.datasets.split_names import DEFAULT, current_name, split
from seqlab.decoding.settings import identify
from seqlab.evaluation import compare, intervals
from seqlab.experiments.arm_names import rows_by_arm
from seqlab.experiments.rows import CSV_TYPES, add, headline, key_of, keys, read
from seqlab.presets import default_options
from seqlab.runs import evaluations
from seqlab.runs.identity import Identity, find, identity, stored_decoding
from seqlab.runs.run import Run, load_run
from seqlab.runtime import provenance
from seqlab.runtime.files import atomic_write
from seqlab.training.arms import parse_arm
from seqlab.training.evaluate import evaluate
from seqlab.training.fit import fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.decoding.settings import Decoding
    from seqlab.optimization.options import Options

GAIN_KEY = ["fingerprint", "split", "seen_filter", "arm", "against", "metric"]
GAIN_COLUMNS = ["dataset", *GAIN_KEY, "seeds", "a", "b", "difference", "low", "high", "date", "git"]


def row(run: Run, key: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a run that has a folder: metrics with 95 % intervals, cost, settings, provenance.

    key: the columns that identify the run, those of its `Plan`.
    """
    origin = evaluations.origin(run.folder, run.decoding, run.seen_filter)
    bounds, outcome = intervals(run.outcome), run.outcome
    result = {**key, "task": outcome.task, "users": outcome.frame["user"].nunique()}
    for name in bounds.attrs["headline"]:
        result[name] = round(run.metrics["test"][name], 5)
        result[f"{name} low"], result[f"{name} high"] = bounds.loc[name, ["low", "high"]].round(5)
        result[f"valid {name}"] = round(run.metrics["valid"][name], 5)
    for name in ("parameters", "epochs", "best_epoch", "seconds", "targets_per_second"):
        result[name] = run.metrics[name]
    result |= {name: origin[name] for name in ("date", "device", "threads", "git")}
    return result | {name: origin["versions"][name] for name in ("torch", "seqlab")}


@dataclass(frozen=True)
class Plan:
    """A run, finished or not, in `folder`. settings: those that replace the preset's, with those of its decoding.

    lists: its decoding, None for a system without. key: its columns of the table.
    """

    arm: str
    system: str
    settings: dict[str, Any]
    options: Options
    key: dict[str, Any]
    folder: Path
    lists: Decoding | None = None

    def finished(self) -> bool:
        """Whether it is trained, and measured by its decoding."""
        lists = json.loads(self.key["decoding"])
        return self.folder.exists() and (
            lists == stored_decoding(self.folder)
            or evaluations.path(self.folder, lists, self.key["seen_filter"]).is_file()
        )

    def load(self, split: Split) -> Run:
        """The run, which is trained; it is measured by its decoding if it was not before."""
        run = load_run(self.folder, split)
        return run if self.lists is None else evaluate(run, split, self.lists)

    def train_or_load(self, split: Split) -> Run:
        """The run: loaded if finished, else trained, from its checkpoint if there is one. Raises what `fit` does."""
        model = models.create(self.system, split, self.settings, self.options.seed)
        return fit(model, split, self.options, self.folder, resume=True, seen_filter=self.key["seen_filter"])


def plan(arm: str, split: Split, seed: int, runs: Path, given: dict[str, Any], seen_filter: bool | None = None) -> Plan:
    """The run of `arm`: the preset of the dataset, replaced by `given`, replaced by the settings in the arm.

    seen_filter: None is on unless the log has repeats. The folder is that of the finished run in `runs/<dataset>` with
    the same identity, whatever its name, else that of a new run. Raises `ValueError` for an arm with a word that is
    no key=value, or no setting of its system or of training.
    """
    system, settings, changes = parse_arm(arm, given)
    model = models.create(system, split, settings, seed)
    options = dataclasses.replace(default_options(model, split), **changes, seed=seed)
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    this, below = identity(model, options, split, seen_filter), runs / split.log.name
    found = find(sorted(below.glob(f"{system}-{seed}-*")), model, options, split, seen_filter)
    lists = getattr(model, "decoding", None)
    key = _key(this) | {"decoding": json.dumps(identify(model, lists))}
    return Plan(arm, system, settings, options, key, found or below / this.folder_name(), lists)


def complete(arms: list[str], dataset: str, seeds: list[int], path: Path, runs: Path,
             given: dict[str, Any] | None = None, seen_filter: bool | None = None,
             against: str | None = None, load_options: Mapping[str, Any] | None = None, split_name: str = DEFAULT,
             ) -> tuple[pd.DataFrame, pd.DataFrame | None]:  # fmt: skip
    """Train the runs of these arms and seeds that the table lacks; return their rows, and the gains over one arm.

    dataset, load_options: as `datasets.load` takes them. path: the table, written after every run. runs: the folder of
    the run folders `<dataset>/<system>-<seed>-<hash of what differs from the defaults>`. given: settings and options of
    all arms, which replace those of the preset. against: one of the arms, or None. split_name: as `datasets.split`
    takes it.
    The rows have a first column "arm". The gains over `against` are paired by user, after each user's mean over the
    seeds, with columns GAIN_COLUMNS; they are stored in `gains_path(path)` and used where a run folder is missing.
    Raises `ValueError` for another arm, `KeyboardInterrupt` where a training was interrupted, and, before any training,
    `FileNotFoundError` where the folder of a run is missing and no gain of its rows is stored.
    """
    if against is not None and against not in arms:
        raise ValueError(f"{against!r} is none of the arms: {', '.join(arms)}.")
    data = split(load(dataset, **(load_options or {})), split_name)
    plans = [plan(arm, data, seed, runs, given or {}, seen_filter) for arm in arms for seed in seeds]
    if against is not None:  # before hours of training
        measured = set(keys(read(path)))
        for arm, control in _pairs(plans, against):
            if missing := [one for one in arm + control if key_of(one.key) in measured and not one.folder.exists()]:
                _stored_gains(arm, control, path, missing[0].folder)
    for one in plans:
        name = f"{data.log.name} {one.arm} seed {one.options.seed}"
        if key_of(one.key) in keys(read(path)):
            print(f"{name}: in the table already.")
            continue
        print(f"{name} ({one.folder}):", flush=True)
        run = one.train_or_load(data)
        if run.interrupted:
            raise KeyboardInterrupt
        add([row(run, one.key)], path)
    gains = None if against is None else _gains(plans, against, data, path)
    table, arm_of = read(path), {key_of(one.key): one.arm for one in plans}
    table.insert(0, "arm", [arm_of.get(key) for key in keys(table)])
    return table[table["arm"].notna()].reset_index(drop=True), gains


def gains_path(path: Path) -> Path:
    """The file of the gains, beside the table `path`: <its name>_gains.csv."""
    return path.with_name(f"{path.stem}_gains.csv")


def read_gains(path: Path) -> pd.DataFrame:
    """The gains that are stored beside the table `path`, columns GAIN_COLUMNS; empty where there are none."""
    import pandas as pd

    file = gains_path(path)
    stored = pd.read_csv(file, **CSV_TYPES) if file.exists() else pd.DataFrame(columns=GAIN_COLUMNS)
    stored = stored if "fingerprint" in stored else stored.assign(fingerprint="")
    return stored.assign(split=stored["split"].map(current_name))


def _gains(plans: list[Plan], against: str, split: Split, path: Path) -> pd.DataFrame:
    """The gains of every other arm over `against`, from the ranks of the runs; they replace the stored ones.

    Where a run folder is missing, as on another machine, they are the stored ones if these agree with the table.
    """
    import pandas as pd
    from filelock import FileLock

    origin, parts = provenance.describe(), []
    ranks = functools.cache(lambda folder, lists: load[folder, lists].load(split).outcome)
    load = {(one.folder, one.key["decoding"]): one for one in plans}
    for arm, control in _pairs(plans, against):
        if missing := [one.folder for one in arm + control if not one.folder.exists()]:
            parts.append(_stored_gains(arm, control, path, missing[0]))
            continue
        a, b = ([ranks(one.folder, one.key["decoding"]) for one in side] for side in (arm, control))
        found = compare(a, b)
        found = found.loc[found.attrs["headline"]].round(7).rename_axis("metric").reset_index()
        columns = _protocol(arm, control) | {"dataset": split.log.name, "date": origin["date"], "git": origin["git"]}
        parts.append(found.assign(**columns)[GAIN_COLUMNS])
    gains, file = pd.concat(parts, ignore_index=True), gains_path(path)
    with FileLock(file.with_name(f".{file.name}.lock")):
        older = read_gains(path)
        table = pd.concat([older, gains]).drop_duplicates(GAIN_KEY, keep="last") if len(older) else gains
        atomic_write(file, table.to_csv(index=False))
    return gains


def _pairs(plans: list[Plan], against: str) -> list[tuple[list[Plan], list[Plan]]]:
    """The plans of every other arm, each with the plans of the arm `against`."""
    by_arm: dict[str, list[Plan]] = {}
    for one in plans:
        by_arm.setdefault(one.arm, []).append(one)
    control = by_arm.pop(against)
    return [(arm, control) for arm in by_arm.values()]


def _protocol(arm: list[Plan], control: list[Plan]) -> dict[str, Any]:
    """The columns of a gain that say what is compared, and under which protocol."""
    shared, seeds = arm[0].key, " ".join(str(one.options.seed) for one in arm)
    names = {"arm": arm[0].arm, "against": control[0].arm, "seeds": seeds}
    return {column: shared[column] for column in ("fingerprint", "split", "seen_filter")} | names


def _stored_gains(arm: list[Plan], control: list[Plan], path: Path, missing: Path) -> pd.DataFrame:
    """The stored gains of an arm over its control, which must agree with the rows of the table.

    Raises `FileNotFoundError` naming the folder that is missing where they do not.
    """
    stored, table = read_gains(path), read(path)
    for column, value in _protocol(arm, control).items():
        stored = stored[stored[column] == value]
    row_of = {key: row for row, key in enumerate(keys(table))}
    for side, plans in (("a", arm), ("b", control)):
        rows = [row_of[key] for one in plans if (key := key_of(one.key)) in row_of]
        names = headline(table.iloc[rows])
        means = table.iloc[rows][list(names)].mean()
        stored = stored[stored["metric"].isin(names)]
        stored = stored[(stored[side] - means[stored["metric"]].to_numpy()).abs() < 2e-5]  # both have five digits
    if not len(stored) or len(stored) < len(names):
        raise FileNotFoundError(
            f"{missing} is missing, so its users cannot be compared: bring the run folder, or take its row out of the "
            "table and train it again."
        )
    return stored


def standings(table: pd.DataFrame, split: Split, seen_filter: bool) -> pd.DataFrame:
    """The measured arms of this dataset under this protocol, one row for all seeds of an arm.

    Columns: arm (as `seqlab leaderboard` takes it, with the settings that differ from other arms of the system),
    system, seeds (their number), parameters, seconds, and of each headline metric the mean, "low" and "high". These two
    are NaN for several seeds, whose interval needs the outcomes of the runs.
    """
    import pandas as pd

    wanted = {"fingerprint": split.log.fingerprint(), "split": split.name, "seen_filter": seen_filter}
    for column, value in wanted.items():
        table = table[table[column].astype(str) == str(value)]
    names = headline(table)
    rows, bounds = [], [f"{name} {end}" for name in names for end in ("low", "high")]
    for arm, runs in rows_by_arm(table):
        row = {"arm": arm, "system": runs["system"].iloc[0], "seeds": len(runs)}
        row |= {name: runs[name].mean() for name in ("parameters", "seconds", *names)}
        rows.append(row | {name: runs[name].iloc[0] if len(runs) == 1 else float("nan") for name in bounds})
    columns = [f"{name}{end}" for name in names for end in ("", " low", " high")]
    return pd.DataFrame(rows, columns=["arm", "system", "seeds", "parameters", "seconds", *columns])


def _key(this: Identity) -> dict[str, Any]:
    """The columns of the table that identify a run."""
    options = dict(this.options)
    return {
        "dataset": this.data, "fingerprint": this.fingerprint, "split": this.split, "system": this.system,
        "seed": options.pop("seed"), "settings": json.dumps(this.settings), "options": json.dumps(options),
        "seen_filter": this.seen_filter, "decoding": "{}",
    }  # fmt: skip
