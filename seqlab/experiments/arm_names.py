"""Arms: a system with the settings that distinguish it, as `seqlab leaderboard` takes it, `rearec:steps=1`."""

from __future__ import annotations

import functools
import json
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd


def rows_by_arm(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The arms in a table, as `seqlab leaderboard` takes them, each with its rows, one per seed."""
    for system, rows in table.groupby("system", sort=False):
        columns = [column for column in ("settings", "options", "decoding") if column in rows]
        chosen = list(zip(*(rows[column] for column in columns), strict=True))
        choices = {texts: functools.reduce(operator.or_, map(json.loads, texts)) for texts in dict.fromkeys(chosen)}
        for texts, words in zip(choices, differing_settings(list(choices.values())), strict=True):
            yield f"{system}{words}", rows[[one == texts for one in chosen]]


def differing_settings(choices: list[dict[str, Any]]) -> list[str]:
    """For each choice of settings, those in which the choices differ, as in an arm: ":steps=1"."""
    keys = dict.fromkeys(key for choice in choices for key in choice)
    differ = [key for key in keys if len({json.dumps(choice.get(key), sort_keys=True) for choice in choices}) > 1]
    return ["".join(f":{format_settings({key: choice[key]})}" for key in differ if key in choice) for choice in choices]


def format_settings(chosen: dict[str, Any]) -> str:
    """Settings as in an arm, "layers=3:epochs=20", which `models.separate` converts to the same settings again."""
    texts = {key: ",".join(map(str, one)) if isinstance(one, list | tuple) else one for key, one in chosen.items()}
    return ":".join(f"{key}={'none' if one is None else one}" for key, one in texts.items())
