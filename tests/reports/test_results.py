"""Recorded results are converted to JSON, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seqlab.reports.results import record


def test_numbers_that_json_lacks_are_recorded_as_null(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    monkeypatch.setenv("SEQLAB_REPORT_DIR", str(tmp_path))
    record({"a": float("nan"), "b": np.float32(0.5), "c": torch.tensor([1, 2])})
    record({"d": {"e": None}})
    assert json.loads((tmp_path / "results.json").read_text()) == {"a": None, "b": 0.5, "c": [1, 2], "d": {"e": None}}
    with pytest.raises(TypeError, match="f: object cannot be recorded"):
        record({"f": object()})
