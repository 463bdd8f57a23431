"""The cache is a help, never a condition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqlab.runtime.cache import cached


def arrays() -> dict[str, np.ndarray]:
    return {"x": np.arange(3)}


@pytest.mark.parametrize("place", ["file", "no/such/disk", "read-only"])
def test_a_cache_that_cannot_be_written_is_no_error(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "file":  # as HOME=/dev/null makes it
        (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / place))
    if place == "read-only":
        import safetensors.numpy

        def refused(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(safetensors.numpy, "save_file", refused)
        monkeypatch.setattr(Path, "unlink", refused)
    for _ in range(2):
        assert cached("vectors", ("settings",), [], arrays)["x"].tolist() == [0, 1, 2]
