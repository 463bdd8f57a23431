"""ManCAR: latent reasoning held near the graph neighbours of a user's last items, with adaptive stopping.

Paper: "ManCAR: Manifold-Constrained Latent Reasoning with Adaptive Test-Time Computation for Sequential
Recommendation", 2026 (arXiv 2602.20093). The neighbours of the last items in a Swing graph are read with the
history. A teacher distributes its mass over them, step by step more on the target, and keeps every step's prediction
near them.

Confirmed against the paper: the graph's weights; context without positions, history and context bidirectional,
reasoning steps causal; a step's token is phi * r / |r| * (mean norm of items) + its reasoning position; temperatures
base * t^a; teacher exp(-rank / (gamma (T' - t + 1))) over target and neighbours; the sum of cross-entropy and
lambda KL(teacher || step) over steps; the stop at KL(p_{t-1} || p_t) < epsilon.
Changed on purpose, where the released code differs: the output table is the live input table (code: a copy of it,
renewed once an epoch, without gradient); missing neighbours and the target among them get no mass of the teacher, and
later ones move up (code: they do); stopped users leave the batch (code: all steps are made, one is picked); epsilon is
to be chosen on validation, `inspection.stopping.choose_threshold` (code: eleven rows on test); the graph samples no
users; no noisy branch.
Also: LayerNorm instead of RMSNorm, items scaled by sqrt(dim) as in SASRec, right padding, `cuts` random histories per
user and epoch.
Reconstructed: r_0, the plain encoder's state, is the paper's first step, so T' = steps + 1; no gradient through the
mean norm; the default lambda.
Held against: other data than any here, split by time (`CARD`). The control `swing` is the graph alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Published, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.item_sources import IdEmbedding
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.reasoning import Stack, reason
from seqlab.layers.transformer import Block
from seqlab.ranking import top
from seqlab.runtime.settings import Count, NonNegativeFloat, NonNegativeInt, PositiveFloat, Share, settings
from seqlab.tracing import Layout, Tap

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

CARD = Card(
    claim="Thoughts held near a Swing graph beat SASRec, and the best of all others by up to 46.9 %.",
    title="ManCAR: Manifold-Constrained Latent Reasoning with Adaptive Test-Time Computation for Sequential "
          "Recommendation",
    year=2026,
    venue="arXiv 2602.20093",
    controls=("sasrec", "rearec", "swing"),
    homes=("complete-journey", "amazon-beauty"),
    measured=(
        Measurement(("complete-journey",), against=("sasrec:brief:epochs=20",), seeds=(0, 1, 2)),
        Measurement(("amazon-beauty", "amazon2018-games", "ml-1m"), against=("sasrec",)),
    ),
    published=(
        Published("Video Games, Amazon 2023", {"ndcg@10": 0.0275}, split="by time", source="its paper",
                  differs="Ratings above 3. SASRec has .0104 there, ReaRec-PRL .0215."),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the paper's beside them. context=False and teacher=False is reasoning without the graph."""

    steps: NonNegativeInt = 3  # reasoning steps after the state of the encoder; paper 1 to 5, by dataset
    max_length: Count = 50  # most recent events read; paper 50
    dim: Count = 64  # paper 256
    layers: Count = 2  # paper 2
    heads: Count = 2  # paper 2
    dropout: Share = 0.3  # paper .5
    thought_dropout: Share | None = None  # of the states that are fed back; None: as `dropout`; paper as `dropout`
    context: bool = True  # attend to neighbours of the last items; paper yes
    triggers: Count = 4  # last items whose neighbours are read; paper 4
    neighbours: Count = 7  # per trigger; paper 7
    teacher: bool = True  # train with the prior over target and neighbours of the last item; paper yes
    taught: Count = 10  # neighbours in that prior; paper 10
    prior: float = 0.1  # lambda, the weight of the prior's loss; paper tuned by dataset
    gamma: float = 1.0  # temperature of the prior at the last step; paper 1
    rescale: bool = True  # scale a state to the norm of items before it is fed back; paper yes
    base: PositiveFloat = 1.0  # temperature of the first step; paper 1
    growth: float = 2.0  # a: growth of the temperature with the step; paper 2
    epsilon: NonNegativeFloat = 0.0  # stop below this KL, 0 = never; `model.epsilon.fill_()` sets it; code 1e-4 to .1
    cuts: Count = 4  # training histories per user and epoch, cut at random; paper all
    users: Count | None = None  # per item in the graph at most; None: all; paper 10 of each pair of items


