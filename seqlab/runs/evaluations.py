"""Outcomes of a finished run by other decodings than its own, stored in its folder.

`<run>/evaluations/<method>-<hash>.json` says what was measured and how, and names the rows of its outcome in the
.parquet beside it, which is written first. The run's own files are never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

from seqlab.evaluation.outcome import Outcome, described
from seqlab.runtime import provenance
from seqlab.runtime.files import atomic_write

FOLDER = "evaluations"


def path(run: Path, decoding: dict[str, Any], seen_filter: bool) -> Path:
    """The .json of an evaluation. decoding: as `decoding.settings.identify` has it."""
    identity = json.dumps({"decoding": decoding, "seen_filter": bool(seen_filter)}, sort_keys=True)
    return run / FOLDER / f"{decoding['decoding']}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}.json"


def read(run: Path, decoding: dict[str, Any], seen_filter: bool) -> tuple[Outcome, dict[str, Any]] | None:
    """The outcome and the metrics of an evaluation; None where it was not made, or other files are in its place."""
    import pandas as pd

    file = path(run, decoding, seen_filter)
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored["decoding"] != decoding or stored["seen_filter"] != seen_filter:
            return None
        return described(pd.read_parquet(file.with_suffix(".parquet")), stored["outcome"]), stored["metrics"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write(
    run: Path, decoding: dict[str, Any], seen_filter: bool, outcome: Outcome, metrics: dict[str, Any]
) -> Path | None:
    """Store an evaluation; returns its .json, or None where the folder of the run cannot be written."""
    file, rows = path(run, decoding, seen_filter), BytesIO()
    outcome.frame.to_parquet(rows, index=False)
    content = provenance.describe() | {
        "decoding": decoding, "seen_filter": bool(seen_filter), "outcome": outcome.description(), "metrics": metrics,
    }  # fmt: skip
    if not os.access(run, os.W_OK):
        return None
    file.parent.mkdir(exist_ok=True)
    atomic_write(file.with_suffix(".parquet"), rows.getvalue())
    return atomic_write(file, json.dumps(content, indent=2, allow_nan=False) + "\n")


def origin(run: Path, decoding: dict[str, Any], seen_filter: bool) -> dict[str, Any]:
    """Where an outcome of a run comes from: the provenance of the run, then that of the evaluation if it is another."""
    found = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    file = path(run, decoding, seen_filter) if decoding else None
    return found | (json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {})
