"""Where a result comes from: versions, revision, machine."""

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
    """Versions of what computes, the git revision of the checkout (None outside one), device, threads, peak memory."""
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
    """The processor's name as its maker has it; its architecture where the system tells no more."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def peak_memory_mb() -> float:
    """The most memory this process has held, in MB (2**20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)


def git_revision() -> str | None:
    """The commit of the checkout this package runs from, "+" appended when files differ from it."""
    try:
        revision = _git("rev-parse", "--short=12", "HEAD")
        if revision.returncode:
            return None
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return revision.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)


def version(name: str) -> str | None:
    """The installed version of a distribution, None where it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
