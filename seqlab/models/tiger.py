"""TIGER: writes the next item's semantic ID code by code; the Transformer's parameters are the index.

Paper: Rajput et al., "Recommender Systems with Generative Retrieval", NeurIPS 2023. A history becomes the sequence of
its items' codes; a sequence-to-sequence Transformer is trained by cross-entropy to write those of the next item, and
a beam search writes them at inference.

Confirmed against the paper's tables and three independent re-implementations: code tuples of a content tokenizer with
a last code that tells equal ones apart, own code tables per level, teacher forcing, at most 20 items of history.
Changed on purpose: the default layout is a decoder alone, which learns from every position of a history in one pass
(some twenty times cheaper per epoch; "encoder_decoder" is the paper's); the beam walks the trie of the catalogue
(the paper's is unconstrained and answers up to 1.6 % of its top 10 with tuples nobody has); learned positions, item
and slot apart, instead of T5's relative ones; no hashed user token; own output table per level, without a bias.
LETTER (Wang et al., CIKM 2024) is an option of the tokenizer; its frozen SASRec vectors are co-occurrence vectors here.
Reconstructed: how the encoder-decoder sees an epoch (the paper counts steps): `cuts` random histories per user.
Held against: R@10 .0648, NDCG@10 .0384 on amazon-beauty (13 million parameters, 200,000 steps, Sentence-T5 text of
title, price, brand and category); .0434, .0250 there with random codes; leave-one-out, full ranking, no seen filter.
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
    max_length: int = 20  # most recent items read; paper 20
    dim: int = 64  # paper 128
    layers: int = 2  # of the decoder, and of the encoder where there is one; paper 4
    heads: int = 2  # paper 6 of 64
    dropout: float = 0.2  # paper .1
    levels: tuple[int, ...] = (256, 256, 256, 256)  # codes per level at most; paper 3 x 256 and an index
    tokenizer: str = "rq_kmeans"  # of seqlab.tokenizers; paper rq_vae
    vectors: str | None = None  # of datasets.text; none: tfidf+collaborative, or the latter alone; paper Sentence-T5
    resolve: How = "index"  # equal tuples; paper index
    letter: bool = False  # rq_vae with LETTER's collaborative and diversity terms
    legal_only: bool = False  # train and score with legal codes alone (MSCGRec); paper no
    width: int = 20  # of the beam, at least; a longer list needs a wider one
    cuts: int = 4  # encoder_decoder: histories learned from per user and epoch, cut at random


class TIGER(nn.Module):
    """P(item | history) = product over levels of P(code | codes before it, history)."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        dim, levels = config.dim, config.levels
        self.table = nn.Embedding(sum(levels), dim)  # the levels' tables below one another
        self.positions = nn.Embedding(config.max_length + 1, dim)  # of items, the oldest first; one for the next item
        self.slots = nn.Embedding(len(levels), dim)
        self.start = nn.Parameter(torch.empty(dim))  # before the first item
        self.dropout = Dropout(config.dropout)
        causal = config.layout == "decoder"
        self.blocks = nn.ModuleList(
            Block(dim, config.heads, config.dropout, causal=causal) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(dim)
        if not causal:
            self.first = nn.Parameter(torch.empty(dim))  # before the first code
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
            self.ids.adopt(semantic_ids(split, self.config, self.config.letter))

    def tokens(self, items: Tensor) -> Tensor:
        """The start token and the codes of items (B, T) as vectors: (B, 1 + T C, D)."""
        codes = self.ids.codes[items].clamp(min=0) + self.offsets  # (B, T, C)
        place = torch.arange(items.shape[1], device=items.device)
        x = self.table(codes) + self.slots.weight + self.positions(place)[:, None]  # (B, T, C, D)
        start = self.start.expand(len(items), 1, -1)
        return self.dropout(torch.cat([start, x.flatten(1, 2)], 1))

    def loss(self, batch: Batch) -> Loss:
        """Minus the log-probability of the next items; its parts, the cross-entropy of each level."""
        asked = batch.targets > 0  # (B, T)
        learn = self._from_every_position if self.config.layout == "decoder" else self._from_cuts
        hidden, items = learn(batch, asked)  # (M, C, D), (M,)
        truth, node, parts = self.ids.codes[items], torch.zeros_like(items), {}
        for level, head in enumerate(self.heads):
            logits = head(hidden[:, level])  # (M, K)
            if self.config.legal_only:
                trie = self.ids.book.trie
                logits = logits.masked_fill(~trie.children(node, level), -torch.inf)
                node = trie.step(node, truth[:, level])
            parts[f"level {level}"] = F.cross_entropy(logits, truth[:, level])
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
        first = self.first.expand(len(items), 1, -1)
        x = self.dropout(torch.cat([first, self.table(codes)], 1) + self.slots.weight)  # (M, C, D)
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
        found = decoding.beam(
            self.decoder(batch), self.ids.book.trie, width or self.config.width, self.config.legal_only, keep
        )
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
        return decoding.exact(self.decoder(batch), self.ids.book.trie, self.config.legal_only)


class _DecoderOnly:
    """Codes follow the history in one causal sequence."""

    def __init__(self, model: TIGER, batch: Batch) -> None:
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
        return self.model.heads[0](self.model.norm(self.hidden)), (0, self.pasts)

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        model, (level, pasts) = self.model, state
        x = model.table(code + model.offsets[level]) + model.slots.weight[level]
        x = model.dropout(x + model.positions(self.lengths)[:, None])  # (B, W, D)
        after = []
        for block, past in zip(model.blocks, pasts, strict=True):
            x, past = write(block, x, past, parent)
            after.append(past)
        return model.heads[level + 1](model.norm(x)), (level + 1, after)


class _EncoderDecoder:
    """Codes are written by a decoder that looks at the encoder's states."""

    def __init__(self, model: TIGER, batch: Batch) -> None:
        self.model = model
        memory, real = model._encode(batch.items, batch.lengths)
        self.pasts, self.memories = zip(*(writer.begin(memory, real) for writer in model.writers), strict=True)

    def start(self) -> tuple[Tensor, Any]:
        model, users = self.model, len(self.pasts[0].keys)
        x = (model.first + model.slots.weight[0]).expand(users, 1, -1)
        return self._write(0, x, self.pasts, torch.zeros_like(x[..., 0], dtype=torch.long))

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        model, (level, pasts) = self.model, state
        x = model.table(code + model.offsets[level]) + model.slots.weight[level + 1]  # (B, W, D)
        return self._write(level + 1, x, pasts, parent)

    def _write(self, level: int, x: Tensor, pasts: tuple, parent: Tensor) -> tuple[Tensor, Any]:
        model, after = self.model, []
        x = model.dropout(x)
        for writer, past, memory in zip(model.writers, pasts, self.memories, strict=True):
            x, past = writer.write(x, past, memory, parent)
            after.append(past)
        return model.heads[level](model.writers_norm(x)), (level, tuple(after))
