"""The results that come with the project, by system."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from seqlab.experiments import standings
from seqlab.experiments.standings import verdicts


def rows(*measured: tuple[str, int, float, float], settings: dict | None = None) -> list[dict]:
    """Rows of a leaderboard: system, seed, value on test, value on validation."""
    same = {
        "dataset": "toy", "fingerprint": "f", "split": "leave-one-out", "options": "{}", "seen_filter": True,
        "task": "next_item", "decoding": "{}", "users": 9, "seconds": 120.0,
    }  # fmt: skip
    return [
        same | {"system": system, "seed": seed, "settings": json.dumps(settings or {}), "ndcg@10": test,
                "ndcg@10 low": test - 0.01, "ndcg@10 high": test + 0.01, "valid ndcg@10": valid}
        for system, seed, test, valid in measured
    ]  # fmt: skip


def test_a_system_stands_where_its_best_arm_on_validation_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = [
        *rows(("sasrec", 0, 0.20, 0.30), ("sasrec", 1, 0.24, 0.34), ("gru4rec", 0, 0.30, 0.20), ("markov", 0, 0.1, 0)),
        *rows(("sasrec", 0, 0.40, 0.10), settings={"layers": 3}),  # better on test alone
    ]
    pd.DataFrame(table).to_csv(tmp_path / "leaderboard.csv", index=False)
    monkeypatch.setattr(standings, "included", lambda what: tmp_path)
    table = standings.standings()
    (found,) = table[table["system"] == "sasrec"].to_dict("records")
    assert (found["place"], found["systems"], found["best"]) == (2, 3, "gru4rec")
    assert found["value"] == pytest.approx(0.22) and found["minutes"] == 2
    assert (found["low"], found["high"]) == (pytest.approx(0.19), pytest.approx(0.25))
    assert verdicts() == {}
