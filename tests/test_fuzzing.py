"""Every reader of what strangers wrote, under libFuzzer for some seconds; `tests/fuzzing.py` goes on for longer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzzing import READERS


@pytest.mark.parametrize("reader", READERS)
def test_what_strangers_wrote_is_read_or_refused_and_nothing_else(reader: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this system")
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    command = [sys.executable, "-m", "tests.fuzzing", reader, str(inputs), "-seed=1", "-max_total_time=2"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr
