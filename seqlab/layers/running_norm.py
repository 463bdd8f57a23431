"""Batch normalisation by running statistics, and an MLP behind it."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.layers.mlp import mlp


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


class NormalizedMLP(nn.Sequential):
    """`RunningNorm`, dropout, and an MLP with PReLU to one logit."""

    def __init__(self, features: int, hidden: tuple[int, ...]) -> None:
        super().__init__(RunningNorm(features), *mlp((features, *hidden, 1), functools.partial(nn.PReLU, init=0.1)))

    def forward(self, features: Tensor, dropout: nn.Module) -> Tensor:
        """The logits (...) of features (..., F). dropout: of the normalised features."""
        norm, *layers = self
        x = dropout(norm(features.flatten(0, -2)))
        for layer in layers:
            x = layer(x)
        return x.view(features.shape[:-1])
