"""How every library is timed: the seconds of a training alone, of an evaluation, and the most memory held."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STARTED = float(os.environ.get("PEERS_STARTED", time.time()))
"""When the process was started, by the clock of `time.time`."""

PATIENCE = 10  # validations without a better one, after which a training ends before its budget
ROUNDS = 3  # evaluations of the same states; the quickest counts


@dataclass
class Course:
    """A training as it goes: seconds of training alone, what validation said when, and whether to stop."""

    minutes: float  # of training
    seconds: float = 0.0
    targets: int = 0
    first_batch: float = 0.0  # seconds from the start of the process to the end of the first step
    curve: list[dict[str, float]] = field(default_factory=list)
    began: float | None = None

    def resume(self) -> None:
        """Training goes on."""
        self.began = now()

    def step(self, targets: int) -> bool:
        """A step with so many true targets is done. True: the budget is spent."""
        if not self.targets:
            self.first_batch = time.time() - STARTED
        self.targets += targets
        return self.seconds + time.perf_counter() - self.began > 60 * self.minutes

    def pause(self) -> None:
        """Training stands still: what follows is validation."""
        if self.began is not None:
            self.seconds += now() - self.began
        self.began = None

    def validated(self, value: float) -> bool:
        """Validation gave NDCG@10 = value. True: no more training, by the budget or by `PATIENCE`."""
        self.curve.append({"targets": self.targets, "seconds": round(self.seconds, 3), "ndcg@10": value})
        values = [point["ndcg@10"] for point in self.curve]
        print(f"  validation {len(values)}: {value:.4f} after {self.seconds:.1f} s of training", flush=True)
        return self.seconds > 60 * self.minutes or len(values) - 1 - values.index(max(values)) >= PATIENCE


def now() -> float:
    """`time.perf_counter` when the GPU, if one is in use, has done what it was asked."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def measured(action: Callable[[], Any], before: float) -> tuple[Any, dict[str, float]]:
    """What an action returns; its seconds, the least of `ROUNDS`; and the most memory held beyond `before` (MB).

    before: what `forget_peak` gave before the first action of a process, for memory is seldom handed back after one.
    """
    seconds = []
    forget_peak()
    for _ in range(ROUNDS):
        began = now()
        result = action()
        seconds.append(now() - began)
    return result, {"seconds": min(seconds), "memory_mb": round(peak_mb() - before, 1)}


def forget_peak() -> float:
    """Let the peak of memory start again from what is held now, where Linux allows it; returns that, in MB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("  (the peak of memory cannot be reset here: it is that of the whole process)")
    return peak_mb()


def peak_mb() -> float:
    """The most memory this process has held, in MB (2**20 bytes); on Linux since `forget_peak`."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
