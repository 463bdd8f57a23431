"""The table of measured runs, a .csv or a .parquet: one row per run and decoding, found by its KEY."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from seqlab import tasks
from seqlab.datasets.split_names import current_name
from seqlab.runs.identity import canonical, options_defaults, stored_settings
from seqlab.runtime.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pandas as pd

KEY = ["fingerprint", "split", "system", "seed", "settings", "options", "seen_filter", "decoding"]
CSV_TYPES = {
    "dtype": dict.fromkeys(["dataset", "task", "fingerprint", "git", "seeds", "arm", "against"], str),
    "keep_default_na": False, "na_values": [""],
}  # fmt: skip
"""How pandas reads a table: the name of a dataset may be 007 or NA, a revision 12e34."""


def read(path: Path) -> pd.DataFrame:
    """The table in a .csv or a .parquet (that of a sweep); empty where there is no file.

    Settings and options that are newer than a row get their defaults. The decoding of a row from before there was that
    column is among its settings. A row without a fingerprint of its data
    (`InteractionLog.fingerprint`) matches no run. Raises `ValueError` for a file that is another table.
    """
    import pandas as pd

    if not path.exists():
        return pd.DataFrame(columns=["dataset", *KEY])
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, **CSV_TYPES)
        table = table if "fingerprint" in table else table.assign(fingerprint="")
        table = table if "task" in table else table.assign(task=tasks.DEFAULT)
        table = table if "decoding" in table else table.assign(decoding="{}")
        if missing := [column for column in ["dataset", *KEY] if column not in table]:
            raise ValueError(f"its column {missing[0]!r} is missing")
        options = {key: value for key, value in options_defaults().items() if key != "seed"}
        table["task"] = table["task"].fillna(tasks.DEFAULT)
        table["split"] = table["split"].map(current_name)
        known = functools.cache(lambda system, text: json.dumps(canonical(system, options | json.loads(text))))
        table["options"] = list(map(known, table["system"], table["options"]))
        settings, lists = functools.cache(stored_settings), table["decoding"].fillna("{}")
        parts = [
            settings(system)(json.loads(own) | json.loads(chosen))
            for system, own, chosen in zip(table["system"], table["settings"], lists, strict=True)
        ]
        for place, column in enumerate(("settings", "decoding")):
            table[column] = [json.dumps(part[place]) for part in parts]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no table of measured systems: {error}.") from error
    return table


def headline(table: pd.DataFrame) -> tuple[str, ...]:
    """The metrics that rows of one task show, the primary one last; () for an empty table."""
    if not len(table):
        return ()
    found = tasks.task(table["task"].iloc[0] if "task" in table else tasks.DEFAULT)
    return (*(name for name in found.HEADLINE if name in table and name != found.PRIMARY), found.PRIMARY)


def add(results: Iterable[dict[str, Any]], path: Path) -> pd.DataFrame:
    """Add rows to the table, each in place of an older one with its key; write and return the table.

    An exclusive lock makes concurrent calls wait, so that no row is lost.
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
        table = _sorted(table)
        parquet = path.suffix == ".parquet"
        atomic_write(path, table.to_parquet(index=False) if parquet else table.to_csv(index=False))
    return table


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows by dataset and task, the best by the task's primary metric first."""
    primary = {name: tasks.primary(name) for name in table["task"].unique()}
    worse = [
        -row[primary[row["task"]].name] if primary[row["task"]].higher else row[primary[row["task"]].name]
        for row in table.to_dict("records")
    ]
    order = table.assign(order=worse).sort_values(["dataset", "task", "order"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def key_of(row: dict[str, Any]) -> tuple[str, ...]:
    """The values that identify a row of the table, or the key of a plan."""
    return tuple(str(row[column]) for column in KEY)


def keys(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """`key_of` every row."""
    return list(zip(*(table[column].astype(str) for column in KEY), strict=True))
