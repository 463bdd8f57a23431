"""Prefill and decode steps of blocks of attention with a key/value cache that the beams of a user share.

With a history of T tokens and W beams of j generated tokens a step costs W queries over T shared and j generated keys:
nothing of the history is copied per beam. A step equals the blocks' plain forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqlab.tracing import Tap

if TYPE_CHECKING:
    from seqlab.layers.transformer import Block


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

    def append(self, parent: Tensor | None, key: Tensor, value: Tensor) -> KVCache:
        """One more token per beam: key, value (B, H, W, D/H) of beams that continue the beams `parent` (B, W).

        parent: None = each beam continues itself.
        """
        before = self.generated
        if parent is not None:
            before = tuple((_rows(old_key, parent), _rows(old_value, parent)) for old_key, old_value in before)
        new = key.transpose(1, 2).contiguous(), value.transpose(1, 2).contiguous()  # (B, W, H, D/H)
        return replace(self, generated=(*before, new))

    def mix(self, query: Tensor, tap: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Attention of queries (B, H, W, D/H) over the shared keys and those of their beam: (B, W, D).

        `attend` over all keys side by side, with a mask, takes 1.3 times as long.
        """
        query = query / math.sqrt(query.shape[-1])
        shared = query @ self.keys.transpose(-1, -2)  # (B, H, W, T)
        if self.mask is not None:
            shared.masked_fill_(~self.mask[:, None, None, :], -torch.inf)
        each = query.transpose(1, 2)  # (B, W, H, D/H)
        generated = [(each * key).sum(-1).transpose(1, 2)[..., None] for key, _ in self.generated]  # (B, H, W, 1) each
        weights = torch.cat([shared, *generated], -1).softmax(-1)  # (B, H, W, T + j)
        if tap is not None:
            weights = tap(weights)
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


def prefill_last(block: Block, x: Tensor, mask: Tensor | None, last: Tensor) -> tuple[Tensor, KVCache]:
    """`Block.prefill` for the last block of a stack where only the output at positions `last` (B,) is used: (B, 1, D).

    The block's mixer is `Attention`.
    """
    row, attention = torch.arange(len(x), device=x.device), block.mixer
    if attention.weights.active or block.hidden.active:  # all of it is watched
        x, cache = block.prefill(x, mask)
        return x[row, last][:, None], cache
    query, key, value = attention.project(block.before_mixer(x))
    cache = KVCache(key.contiguous(), value.contiguous(), mask)
    mixed = attention.project_out(cache.mix(query[row, :, last][:, :, None]))
    return block.feed(x[row, last][:, None] + block.dropout(mixed)), cache


def decode_step(
    block: Block, x: Tensor, cache: Any, parent: Tensor | None = None, taps: DecodeTaps | None = None
) -> tuple[Tensor, Any]:
    """`block` over the next token x (B, W, D) of beams that continue the beams `parent` (B, W) of `cache`.

    The block's mixer is `Attention`, whose `decode_step` takes the cache. taps: of decode steps; the taps of the block
    itself are for prefill.
    """
    mixed, cache = block.mixer.decode_step(block.before_mixer(x), cache, parent, taps.weights if taps else None)
    x = block.transform(x + block.dropout(mixed))
    return taps.hidden(x) if taps else x, cache
