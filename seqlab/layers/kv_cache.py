"""Prefill and decode steps of Transformer blocks with a key/value cache that the beams of a user share.

With a history of T tokens and W beams of j generated tokens a step costs W queries over T shared and j generated keys:
nothing of the history is copied per beam. A step equals the blocks' plain forward pass.
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
class KVCache:
    """The keys and values of one attention layer.

    keys, values: (B, H, T, D/H) shared by all beams of a user, T may be 0; mask: (B, T), True where one is no padding,
    None = everywhere. generated: keys and values (B, W, H, D/H) of each generated token, the oldest first.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None
    generated: tuple[tuple[Tensor, Tensor], ...] = ()

    def append(self, parent: Tensor, key: Tensor, value: Tensor) -> KVCache:
        """One more token per beam: key, value (B, H, W, D/H) of beams that continue the beams `parent` (B, W)."""
        before = [(_rows(old_key, parent), _rows(old_value, parent)) for old_key, old_value in self.generated]
        new = key.transpose(1, 2).contiguous(), value.transpose(1, 2).contiguous()  # (B, W, H, D/H)
        return replace(self, generated=(*before, new))

    def mix(self, query: Tensor, tap: Callable[[Tensor], Tensor]) -> Tensor:
        """Attention of queries (B, H, W, D/H) over the shared keys and those of their beam: (B, W, D).

        `attend` over all keys side by side, with a mask, takes 1.3 times as long.
        """
        query = query / math.sqrt(query.shape[-1])
        shared = query @ self.keys.transpose(-1, -2)  # (B, H, W, T)
        if self.mask is not None:
            shared.masked_fill_(~self.mask[:, None, None, :], -torch.inf)
        each = query.transpose(1, 2)  # (B, W, H, D/H)
        generated = [(each * key).sum(-1).transpose(1, 2)[..., None] for key, _ in self.generated]  # (B, H, W, 1) each
        weights = tap(torch.cat([shared, *generated], -1).softmax(-1))  # (B, H, W, T + j)
        there = self.keys.shape[2]
        mixed = (weights[..., :there] @ self.values).transpose(1, 2).contiguous()  # (B, W, H, D/H)
        for place, (_, value) in enumerate(self.generated):
            mixed = mixed + weights[..., there + place].transpose(1, 2)[..., None] * value
        return mixed.flatten(2)


class DecodeTaps(nn.Module):
    """The taps of one block's decode steps: the attention weights and the states of each beam.

    kind: prefix of the names "attention" and "hidden"; keys: the axis of the keys.
    """

    def __init__(self, kind: str = "", keys: str = "key_token") -> None:
        super().__init__()
        self.weights = Tap(f"written {kind}attention", f"user head beam {keys}")
        self.hidden = Tap(f"written {kind}hidden", "user beam dim")


def _rows(x: Tensor, parent: Tensor) -> Tensor:
    """The beams `parent` (B, W) of x (B, V, H, D/H): (B, W, H, D/H). Whole rows are copied, which `gather` does not."""
    first = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (parent + first).flatten()).unflatten(0, parent.shape)


def padding_mask(lengths: Tensor, width: int) -> Tensor | None:
    """(B, width), True for the first `lengths` (B,) of each row; None where that is all of them."""
    mask = torch.arange(width, device=lengths.device) < lengths[:, None]
    return None if bool(mask.all()) else mask


def prefill(block: Block, x: Tensor, mask: Tensor | None) -> tuple[Tensor, KVCache]:
    """`block` over the history x (B, T, D): its output (B, T, D) and its cache.

    mask: (B, T), True where a token is no padding. A causal block over rows padded on the right needs it for the cache
    alone.
    """
    query, key, value = block.attention.project(block.before_attention(x))
    mixed = block.attention.mix(query, key, value, None if block.attention.causal else mask)
    return block.feed(x + block.dropout(mixed)), KVCache(key.contiguous(), value.contiguous(), mask)


def prefill_last(block: Block, x: Tensor, mask: Tensor | None, last: Tensor) -> tuple[Tensor, KVCache]:
    """`prefill` for the last block of a stack where only the output at positions `last` (B,) is used: (B, 1, D)."""
    row = torch.arange(len(x), device=x.device)
    if block.attention.weights.active or block.hidden.active:  # all of it is watched
        x, cache = prefill(block, x, mask)
        return x[row, last][:, None], cache
    query, key, value = block.attention.project(block.before_attention(x))
    cache = KVCache(key.contiguous(), value.contiguous(), mask)
    mixed = block.attention.project_out(cache.mix(query[row, :, last][:, :, None], block.attention.weights))
    return block.feed(x[row, last][:, None] + block.dropout(mixed)), cache


def decode_step(
    block: Block, x: Tensor, cache: KVCache, parent: Tensor, taps: DecodeTaps | None = None
) -> tuple[Tensor, KVCache]:
    """`block` over the next token x (B, W, D) of beams that continue the beams `parent` (B, W) of `cache`.

    taps: of decode steps; the taps of the block itself are for prefill.
    """
    attention, see = block.attention, nn.Identity()
    query, key, value = attention.project(block.before_attention(x))  # (B, H, W, D/H)
    cache = cache.append(parent, key, value)
    mixed = cache.mix(query, taps.weights if taps else see)
    return (taps.hidden if taps else see)(block.transform(x + block.dropout(attention.project_out(mixed)))), cache


class CrossBlock(nn.Module):
    """A causal `Block` with cross-attention to an encoder's output between its halves (Vaswani et al. 2017)."""

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
        self.written = DecodeTaps("self ", "key_slot")
        self.written_weights = Tap("written cross attention", "user head beam key_token")

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, C, D), memory (B, T, D) to (B, C, D). mask: (B, T), True where memory is no padding; None: all is."""
        block = self.block
        x = x + block.dropout(block.attention(block.before_attention(x)))
        return block.feed(x + block.dropout(self._cross_attend(x, *self.heads(memory), mask, self.weights)))

    def heads(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory (B, T, D): (B, H, T, D/H) each."""
        key, value = (self._split(part).contiguous() for part in self.memory(memory).chunk(2, dim=-1))
        return key, value

    def prefill(self, memory: Tensor, mask: Tensor | None) -> tuple[KVCache, tuple[Tensor | None, ...]]:
        """What `decode_step` needs at first: an empty cache, and keys, values and mask of the memory."""
        key, value = self.heads(memory)
        return KVCache(key[:, :, :0], value[:, :, :0], None), (key, value, mask)

    def decode_step(
        self, x: Tensor, cache: KVCache, memory: tuple[Tensor | None, ...], parent: Tensor
    ) -> tuple[Tensor, KVCache]:
        """The next token x (B, W, D) of beams that continue the beams `parent` (B, W) of `cache`."""
        block = self.block
        query, key, value = block.attention.project(block.before_attention(x))
        cache = cache.append(parent, key, value)
        x = x + block.dropout(block.attention.project_out(cache.mix(query, self.written.weights)))
        x = block.transform(x + block.dropout(self._cross_attend(x, *memory, self.written_weights)))
        return self.written.hidden(x), cache

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.block.attention.heads, -1)).transpose(1, 2)  # (B, H, T, D/H)

    def _cross_attend(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, tap: Tap) -> Tensor:
        query = self._split(self.query(self.before_memory(x)))
        mask = None if mask is None else mask[:, None, None]  # (B, 1, 1, T)
        mixed = attend(query, key, value, mask, tap)
        return self.project_out(mixed.transpose(1, 2).flatten(2))  # (B, C, D)
