"""DiscRec: TIGER whose codes pass two branches, each by itself and within its item, and a gate that mixes them.

Paper: Liu et al., "DiscRec: Disentangled Semantic-Collaborative Modeling for Generative Recommendation", 2025 (arXiv
2506.15576). One embedding of a code has to carry what it means and what it is bought with. A second branch, which
knows a code's place in its item and attends within the item alone, takes the second task; a gate mixes the two.

Confirmed against the authors' code: LN(code + place); two heads without an output projection, around which the branch
adds its input; LN and a ReLU layer; the gate is a softmax over the branches' products with one vector each; all this
at the embeddings of encoder and decoder, which have branches of their own (the decoder's causal, over a first token
and the codes so far); cross-entropy, no constraint in training, and a beam of 20 along the trie.
Changed on purpose: the generator is this lab's TIGER, by default a decoder alone that learns from every position of a
history in one pass; there the branch is causal in the history too, for its codes are also answers. "encoder_decoder"
is the paper's layout. No end token, whose block is padding in their code. Any number of codes. Equal tuples tie.
Reconstructed: the inside of the branch's ReLU layer: it does not add its input, and dropout is at its end.
Held against: R@10 .0656, NDCG@10 .0348 on amazon-beauty (log of the authors: RQ-VAE codes of LLaMA's text vectors,
200 epochs at most): leave-one-out, full ranking, no seen filter, equal tuples credited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab import decoding
from seqlab.datasets.sequences import Batch
from seqlab.layers.cached_transformer import CrossBlock, read, read_end, which_count, write
from seqlab.layers.dropout import Dropout
from seqlab.layers.transformer import Block
from seqlab.recommender import Loss, Ranking
from seqlab.tokenizers.resolve import How
from seqlab.tokenizers.semantic_ids import SemanticIds, semantic_ids
from seqlab.tracing import Tap

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split


@dataclass(frozen=True)
class Config:
    """Settings, with the paper's beside them."""

    layout: Literal["decoder", "encoder_decoder"] = "decoder"  # paper encoder_decoder
    branch: Literal["within_item", "alone", "none"] = "within_item"  # alone: as large, no looks; none: TIGER
    gate: bool = True  # paper yes; no: the branches' mean
    places: bool = True  # the branch knows a code's place in its item; paper yes
    feed: int = 256  # width of the branch's ReLU layer; paper 1024
    max_length: int = 20  # most recent items read; paper 20
    dim: int = 64  # paper 128
    layers: int = 2  # of the decoder, and of the encoder where there is one; paper 4
    heads: int = 2  # of the generator; paper 6 of 64. The branch has 2
    dropout: float = 0.2  # paper .1
    levels: tuple[int, ...] = (256, 256, 256, 256)  # codes per level at most; paper 4 x 256
    tokenizer: str = "rq_kmeans"  # of seqlab.tokenizers; paper rq_vae; random_codes is the control
    vectors: str | None = None  # of datasets.text; none: tfidf+collaborative, or the latter alone; paper LLaMA
    resolve: How = "index"  # equal tuples; paper: a last level that spreads them, and what is left ties
    width: int = 20  # of the beam, at least; a longer list needs a wider one; paper 20
    cuts: int = 4  # encoder_decoder: histories learned from per user and epoch, cut at random


