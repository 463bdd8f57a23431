"""A decoder block with cross-attention to an encoder's states."""

from __future__ import annotations

from torch import Tensor, nn

from seqlab.layers.attention import attend
from seqlab.layers.kv_cache import DecodeTaps, KVCache
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.transformer import Block
from seqlab.tracing import Tap


class CrossBlock(nn.Module):
    """A causal `Block` with cross-attention to an encoder's output between its halves (Vaswani et al. 2017)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.block = Block(Attention(dim, heads), dim, dropout)
        self.block.mixer.weights = Tap("self attention", "user head query_slot key_slot")  # of codes, not tokens
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
        x = x + block.dropout(block.mixer(block.before_mixer(x)))
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
        mixed, cache = block.mixer.decode_step(block.before_mixer(x), cache, parent, self.written.weights)
        x = x + block.dropout(mixed)
        x = block.transform(x + block.dropout(self._cross_attend(x, *memory, self.written_weights)))
        return self.written.hidden(x), cache

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.block.mixer.heads, -1)).transpose(1, 2)  # (B, H, T, D/H)

    def _cross_attend(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, tap: Tap) -> Tensor:
        query = self._split(self.query(self.before_memory(x)))
        mask = None if mask is None else mask[:, None, None]  # (B, 1, 1, T)
        mixed = attend(query, key, value, mask, tap)
        return self.project_out(mixed.transpose(1, 2).flatten(2))  # (B, C, D)
