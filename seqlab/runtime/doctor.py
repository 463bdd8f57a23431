"""`seqlab doctor`: the versions and the hardware of this machine, and what will be slow on it."""

from __future__ import annotations

import os
import shutil
import time

PACKAGES = ("torch", "pandas", "numpy", "plotly", "ipywidgets", "jupyterlab", "papermill", "nbconvert", "umap-learn")


def examine() -> list[str]:
    """Lines of text: versions, device, threads, memory, folders, browser; then what will be slow, and why."""
    import platform

    import torch

    from seqlab import __version__
    from seqlab.runtime import outside
    from seqlab.runtime.cache import cache_folder
    from seqlab.runtime.provenance import version

    lines = [f"seqlab {__version__}, Python {platform.python_version()} on {platform.platform(terse=True)}"]
    lines.append("packages: " + ", ".join(f"{name} {version(name) or 'MISSING'}" for name in PACKAGES))
    gpu = torch.cuda.is_available()
    lines.append(f"device: {torch.cuda.get_device_name() if gpu else 'CPU'}")
    lines.append(f"threads: {torch.get_num_threads()} of {os.cpu_count()} cores")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        lines.append(f"memory: {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB")
    rate = _matmul_rate(torch.float32)
    lines.append(f"float32 matrix products: {rate:,.0f} GFLOP/s")
    data = os.environ.get("SEQLAB_DATA")
    lines.append(f"SEQLAB_DATA: {data or 'not set'}; cache: {cache_folder()}")
    lines.append(f"{outside.VARIABLE}: {os.environ.get(outside.VARIABLE) or 'not set'}")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    lines.append(f"Chromium: {browser or 'not found; the browser tests will be skipped'}")
    if not gpu:
        lines.append("slow: no GPU. An epoch of SASRec takes about 10 s on amazon-beauty, a minute on ml-1m.")
        half = _matmul_rate(torch.bfloat16)
        if half < rate:
            lines.append(f"slow: bf16 has {half / rate:.2f} times the speed of float32 here; keep precision='no'.")
    return [*lines, "slow: the first UMAP of a session compiles for 15 s or more. Its coordinates are then cached."]


def _matmul_rate(dtype) -> float:
    """GFLOP/s of a matrix product of a size that is common in training."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = torch.ones(256, 64, dtype=dtype, device=device), torch.ones(64, 4096, dtype=dtype, device=device)
    float((a @ b)[0, 0])
    began, times = time.perf_counter(), 10
    for _ in range(times):
        product = a @ b
    float(product[0, 0])
    return times * 2 * 256 * 64 * 4096 / (time.perf_counter() - began) / 1e9
