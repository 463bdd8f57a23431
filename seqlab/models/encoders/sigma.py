"""SIGMA: a Mamba that reads a history forwards and with its beginning turned round, gated, beside a small GRU.

Paper: Liu et al., "SIGMA: Selective Gated Mamba for Sequential Recommendation", AAAI 2025. A second pass sees the
history reversed but for its last events, so that the state at the end knows the beginning better; gates that depend on
the events weigh both passes; a convolution and a GRU are to help short histories, from which Mamba learns little.

Confirmed against the authors' code: one Mamba for both passes; the gates `W silu(h) + V sigmoid(h)`, h = X + W' X, that
multiply the outputs and are added to 1; a convolution over three events before a GRU without biases; the three branches
weighed by learned numbers that begin at .8, .1 and .1; then a projection and the layer of Mamba4Rec around it.
Changed on purpose: the events of a history are turned round, where the code turns positions 0 to 44 of 50, which are
partly padding where a history is shorter; the gate of the second pass is computed from that pass alone, where the code
applies the sigmoid to the first gate; Mamba keeps its initialization; 16 states for 32; `cuts` prefixes of a history in
an epoch for all of them.
Reconstructed: nothing.
Held against: the authors' code on fixed weights, where it agrees with the paper.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.item_sources import IdEmbedding
from seqlab.layers.mixers.selective import SelectiveSSM
from seqlab.layers.post_norm import PostNormBlock
from seqlab.ranking import top
from seqlab.runtime.settings import Count, NonNegativeInt, Share, settings
from seqlab.tracing import Tap

CARD = Card(
    claim="Reading a history in two directions, with a GRU for short ones, beats SASRec and Mamba4Rec.",
    title="SIGMA: Selective Gated Mamba for Sequential Recommendation",
    authors="Liu et al.",
    year=2025,
    venue="AAAI",
    controls=("mamba4rec", "sasrec"),
    homes=("complete-journey", "amazon-beauty"),
    measured=(
        Measurement(("complete-journey",), against=("mamba4rec", "sasrec"), seeds=(0, 1, 2)),
        Measurement(("complete-journey",), ("sigma:gru=false", "sigma:flip=false", "sigma:gate=false"), ("sigma",)),
        Measurement(("amazon-beauty",), against=("mamba4rec", "sasrec")),
    ),
)
TINY = {"max_length": 8, "dim": 32, "layers": 1, "states": 4, "kept": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the paper's beside them."""

    max_length: Count = 50  # most recent events read; paper 50, 200 on ml-1m
    dim: Count = 64  # paper 64
    layers: Count = 1  # paper 1
    states: Count = 16  # of each channel; paper 32
    width: Count = 4  # of Mamba's convolution; paper 4
    expand: Count = 2  # channels of the state-space model / dim; paper 2
    kept: NonNegativeInt = 5  # last events that the second pass reads in their order; paper 5
    flip: bool = True  # the second pass
    gate: bool = True  # the gates of both passes
    gru: bool = True  # the convolution and the GRU
    dropout: Share = 0.2  # paper .2
    cuts: Count = 4  # random prefixes of a crop in an epoch, each with one target; paper: all, once


