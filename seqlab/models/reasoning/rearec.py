"""ReaRec: a sequence encoder with latent reasoning: its last state is fed back as a token, step after step.

Paper: Tang et al., "Think Before Recommend: Unleashing the Latent Reasoning Power for Sequential Recommendation",
2025 (arXiv 2503.22675). Reasoning position vectors distinguish reasoning steps from events. ERL scores with the mean of
all states and keeps them different; PRL scores with the last, and trains earlier ones at higher temperatures.

Confirmed against the paper and the authors' code: token s + 1 is r_s plus its reasoning position, after dropout, and
attends to the history and the steps before it (BERT4Rec: history bidirectional, steps causal); ERL's mean; PRL's
temperatures tau alpha^(S - s), and its contrast, where a noisy state must pick the clean one among those of the
batch by dot products / tau; full softmax over the catalogue. The paper where the code departs from it: PRL adds
up the losses of all steps (code: the last, and the mean of the others); ERL subtracts the sum of KL(p_i || p_j) over
i < j, with gradients to both sides (code: the mean over ordered pairs, the second side detached).
Changed on purpose: backbones as in this library, without a norm on what enters, so that steps=0 is SASRec; tau 1, not
.07, as logits are not normalised and learn their scale, and alpha 2; noise from the first batch on (code: after 2
epochs), and on steps alone: clean and noisy ones share the encoded history. One pass trains on all positions of a
history; PRL reasons at a random `share` of them, with one noisy twin per history, so that no negative of the contrast
is from the same history; ERL compares its steps at `compared` positions: the same means, more noise.
Reconstructed: whether the contrast adds up over steps (it does here); the GRU's steps (one more of its cells).
Held against: other data than any here, split by time (`CARD`): only the gain over SASRec compares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from seqlab.contracts import Card, Loss, Measurement, Published, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.item_sources import IdEmbedding
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.mixers.gru import GRU
from seqlab.layers.reasoning import Recurrent, Stack, reason
from seqlab.layers.transformer import Block
from seqlab.ranking import top
from seqlab.runtime.settings import Count, NonNegativeInt, PositiveFloat, Share, settings
from seqlab.tracing import Layout, Tap

CARD = Card(
    claim="Latent reasoning lifts SASRec, by 6.8 % (ERL) and 8.2 % (PRL).",
    title="Think Before Recommend: Unleashing the Latent Reasoning Power for Sequential Recommendation",
    authors="Tang et al.", year=2025, venue="arXiv 2503.22675", tuned=(Measurement(arms=("rearec", "rearec:erl")),),
    controls=("sasrec", "sasrec:layers=3", "sasrec:epochs=40", "rearec:feedback"),
    homes=("complete-journey", "amazon-beauty"), control_names={"sasrec:layers=3": "a third layer",
        "sasrec:epochs=40": "longer training", "rearec:feedback": "feedback without positions"},
    named={"erl": "objective=erl", "feedback": "objective=last:reason_positions=False",
           "tuned": "objective=erl:dropout=0.432:learning_rate=0.00238"},  # on amazon-beauty; the preset is PRL's
    measured=(Measurement(("complete-journey",), ("rearec", "rearec:erl", "rearec:feedback", "sasrec:brief:epochs=40",
                          "sasrec:brief:layers=3:epochs=20"), ("sasrec:brief:epochs=20",), seeds=(0, 1, 2)),
              Measurement(("amazon-beauty",), ("rearec", "rearec:tuned", "rearec:feedback", "sasrec:epochs=40",
                          "sasrec:layers=3"), ("sasrec",)),
              Measurement(("amazon2018-games",), ("rearec", "rearec:tuned"), ("sasrec",)),
              Measurement(("ml-1m",), ("rearec", "rearec:erl"), ("sasrec",))),
    published=tuple(Published("Video Games, Amazon 2023", {"ndcg@10": value}, "its paper", "SASRec has .0284 there.",
                              variant, split="by time") for variant, value in (("PRL", 0.0299), ("ERL", 0.0301))),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the paper's beside them. steps=0 is the backbone alone."""

    backbone: Literal["sasrec", "bert4rec", "gru4rec"] = "sasrec"
    objective: Literal["prl", "erl", "last"] = "prl"  # last: only the cross-entropy of the last state
    steps: NonNegativeInt = 2  # reasoning steps; paper 2
    reason_positions: bool = True  # paper yes
    max_length: Count = 50  # most recent events read; paper 50
    dim: Count = 64  # paper 256
    layers: Count = 2  # paper 2
    heads: Count = 2  # paper 2; gru4rec has none
    dropout: Share = 0.3  # paper .5
    thought_dropout: Share | None = None  # of the states that are fed back; None: as `dropout`; paper as `dropout`
    tau: PositiveFloat = 1.0  # temperature of the last step; code .07, swept from .05 to 5
    alpha: PositiveFloat = 2.0  # prl: temperature of a step relative to the next one; code 5, swept from 1 to 10
    gamma: float = 0.01  # prl: standard deviation of the noise on states; code .01
    contrast: float = 1.0  # prl: weight of the contrast of noisy and clean states; paper 1; 0: no noise
    diversity: float = 0.005  # erl: weight of the divergence between steps; code .05, which diverged here
    share: Annotated[Share, Field(gt=0)] = 0.3  # prl: positions of a history to reason at, sampled anew; paper all
    compared: Count = 128  # erl: positions of a batch at which steps are compared; paper all
    cuts: Count = 4  # bert4rec: training histories per user and epoch, cut at random; paper all


