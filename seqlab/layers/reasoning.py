"""Latent reasoning: a user's last state is fed back as one more token, again and again, before anything is recommended.

A thought costs one token, not one history: keys and values of the history are kept, and thoughts about many positions
of one history are had side by side, each seeing what was known at its own position. The cached road gives what the
blocks' plain forward pass over history and thoughts gives; watched, it is that pass.
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
from seqlab.layers.transformer import Block
from seqlab.tracing import Tap


class Encoder(Protocol):
    """What can think: it takes one more token for each place it was asked about, and remembers it."""

    def decode_step(self, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """The states (B, W, D) after the tokens x (B, W, D), and the memory with them in it."""
        ...


def think(
    encoder: Encoder,
    first: Tensor,
    memory: Any,
    steps: int,
    positions: Tensor | None = None,
    rescale: Callable[[Tensor], Tensor] | None = None,
    noise: float | Tensor = 0.0,
    dropout: Callable[[Tensor], Tensor] | None = None,
    taps: Sequence[Tap] | None = None,
    stay: Callable[[int, Tensor], Tensor] | None = None,
) -> Tensor:
    """The states r_0 = `first` (B, W, D) and `steps` thoughts after it: (B, W, S + 1, D).

    `first` and `memory` are what the encoder made of the histories. Token s + 1 is
    `dropout(rescale(r_s) + positions[s] + noise * N(0, 1))`; positions (S or more, D) are the reasoning positions of
    ReaRec (arXiv 2503.22675), which tell thinking from reading, None: naive feedback; noise is one number, or one for
    each line of thought, (W, 1). `taps`, one per state and with the axes "user dim", see and may change each state
    before the next is made (one place per user only). `stay(s, r_s (B', W, D)) -> (B',)` is asked before thought s + 1
    about those who are still thinking (memory must have `rows`, as a `Stack`'s has):
    who does not stay keeps its state, and costs nothing more. Raises `ValueError` for fewer positions than steps, and
    for taps where there are several places.
    """
    if positions is not None and len(positions) < steps:
        raise ValueError(f"{steps} steps need as many reasoning positions; there are {len(positions)}.")
    if taps is not None and first.shape[1] != 1:
        raise ValueError(f"taps see one place per user, not {first.shape[1]}: think without them, or about one place.")

    def see(state: Tensor, step: int) -> Tensor:
        return state if taps is None else taps[step](state[:, 0])[:, None]

    here = None  # who is still thinking; None: all
    states = [see(first, 0)]
    last = states[0]  # of those who are
    for step in range(steps):
        if stay is not None:
            staying = stay(step, last).nonzero()[:, 0]
            if len(staying) < len(last):
                here = staying if here is None else here[staying]
                last, memory = last[staying], memory.rows(staying)
            if not len(last):
                states += [states[-1]] * (steps - step)
                break
        x = last if rescale is None else rescale(last)
        x = x if positions is None else x + positions[step]
        x = x + noise * torch.randn_like(x) if isinstance(noise, Tensor) or noise else x
        last, memory = encoder.decode_step(x if dropout is None else dropout(x), memory)
        # the states of all users, of whom some may think no more
        whole = last if here is None else states[-1].index_copy(0, here, last.to(states[-1].dtype))
        seen = see(whole, step + 1)
        states.append(seen)
        last = seen if here is None else seen[here]
    return torch.stack(states, 2)  # (B, W, S + 1, D)


@dataclass(frozen=True)
class _Kept:
    """What one attention layer remembers: like `kv_cache.KVCache`, with a view of the history per thought.

    keys, values: (B, H, T, D/H) of the history; sees: (B, W, T) which of them each line of thought may look at; own:
    keys and values (B, H, W, s, D/H) of its thoughts so far, none yet: None.
    """

    keys: Tensor
    values: Tensor
    sees: Tensor
    own: tuple[Tensor, Tensor] | None = None

    def rows(self, which: Tensor) -> _Kept:
        own = None if self.own is None else (self.own[0][which], self.own[1][which])
        return _Kept(self.keys[which], self.values[which], self.sees[which], own)

    def append(self, parent: None, key: Tensor, value: Tensor) -> _Kept:
        """One more thought each, key and value (B, H, W, D/H); every line goes on from itself, so `parent` is None."""
        new = key[:, :, :, None], value[:, :, :, None]  # (B, H, W, 1, D/H)
        if self.own is not None:
            new = torch.cat([self.own[0], new[0]], 3), torch.cat([self.own[1], new[1]], 3)
        return replace(self, own=new)

    def mix(self, query: Tensor, tap: Callable[[Tensor], Tensor]) -> Tensor:
        """What the queries (B, H, W, D/H) of the newest thoughts find: (B, W, D). Nobody watches here: no tap."""
        own_keys, own_values = self.own
        query = query / math.sqrt(query.shape[-1])
        history = (query @ self.keys.transpose(-1, -2)).masked_fill(~self.sees[:, None], -torch.inf)  # (B, H, W, T)
        thoughts = (own_keys * query[..., None, :]).sum(-1)  # (B, H, W, s)
        weights = torch.cat([history, thoughts], -1).softmax(-1)  # (B, H, W, T + s)
        history, thoughts = weights.split([history.shape[-1], thoughts.shape[-1]], -1)
        if history.shape[2] == 1 and history.shape[3] <= 12:  # so small a product is slow: the sum takes a quarter
            mixed = (history.transpose(-1, -2) * self.values).sum(2, keepdim=True)
        else:
            mixed = history @ self.values  # (B, H, W, D/H)
        mixed = mixed + (thoughts[..., None] * own_values).sum(-2)
        return mixed.transpose(1, 2).flatten(2)  # (B, W, D)


@dataclass(frozen=True)
class Memory:
    """What a `Stack` remembers of histories and of the thoughts about them.

    layers: one entry per block. Watched, there are none, and all is read again for every thought: inputs (B, T + s, D)
    of history and thoughts; sees (B, T + s, T + s), who may look at whom; view (B, T + s), where the next thought may.
    """

    layers: tuple[_Kept, ...]
    inputs: Tensor | None = None
    sees: Tensor | None = None
    view: Tensor | None = None

    def rows(self, which: Tensor) -> Memory:
        """The memory of these users, by index (B',)."""
        if self.inputs is not None:
            return Memory((), self.inputs[which], self.sees[which], self.view[which])
        return Memory(tuple(kept.rows(which) for kept in self.layers))


@dataclass(frozen=True)
class Stack:
    """Transformer blocks and the norm after them, as something that can think.

    Histories are read causally or, in blocks that are not causal, both ways; thoughts are always causal: one sees the
    history up to its own position (both ways: all of it that is real), the thoughts before it, and itself.
    """

    blocks: Sequence[Block]
    norm: Callable[[Tensor], Tensor]

    def prefill(self, x: Tensor, at: Tensor, real: Tensor | None = None) -> tuple[Tensor, Memory]:
        """Every state of the histories x (B, T, D): (B, T, D), and the memory to think about the positions `at` (B, W).

        `real` (B, T) marks what counts, where blocks look both ways (None: all); causal ones over rows padded on the
        right need none. Raises `ValueError` for several positions of a history that is read both ways: the first
        of them would know the last.
        """
        sees = self._sees(x, at, real)
        if self._watched and at.shape[1] == 1:
            return self._open(x, at, real)
        pasts = []
        for block in self.blocks:
            x, past = kv_cache.prefill(block, x, real)
            pasts.append(_Kept(past.keys, past.values, sees))
        return self.norm(x), Memory(tuple(pasts))

    def prefill_last(self, x: Tensor, at: Tensor, real: Tensor | None = None) -> tuple[Tensor, Memory]:
        """`prefill` where only the states at one position `at` (B, 1) per history are wanted: (B, 1, D)."""
        row = torch.arange(len(x), device=x.device)
        if self._watched:
            states, memory = self._open(x, at, real)
            return states[row, at[:, 0]][:, None], memory
        sees, pasts = self._sees(x, at, real), []
        for block in self.blocks[:-1]:
            x, past = kv_cache.prefill(block, x, real)
            pasts.append(_Kept(past.keys, past.values, sees))
        x, past = kv_cache.prefill_last(self.blocks[-1], x, sees[:, 0], at[:, 0])
        return self.norm(x), Memory((*pasts, _Kept(past.keys, past.values, sees)))

    def decode_step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The states (B, W, D) after one more token x (B, W, D) each, and the memory with it."""
        if memory.inputs is not None:
            inputs = torch.cat([memory.inputs, x], 1)  # (B, T + s, D)
            view = F.pad(memory.view, (0, 1), value=True)  # (B, T + s)
            sees = torch.cat([F.pad(memory.sees, (0, 1)), view[:, None]], 1)  # (B, T + s, T + s)
            return self._unfused(inputs, sees)[:, -1:], Memory((), inputs, sees, view)
        layers = []
        for block, kept in zip(self.blocks, memory.layers, strict=True):
            x, kept = kv_cache.decode_step(block, x, kept, None)
            layers.append(kept)
        return self.norm(x), Memory(tuple(layers))

    @property
    def _watched(self) -> bool:
        return any(block.attention.weights.active or block.hidden.active for block in self.blocks)

    def _sees(self, x: Tensor, at: Tensor, real: Tensor | None) -> Tensor:
        """Where in the history x (B, T, D) thoughts about `at` (B, W) may look: (B, W, T)."""
        if self.blocks[0].attention.causal:
            return torch.arange(x.shape[1], device=x.device) <= at[..., None]
        if at.shape[1] != 1:
            raise ValueError(
                f"a history read both ways can be thought about at one position, not {at.shape[1]}: "
                "its states already know what comes after them. Cut it there, and give each cut a row."
            )
        return (torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if real is None else real)[:, None]

    def _open(self, x: Tensor, at: Tensor, real: Tensor | None) -> tuple[Tensor, Memory]:
        """`prefill` for those who watch: attention and hidden states of history and thoughts together pass the taps."""
        view = self._sees(x, at, real)[:, 0]
        if self.blocks[0].attention.causal:
            sees = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()[None]
        else:
            sees = view[:, None]
        sees = sees.expand(len(x), x.shape[1], -1)
        return self._unfused(x, sees), Memory((), x, sees, view)

    def _unfused(self, x: Tensor, sees: Tensor) -> Tensor:
        """The plain forward pass over tokens x (B, T, D), of which each sees those that `sees` (B, T, T) says."""
        for block in self.blocks:
            x = block(x, sees)
        return self.norm(x)
