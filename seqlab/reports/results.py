"""Records the results of a notebook in the results.json of its report."""

from __future__ import annotations

import json
import os
import typing
from pathlib import Path

from seqlab.runtime.files import atomic_write

if typing.TYPE_CHECKING:
    from collections.abc import Mapping


def record(results: Mapping[str, typing.Any]) -> None:
    """Add results of a running notebook to the results.json of its report.

    Values are numbers, text, None, lists and dicts of these, NumPy or torch scalars and arrays, or a DataFrame (its
    rows). A number that is not finite becomes null. Outside a report nothing is written, and a message is printed.
    Raises `TypeError` for anything else.
    """
    results = {str(key): _plain(value, str(key)) for key, value in results.items()}
    folder = os.environ.get("SEQLAB_REPORT_DIR")
    if not folder:
        print(f"{len(results)} results; they are written to results.json when this notebook is rendered as a report")
        return
    path = Path(folder) / "results.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    atomic_write(path, json.dumps(kept | results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: typing.Any, where: str) -> typing.Any:
    """`value` in the types of JSON."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if hasattr(value, "to_dict"):
        value = value.to_dict(orient="records") if hasattr(value, "columns") else value.to_dict()
    elif hasattr(value, "tolist"):
        return _plain(value.tolist(), where)
    if isinstance(value, dict):
        return {str(key): _plain(member, f"{where}.{key}") for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(member, where) for member in value]
    raise TypeError(f"{where}: {type(value).__name__} cannot be recorded; record numbers, text, lists or dicts")