class GatedMamba(nn.Module):
    """Mamba over a sequence and over its partial flip, both gated, and conv + GRU: a weighted sum.

    Not causal, so only the output at the last event may predict. kept: the last events that are not turned round.

    Taps: branch gates (B, T, 2, D) of the two passes; branches (B, T, 3, D), the terms of the sum: Mamba, Mamba of the
    partial flip, GRU.
    """

    causal = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim, self.config = config.dim, config
        self.mamba = SelectiveSSM(dim, config.states, config.width, config.expand)
        self.before_gate = nn.ModuleList(nn.Linear(dim, dim) for _ in range(2))
        self.silu_gate, self.sigmoid_gate = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.conv = nn.Conv1d(dim, dim, 3, padding=1)
        self.gru = nn.GRU(dim, dim, bias=False, batch_first=True)
        self.weights = nn.Parameter(torch.tensor([0.8, 0.1, 0.1]))
        self.project_out = nn.Linear(dim, dim)
        self.dropout = Dropout(config.dropout)
        self.gates = Tap("branch gates", "user event gate dim")
        self.branches = Tap("branches", "user event branch dim")

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, D) to (B, T, D). mask: (B, T), True where an event is no padding."""
        config, x = self.config, x * mask[..., None]  # the convolution sees one event ahead
        passes = [x, partial_flip(x, mask.sum(1), config.kept)] if config.flip else [x]
        outputs = [self.mamba(one) for one in passes]
        if config.gate:
            gates = [self._gate(one, layer) for one, layer in zip(passes, self.before_gate, strict=False)]
            gates = self.gates(torch.stack(gates, 2))  # (B, T, 2, D)
            outputs = [one + one * gate for one, gate in zip(outputs, gates.unbind(2), strict=True)]
        branches = [weight * one for weight, one in zip(self.weights, outputs, strict=False)]
        if config.gru:
            convolved = self.conv(x.transpose(1, 2)).transpose(1, 2)  # (B, T, D)
            branches.append(self.weights[2] * self.gru(convolved)[0])
        return self.project_out(self.branches(torch.stack(branches, 2)).sum(2))

    def _gate(self, x: Tensor, before: nn.Module) -> Tensor:
        h = x + before(x)
        return self.dropout(self.silu_gate(F.silu(h)) + self.sigmoid_gate(h.sigmoid()))


def partial_flip(x: Tensor, lengths: Tensor, kept: int) -> Tensor:
    """x (B, T, D) with the events of each row in reverse order, but for its last `kept` ones. lengths: (B,)."""
    position = torch.arange(x.shape[1], device=x.device)
    turned = (lengths - kept)[:, None]  # (B, 1)
    return x.take_along_dim(torch.where(position < turned, turned - 1 - position, position)[..., None], 1)


GROUP = 2048
"""Positions in each group of prefixes of similar lengths, in which less is computed on padding than in a batch."""


class SIGMA(nn.Module):
    """`h` = the state of the gated Mambas at the last event; the score of item i is `h . E_i`."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.items = IdEmbedding(n_items, config.dim)
        self.dropout = Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.dim, eps=1e-12)
        self.blocks = nn.ModuleList(
            PostNormBlock(GatedMamba(config), config.dim, config.dropout, residual=config.layers > 1)
            for _ in range(config.layers)
        )
        initialization.normal(self.items)

    @property
    def branch_names(self) -> tuple[str, ...]:
        """What the terms along the axis "branch" are."""
        flip, gru = ("Mamba of the partial flip",) * self.config.flip, ("GRU",) * self.config.gru
        return ("Mamba", *flip, *gru)

    def states(self, items: Tensor, lengths: Tensor) -> Tensor:
        """The state at the last event of each row of items (B, T): (B, D). The others know what comes after them."""
        x = self.norm(self.dropout(self.items.lookup(items)))  # (B, T, D)
        for block in self.blocks:
            x = block(x, items > 0)
        return x[torch.arange(len(x), device=x.device), (lengths - 1).clamp(min=0)]

    def item_vectors(self) -> Tensor:
        return self.items.table()

    def loss(self, batch: Batch) -> Loss:
        prefixes = batch.cut(self.config.cuts)
        items, lengths, targets = prefixes.items, prefixes.lengths, prefixes.last(prefixes.targets)
        order = lengths.argsort()
        groups = order.chunk(-(-items.numel() // GROUP))
        parts = [self.states(items[rows, : int(lengths[rows[-1]])], lengths[rows]) for rows in groups]
        return Loss(losses.softmax(torch.cat(parts), self.items.table(), targets[order]), count=len(targets))

    def score(self, batch: Batch) -> Tensor:
        return self.states(batch.items, batch.lengths) @ self.items.table().T  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
