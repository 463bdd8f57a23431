"""The table at the end of a report that says where its numbers come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqlab.figures.tables import table
from seqlab.runtime import provenance

if TYPE_CHECKING:
    from seqlab.figures.html import Html


def origins(facts: Mapping[str, Any]) -> Html:
    """A table of these facts, then date, revision, machine, versions and peak memory of this process.

    Settings, dicts and lists are written in words: dim=64, layers=2.
    """
    import pandas as pd

    origin = provenance.describe()
    words = {"git": "revision", "peak_memory_mb": "peak memory, MB"}
    known = {**facts, **{words.get(name, name): value for name, value in origin.items()}}
    rows = [(name, _plain(value)) for name, value in known.items() if value is not None]
    return table(pd.DataFrame(rows, columns=["fact", "value"]))


def _plain(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_plain(one)}" for key, one in value.items() if one is not None) or "none"
    if isinstance(value, list | tuple):
        return "; ".join(_plain(one) for one in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
