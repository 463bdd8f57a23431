import pytest


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """No data folder and an empty cache: what a new user has. Returns the cache's folder."""
    monkeypatch.delenv("SEQLAB_DATA", raising=False)
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
