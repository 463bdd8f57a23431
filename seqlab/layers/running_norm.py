"""Batch normalisation by running statistics."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RunningNorm(nn.BatchNorm1d):
    """Batch normalisation by the running statistics, in training as well as in evaluation.

    For batches that differ, such as those of histories of similar lengths: normalised by its own statistics, each would
    be treated in training as no other one and as nothing in evaluation is. The gradient takes the statistics as fixed.
    The first batches count equally, later ones by `momentum`. With several processes each has its own statistics.
    """

    def __init__(self, features: int, momentum: float = 0.02) -> None:
        super().__init__(features, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        """x (R, F), R rows of F features."""
        if self.training and len(x):
            with torch.no_grad():
                self.num_batches_tracked += 1
                share = max(1 / int(self.num_batches_tracked), self.momentum)
                self.running_mean.lerp_(x.mean(0).float(), share)
                self.running_var.lerp_(x.var(0, correction=0).float(), share)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