class ReaRec(nn.Module):
    """`r_0` = encoder(history), `r_{s+1}` = encoder(history, steps up to `r_s + p_s`); the score is `r . E_i`."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.items = IdEmbedding(n_items, dim)
        self.dropout = Dropout(config.dropout)
        self.thought_dropout = Dropout(config.dropout if config.thought_dropout is None else config.thought_dropout)
        if config.backbone == "gru4rec":
            self.recurrences = nn.ModuleList(GRU(dim) for _ in range(config.layers))
        else:
            self.positions = nn.Embedding(config.max_length, dim)
            causal = config.backbone == "sasrec"
            self.blocks = nn.ModuleList(
                Block(Attention(dim, config.heads, causal, "token"), dim, config.dropout, over="token")
                for _ in range(config.layers)
            )
            self.norm = nn.LayerNorm(dim)
            initialization.normal(self.positions)
        if config.backbone == "bert4rec":
            self.encode = None  # its states depend on later events
        self.reason = None  # (S, D) the reasoning positions
        if config.reason_positions and config.steps:
            self.reason = nn.Parameter(torch.empty(config.steps, dim))
            initialization.normal(self.reason)
        self.step_taps = nn.ModuleList(Tap("reasoning_step", "user dim") for _ in range(config.steps + 1))
        self.reasoning = Tap("reasoning", "user step dim")
        initialization.normal(self.items)

    @property
    def encoder(self) -> Stack | Recurrent:
        if self.config.backbone == "gru4rec":
            return Recurrent(self.recurrences, self.dropout)
        return Stack(self.blocks, self.norm)

    @property
    def temperatures(self) -> Tensor:
        """The softmax temperature of each step: (S + 1,)."""
        left = torch.arange(self.config.steps, -1, -1, device=self.items.table().device)  # S - s
        return self.config.tau * (self.config.alpha if self.config.objective == "prl" else 1.0) ** left

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Input tokens (B, T, D), their padding mask (B, T), and the last position of each history (B, 1)."""
        places = torch.arange(batch.items.shape[1], device=batch.items.device)
        x = self.items.lookup(batch.items) * self.config.dim**0.5  # (B, T, D)
        if self.config.backbone != "gru4rec":
            x = x + self.positions(places)
        end = (batch.lengths - 1).clamp(min=0)[:, None]
        return self.dropout(x), places <= end, end

    def encode(self, batch: Batch) -> Tensor:
        """The state after every event, before any reasoning step: (B, T, D)."""
        x, mask, end = self.embed(batch)
        return self.encoder.prefill(x, end, mask)[0]

    def item_vectors(self) -> Tensor:
        return self.items.table()  # (N + 1, D)

    def reasoning_states(self, batch: Batch, steps: int | None = None) -> Tensor:
        """The users' states r_0 to r_S at the end of their histories, or to r_`steps`: (B, S + 1, D).

        Raises `ValueError` for more steps than there are.
        """
        steps = self.config.steps if steps is None else steps
        if not 0 <= steps <= self.config.steps:
            raise ValueError(f"this model was built for {self.config.steps} steps, it cannot take {steps}.")
        x, mask, end = self.embed(batch)
        start = self.encoder.prefill_last(x, end, mask)
        states = reason(self.encoder, *start, steps, self.reason, dropout=self.thought_dropout, taps=self.step_taps)
        return self.reasoning(states[:, 0])

    def layout(self, batch: Batch) -> Layout:
        """The tokens of `score`: events, then steps; the readout is the last step, or (ERL) all and the last event."""
        found, steps = Layout.of_events(batch.items), self.config.steps
        if not steps:
            return found
        found = found.concat(Layout.of_tokens(batch.items.new_zeros(len(batch), steps), "reasoning_step", readout=True))
        if self.config.objective == "erl":
            return found
        last = torch.arange(len(found), device=batch.items.device) == len(found) - 1
        return replace(found, readout=last.expand_as(found.readout))

    def step_scores(self, states: Tensor) -> Tensor:
        """Every step's scores of the catalogue, (B, S + 1, N + 1), from `reasoning_states` (B, S + 1, D)."""
        return states @ self.items.table().T

    def answer(self, states: Tensor) -> Tensor:
        """The state (B, D) that scores items, of all the steps (B, S + 1, D)."""
        return states.mean(1) if self.config.objective == "erl" else states[:, -1]

    def score(self, batch: Batch) -> Tensor:
        return self.answer(self.reasoning_states(batch)) @ self.items.table().T  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)

    def loss(self, batch: Batch) -> Loss:
        config = self.config
        both_ways = config.backbone == "bert4rec"
        if both_ways:
            batch = batch.cut(config.cuts)
        has_target = batch.targets > 0  # (B, T)
        x, mask, end = self.embed(batch)
        at, chosen = (end, has_target.gather(1, end)) if both_ways else self._reasoning_positions(has_target)  # (B, W)
        noise, lines = 0.0, at
        if twin := config.objective == "prl" and config.contrast > 0 and config.steps > 0:
            lines = torch.cat([at, at[:, :1]], 1)  # (B, W + 1): one more position, with noise
            noise = config.gamma * (torch.arange(lines.shape[1], device=at.device) == at.shape[1])[:, None]
        states, cache = self.encoder.prefill(x, end if both_ways else lines, mask)
        row = torch.arange(len(at), device=at.device)[:, None]
        first = states[row, lines]  # (B, W or W + 1, D)
        dropout = self.thought_dropout
        reasoned = reason(self.encoder, first, cache, config.steps, self.reason, noise=noise, dropout=dropout)
        made = reasoned[:, : at.shape[1]][chosen], batch.targets[row, at][chosen]  # (M, S + 1, D), (M,)
        if config.objective != "prl":
            return self._ensemble(*made)
        pair = (reasoned[:, -1], reasoned[:, 0], batch.user) if twin else ()
        pair = [part[chosen[:, 0]] for part in pair]
        return self._progressive(states[has_target], batch.targets[has_target], *made, pair)

    def _reasoning_positions(self, has_target: Tensor) -> tuple[Tensor, Tensor]:
        """The positions to reason at, (B, W), and which of them have a target: a random share, or all."""
        users, length = has_target.shape
        if self.config.objective != "prl":  # one softmax per position, however many steps
            return torch.arange(length, device=has_target.device).expand(users, -1), has_target
        wanted = self.config.share * length if self.config.steps else 1.0
        width = math.ceil(wanted)
        draw, at = torch.rand(users, length, device=has_target.device).masked_fill(~has_target, -1.0).topk(width, 1)
        chosen = draw >= 0
        # of 1.2 positions the second is taken in a fifth of the histories; the first history always has both
        chosen[1:, -1] &= torch.rand(users - 1, device=has_target.device) < wanted - (width - 1)
        return at, chosen

    def _softmax(self, hidden: Tensor, truth: Tensor, temperature: Tensor) -> Tensor:
        return losses.softmax((hidden / temperature).contiguous(), self.items.table(), truth)

    def _progressive(
        self, first: Tensor, first_truth: Tensor, reasoned: Tensor, truth: Tensor, pair: Sequence[Tensor]
    ) -> Loss:
        """PRL: the cross-entropies of first states (M', D) and of states (M, S + 1, D), and the contrast of `pair`:
        noisy and clean states (B', S + 1, D) and their users (B',)."""
        temperatures, later = self.temperatures, range(1, self.config.steps + 1)
        parts = {"step 0": self._softmax(first, first_truth, temperatures[0])}
        for step in later:
            parts[f"step {step}"] = self._softmax(reasoned[:, step], truth, temperatures[step])
        total = torch.stack(list(parts.values())).sum()
        if pair:
            noisy, clean, users = pair
            each = [contrast(noisy[:, step], clean[:, step], users, self.config.tau) for step in later]
            parts["contrast"] = torch.stack(each).sum()
            total = total + self.config.contrast * parts["contrast"]
        return Loss(total, {name: part.detach() for name, part in parts.items()}, len(first_truth))

    def _ensemble(self, reasoned: Tensor, truth: Tensor) -> Loss:
        """The cross-entropy of the readout of states (M, S + 1, D); ERL: less the divergence between steps."""
        total = self._softmax(self.answer(reasoned), truth, self.temperatures[-1])
        if self.config.objective == "last" or not self.config.steps:
            return Loss(total, count=len(truth))
        compared = torch.randperm(len(reasoned), device=reasoned.device)[: self.config.compared]
        logits = reasoned[compared] @ self.items.table()[1:].T / self.config.tau  # (C, S + 1, N)
        parts = {"ensemble": total.detach(), "diversity": pairwise_kl(logits.log_softmax(-1))}
        total = total - self.config.diversity * parts["diversity"]
        return Loss(total, parts | {"diversity": parts["diversity"].detach()}, len(truth))


def contrast(noisy: Tensor, clean: Tensor, users: Tensor, tau: float) -> Tensor:
    """InfoNCE: each noisy state (M, D) must pick its clean one (M, D) by dot product / tau, among other users' ones.

    Other states of the same user (`users`, (M,)) are no negatives: they are masked.
    """
    logits = noisy @ clean.T / tau  # (M, M)
    itself = torch.arange(len(users), device=users.device)
    same_user = (users[:, None] == users) & (itself[:, None] != itself)
    return F.cross_entropy(logits.masked_fill(same_user, -torch.inf), itself)


def pairwise_kl(log_p: Tensor) -> Tensor:
    """The sum of KL(p_i || p_j) over steps i < j, its mean over rows: log_p (M, S + 1, N) of the steps."""
    cross = torch.einsum("min,mjn->mij", log_p.exp(), log_p)  # (M, S + 1, S + 1)
    return (cross.diagonal(dim1=1, dim2=2)[..., None] - cross).triu(1).sum((1, 2)).mean()
