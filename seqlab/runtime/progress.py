"""Progress of training: a progress bar in a terminal or notebook, one line per epoch elsewhere."""

from __future__ import annotations

import os
import sys

from seqlab.runtime import processes


def interactive() -> bool:
    """Whether output goes to a terminal, or to a notebook that is not being rendered into a report."""
    if os.environ.get("SEQLAB_REPORT"):
        return False
    return "ipykernel" in sys.modules or sys.stderr.isatty()


def announce(message: str) -> None:
    """Print a line about a training; in a report it is a message, which the page folds."""
    print(message, flush=True, file=sys.stderr if os.environ.get("SEQLAB_REPORT") else sys.stdout)


class Progress:
    """The progress of one training, called `name`, as a context manager; of several processes only process 0 reports.

    lines: print a line per epoch where there is no bar.
    """

    def __init__(self, epochs: int, metric: str, name: str = "", lines: bool = True) -> None:
        self.epochs, self.metric, self.name, self.lines, self.bar = epochs, metric, name, lines, None
        self.silent = processes.index() > 0

    def __enter__(self) -> Progress:
        if interactive() and not self.silent:
            from tqdm.auto import tqdm

            form = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"
            self.bar = tqdm(desc=self.name or None, total=self.epochs, unit="epoch", bar_format=form)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self, epoch: int, share: float, targets_per_second: float, loss: float) -> None:
        """Report a step of epoch `epoch` (from 0), of whose targets the fraction `share` is done."""
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.3f}, {targets_per_second:,.0f} targets/s", refresh=False)
            self.bar.n = epoch + min(share, 0.99)
            self.bar.refresh()

    def epoch(self, row: dict[str, float], targets_per_second: float, best_epoch: int) -> None:
        """Report the end of an epoch; `row`: its number (from 1), loss and validation metric, by name."""
        text = f"loss {row['loss']:.3f}, "
        if self.metric in row:
            text += f"validation {self.metric} {row[self.metric]:.4f} (best: epoch {best_epoch}), "
        text += f"{targets_per_second:,.0f} targets/s"
        if self.bar is not None:
            self.bar.n = row["epoch"]
            self.bar.set_postfix_str(text)
        elif self.lines:
            self.write(f"epoch {row['epoch']}/{self.epochs}: {text}")

    def write(self, message: str) -> None:
        """Print a line above the bar."""
        if self.bar is not None:
            self.bar.write(message)
        elif not self.silent:
            announce(message)
