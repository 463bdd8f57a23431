"""Provenance of a result: package versions, git revision, machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("seqlab", "torch", "numpy", "pandas", "scikit-learn", "accelerate", "plotly", "papermill")


def describe() -> dict[str, Any]:
    """Date (UTC), versions, git revision (None outside a checkout), device, threads and peak memory (2**20 bytes)."""
    import torch

    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "git": git_revision(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "threads": torch.get_num_threads(),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }


def processor() -> str:
    """The model name of the processor; its architecture if the operating system gives no name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """The peak resident memory of this process, in MB (2**20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)


def git_revision() -> str | None:
    """The commit of the checkout that this package runs from, with "+" if tracked files are modified; None without.

    A package that merely lies in a checkout of something else, as in its virtual environment, has none.
    """
    try:
        own = _git("ls-files", "--error-unmatch", Path(__file__).name)
        revision = _git("rev-parse", "--short=12", "HEAD")
        if own.returncode or revision.returncode:
            return None
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return revision.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)


def version(name: str) -> str | None:
    """The installed version of a distribution, None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
