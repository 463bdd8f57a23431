"""Every number that the pieces told (see compare.py), as a CSV with one line each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

OF_A_PIECE = ["measurement", "dataset", "library", "minutes", "threads", "device", "date", "machine", "revision",
              "wall_seconds", "cpu_seconds"]  # fmt: skip


def table(told: dict[str, dict[str, Any]]) -> str:
    """One line per number: what, of whom, when and where."""
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*OF_A_PIECE, "versions", "quantity", "value"])
    for one in told.values():
        versions = " ".join(f"{name}={found}" for name, found in one["versions"].items())
        piece = [one[column] for column in OF_A_PIECE]
        lines.writerows([*piece, versions, *found] for found in flat(one["numbers"]))
    return file.getvalue()


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Nested numbers as (curve.3.seconds, 12.5) and the like."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
