"""What training does after an epoch: measure the validation part, keep the best weights, stop early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from seqlab import tasks
from seqlab.decoding.settings import using
from seqlab.evaluation import metrics
from seqlab.presets import default_decoding

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.optimization.checkpoint import State
    from seqlab.optimization.options import Options
    from seqlab.optimization.tracking import Log


class Validation:
    """Validation after an epoch, the best weights, and early stopping. log: a tracker that gets all metrics."""

    def __init__(
        self, model: nn.Module, split: Split, options: Options, seen_filter: bool, log: Log | None = None
    ) -> None:
        self.model, self.split, self.options, self.seen_filter, self.log = model, split, options, seen_filter, log
        self.metric = tasks.metric_of(model, split, options.metric)
        self.decoding = default_decoding(model, split)  # whatever the lists are made by afterwards

    def measure(self, state: State) -> dict[str, float]:
        """The metric after an epoch that is validated (see `Options.validate_every`), else nothing."""
        metric = self.metric.name
        if state.epoch % self.options.validate_every and state.epoch != self.options.epochs:
            return {}
        with using(self.model, self.decoding):
            valid = metrics(tasks.measure(self.model, self.split, "valid", self.seen_filter))
        if self.log is not None:
            self.log({f"valid/{name}": value for name, value in valid.items()}, state.epoch)
        if self.metric.better(valid[metric], state.valid.get(metric, self.metric.worst)):
            state.valid, state.best_epoch = valid, state.epoch
            state.best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        return {metric: valid[metric]}

    def stop(self, state: State) -> str:
        """Why training stops now, or ""."""
        metric, patience = self.metric.name, self.options.patience
        since = sum(metric in row and row["epoch"] > state.best_epoch for row in state.history)
        return f"No better {metric} in {patience} validations: stopped." if since >= patience else ""
