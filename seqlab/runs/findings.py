"""The findings of a study: tables, outcomes and verdicts, in memory and as a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.evaluation.outcome import Outcome, described
from seqlab.runs.store import UNSAFE_SUFFIXES
from seqlab.runtime import provenance
from seqlab.runtime.files import exclusive_lock

if TYPE_CHECKING:
    import pandas as pd

FILE = "findings.json"
NAME = re.compile(r"[a-z0-9_]+")
"""What the name of a table may be; it is the name of its file."""


@dataclass(frozen=True)
class Verdict:
    """Whether one claim holds for one thing that it is about.

    claim: one sentence. about: the system, or whatever it is tested on. value, low, high: the number that decides, and
    its 95 % interval; NaN where it was not tested. holds: True or False where the interval decides, None where it is
    open. reason: what the number is, and why the claim holds, fails or is open.
    """

    claim: str
    about: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    holds: bool | None = None
    reason: str = ""

    @property
    def word(self) -> str:
        """ "holds", "fails", "open", or "not tested"."""
        if math.isnan(self.value):
            return "not tested"
        return "open" if self.holds is None else "holds" if self.holds else "fails"


def verdict(claim: str, about: str, row: Mapping[str, float], above: bool, reason: str) -> Verdict:
    """The verdict of a difference that must be above 0 (or below it), by its interval: `value`, `low` and `high`."""
    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    if not above:
        low, high = -high, -low
    holds = True if low > 0 else False if high < 0 else None
    return Verdict(claim, about, value, float(row["low"]), float(row["high"]), holds, reason)


@dataclass(frozen=True)
class Findings:
    """What a study found.

    study: its name. identity: what identifies it, JSON values: the options that differ from the defaults, the data,
    the split, the seen filter and the systems. tables: tidy tables by name. outcomes: by name, of one set of queries or
    several. verdicts: of its claims. notes: remarks. folder: where they are stored.
    """

    study: str
    identity: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    folder: Path | None = None

    def verdict_table(self) -> pd.DataFrame:
        """One row per verdict: claim, about, verdict (see `Verdict.word`), value, low, high, reason."""
        import pandas as pd

        columns = ["claim", "about", "verdict", "value", "low", "high", "reason"]
        rows = [{**dataclasses.asdict(one), "verdict": one.word} for one in self.verdicts]
        return pd.DataFrame(rows, columns=columns)

    def __repr__(self) -> str:
        words = [f"{one.about}: {one.word}" for one in self.verdicts]
        return f"Findings({self.study}: {'; '.join(words)}{f'; {self.folder}' if self.folder else ''})"


def folder_name(study: str, identity: Mapping[str, Any]) -> str:
    """The study and a hash of what identifies it, such as calibration-1f2e3d4c."""
    digest = hashlib.sha256(json.dumps(_json(identity), sort_keys=True).encode()).hexdigest()[:8]
    return f"{study}-{digest}"


def write(findings: Findings, folder: str | Path) -> Findings:
    """Write findings to a new folder, whole or not at all: findings.json, and a parquet file per table and outcome.

    Raises `FileExistsError` where the folder exists, `ValueError` for a name of a table that is no file name, and
    `BlockingIOError` where another process is writing it.
    """
    folder = Path(folder)
    if wrong := [name for name in findings.tables if not NAME.fullmatch(name)]:
        raise ValueError(f"the table {wrong[0]!r} cannot be stored: use lower-case letters, digits and underscores.")
    content = {
        "study": findings.study,
        "identity": _json(findings.identity),
        "tables": [*findings.tables],
        "outcomes": {name: one.description() for name, one in findings.outcomes.items()},
        "verdicts": [_finite(dataclasses.asdict(one)) for one in findings.verdicts],
        "notes": [*findings.notes],
        "seconds": round(findings.seconds, 3),
        "provenance": provenance.describe(),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder, f"Another study is writing {folder}; wait for it, or choose another folder."):
        if folder.exists():
            raise FileExistsError(f"{folder} exists; choose another folder.")
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, frame in findings.tables.items():
                frame.to_parquet(partial / f"table-{name}.parquet", index=False)
            for place, one in enumerate(findings.outcomes.values()):
                one.frame.to_parquet(partial / f"outcome-{place}.parquet", index=False)
            text = json.dumps(content, indent=2, allow_nan=False)
            (partial / FILE).write_text(text + "\n", encoding="utf-8")
            partial.chmod(0o755)
            os.replace(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return dataclasses.replace(findings, folder=folder)


def load_findings(folder: str | Path) -> Findings:
    """Read the findings that `write` wrote; the files are treated as untrusted.

    Raises `FileNotFoundError` for a folder without findings, `ValueError` for files that do not fit together, that can
    hold code, or that are links out of the folder.
    """
    import pandas as pd

    folder = Path(folder)
    if not (folder / FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no findings of a study: {FILE} is missing.")
    for path in folder.iterdir():
        if path.suffix in UNSAFE_SUFFIXES or not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path} can hold code, or is a link to another place; remove it.")
    try:
        stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if wrong := [name for name in stored["tables"] if not NAME.fullmatch(name)]:
            raise ValueError(f"{wrong[0]!r} is no name of a table")
        tables = {name: pd.read_parquet(folder / f"table-{name}.parquet") for name in stored["tables"]}
        outcomes = {
            str(name): described(pd.read_parquet(folder / f"outcome-{place}.parquet"), one)
            for place, (name, one) in enumerate(stored["outcomes"].items())
        }
        verdicts = tuple(Verdict(**_with_nan(one)) for one in stored["verdicts"])
        return Findings(str(stored["study"]), stored["identity"], tables, outcomes, verdicts,
                        tuple(map(str, stored["notes"])), float(stored["seconds"]), folder)  # fmt: skip
    except (KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        raise ValueError(f"{folder / FILE} describes no findings: {error}.") from error


def find(below: str | Path, study: str, identity: Mapping[str, Any]) -> Path | None:
    """The first folder in `below`, or in a folder of it, with the findings of this study of this identity."""
    wanted = _json(identity)
    for path in _stored(below):
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["study"] == study and stored["identity"] == wanted:
                return path.parent
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # other files
    return None


def _stored(below: str | Path) -> Iterable[Path]:
    return sorted([*Path(below).glob(f"[!.]*/{FILE}"), *Path(below).glob(f"[!.]*/[!.]*/{FILE}")])


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as `json` reads them from a file: lists for tuples."""
    return json.loads(json.dumps(values))


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Values with None for NaN, which JSON does not have."""
    return {key: None if isinstance(one, float) and not math.isfinite(one) else one for key, one in values.items()}


def _with_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, **{key: math.nan for key in ("value", "low", "high") if values[key] is None}}
