"""The table of what was measured, one row per trained system, with how it came about.

    seqlab leaderboard sasrec sasrec:layers=3 --dataset amazon-beauty --seeds 0,1 --against sasrec

trains what the table lacks, with the presets of the dataset, adds a row for each, and says what every arm gains over
one of them. Killed and called again, it goes on from its checkpoint; no finished run is repeated. An arm is a system,
with settings and training options behind it if need be: `rearec:steps=1`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import models
from seqlab.datasets import leave_one_out, load
from seqlab.evaluation import compare, intervals
from seqlab.optimization.options import Options
from seqlab.presets import default_options
from seqlab.runs.identity import find, identity
from seqlab.runs.run import Run, load_run
from seqlab.runtime import provenance
from seqlab.runtime.files import atomic_write
from seqlab.training.fit import fit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pandas as pd

    from seqlab.datasets.splits import Split

KEY = ["fingerprint", "split", "system", "seed", "settings", "options", "seen_filter"]
METRICS = ("recall@10", "ndcg@10")
CSV_TYPES = {
    "dtype": dict.fromkeys(["dataset", "fingerprint", "git", "seeds", "arm", "against"], str),
    "keep_default_na": False, "na_values": [""],
}  # fmt: skip
"""How pandas reads a table: a dataset may be called 007 or NA, a revision 12e34."""

GAIN_KEY = ["fingerprint", "split", "seen_filter", "arm", "against", "metric"]
GAIN_COLUMNS = ["dataset", *GAIN_KEY, "seeds", "a", "b", "difference", "low", "high", "date", "git"]


def read(path: Path) -> pd.DataFrame:
    """The table as it stands, a .csv or a .parquet (that of a sweep); empty where there is none yet.

    A row is found by the fingerprint of its data (`InteractionLog.fingerprint`), and never without one. A setting or
    an option that is newer than a row has its default. Raises `ValueError` for a file that is another table.
    """
    import pandas as pd

    if not path.exists():
        return pd.DataFrame(columns=["dataset", *KEY])
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, **CSV_TYPES)
        table = table if "fingerprint" in table else table.assign(fingerprint="")
        if missing := [column for column in ["dataset", *KEY] if column not in table]:
            raise ValueError(f"its column {missing[0]!r} is missing")
        options = dataclasses.asdict(Options())
        del options["seed"]
        table["options"] = [json.dumps(options | json.loads(text)) for text in table["options"]]
        known = {*table["system"]} & {*models.names()}
        usual = {name: dataclasses.asdict(models.configure(name, {})) for name in known}
        table["settings"] = [
            json.dumps(usual.get(system, {}) | json.loads(text))
            for system, text in zip(table["system"], table["settings"], strict=True)
        ]
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no table of measured systems: {error}.") from error
    return table


def row(run: Run, split: Split, options: Options) -> dict[str, Any]:
    """What the table says of one run that has its folder: result with 95 % intervals, cost, settings, provenance."""
    told = json.loads((run.folder / "provenance.json").read_text(encoding="utf-8"))
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


@dataclass(frozen=True)
class Plan:
    """One run to be made, or made already, in `folder`; `settings` stand over those of the preset."""

    arm: str
    system: str
    settings: dict[str, Any]
    options: Options
    key: dict[str, Any]
    folder: Path

    def train_or_load(self, split: Split) -> Run:
        """The run: read if it is finished, else trained, from its checkpoint if it has one. Raises what `fit` does."""
        model = models.create(self.system, split, self.settings, self.options.seed)
        return fit(model, split, self.options, self.folder, resume=True, seen_filter=self.key["seen_filter"])


def plan(arm: str, split: Split, seed: int, runs: Path, given: dict[str, Any], seen_filter: bool | None = None) -> Plan:
    """What training `arm` means here: the preset of the dataset, under `given`, under the arm's own words.

    seen_filter: None is on unless the log has repeats. folder: that of the finished run in `runs/<dataset>` which is
    this one, whatever it is called, else that of a run to be made. Raises `ValueError` for an arm with a word that is
    no key=value, or no setting of its system or of training.
    """
    system, *words = arm.split(":")
    if wrong := [word for word in words if "=" not in word]:
        raise ValueError(f"{wrong[0]!r} in {arm!r} is no key=value; an arm looks like sasrec:layers=3:epochs=20.")
    settings, changes = models.separate(system, given | dict(word.split("=", 1) for word in words))
    if "seed" in changes:
        raise ValueError("The seed is no setting of an arm: it is among the seeds, which all arms have.")
    model = models.create(system, split, settings, seed)
    options = dataclasses.replace(default_options(model, split), **(changes | {"seed": seed}))
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    below = runs / split.log.name
    folder = find(sorted(below.glob(f"{system}-{seed}-*")), model, options, split, seen_filter)
    if folder is None:
        folder = below / identity(model, options, split, seen_filter).folder_name()
    return Plan(arm, system, settings, options, _key(system, model.config, split, options, seen_filter), folder)


def complete(arms: list[str], dataset: str, seeds: list[int], path: Path, runs: Path,
             given: dict[str, Any] | None = None, seen_filter: bool | None = None,
             against: str | None = None, load_options: Mapping[str, str] | None = None,
             ) -> tuple[pd.DataFrame, pd.DataFrame | None]:  # fmt: skip
    """Train what `path` lacks of these arms and seeds: the rows of these arms, and the gains over one of them.

    `dataset`, `reading`: what `datasets.load` takes. `given`: settings and options of all arms, over the preset. Run
    folders go to `runs/<dataset>/<system>-<seed>-<hash of what differs from the defaults>`. The table is rewritten
    whole after every run. The rows have a column "arm" in front. `against`: one of the arms. The gains over it are
    paired by user, after each user's mean over the seeds; columns GAIN_COLUMNS. They are kept in `gains_path(path)`, and
    stand where a run's folder is gone. Raises `ValueError` for another arm, `KeyboardInterrupt` where a training was
    interrupted, `FileNotFoundError`, before any training, where a folder is gone and no gain of these rows is kept.
    """
    if against is not None and against not in arms:
        raise ValueError(f"{against!r} is none of the arms: {', '.join(arms)}.")
    split = leave_one_out(load(dataset, **(load_options or {})))
    plans = [plan(arm, split, seed, runs, given or {}, seen_filter) for arm in arms for seed in seeds]
    if against is not None:  # hours of training may lie before what could not be compared
        measured = set(keys(read(path)))
        for own, control in _pairs(plans, against):
            if gone := [one for one in own + control if key_of(one.key) in measured and not one.folder.exists()]:
                _kept(own, control, path, gone[0].folder)
    for one in plans:
        what = f"{split.log.name} {one.arm} seed {one.options.seed}"
        if key_of(one.key) in keys(read(path)):
            print(f"{what}: in the table already.")
            continue
        print(f"{what} ({one.folder}):", flush=True)
        run = one.train_or_load(split)
        if run.interrupted:
            raise KeyboardInterrupt
        add([row(run, split, one.options)], path)
    if against is None:
        return _rows(plans, path), None
    gains = _gains(plans, against, split, path)
    _keep(gains, path)
    return _rows(plans, path), gains


def _rows(plans: list[Plan], path: Path) -> pd.DataFrame:
    """The rows of these plans that the table has, best first, with their arms in front."""
    table = read(path)
    arm = {key_of(one.key): one.arm for one in plans}
    table = table.assign(arm=[arm.get(key) for key in keys(table)])
    columns = ["arm", *(column for column in table if column != "arm")]
    return table.loc[table["arm"].notna(), columns].reset_index(drop=True)


def gains_path(path: Path) -> Path:
    """Where the gains of arms over their controls lie, beside the table `path`: <its name>_gains.csv."""
    return path.with_name(f"{path.stem}_gains.csv")


def read_gains(path: Path) -> pd.DataFrame:
    """The gains that are kept beside the table `path`, columns GAIN_COLUMNS; empty where there are none."""
    import pandas as pd

    own = gains_path(path)
    kept = pd.read_csv(own, **CSV_TYPES) if own.exists() else pd.DataFrame(columns=GAIN_COLUMNS)
    return kept if "fingerprint" in kept else kept.assign(fingerprint="")


def _keep(gains: pd.DataFrame, path: Path) -> None:
    """Put gains beside the table, in place of older ones of the same arms over the same one."""
    import pandas as pd
    from filelock import FileLock

    own = gains_path(path)
    with FileLock(own.with_name(f".{own.name}.lock")):
        older = read_gains(path)
        table = pd.concat([older, gains]).drop_duplicates(GAIN_KEY, keep="last") if len(older) else gains
        atomic_write(own, table.to_csv(index=False))


def _gains(plans: list[Plan], against: str, split: Split, path: Path) -> pd.DataFrame:
    """What every other arm gains over `against` by the ranks that the runs kept; columns GAIN_COLUMNS.

    Where a run folder is gone, as on another machine, the gains kept beside the table stand if they agree with it.
    """
    import pandas as pd

    told, ranks, parts = provenance.describe(), functools.cache(lambda folder: load_run(folder, split).ranks), []
    for own, control in _pairs(plans, against):
        if gone := [one.folder for one in own + control if not one.folder.exists()]:
            parts.append(_kept(own, control, path, gone[0]))
            continue
        found = compare([ranks(one.folder) for one in own], [ranks(one.folder) for one in control])
        parts.append(
            found.loc[list(METRICS)].round(7).rename_axis("metric").reset_index().assign(
                dataset=split.log.name, fingerprint=split.log.fingerprint(), split=split.how,
                seen_filter=own[0].key["seen_filter"], arm=own[0].arm, against=against,
                seeds=_seeds(own), date=told["date"], git=told["git"],
            )[GAIN_COLUMNS]
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _pairs(plans: list[Plan], against: str) -> list[tuple[list[Plan], list[Plan]]]:
    """The plans of every other arm, each beside those of the arm it is compared with."""
    by_arm: dict[str, list[Plan]] = {}
    for one in plans:
        by_arm.setdefault(one.arm, []).append(one)
    control = by_arm.pop(against)
    return [(own, control) for own in by_arm.values()]


def _kept(own: list[Plan], control: list[Plan], path: Path, gone: Path) -> pd.DataFrame:
    """The gains of an arm over its control that are kept beside the table, which must be those of its rows."""
    kept, table = read_gains(path), read(path)
    wanted = {column: own[0].key[column] for column in ("fingerprint", "split", "seen_filter")}
    wanted |= {"arm": own[0].arm, "against": control[0].arm, "seeds": _seeds(own)}
    for column, value in wanted.items():
        kept = kept[kept[column] == value]
    place = {key: at for at, key in enumerate(keys(table))}
    for side, arm in (("a", own), ("b", control)):
        rows = [place[key] for one in arm if (key := key_of(one.key)) in place]
        means = table.iloc[rows][list(METRICS)].mean()
        kept = kept[(kept[side] - means[kept["metric"]].to_numpy()).abs() < 2e-5]  # both have five digits
    if len(kept) < len(METRICS):
        raise FileNotFoundError(
            f"{gone} is not there, so its users cannot be compared: bring the run folder, or take its row out of the "
            "table and train it again."
        )
    return kept


def _seeds(plans: list[Plan]) -> str:
    return " ".join(str(one.options.seed) for one in plans)


def standings(table: pd.DataFrame, split: Split, seen_filter: bool) -> pd.DataFrame:
    """What the table says of this dataset under this protocol, the seeds of one choice of settings together.

    Columns arm (as `seqlab leaderboard` takes it: the system and what tells it from its others), system, seeds,
    parameters, seconds, and of each metric its mean, "low" and "high": those are NaN for several seeds, whose interval
    needs the ranks of the users.
    """
    import pandas as pd

    wanted = {"fingerprint": split.log.fingerprint(), "split": split.how, "seen_filter": seen_filter}
    for column, value in wanted.items():
        table = table[table[column].astype(str) == str(value)]
    rows = []
    for arm, own in arms(table):
        row = {"arm": arm, "system": own["system"].iloc[0], "seeds": len(own)}
        row |= {name: own[name].mean() for name in ("parameters", "seconds", *METRICS)}
        ends = [f"{name} {end}" for name in METRICS for end in ("low", "high")]
        rows.append(row | {end: own[end].iloc[0] if len(own) == 1 else float("nan") for end in ends})
    ends = [f"{name}{end}" for name in METRICS for end in ("", " low", " high")]
    return pd.DataFrame(rows, columns=["arm", "system", "seeds", "parameters", "seconds", *ends])


def arms(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The arms of some rows, as `seqlab leaderboard` takes them, each with its rows, one per seed."""
    for system, own in table.groupby("system", sort=False):
        pairs = zip(own["settings"], own["options"], strict=True)
        chosen = {pair: json.loads(pair[0]) | json.loads(pair[1]) for pair in pairs}
        for pair, words in zip(chosen, differing_settings(list(chosen.values())), strict=True):
            yield f"{system}{words}", own[(own["settings"] == pair[0]) & (own["options"] == pair[1])]


