"""REG4Rec: an item is a set of parallel codes; a path of reasoning steps fills them in, the most confident slot first.

Paper: Xing et al., "REG4Rec: Reasoning-Enhanced Generative Model for Large-Scale Recommendation Systems", 2025
(arXiv 2508.15308). Codes of parallel experts have no order, so there are many paths to an item: the model picks its
own at every step, is rewarded for good ones, and drops inconsistent ones while it searches.

Confirmed from reviews of the paper and one re-implementation alone (no official code was found): names and purpose of
parts; an item is an MLP of its code vectors; one prediction MLP per slot against that slot's vectors, divided by .1.
Changed on purpose: paths read the user's state, not all states, so one causal pass learns from every position;
preference alignment is a term beside the cross-entropy, not a second stage with a KL to a supervised model.
Reconstructed: most of it. Learning: random orders, at every step the mean cross-entropy of all open slots (order=fixed:
of that step's). Confidence: the highest probability of a slot. Reward: exact match plus share of equal codes, over the
next `horizon` items of the training history, discounted; relative to the group; none for agreeing categories, which
logs lack. CORP drops the probable candidates to whose codes the first step gave the least log-probability.
Held against: no confirmed number; random_codes (for tokenizers/parallel_vq.py) and the fixed order are the controls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab import decoding
from seqlab.contracts import Card, Loss, Measurement, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.datasets.splits import Split
from seqlab.layers import initialization
from seqlab.layers.dropout import Dropout
from seqlab.layers.kv_cache import DecodeTaps, KVCache, decode_step
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.mlp import mlp
from seqlab.layers.transformer import Block
from seqlab.runtime.settings import Count, PositiveFloat, Share, settings
from seqlab.tokenizers.resolve import CollisionRule
from seqlab.tokenizers.semantic_ids import SemanticIds, semantic_ids
from seqlab.tracing import Tap

CARD = Card(
    claim="Many reasoning paths over parallel codes beat one.", homes=("complete-journey", "amazon-beauty"),
    title="REG4Rec: Reasoning-Enhanced Generative Model for Large-Scale Recommendation Systems", seen_filter=False,
    authors="Xing et al.", year=2025, venue="arXiv 2508.15308",
    controls=("reg4rec:random", "reg4rec:fixed", "sasrec_side"),
    named={"random": "tokenizer=random_codes", "fixed": "order=fixed"},
    control_names={"reg4rec:random": "random codes", "reg4rec:fixed": "a fixed order", "sasrec_side": "no reasoning"},
    measured=(Measurement(arms=("reg4rec", "reg4rec:random", "reg4rec:fixed"), against=("sasrec_side",)),
              Measurement(("complete-journey",), against=("reg4rec:random", "reg4rec:fixed"), seeds=(0, 1, 2)),
              Measurement(("amazon-beauty",), against=("reg4rec:random", "reg4rec:fixed")),
              Measurement(("amazon2018-games", "ml-1m"), against=("sasrec",), seen_filter=True)),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the re-implementation's beside some; `order` may change on a trained model."""

    max_length: Count = 50  # most recent items read
    dim: Count = 64  # 128
    layers: Count = 2  # of the history; 3. A path has one, as in the re-implementation
    heads: Count = 2
    dropout: Share = 0.2
    levels: tuple[Count, ...] = (64, 64, 64, 64)  # codes per slot at most; 8 x 300 (2**slots subsets are indexed)
    tokenizer: str = "parallel_vq"  # of seqlab.tokenizers; random_codes is the control
    vectors: str | None = None  # of items.vectors; none: as items.vectors.default_source
    resolve: CollisionRule = "reassign"  # equal tuples; "index" would add a slot without a meaning
    temperature: PositiveFloat = 0.1  # of the logits; .1
    order: Literal["confidence", "random", "fixed"] = "confidence"  # fixed trains only that order, the others all
    align: float = 0.0  # weight of the preference term
    group: Count = 8  # paths sampled per position
    sampled: Count = 128  # positions per batch that paths are sampled for
    horizon: Count = 3  # next items that a path is rewarded for
    gamma: float = 0.7  # discount of each further item


