"""Latent reasoning: a user's last state is fed back as one more token, several times, before anything is recommended.

A reasoning step costs one token, not one history: keys and values of the history are cached. Steps about many positions
of one history run side by side, each attending to the history up to its position. The cached steps equal the blocks'
plain forward pass over history and steps; watched, they are that pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from seqlab.layers import kv_cache
from seqlab.layers.mixers.gru import GRU
from seqlab.layers.transformer import Block
from seqlab.tracing import Tap


class Encoder(Protocol):
    """An encoder with a cache: it takes one more token for each of the positions that are reasoned about."""

    def decode_step(self, x: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """The states (B, W, D) after the tokens x (B, W, D), and the cache with them."""
        ...


def reason(
    encoder: Encoder,
    first: Tensor,
    cache: Any,
    steps: int,
    positions: Tensor | None = None,
    rescale: Callable[[Tensor], Tensor] | None = None,
    noise: float | Tensor = 0.0,
    dropout: Callable[[Tensor], Tensor] | None = None,
    taps: Sequence[Tap] | None = None,
    keep_going: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """The states r_0 = `first` (B, W, D) and those of `steps` reasoning steps after it: (B, W, S + 1, D).

    first, cache: of the encoder, after the histories. Token s + 1 is
    `dropout(rescale(r_s) + positions[s] + noise * N(0, 1))`.
    positions: (S or more, D), the reasoning positions of ReaRec (arXiv 2503.22675); None: naive feedback.
    noise: one number, or one for each position, (W, 1).
    taps: one per state, with the axes "user dim"; each sees and may change its state before the next step. Only where
    there is one position per user.
    keep_going(s, r_s (B', W, D)) -> (B',) bool: which of the active users take step s + 1. The others keep their state
    at no further cost. The cache must have `select`, as a `Stack`'s has.
    Raises `ValueError` for fewer positions than steps, and for taps where there are several positions.
    """
    if positions is not None and len(positions) < steps:
        raise ValueError(f"{steps} steps need as many reasoning positions; there are {len(positions)}.")
    if taps is not None and first.shape[1] != 1:
        raise ValueError(f"taps see one position per user, not {first.shape[1]}; reason without them, or about one.")

    def tapped(state: Tensor, step: int) -> Tensor:
        return state if taps is None else taps[step](state[:, 0])[:, None]

    here = None  # the active users; None: all
    states = [tapped(first, 0)]
    last = states[0]  # of those
    for step in range(steps):
        if keep_going is not None:
            active = keep_going(step, last).nonzero()[:, 0]
            if len(active) < len(last):
                here = active if here is None else here[active]
                last, cache = last[active], cache.select(active)
            if not len(last):
                states += [states[-1]] * (steps - step)
                break
        x = last if rescale is None else rescale(last)
        x = x if positions is None else x + positions[step]
        x = x + noise * torch.randn_like(x) if isinstance(noise, Tensor) or noise else x
        last, cache = encoder.decode_step(x if dropout is None else dropout(x), cache)
        # the states of all users, of whom some may have stopped
        whole = last if here is None else states[-1].index_copy(0, here, last.to(states[-1].dtype))
        states.append(tapped(whole, step + 1))
        last = states[-1] if here is None else states[-1][here]
    return torch.stack(states, 2)  # (B, W, S + 1, D)


@dataclass(frozen=True)
class _LayerCache:
    """The keys and values of one attention layer: like `kv_cache.KVCache`, with a mask of the history per position.

    keys, values: (B, H, T, D/H) of the history; mask: (B, W, T), True where a position may attend to them; steps: keys
    and values (B, H, W, s, D/H) of the steps so far, None before the first.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor
    steps: tuple[Tensor, Tensor] | None = None

    def select(self, which: Tensor) -> _LayerCache:
        steps = None if self.steps is None else (self.steps[0][which], self.steps[1][which])
        return _LayerCache(self.keys[which], self.values[which], self.mask[which], steps)

    def append(self, parent: None, key: Tensor, value: Tensor) -> _LayerCache:
        """One more step for each position: key and value (B, H, W, D/H). `parent` is unused."""
        new = key[:, :, :, None], value[:, :, :, None]  # (B, H, W, 1, D/H)
        if self.steps is not None:
            new = torch.cat([self.steps[0], new[0]], 3), torch.cat([self.steps[1], new[1]], 3)
        return replace(self, steps=new)

    def mix(self, query: Tensor, tap: None = None) -> Tensor:
        """Attention of the newest steps' queries (B, H, W, D/H): (B, W, D). `tap` is unused.

        `attend` over all keys side by side, with a mask, takes 1.6 times as long, and 2.8 times for one position.
        """
        step_keys, step_values = self.steps
        query = query / math.sqrt(query.shape[-1])
        history = (query @ self.keys.transpose(-1, -2)).masked_fill(~self.mask[:, None], -torch.inf)  # (B, H, W, T)
        steps = (step_keys * query[..., None, :]).sum(-1)  # (B, H, W, s)
        weights = torch.cat([history, steps], -1).softmax(-1)  # (B, H, W, T + s)
        history, steps = weights.split([history.shape[-1], steps.shape[-1]], -1)
        if history.shape[2] == 1 and history.shape[3] <= 12:  # so small a product is slow: the sum takes a quarter
            mixed = (history.transpose(-1, -2) * self.values).sum(2, keepdim=True)
        else:
            mixed = history @ self.values  # (B, H, W, D/H)
        mixed = mixed + (steps[..., None] * step_values).sum(-2)
        return mixed.transpose(1, 2).flatten(2)  # (B, W, D)


@dataclass(frozen=True)
class ReasoningCache:
    """The cache of a `Stack`: of the histories and of the reasoning steps after them.

    layers: one per block. A watched pass has none and computes all again for every step, from inputs (B, T + s, D) of
    history and steps; mask (B, T + s, T + s), what each attends to; next_mask (B, T + s), what the next step does.
    """

    layers: tuple[_LayerCache, ...]
    inputs: Tensor | None = None
    mask: Tensor | None = None
    next_mask: Tensor | None = None

    def select(self, which: Tensor) -> ReasoningCache:
        """That of these users, by index (B',)."""
        if self.inputs is not None:
            return ReasoningCache((), self.inputs[which], self.mask[which], self.next_mask[which])
        return ReasoningCache(tuple(layer.select(which) for layer in self.layers))


@dataclass(frozen=True)
class Stack:
    """Transformer blocks and the norm after them, as an `Encoder`.

    Histories are encoded causally or, by blocks that are not causal, both ways. Reasoning steps are always causal: one
    attends to the history up to its own position (both ways: all but padding), to the steps before it, and to itself.
    """

    blocks: Sequence[Block]
    norm: Callable[[Tensor], Tensor]

    def prefill(self, x: Tensor, at: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, ReasoningCache]:
        """Every state of the histories x (B, T, D): (B, T, D), and the cache to reason about the positions `at` (B, W).

        padding_mask: (B, T), True where an event is no padding, for blocks that are not causal (None: everywhere).
        Raises `ValueError` for several positions of a history that is encoded both ways: the first of them would know
        the last.
        """
        mask = self._history_mask(x, at, padding_mask)
        if self._watched and at.shape[1] == 1:
            return self._prefill_unfused(x, at, padding_mask)
        layers = []
        for block in self.blocks:
            x, of_layer = block.prefill(x, padding_mask)
            layers.append(_LayerCache(of_layer.keys, of_layer.values, mask))
        return self.norm(x), ReasoningCache(tuple(layers))

    def prefill_last(self, x: Tensor, at: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, ReasoningCache]:
        """`prefill` where only the states at one position `at` (B, 1) per history are wanted: (B, 1, D)."""
        row = torch.arange(len(x), device=x.device)
        if self._watched:
            states, cache = self._prefill_unfused(x, at, padding_mask)
            return states[row, at[:, 0]][:, None], cache
        mask, layers = self._history_mask(x, at, padding_mask), []
        for block in self.blocks[:-1]:
            x, of_layer = block.prefill(x, padding_mask)
            layers.append(_LayerCache(of_layer.keys, of_layer.values, mask))
        x, of_layer = kv_cache.prefill_last(self.blocks[-1], x, mask[:, 0], at[:, 0])
        return self.norm(x), ReasoningCache((*layers, _LayerCache(of_layer.keys, of_layer.values, mask)))

    def decode_step(self, x: Tensor, cache: ReasoningCache) -> tuple[Tensor, ReasoningCache]:
        """The states (B, W, D) after one more token x (B, W, D) each, and the cache with it."""
        if cache.inputs is not None:
            inputs = torch.cat([cache.inputs, x], 1)  # (B, T + s, D)
            next_mask = F.pad(cache.next_mask, (0, 1), value=True)  # (B, T + s)
            mask = torch.cat([F.pad(cache.mask, (0, 1)), next_mask[:, None]], 1)  # (B, T + s, T + s)
            return self._unfused(inputs, mask)[:, -1:], ReasoningCache((), inputs, mask, next_mask)
        layers = []
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x, layer = kv_cache.decode_step(block, x, layer)
            layers.append(layer)
        return self.norm(x), ReasoningCache(tuple(layers))

    @property
    def _watched(self) -> bool:
        return any(block.mixer.weights.active or block.hidden.active for block in self.blocks)

    def _history_mask(self, x: Tensor, at: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Where in the history x (B, T, D) steps about `at` (B, W) may attend: (B, W, T)."""
        if self.blocks[0].mixer.causal:
            return torch.arange(x.shape[1], device=x.device) <= at[..., None]
        if at.shape[1] != 1:
            raise ValueError(
                f"a history encoded both ways can be reasoned about at one position, not {at.shape[1]}: "
                "its states already know what comes after them. Cut it there, and give each cut a row."
            )
        return (torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if padding_mask is None else padding_mask)[
            :, None
        ]

    def _prefill_unfused(self, x: Tensor, at: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, ReasoningCache]:
        """A watched `prefill`: attention and hidden states of history and steps pass the taps together."""
        next_mask = self._history_mask(x, at, padding_mask)[:, 0]
        if self.blocks[0].mixer.causal:
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()[None]
        else:
            mask = next_mask[:, None]
        mask = mask.expand(len(x), x.shape[1], -1)
        return self._unfused(x, mask), ReasoningCache((), x, mask, next_mask)

    def _unfused(self, x: Tensor, mask: Tensor) -> Tensor:
        """The plain forward pass over tokens x (B, T, D), each attending where `mask` (B, T, T) is True."""
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


@dataclass(frozen=True)
class Recurrent:
    """GRU layers as an `Encoder`: a reasoning step is one more step from the states at its position."""

    layers: Sequence[GRU]
    dropout: Callable[[Tensor], Tensor]

    def prefill(self, x: Tensor, at: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Every state of x (B, T, D): (B, T, D), and each layer's states (B, W, D) at the positions `at` (B, W)."""
        row, cache = torch.arange(len(x), device=x.device)[:, None], []
        for layer in self.layers:
            x = layer(x)  # whose output at a position is its state there
            cache.append(x[row, at])
            x = self.dropout(x)
        return x, tuple(cache)

    def prefill_last(
        self, x: Tensor, at: Tensor, padding_mask: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        states, cache = self.prefill(x, at)
        return states[torch.arange(len(x), device=x.device)[:, None], at], cache

    def decode_step(self, x: Tensor, cache: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The states (B, W, D) after one more token x (B, W, D) each."""
        shape, after = x.shape[:2], []
        x = x.flatten(0, 1)  # (B W, D)
        for layer, state in zip(self.layers, cache, strict=True):
            x, state = layer.step(x, state.flatten(0, 1))
            after.append(state.unflatten(0, shape))
            x = self.dropout(x)
        return x.unflatten(0, shape), tuple(after)