def differing_settings(choices: list[dict[str, Any]]) -> list[str]:
    """For each choice of settings, the words of an arm that tell it from the others, such as ":steps=1"."""
    keys = dict.fromkeys(key for choice in choices for key in choice)
    differ = [key for key in keys if len({json.dumps(choice.get(key), sort_keys=True) for choice in choices}) > 1]
    return ["".join(f":{format_settings({key: choice[key]})}" for key in differ if key in choice) for choice in choices]


def format_settings(chosen: dict[str, Any]) -> str:
    """Settings as the words of an arm, "layers=3:epochs=20", which `models.read_as` reads as the same again."""
    texts = {key: ",".join(map(str, one)) if isinstance(one, list | tuple) else one for key, one in chosen.items()}
    return ":".join(f"{key}={'none' if one is None else one}" for key, one in texts.items())


def add(results: Iterable[dict[str, Any]], path: Path) -> pd.DataFrame:
    """Put rows into the table, each in place of an older one of its key; it is written whole. Returns the table.

    Who adds at the same time waits, so that nobody's rows are lost.
    """
    import pandas as pd
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        table = read(path)
        for result in results:
            fresh = pd.DataFrame([result])
            others = [key != key_of(result) for key in keys(table)]
            table = pd.concat([table[others], fresh], ignore_index=True) if len(table) else fresh
        table = table.sort_values(["dataset", "ndcg@10"], ascending=[True, False], kind="stable", ignore_index=True)
        parquet = path.suffix == ".parquet"
        atomic_write(path, table.to_parquet(index=False) if parquet else table.to_csv(index=False))
    return table


def _key(system: str, config: Any, split: Split, options: Options, seen_filter: bool) -> dict[str, Any]:
    chosen = dataclasses.asdict(options)
    seed = chosen.pop("seed")
    return {
        "dataset": split.log.name, "fingerprint": split.log.fingerprint(), "split": split.how,
        "system": system, "seed": seed, "settings": json.dumps(dataclasses.asdict(config)),
        "options": json.dumps(chosen), "seen_filter": seen_filter,
    }  # fmt: skip


def key_of(row: dict[str, Any]) -> tuple[str, ...]:
    """What tells a row of the table, or a plan's key, from all others."""
    return tuple(str(row[column]) for column in KEY)


def keys(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """`key_of` every row."""
    return list(zip(*(table[column].astype(str) for column in KEY), strict=True))
