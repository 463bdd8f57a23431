"""Transformer blocks that write codes one at a time: what a user's beams share is read once and kept once.

A history of T tokens and W beams of j own tokens cost a step W queries over T shared and j own keys, whatever the
width: nothing of the history is copied per beam. The cached road gives what the blocks' plain forward pass gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from seqlab.layers.attention import attend
from seqlab.layers.transformer import Block
from seqlab.tracing import Tap


@dataclass(frozen=True)
class Past:
    """What one attention layer remembers.

    keys, values: (B, H, T, D/H) shared by all beams of a user, T may be 0; real: (B, T) which of them count, None =
    all. own: keys and values (B, W, H, D/H) of each token that the beams wrote themselves, the oldest first.
    """

    keys: Tensor
    values: Tensor
    real: Tensor | None
    own: tuple[tuple[Tensor, Tensor], ...] = ()

    def grow(self, parent: Tensor, key: Tensor, value: Tensor) -> Past:
        """One more token per beam: key, value (B, H, W, D/H) of beams that continue the beams `parent` (B, W)."""
        own = [(_rows(old_key, parent), _rows(old_value, parent)) for old_key, old_value in self.own]
        new = key.transpose(1, 2).contiguous(), value.transpose(1, 2).contiguous()  # (B, W, H, D/H)
        return replace(self, own=(*own, new))

    def mix(self, query: Tensor, tap: Callable[[Tensor], Tensor]) -> Tensor:
        """What queries (B, H, W, D/H) find among the shared and their own keys: (B, W, D)."""
        query = query / math.sqrt(query.shape[-1])
        shared = query @ self.keys.transpose(-1, -2)  # (B, H, W, T)
        if self.real is not None:
            shared.masked_fill_(~self.real[:, None, None, :], -torch.inf)
        each = query.transpose(1, 2)  # (B, W, H, D/H)
        own = [(each * key).sum(-1).transpose(1, 2)[..., None] for key, _ in self.own]  # (B, H, W, 1) each
        weights = tap(torch.cat([shared, *own], -1).softmax(-1))  # (B, H, W, T + j)
        there = self.keys.shape[2]
        mixed = (weights[..., :there] @ self.values).transpose(1, 2).contiguous()  # (B, W, H, D/H)
        for place, (_, value) in enumerate(self.own):
            mixed = mixed + weights[..., there + place].transpose(1, 2)[..., None] * value
        return mixed.flatten(2)


class Written(nn.Module):
    """The taps of what beams write through one block: where each beam looks, and its states.

    kind: what the block's own taps are called, if not plainly "attention" and "hidden"; keys: the axis of the tokens
    that beams look at.
    """

    def __init__(self, kind: str = "", keys: str = "key_token") -> None:
        super().__init__()
        self.weights = Tap(f"written {kind}attention", f"user head beam {keys}")
        self.hidden = Tap(f"written {kind}hidden", "user beam dim")


def _rows(x: Tensor, parent: Tensor) -> Tensor:
    """The beams `parent` (B, W) of x (B, V, H, D/H): (B, W, H, D/H). Whole rows are copied, which `gather` does not."""
    first = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (parent + first).flatten()).unflatten(0, parent.shape)


def which_count(lengths: Tensor, width: int) -> Tensor | None:
    """(B, width), True for the first `lengths` (B,) of each row; None where that is all of them."""
    real = torch.arange(width, device=lengths.device) < lengths[:, None]
    return None if bool(real.all()) else real


def read(block: Block, x: Tensor, real: Tensor | None) -> tuple[Tensor, Past]:
    """`block` over the history x (B, T, D), of which `real` (B, T) counts: its output and what beams need of it.

    A causal block over rows padded on the right ignores the padding by itself; any other one is given the mask.
    """
    query, key, value = block.attention.project(block.before_attention(x))
    mixed = block.attention.mix(query, key, value, None if block.attention.causal else real)
    return block.feed(x + block.dropout(mixed)), Past(key.contiguous(), value.contiguous(), real)


def read_end(block: Block, x: Tensor, real: Tensor | None, last: Tensor) -> tuple[Tensor, Past]:
    """`read` for the last block of a stack, of which only the output at positions `last` (B,) is wanted: (B, 1, D)."""
    row = torch.arange(len(x), device=x.device)
    if block.attention.weights.active or block.hidden.active:  # somebody wants to see all of it
        x, past = read(block, x, real)
        return x[row, last][:, None], past
    query, key, value = block.attention.project(block.before_attention(x))
    past = Past(key.contiguous(), value.contiguous(), real)
    mixed = block.attention.project_out(past.mix(query[row, :, last][:, :, None], block.attention.weights))
    return block.feed(x[row, last][:, None] + block.dropout(mixed)), past


def write(block: Block, x: Tensor, past: Past, parent: Tensor, written: Written | None = None) -> tuple[Tensor, Past]:
    """`block` over the next token x (B, W, D) of beams that continue the beams `parent` (B, W) of `past`.

    `written` sees it; the taps of the block itself are for what is read.
    """
    attention, see = block.attention, nn.Identity()
    query, key, value = attention.project(block.before_attention(x))  # (B, H, W, D/H)
    past = past.grow(parent, key, value)
    mixed = past.mix(query, written.weights if written else see)
    return (written.hidden if written else see)(block.transform(x + block.dropout(attention.project_out(mixed)))), past


class CrossBlock(nn.Module):
    """A causal `Block` that between its halves also looks at a memory, an encoder's output (Vaswani et al. 2017)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.block = Block(dim, heads, dropout, causal=True)
        self.block.attention.weights = Tap("self attention", "user head query_slot key_slot")  # of codes, not tokens
        self.block.hidden = Tap("decoder hidden", "user slot dim")
        self.before_memory = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.memory = nn.Linear(dim, 2 * dim)
        self.project_out = nn.Linear(dim, dim)
        self.weights = Tap("cross attention", "user head query_slot key_token")
        self.written = Written("self ", "key_slot")
        self.written_weights = Tap("written cross attention", "user head beam key_token")

    def forward(self, x: Tensor, memory: Tensor, real: Tensor | None) -> Tensor:
        """x: (B, C, D); memory: (B, T, D), of which `real` (B, T) counts (None: all). Returns (B, C, D)."""
        block = self.block
        x = x + block.dropout(block.attention(block.before_attention(x)))
        return block.feed(x + block.dropout(self._look(x, *self.heads(memory), real, self.weights)))

    def heads(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory (B, T, D): (B, H, T, D/H) each."""
        key, value = (self._split(part).contiguous() for part in self.memory(memory).chunk(2, dim=-1))
        return key, value

    def begin(self, memory: Tensor, real: Tensor | None) -> tuple[Past, tuple[Tensor | None, ...]]:
        """What `write` needs before the first token: an empty past, and keys, values and mask of the memory."""
        key, value = self.heads(memory)
        return Past(key[:, :, :0], value[:, :, :0], None), (key, value, real)

    def write(self, x: Tensor, past: Past, memory: tuple[Tensor | None, ...], parent: Tensor) -> tuple[Tensor, Past]:
        """The next token x (B, W, D) of beams that continue the beams `parent` (B, W) of `past`."""
        block = self.block
        query, key, value = block.attention.project(block.before_attention(x))
        past = past.grow(parent, key, value)
        x = x + block.dropout(block.attention.project_out(past.mix(query, self.written.weights)))
        x = block.transform(x + block.dropout(self._look(x, *memory, self.written_weights)))
        return self.written.hidden(x), past

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.block.attention.heads, -1)).transpose(1, 2)  # (B, H, T, D/H)

    def _look(self, x: Tensor, key: Tensor, value: Tensor, real: Tensor | None, tap: Tap) -> Tensor:
        query = self._split(self.query(self.before_memory(x)))
        mask = None if real is None else real[:, None, None]  # (B, 1, 1, T)
        mixed = attend(query, key, value, mask, tap)
        return self.project_out(mixed.transpose(1, 2).flatten(2))  # (B, C, D)