class DiscRec(nn.Module):
    """P(item | history) = product over levels of P(code | codes before it, history), all read through two branches."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        dim, levels = config.dim, config.levels
        self.table = nn.Embedding(sum(levels), dim)  # the levels' tables below one another
        causal = config.layout == "decoder"
        self.mix = Branches(config, causal)
        self.positions = nn.Embedding(config.max_length + 1, dim)  # of items, the oldest first; one for the next item
        self.slots = nn.Embedding(len(levels), dim)
        self.start = nn.Parameter(torch.empty(dim))  # before the first item
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(dim, config.heads, config.dropout, causal=causal) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(dim)
        if not causal:
            self.first = nn.Parameter(torch.empty(dim))  # before the first code
            self.mix_written = Branches(config, causal=True, writes=True)
            self.writers = nn.ModuleList(CrossBlock(dim, config.heads, config.dropout) for _ in range(config.layers))
            self.writers_norm = nn.LayerNorm(dim)
            nn.init.normal_(self.first, std=0.02)
        self.heads = nn.ModuleList(nn.Linear(dim, size, bias=False) for size in levels)
        self.live = Tap("beam", "user level rank")
        for weight in (self.table.weight, self.positions.weight, self.slots.weight, self.start):
            nn.init.normal_(weight, std=0.02)
        offsets = torch.tensor((0, *levels[:-1])).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)  # (C,) where each level's table begins
        self.ids = SemanticIds(n_items, levels)

    def prepare(self, split: Split) -> None:
        """Tokenize the catalogue with `config.tokenizer`; codes given with `ids.adopt` stay."""
        if not self.ids.known:
            self.ids.adopt(semantic_ids(split, self.config))

    def tokens(self, items: Tensor) -> Tensor:
        """The start token and the mixed codes of items (B, T) as vectors: (B, 1 + T C, D)."""
        codes = self.ids.codes[items].clamp(min=0) + self.offsets  # (B, T, C)
        place = torch.arange(items.shape[1], device=items.device)
        x = self.mix(self.table(codes)) + self.slots.weight + self.positions(place)[:, None]  # (B, T, C, D)
        start = self.start.expand(len(items), 1, -1)
        return self.dropout(torch.cat([start, x.flatten(1, 2)], 1))

    def loss(self, batch: Batch) -> Loss:
        """Minus the log-probability of the next items; its parts, the cross-entropy of each level."""
        asked = batch.targets > 0  # (B, T)
        learn = self._from_every_position if self.config.layout == "decoder" else self._from_cuts
        hidden, items = learn(batch, asked)  # (M, C, D), (M,)
        truth, parts = self.ids.codes[items], {}
        for level, head in enumerate(self.heads):
            parts[f"level {level}"] = F.cross_entropy(head(hidden[:, level]), truth[:, level])
        total = torch.stack(list(parts.values())).sum()
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    def _from_every_position(self, batch: Batch, asked: Tensor) -> tuple[Tensor, Tensor]:
        """One pass over a history and its last answer: the states (M, C, D) that write each answer (M,)."""
        items = F.pad(batch.items, (0, 1))  # (B, T + 1)
        items.scatter_(1, batch.lengths[:, None], batch.last(batch.targets)[:, None])
        x = self.tokens(items)[:, :-1]  # (B, (T + 1) C, D): every state writes the code after it
        for block in self.blocks:
            x = block(x)
        states = x.unflatten(1, (items.shape[1], -1))[:, 1:]  # (B, T, C, D)
        return self.norm(states[asked]), batch.targets[asked]

    def _from_cuts(self, batch: Batch, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Histories cut at random before an answer, `cuts` per row on average, each through encoder and decoder."""
        row, place = asked.nonzero(as_tuple=True)
        chosen = torch.randperm(len(row), device=row.device)[: self.config.cuts * len(batch)]
        row, place = row[chosen], place[chosen]
        width = int(place.max()) + 1
        real = torch.arange(width, device=row.device) <= place[:, None]
        memory, real = self._encode(batch.items[row, :width] * real, place + 1)
        items = batch.targets[row, place]
        codes = self.ids.codes[items][:, :-1] + self.offsets[:-1]  # (M, C - 1)
        x = torch.cat([self.first.expand(len(items), 1, -1), self.table(codes)], 1)  # (M, C, D)
        x = self.dropout(self.mix_written(x[:, None])[:, 0] + self.slots.weight)
        for writer in self.writers:
            x = writer(x, memory, real)
        return self.writers_norm(x), items

    def _encode(self, items: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """The encoder's states (B, 1 + T C, D), and which of them count (None: all)."""
        x = self.tokens(items)
        real = which_count(1 + len(self.config.levels) * lengths, x.shape[1])
        for block in self.blocks:
            x = block(x, real)
        return self.norm(x), real

    def decoder(self, batch: Batch) -> decoding.Decoder:
        """The model about to write the next item's codes for these users; the histories are read here, once."""
        return (_DecoderOnly if self.config.layout == "decoder" else _EncoderDecoder)(self, batch)

    @torch.no_grad()
    def beams(self, batch: Batch, width: int | None = None, keep: int = 0) -> decoding.Beams:
        """The beam search with all its steps; `keep` pruned prefixes of every step are kept too."""
        found = decoding.beam(self.decoder(batch), self.ids.book.trie, width or self.config.width, keep=keep)
        if self.live.active:
            width = found.node.shape[1]
            self.live(torch.stack([F.pad(one.scores, (0, width - one.scores.shape[1]), value=-torch.inf)
                                   for one in found.steps], 1))  # fmt: skip
        return found

    def recommend(self, batch: Batch, k: int) -> Ranking:
        """By a beam at least as wide as the list; scores are log-probabilities of the tuples."""
        found = self.beams(batch, max(k, self.config.width))
        return Ranking(*found.items(min(k, len(self.ids.codes) - 1)))

    @torch.no_grad()
    def exact_score(self, batch: Batch) -> Tensor:
        """The log-probability of every item, without a search: (B, N + 1). For inspection; costs a catalogue."""
        return decoding.exact(self.decoder(batch), self.ids.book.trie)


class Branches(nn.Module):
    """Each code as it is (semantic), each among the codes of its item (collaborative), and the gate between the two.

    `causal`: among those before it. What is read of a history and what is written pass taps of their own, "gates" and
    "written gates"; `writes`: all that comes here is written.
    """

    def __init__(self, config: Config, causal: bool, writes: bool = False) -> None:
        super().__init__()
        self.kind, dim, codes = config.branch, config.dim, len(config.levels)
        if self.kind == "none":
            return
        if dim % 2:
            raise ValueError(f"dim={dim} must be even: the branch's attention has 2 heads.")
        # what is switched off stays zero
        self.places = nn.Parameter(torch.randn(codes, dim) * 0.02 * config.places, requires_grad=config.places)
        self.gate = nn.Parameter(torch.zeros(2, dim), requires_grad=config.gate)
        self.before_attention, self.before_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project_in = nn.Linear(dim, 3 * dim)
        self.feed = nn.Sequential(nn.Linear(dim, config.feed), nn.ReLU(), nn.Linear(config.feed, dim))
        nn.init.normal_(
            self.feed[-1].weight, std=0.02 / config.feed**0.5
        )  # as small as the embeddings it is mixed with
        nn.init.zeros_(self.feed[-1].bias)
        self.dropout = Dropout(config.dropout)
        looks = torch.ones(codes, codes)
        looks = torch.eye(codes) if self.kind == "alone" else looks.tril() if causal else looks
        self.register_buffer("looks", looks.bool(), persistent=False)  # (query, key)
        self.writing = _taps("written ", "beam")
        self.reading = self.writing if writes else _taps("", "position")

    def forward(self, x: Tensor, writing: bool = False) -> Tensor:
        """The first n codes of T items or beams, x (B, T, n, D), mixed: (B, T, n, D); if `writing`, the last alone."""
        n = x.shape[2]
        asked = slice(n - 1 if writing else 0, n)
        if self.kind == "none":
            return x[:, :, asked]
        taps = self.writing if writing else self.reading
        y = self.before_attention(x + self.places[:n])
        query, key, value = (
            part.unflatten(-1, (2, -1)).transpose(2, 3)  # (B, T, H, n, D/H)
            for part in self.project_in(y).chunk(3, dim=-1)
        )
        logits = query[..., asked, :] @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # (B, T, H, n, n)
        weights = taps["weights"](logits.masked_fill(~self.looks[asked, :n], -torch.inf).softmax(-1))
        y = y[:, :, asked] + (weights @ value).transpose(2, 3).flatten(3)  # (B, T, n, D)
        collaborative = self.dropout(self.feed(self.before_feed(y)))
        both = taps["branches"](torch.stack([x[:, :, asked], collaborative], 3))  # (B, T, n, 2, D)
        gates = taps["gates"]((both * self.gate).sum(-1).softmax(-1))  # (B, T, n, 2)
        return (gates[..., None] * both).sum(3)  # (B, T, n, D)


def _taps(prefix: str, where: str) -> nn.ModuleDict:
    return nn.ModuleDict({
        "weights": Tap(f"{prefix}within item", f"user {where} head query key"),
        "branches": Tap(f"{prefix}branches", f"user {where} slot branch dim"),
        "gates": Tap(f"{prefix}gates", f"user {where} slot branch"),
    })  # fmt: skip


class _DecoderOnly:
    """Codes follow the history in one causal sequence."""

    def __init__(self, model: DiscRec, batch: Batch) -> None:
        self.model, self.lengths = model, batch.lengths
        x = model.tokens(batch.items)
        last = len(model.config.levels) * batch.lengths  # (B,) the place of the last real token
        real = which_count(last + 1, x.shape[1])
        self.pasts = []
        for block in model.blocks[:-1]:
            x, past = read(block, x, real)
            self.pasts.append(past)
        self.hidden, past = read_end(model.blocks[-1], x, real, last)  # (B, 1, D)
        self.pasts.append(past)

    def start(self) -> tuple[Tensor, Any]:
        nothing = self.hidden[:, :, None][:, :, :0]  # (B, 1, 0, D): the codes that each beam wrote
        return self.model.heads[0](self.model.norm(self.hidden)), (0, nothing, self.pasts)

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        model, (level, written, pasts) = self.model, state
        written = _longer(written, parent, model.table(code + model.offsets[level]))
        x = model.mix(written, writing=True)[:, :, 0] + model.slots.weight[level]
        x = model.dropout(x + model.positions(self.lengths)[:, None])  # (B, W, D)
        after = []
        for block, past in zip(model.blocks, pasts, strict=True):
            x, past = write(block, x, past, parent)
            after.append(past)
        return model.heads[level + 1](model.norm(x)), (level + 1, written, after)


class _EncoderDecoder:
    """Codes are written by a decoder that looks at the encoder's states."""

    def __init__(self, model: DiscRec, batch: Batch) -> None:
        self.model = model
        memory, real = model._encode(batch.items, batch.lengths)
        self.pasts, self.memories = zip(*(writer.begin(memory, real) for writer in model.writers), strict=True)

    def start(self) -> tuple[Tensor, Any]:
        written = self.model.first.expand(len(self.pasts[0].keys), 1, 1, -1)  # (B, 1, 1, D)
        return self._write(0, written, self.pasts, torch.zeros_like(written[..., 0, 0], dtype=torch.long))

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        model, (level, written, pasts) = self.model, state
        written = _longer(written, parent, model.table(code + model.offsets[level]))
        return self._write(level + 1, written, pasts, parent)

    def _write(self, level: int, written: Tensor, pasts: tuple, parent: Tensor) -> tuple[Tensor, Any]:
        model, after = self.model, []
        x = model.dropout(model.mix_written(written, writing=True)[:, :, 0] + model.slots.weight[level])  # (B, W, D)
        for writer, past, memory in zip(model.writers, pasts, self.memories, strict=True):
            x, past = writer.write(x, past, memory, parent)
            after.append(past)
        return model.heads[level](model.writers_norm(x)), (level, written, tuple(after))


def _longer(written: Tensor, parent: Tensor, code: Tensor) -> Tensor:
    """The codes (B, V, n, D) that the beams `parent` (B, W) wrote, and the next one, (B, W, D): (B, W, n + 1, D)."""
    user = torch.arange(len(parent), device=parent.device)[:, None]
    return torch.cat([written[user, parent], code[:, :, None]], 2)
