"""Where a system stands in the results that come with the project: its place in each table, and its claim's verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqlab import tasks
from seqlab.experiments.arm_names import rows_by_arm
from seqlab.experiments.rows import read
from seqlab.runtime.included import included

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["system", "dataset", "split", "seen_filter", "task", "arm", "metric", "value", "low", "high", "place",
           "systems", "best", "minutes"]  # fmt: skip


def verdicts() -> dict[str, str]:
    """What was found of the claim on each system's card, by system; {} where the project came without results."""
    import pandas as pd

    path = included("results") / "claims.csv"
    if not path.is_file():
        return {}
    return pd.read_csv(path, keep_default_na=False).set_index("system")["found"].to_dict()


def standings() -> pd.DataFrame:
    """A row per system, dataset, split and seen filter: its place among all systems that were measured there.

    Of each system it is the arm that is best on validation. Columns: system, dataset, split, seen_filter, task, arm,
    metric (the primary one of the task), value (on test, the mean over seeds), low and high (the outermost ends of the
    95 % intervals of its seeds), place, systems (how many there are), best (the first one), minutes (of one training).
    """
    import pandas as pd

    table, found = read(included("results") / "leaderboard.csv"), []
    if not len(table):
        return pd.DataFrame(columns=COLUMNS)
    for (dataset, split, seen_filter, task), measured in table.groupby(["dataset", "split", "seen_filter", "task"]):
        metric = tasks.primary(task)
        arms = pd.DataFrame([_summary(arm, of_arm, metric.name) for arm, of_arm in rows_by_arm(measured)])
        best = arms.sort_values("valid", ascending=not metric.higher, kind="stable").groupby("system").head(1)
        best = best.sort_values("value", ascending=not metric.higher, kind="stable")
        found.append(best.assign(
            dataset=dataset, split=split, seen_filter=bool(seen_filter), task=task, metric=metric.name,
            place=range(1, len(best) + 1), systems=len(best), best=best["system"].iloc[0],
        ))  # fmt: skip
    return pd.concat(found, ignore_index=True)[COLUMNS]


def _summary(arm: str, rows: pd.DataFrame, metric: str) -> dict[str, object]:
    """The mean over the seeds of an arm."""
    valid = rows[f"valid {metric}"] if f"valid {metric}" in rows else rows[metric]
    return {
        "system": rows["system"].iloc[0], "arm": arm, "value": rows[metric].mean(), "valid": valid.mean(),
        "low": rows[f"{metric} low"].min(), "high": rows[f"{metric} high"].max(),
        "minutes": rows["seconds"].mean() / 60,
    }  # fmt: skip