class REG4Rec(nn.Module):
    """P(item | history) = product over steps of P(code of the slot chosen there | codes filled in so far, history)."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.decoding, self.ids = decoding.Decoding(), SemanticIds(n_items, config, ordered=False)
        dim, slots, self.radix = config.dim, len(config.levels), max(config.levels)
        self.table = nn.Embedding(slots * self.radix, dim)  # the slots' vectors below one another, read and matched
        self.fuse = mlp((slots * dim, dim, dim), nn.GELU)
        self.positions = nn.Embedding(config.max_length, dim)
        self.slots = nn.Embedding(slots, dim)
        self.first = nn.Parameter(torch.empty(dim))  # of a path
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(Attention(dim, config.heads), dim, config.dropout) for _ in range(config.layers)
        )
        self.norm, self.path_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.path = Block(Attention(dim, config.heads), dim, config.dropout)
        self.path.mixer.weights = Tap("path attention", "user head query_step key_step")  # its keys are no items
        self.path.hidden = Tap("path hidden", "user step dim")
        self.written = DecodeTaps("path ", "key_step")
        self.answers = nn.ModuleList(mlp((dim, dim, dim), nn.GELU) for _ in range(slots))
        self.beam, self.chosen = Tap("beam", "user step rank"), Tap("order", "user rank step")
        initialization.normal(self.table, self.positions, self.slots, self.first)
        beyond = torch.arange(self.radix) >= torch.tensor(config.levels)[:, None]
        self.register_buffer("beyond", beyond, persistent=False)  # (C, K) codes that a slot does not have

    def stages(self, split: Split, checkpoint: Path | None = None) -> None:
        """Make the semantic IDs, unless `ids.assign` has set them before."""
        if not self.ids.assigned:
            self.ids.assign(semantic_ids(split, self.config, checkpoint=checkpoint))

    def encode(self, batch: Batch) -> Tensor:
        """The state after every event: (B, T, D)."""
        codes = self.ids.codes[batch.items].clamp(min=0)  # (B, T, C)
        slot, place = (torch.arange(size, device=codes.device) for size in (codes.shape[2], codes.shape[1]))
        items = self.fuse(self.table(slot * self.radix + codes).flatten(2) * self.config.dim**0.5)  # (B, T, D)
        x = self.dropout(items + self.positions(place))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def slot_token(self, slot: Tensor, code: Tensor) -> Tensor:
        """The token of a code (...) in a slot (...): (..., D)."""
        return self.table(slot * self.radix + code) + self.slots(slot)

    def log_p(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of the codes of every slot, seen from states of paths (..., D): (..., C, K)."""
        wanted = torch.stack([answer(self.path_norm(hidden)) for answer in self.answers], -2)  # (..., C, D)
        logits = torch.einsum("...cd,ckd->...ck", wanted, self.table.weight.unflatten(0, (-1, self.radix)))
        return (logits / self.config.temperature).masked_fill(self.beyond, -torch.inf).log_softmax(-1)

    def teacher_forcing(self, state: Tensor, codes: Tensor, order: Tensor) -> Tensor:
        """Whole paths at once, codes (M, C) filled in by `order` (M, C) from states (M, D): `log_p` (M, S, C, K)."""
        tokens = self.slot_token(order, codes.gather(1, order))[:, :-1]  # (M, S - 1, D)
        return self.log_p(self.path(self.dropout(torch.cat([(state + self.first)[:, None], tokens], 1))))

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy of the open slots, summed over steps; with `align`, also a policy gradient."""
        has_target = batch.targets > 0
        state, truth = self.encode(batch)[has_target], self.ids.codes[batch.targets[has_target]]  # (M, D), (M, C)
        order = torch.rand(truth.shape, device=truth.device).argsort(1)
        if self.config.order == "fixed":
            order = torch.arange(truth.shape[1], device=truth.device).expand_as(truth)
        log_p = self.teacher_forcing(state, truth, order)
        error = -log_p.gather(3, truth[:, None, :, None].expand(-1, log_p.shape[1], -1, 1))[..., 0]  # (M, S, C)
        now = F.one_hot(order, truth.shape[1])  # (M, S, C) the slot filled in at each step
        open_slots = now if self.config.order == "fixed" else now.flip(1).cumsum(1).flip(1)  # or all that are open
        steps = ((error * open_slots).sum(2) / open_slots.sum(2)).mean(0)  # (S,)
        parts = {f"step {step}": part.detach() for step, part in enumerate(steps)}
        if not self.config.align:
            return Loss(steps.sum(), parts)
        preference, reward = self._policy_gradient(batch, state, has_target)
        return Loss(steps.sum() + self.config.align * preference, parts | {"reward": reward})

    def _policy_gradient(self, batch: Batch, state: Tensor, has_target: Tensor) -> tuple[Tensor, Tensor]:
        """The policy gradient of paths drawn, their rewards relative to their group's; and the mean reward."""
        picked = torch.randperm(len(state), device=state.device)[: self.config.sampled]
        row, place = (column[picked] for column in has_target.nonzero(as_tuple=True))
        state = state[picked].repeat_interleave(self.config.group, 0)  # (P G, D)
        with torch.no_grad():
            codes = self.rollout(state)[0]  # (P G, C)
        ahead = F.pad(batch.targets, (0, self.config.horizon - 1))  # of this training history, never beyond it
        ahead = ahead.unfold(1, self.config.horizon, 1)[row, place]  # (P, horizon)
        reward = self.reward(codes.unflatten(0, (len(row), -1)), ahead)  # (P, G)
        advantage = (reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True, correction=0) + 1e-4)
        return -(advantage.flatten() * self.rollout(state, codes)[2]).mean(), reward.mean()

    def reward(self, codes: Tensor, ahead: Tensor) -> Tensor:
        """Of paths (P, G, C): sum over the items `ahead` (P, horizon), 0 = none, of gamma**j (equal + share equal)."""
        same = (codes[:, :, None] == self.ids.codes[ahead][:, None]).float()  # (P, G, horizon, C)
        discount = self.config.gamma ** torch.arange(ahead.shape[1], device=ahead.device) * (ahead > 0)  # (P, horizon)
        return ((same.amin(-1) + same.mean(-1)) * discount[:, None]).sum(-1)

    def rollout(self, state: Tensor, codes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """A path from each state (M, D), to `codes` (M, C) or drawn: codes, order (M, C), log-probability (M,)."""
        paths, total = _PartialPaths(self, state), 0.0
        for _ in self.config.levels:
            slot, log_p = paths.next_slot()  # (M, 1), (M, 1, K)
            code = torch.multinomial(log_p[:, 0].exp(), 1) if codes is None else codes.gather(1, slot)
            total = total + log_p.gather(2, code[..., None])[:, 0, 0]
            paths.extend(torch.zeros_like(slot), slot, code)
        return paths.codes[:, 0], paths.order[:, 0], total

    @torch.no_grad()
    def paths(self, batch: Batch, width: int | None = None, prune: float | None = None) -> Paths:
        """The most probable legal paths, by a beam each of whose paths chooses its own slots. None: as in `decoding`.

        Two paths part by filling one slot differently, so no tuple is found twice. Of `width / (1 - prune)`
        candidates the `width` that agree most with the first step are kept; the last step prunes nothing.
        """
        own, book, slots = decoding.beam_of(self), self.ids.book, len(self.config.levels)
        width, prune = own.width if width is None else width, own.prune if prune is None else prune
        paths, lattice = _PartialPaths(self, batch.last(self.encode(batch))), book.lattice
        first = paths.log_p  # (B, 1, C, K)
        scores = trust = first.new_zeros(len(batch), 1)
        node, seen, pruned = torch.zeros_like(scores, dtype=torch.long), [], []
        for step in range(slots):
            slot, log_p = paths.next_slot()
            codes, nodes = lattice.edges(node, slot)  # (B, W, F)
            codes = codes.clamp(min=0)
            total = (scores[..., None] + log_p.gather(2, codes)).masked_fill(nodes < 0, -torch.inf)
            agree = trust[..., None] + _of(first.expand(-1, slot.shape[1], -1, -1), slot).gather(2, codes)
            most = width if step == slots - 1 else math.ceil(width / (1 - prune))
            best, at = total.flatten(1).topk(min(most, total[0].numel()), dim=1)
            agree = agree.flatten(1).gather(1, at).masked_fill(best == -torch.inf, -torch.inf)
            parent = at // total.shape[-1]
            codes, nodes = codes.flatten(1).gather(1, at), nodes.flatten(1).gather(1, at)
            columns = parent, slot.gather(1, parent), codes, nodes, best, agree  # (B, W') each
            ranked = agree.argsort(dim=1, descending=True, stable=True)
            gone = [column.gather(1, ranked[:, width:]) for column in columns]
            pruned.append(_fill(paths.codes, *gone[:3]).masked_fill((gone[4] == -torch.inf)[..., None], -2))
            keep = ranked[:, :width].sort(1).values  # in the order of their scores
            parent, slot, code, node, scores, trust = (column.gather(1, keep) for column in columns)
            seen.append(scores)
            paths.extend(parent, slot, code)
        if self.beam.active:
            most = max(one.shape[1] for one in seen)
            self.beam(torch.stack([F.pad(one, (0, most - one.shape[1]), value=-torch.inf) for one in seen], 1))
        leaf = torch.where(scores == -torch.inf, -1, book.trie.find(paths.codes))
        return Paths(decoding.Beams(book.trie, leaf, scores), self.chosen(paths.order), tuple(pruned))

    def recommend(self, batch: Batch, k: int) -> Ranking:
        """By `decoding`; scores are log-probabilities of the paths."""
        return decoding.recommend(self, batch, k)

    @torch.no_grad()
    def exact_score(self, batch: Batch) -> Tensor:
        """The log-probability of every item's own path, without a search: (B, N + 1). For inspection; slow."""
        state, known = batch.last(self.encode(batch)), self.ids.book.codes
        scores = [state.new_full((len(batch), 1), -torch.inf)]
        for codes in known[1:].split(max(1, 8192 // len(batch))):  # (n, C)
            found = self.rollout(state.repeat_interleave(len(codes), 0), codes.repeat(len(batch), 1))
            scores.append(found[2].view(len(batch), -1))
        return torch.cat(scores, 1)


@dataclass(frozen=True)
class Paths:
    """The result of a search: its `beams`, the `order` (B, W, C) of their slots, and the pruned paths.

    pruned: per step (B, P, C) the codes of dropped paths, -1 where a slot was open, -2 where there was none.
    """

    beams: decoding.Beams
    order: Tensor
    pruned: tuple[Tensor, ...]

    def pruned_at(self, codes: Tensor) -> Tensor:
        """At which steps pruning dropped a path that led to `codes` (B, C): (B, C) bool."""
        return torch.stack([((one == -1) | (one == codes[:, None])).all(-1).any(-1) for one in self.pruned], 1)


class _PartialPaths:
    """Partial paths: the codes (B, W, C) filled in, -1 elsewhere, the order so far, and the logits of the slots."""

    def __init__(self, model: REG4Rec, state: Tensor) -> None:
        self.model, config = model, model.config
        none = state.new_zeros(len(state), config.heads, 0, config.dim // config.heads)
        self.cache = KVCache(none, none, None)
        self.codes = torch.full((len(state), 1, len(config.levels)), -1, device=state.device)
        self.order = self.codes[..., :0]  # (B, W, S)
        self._step((state + model.first)[:, None], self.order.new_zeros(len(state), 1))

    def next_slot(self) -> tuple[Tensor, Tensor]:
        """The slot (B, W) that each path fills in now, and the log-probabilities of its codes (B, W, K)."""
        place = torch.arange(self.codes.shape[-1], device=self.codes.device)
        worth = {"confidence": self.log_p.amax(-1), "fixed": -place.float().expand_as(self.codes)}
        # pseudo-random, by the codes alone: other users in the batch and the width do not change a path
        mixed = ((self.codes + 2) * (place * 7919 + 104729)).sum(-1, keepdim=True) * 48271 + place * 69621
        worth["random"] = (mixed * 16807 % 2147483647).float()
        slot = worth[self.model.config.order].masked_fill(self.codes >= 0, -torch.inf).argmax(-1)
        return slot, _of(self.log_p, slot)

    def extend(self, parent: Tensor, slot: Tensor, code: Tensor) -> None:
        """Continue the paths `parent` (B, W) with `code` (B, W) in `slot` (B, W)."""
        self.codes = _fill(self.codes, parent, slot, code)
        self.order = torch.cat([_rows(self.order, parent), slot[..., None]], -1)
        if self.order.shape[-1] < self.codes.shape[-1]:
            self._step(self.model.slot_token(slot, code), parent)

    def _step(self, x: Tensor, parent: Tensor) -> None:
        x, self.cache = decode_step(self.model.path, self.model.dropout(x), self.cache, parent, self.model.written)
        self.log_p = self.model.log_p(x)  # (B, W, C, K)


def _of(x: Tensor, slot: Tensor) -> Tensor:
    """The slots (B, W) of x (B, W, C, K): (B, W, K)."""
    return x.gather(2, slot[..., None, None].expand(-1, -1, 1, x.shape[-1]))[:, :, 0]


def _rows(x: Tensor, parent: Tensor) -> Tensor:
    """The rows `parent` (B, W) of x (B, V, E): (B, W, E)."""
    return x.gather(1, parent[..., None].expand(-1, -1, x.shape[-1]))


def _fill(codes: Tensor, parent: Tensor, slot: Tensor, code: Tensor) -> Tensor:
    """The paths `parent` (B, W) of codes (B, V, C), each with one more slot filled in: (B, W, C)."""
    return _rows(codes, parent).scatter(2, slot[..., None], code[..., None])
