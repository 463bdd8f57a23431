"""A Transformer that encodes the codes of a history and generates those of the next item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab.contracts import Identifiers, Loss
from seqlab.datasets.sequences import Batch
from seqlab.layers import initialization
from seqlab.layers.cross_attention import CrossBlock
from seqlab.layers.dropout import Dropout
from seqlab.layers.kv_cache import DecodeTaps, decode_step, padding_mask, prefill_last
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.transformer import Block
from seqlab.tracing import Layout


class Sizes(Protocol):
    """The settings of a system that the decoder depends on."""

    levels: tuple[int, ...]  # codes per level
    max_length: int
    dim: int
    layers: int  # of the decoder, and of the encoder where there is one
    heads: int
    dropout: float


class SemanticIdDecoder(nn.Module):
    """P(code | codes before it, history), level by level, as in TIGER (Rajput et al. 2023), for any code book.

    encoder: if not, codes follow the history in one causal sequence, which learns from every position in one pass. If
    so, a bidirectional encoder reads the history, and a decoder with cross-attention generates (the paper's).
    mix: makes a module for the embeddings of codes before the blocks. `mix(False)` makes that of the history (and,
    without an encoder, of generated codes), `mix(True)` that of the decoder behind an encoder. It maps the
    first n embeddings of T items or beams, (B, T, n, D), to as many; with `last_only=True`, to (B, T, 1, D).
    """

    def __init__(self, sizes: Sizes, encoder: bool = False, mix: Callable[[bool], nn.Module] | None = None) -> None:
        super().__init__()
        dim, levels, layers = sizes.dim, sizes.levels, range(sizes.layers)
        self.encoder = encoder
        self.table = nn.Embedding(sum(levels), dim)  # the levels' tables below one another
        self.mix = mix(False) if mix else None
        self.positions = nn.Embedding(sizes.max_length + 1, dim)  # of items, the oldest first; one for the next item
        self.slots = nn.Embedding(len(levels), dim)
        self.start = nn.Parameter(torch.empty(dim))  # before the first item
        self.dropout = Dropout(sizes.dropout)
        self.blocks = nn.ModuleList(
            Block(Attention(dim, sizes.heads, not encoder, "token"), dim, sizes.dropout, over="token") for _ in layers
        )
        self.norm = nn.LayerNorm(dim)
        if encoder:
            self.first = nn.Parameter(torch.empty(dim))  # before the first code
            self.mix_written = mix(True) if mix else None
            self.cross_blocks = nn.ModuleList(CrossBlock(dim, sizes.heads, sizes.dropout) for _ in layers)
            self.cross_norm = nn.LayerNorm(dim)
            initialization.normal(self.first)
        else:
            self.written = nn.ModuleList(DecodeTaps() for _ in layers)
        self.heads = nn.ModuleList(nn.Linear(dim, size, bias=False) for size in levels)
        initialization.normal(self.table, self.positions, self.slots, self.start)
        offsets = torch.tensor((0, *levels[:-1])).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)  # (C,) where each level's table begins

    def tokens(self, codes: Tensor) -> Tensor:
        """The start token and the codes of items (B, T, C), those of padding any, as vectors: (B, 1 + T C, D)."""
        x = self.table(codes.clamp(min=0) + self.offsets)  # (B, T, C, D)
        if self.mix is not None:
            x = self.mix(x)
        place = torch.arange(codes.shape[1], device=codes.device)
        x = x + self.slots.weight + self.positions(place)[:, None]
        start = self.start.expand(len(codes), 1, -1)
        return self.dropout(torch.cat([start, x.flatten(1, 2)], 1))

    def layout(self, items: Tensor) -> Layout:
        """The tokens of histories (B, T); without an encoder the last one is the readout of the next code."""
        start = Layout.of_tokens(torch.zeros_like(items[:, :1]), "start")
        found = start.concat(Layout.of_events(items, self.slots.num_embeddings, "code"))
        last = self.slots.num_embeddings * (items > 0).sum(1, keepdim=True)  # (B, 1)
        place = torch.arange(len(found), device=items.device)
        return replace(found, readout=(place == last) & (not self.encoder))

    def teacher_forcing(self, batch: Batch, codes: Tensor, cuts: int = 1) -> tuple[Tensor, Tensor]:
        """The training pass, with the codes of the targets as input: states (M, C, D) and targets, items (M,).

        The state of level c goes through `heads[c]` to that code's logits. codes: (N + 1, C) of the catalogue. With an
        encoder M is `cuts` targets per row on average, chosen at random; without one, all of `batch.targets`.
        """
        return self._from_ends(batch.cut(cuts), codes) if self.encoder else self._from_all(batch, codes)

    def loss(self, batch: Batch, codes: Tensor, cuts: int = 1, legal: Identifiers | None = None) -> Loss:
        """Minus the log-probability of the next items by teacher forcing; its parts, the cross-entropy of each level.

        codes, cuts: as in `teacher_forcing`. legal: the catalogue's identifiers, whose legal codes alone share the
        probability; None: all codes do.
        """
        states, items = self.teacher_forcing(batch, codes, cuts)  # (M, C, D), (M,)
        truth, node, parts = codes[items], torch.zeros_like(items), {}
        for level, head in enumerate(self.heads):
            logits = head(states[:, level])  # (M, K)
            if legal is not None:
                logits = logits.masked_fill(~legal.children(node, level), -torch.inf)
                node = legal.step(node, truth[:, level])
            parts[f"level {level}"] = F.cross_entropy(logits, truth[:, level])
        total = torch.stack(list(parts.values())).sum()
        return Loss(total, {name: part.detach() for name, part in parts.items()}, len(items))

    def _from_all(self, batch: Batch, codes: Tensor) -> tuple[Tensor, Tensor]:
        """One pass over a history and its last target."""
        has_target = batch.targets > 0  # (B, T)
        items = F.pad(batch.items, (0, 1))  # (B, T + 1)
        items.scatter_(1, batch.lengths[:, None], batch.last(batch.targets)[:, None])
        x = self.tokens(codes[items])[:, :-1]  # (B, (T + 1) C, D): every state writes the code after it
        for block in self.blocks:
            x = block(x)
        states = x.unflatten(1, (items.shape[1], -1))[:, 1:]  # (B, T, C, D)
        return self.norm(states[has_target]), batch.targets[has_target]

    def _from_ends(self, batch: Batch, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The targets at the ends of histories, each through encoder and decoder."""
        memory, mask = self.encode(codes[batch.items], batch.lengths)
        items = batch.last(batch.targets)
        before = self.table(codes[items][:, :-1] + self.offsets[:-1])  # (M, C - 1, D)
        x = torch.cat([self.first.expand(len(items), 1, -1), before], 1)  # (M, C, D)
        if self.mix_written is not None:
            x = self.mix_written(x[:, None])[:, 0]
        x = self.dropout(x + self.slots.weight)
        for block in self.cross_blocks:
            x = block(x, memory, mask)
        return self.cross_norm(x), items

    def encode(self, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """The encoder's states (B, 1 + T C, D) of items (B, T, C), and their padding mask (None: no padding)."""
        x = self.tokens(codes)
        mask = padding_mask(1 + codes.shape[2] * lengths, x.shape[1])
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask

    def decoder(self, codes: Tensor, lengths: Tensor) -> _DecoderOnly | _EncoderDecoder:
        """A `decoding.Decoder`; the histories (B, T, C) of `lengths` (B,) are encoded here, once."""
        return (_EncoderDecoder if self.encoder else _DecoderOnly)(self, codes, lengths)


class _DecoderOnly:
    """Codes follow the history in one causal sequence."""

    def __init__(self, writer: SemanticIdDecoder, codes: Tensor, lengths: Tensor) -> None:
        self.writer, self.lengths = writer, lengths
        x = writer.tokens(codes)
        last = codes.shape[2] * lengths  # (B,) the place of the last mask token
        mask = padding_mask(last + 1, x.shape[1])
        self.caches = []
        for block in writer.blocks[:-1]:
            x, cache = block.prefill(x, mask)
            self.caches.append(cache)
        self.hidden, cache = prefill_last(writer.blocks[-1], x, mask, last)  # (B, 1, D)
        self.caches.append(cache)

    def start(self) -> tuple[Tensor, Any]:
        return self.writer.heads[0](self.writer.norm(self.hidden)), (0, None, self.caches)

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        writer, (level, written, caches) = self.writer, state
        x, written = _mixed(writer.mix, writer.table(code + writer.offsets[level]), written, parent)
        x = writer.dropout(x + writer.slots.weight[level] + writer.positions(self.lengths)[:, None])  # (B, W, D)
        after = []
        for block, cache, written_taps in zip(writer.blocks, caches, writer.written, strict=True):
            x, cache = decode_step(block, x, cache, parent, written_taps)
            after.append(cache)
        return writer.heads[level + 1](writer.norm(x)), (level + 1, written, after)


class _EncoderDecoder:
    """Codes are generated by a decoder with cross-attention to the encoder's states."""

    def __init__(self, writer: SemanticIdDecoder, codes: Tensor, lengths: Tensor) -> None:
        self.writer = writer
        memory, mask = writer.encode(codes, lengths)
        self.caches, self.memories = zip(*(block.prefill(memory, mask) for block in writer.cross_blocks), strict=True)

    def start(self) -> tuple[Tensor, Any]:
        first = self.writer.first.expand(len(self.memories[0][0]), 1, -1)  # (B, 1, D)
        return self._step(0, first, None, self.caches, torch.zeros_like(first[..., 0], dtype=torch.long))

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        level, written, caches = state
        x = self.writer.table(code + self.writer.offsets[level])  # (B, W, D)
        return self._step(level + 1, x, written, caches, parent)

    def _step(self, level: int, x: Tensor, written: Any, caches: tuple, parent: Tensor) -> tuple[Tensor, Any]:
        writer, after = self.writer, []
        x, written = _mixed(writer.mix_written, x, written, parent)
        x = writer.dropout(x + writer.slots.weight[level])
        for block, cache, memory in zip(writer.cross_blocks, caches, self.memories, strict=True):
            x, cache = block.decode_step(x, cache, memory, parent)
            after.append(cache)
        return writer.heads[level](writer.cross_norm(x)), (level, written, tuple(after))


def _mixed(mix: nn.Module | None, x: Tensor, written: Tensor | None, parent: Tensor) -> tuple[Tensor, Tensor | None]:
    """The last vectors x (B, W, D) of beams, mixed with those before, `written` (B, V, n, D) of their parents (B, W).

    Returns these (B, W, D), and the embeddings of all codes so far (B, W, n + 1, D); None without `mix`.
    """
    if mix is None:
        return x, None
    x = x[:, :, None]
    if written is not None:
        user = torch.arange(len(parent), device=parent.device)[:, None]
        x = torch.cat([written[user, parent], x], 2)  # (B, W, n + 1, D)
    return mix(x, last_only=True)[:, :, 0], x
