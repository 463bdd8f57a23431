"""How training reports: a live bar where someone watches, a line per epoch where a log is kept."""

from __future__ import annotations

import os
import sys

from seqlab.runtime import processes


def interactive() -> bool:
    """Whether a person watches: a terminal or a notebook that is not being rendered into a report."""
    if os.environ.get("SEQLAB_REPORT"):
        return False
    return "ipykernel" in sys.modules or sys.stderr.isatty()


class Progress:
    """The progress of one training, called `name`; of several processes the first alone reports.

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
        """Within an epoch, of whose targets `share` is done."""
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.3f}, {targets_per_second:,.0f} targets/s", refresh=False)
            self.bar.n = epoch + min(share, 0.99)
            self.bar.refresh()

    def epoch(self, row: dict[str, float], targets_per_second: float, best_epoch: int) -> None:
        """After an epoch."""
        text = f"loss {row['loss']:.3f}, "
        if self.metric in row:
            text += f"validation {self.metric} {row[self.metric]:.4f} (best: epoch {best_epoch}), "
        text += f"{targets_per_second:,.0f} targets/s"
        if self.bar is not None:
            self.bar.n = row["epoch"]
            self.bar.set_postfix_str(text)
        elif self.lines:
            self.write(f"epoch {row['epoch']}/{self.epochs}: {text}")

    def write(self, sentence: str) -> None:
        """A sentence that stays."""
        if self.bar is not None:
            self.bar.write(sentence)
        elif not self.silent:
            print(sentence, flush=True)