class ManCAR(nn.Module):
    """`r_0` = f(history, context), `r_{t+1}` = f(history, context, steps up to r_t); the score is `r . E_i`."""

    near: Tensor
    epsilon: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.items = IdEmbedding(n_items, config.dim)
        self.positions = nn.Embedding(config.max_length, config.dim)
        self.reason = nn.Parameter(torch.empty(config.steps, config.dim))
        self.phi = nn.Parameter(torch.ones(config.dim)) if config.rescale else None
        self.dropout = Dropout(config.dropout)
        self.thought_dropout = Dropout(config.dropout if config.thought_dropout is None else config.thought_dropout)
        self.blocks = nn.ModuleList(
            Block(Attention(config.dim, config.heads, False, "token"), config.dim, config.dropout, over="token")
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.step_taps = nn.ModuleList(Tap("reasoning_step", "user dim") for _ in range(config.steps + 1))
        self.reasoning = Tap("reasoning", "user step dim")
        initialization.normal(self.items, self.positions, self.reason)
        kept = max(config.neighbours, config.taught)
        self.register_buffer("near", torch.full((n_items + 1, kept), -1))  # nearest first, 0 = none, -1: no graph yet
        self.register_buffer("epsilon", torch.tensor(config.epsilon, dtype=torch.float32))

    def prepare(self, split: Split) -> None:
        """Set the neighbours of every item from the Swing graph of the training histories."""
        from seqlab.items.swing_graph import swing

        found = swing(split, self.near.shape[1], users=self.config.users).neighbours
        self.near.zero_()[:, : found.shape[1]] = found

    @property
    def temperatures(self) -> Tensor:
        """The softmax temperature of each step: (S + 1,), `base * t^growth`."""
        return self.config.base * torch.arange(1, self.config.steps + 2, device=self.near.device) ** self.config.growth

    def context(self, batch: Batch) -> Tensor:
        """The context items of each history: (B, triggers * neighbours), 0 = none, those of the last item first."""
        self._require_graph()
        back = torch.arange(self.config.triggers, device=batch.items.device)
        at = batch.lengths[:, None] - 1 - back  # (B, triggers)
        last = batch.items.gather(1, at.clamp(min=0)) * (at >= 0)
        return self.near[last, : self.config.neighbours].flatten(1)

    def _states(
        self, batch: Batch, steps: int, taps: Sequence[Tap] | None, keep_going: Callable | None = None
    ) -> Tensor:
        """The states (B, steps + 1, D) at the end of each history; see `layers.reasoning.reason`."""
        end = (batch.lengths - 1).clamp(min=0)[:, None]  # (B, 1)
        places = torch.arange(batch.items.shape[1], device=end.device)
        mask, scale = places <= end, self.config.dim**0.5  # (B, T): one position also where there are no items
        x = self.items.lookup(batch.items) * scale + self.positions(places)  # (B, T, D)
        if self.config.context:
            neighbours = self.context(batch)  # after the history: it has no positions, so the order is free
            x = torch.cat([x, self.items.lookup(neighbours) * scale], 1)  # (B, T + C, D)
            mask = torch.cat([mask, neighbours > 0], 1)
        encoder, norm = Stack(self.blocks, self.norm), self.items.table().detach()[1:].norm(dim=1).mean() * scale

        def rescale(state: Tensor) -> Tensor:
            return self.phi * nn.functional.normalize(state, dim=-1) * norm if self.config.rescale else state

        first, cache = encoder.prefill_last(self.dropout(x), end, mask)
        states = reason(encoder, first, cache, steps, self.reason, rescale, 0.0, self.thought_dropout, taps, keep_going)
        return states[:, 0]  # (B, S + 1, D)

    def item_vectors(self) -> Tensor:
        return self.items.table()  # (N + 1, D)

    def layout(self, batch: Batch) -> Layout:
        """The tokens of `score`: events, their neighbours, reasoning steps; the last step is the readout.

        A user who stops early makes fewer steps: the last ones do not pass.
        """
        steps, found = self.config.steps, Layout.of_events(batch.items)
        if self.config.context:
            neighbours = Layout.of_tokens(self.context(batch), "neighbour", empty="padding")
            found = found.concat(neighbours)
        if not steps:
            return found
        found = found.concat(Layout.of_tokens(batch.items.new_zeros(len(batch), steps), "reasoning_step"))
        answers = torch.arange(len(found), device=batch.items.device) == len(found) - 1
        return replace(found, readout=answers.expand_as(found.readout))

    def reasoning_states(self, batch: Batch, steps: int | None = None) -> Tensor:
        """The users' states r_0 to r_S at the end of their histories, or to r_`steps`: (B, S + 1, D), without stopping.

        Raises `ValueError` for more steps than there are.
        """
        steps = self.config.steps if steps is None else steps
        if not 0 <= steps <= self.config.steps:
            raise ValueError(f"this model was built for {self.config.steps} steps, it cannot take {steps}.")
        return self.reasoning(self._states(batch, steps, self.step_taps))

    def step_scores(self, states: Tensor) -> Tensor:
        """Every step's scores of the catalogue, (B, S + 1, N + 1), from `reasoning_states` (B, S + 1, D)."""
        return states @ self.items.table().T

    def score(self, batch: Batch) -> Tensor:
        """By the last state, or, where epsilon is above 0, by the one at which each user stopped: (B, N + 1).

        A user who has stopped is out of the batch for the steps that follow.
        """
        keep_going = self.stopping(float(self.epsilon)) if float(self.epsilon) > 0 else None
        states = self.reasoning(self._states(batch, self.config.steps, self.step_taps, keep_going))
        return states[:, -1] @ self.items.table().T  # (B, N + 1)

    def stopping(self, epsilon: float) -> Callable[[int, Tensor], Tensor]:
        """`keep_going` of `reason`: the users with KL(p_{t-1} || p_t) not below epsilon continue.

        With logits h . E_i and log-sums z, `KL(p || q) = (h_p - h_q) . E_p[E_i] - z_p + z_q`: one softmax a step, in
        chunks. It costs two products with the catalogue, so with a large catalogue more than the step that it may save.
        """
        table, temperatures, before = self.items.table()[1:], self.temperatures, None
        rows = losses.rows_at_once(table)

        @torch.no_grad()
        @torch.autocast(table.device.type, enabled=False)  # differences of log-sums need all their digits
        def keep_going(step: int, state: Tensor) -> Tensor:
            nonlocal before
            h, found = state[:, 0].float() / temperatures[step], []  # (B', D)
            for first in range(0, len(h), rows):
                here = h[first : first + rows]
                weights = here @ table.T  # (rows, N)
                highest = weights.amax(1, keepdim=True)
                sums = weights.sub_(highest).exp_().sum(1, keepdim=True)
                z = sums.log() + highest  # (rows, 1)
                on = torch.ones_like(z[:, 0], dtype=torch.bool)
                if before is not None:
                    h_before, z_before, mean = (one[first : first + rows] for one in before)
                    on = ((h_before - here) * mean).sum(1) - (z_before - z)[:, 0] >= epsilon
                more = weights[on] @ table / sums[on] if step + 2 < len(temperatures) else h[:0]  # needed again?
                found.append((on, here[on], z[on], more))
            goes_on, *before = (torch.cat(one) for one in zip(*found, strict=True))
            return goes_on

        return keep_going

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)

    def loss(self, batch: Batch) -> Loss:
        """The sum over steps of cross-entropy and lambda KL(teacher || step), each at its temperature."""
        whole = batch.cut(self.config.cuts)
        states, truth = self._states(whole, self.config.steps, None), whole.last(whole.targets)  # (M, S + 1, D), (M,)
        scaled = states / self.temperatures[:, None]
        table, parts = self.items.table(), {}
        for step in range(self.config.steps + 1):
            parts[f"step {step}"] = losses.softmax(scaled[:, step].contiguous(), table, truth)
        total = torch.stack(list(parts.values())).sum()
        if self.config.teacher:
            support, shares = self.teacher(whole, truth)  # (M, K), (M, S + 1, K)
            # KL = sum q log q - sum q log p, and -log p_i = CE + (h . E_target - h . E_i): no second softmax
            logits = torch.einsum("msd,mkd->msk", scaled, table[support])
            away = logits[..., 0] - (shares * logits).sum(-1) + torch.xlogy(shares, shares).sum(-1)  # (M, S + 1)
            parts["prior"] = total + away.sum(1).mean()
            total = total + self.config.prior * parts["prior"]
        return Loss(total, {name: part.detach() for name, part in parts.items()}, len(truth))

    def teacher(self, batch: Batch, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's items (B, 1 + taught), the target `truth` (B,) first, and its shares (B, S + 1, 1 + taught).

        Rank 0 is the target, 1, 2, .. the other neighbours of the last item. Those that are missing, and the target
        once more, have a share of 0 and no rank.
        """
        self._require_graph()
        near = self.near[batch.last(batch.items), : self.config.taught]  # (B, taught)
        valid = (near > 0) & (near != truth[:, None])
        valid = torch.cat([torch.ones_like(valid[:, :1]), valid], 1)  # (B, 1 + taught)
        left = torch.arange(self.config.steps + 1, 0, -1, device=near.device)  # T' - t + 1
        logits = -(valid.cumsum(1) - 1)[:, None] / (self.config.gamma * left)[:, None]  # (B, S + 1, 1 + taught)
        shares = logits.masked_fill(~valid[:, None], -torch.inf).softmax(-1)
        return torch.cat([truth[:, None], near], 1), shares

    def _require_graph(self) -> None:
        if int(self.near[0, 0]) < 0:
            raise RuntimeError("mancar has no graph yet: call prepare(split).")
