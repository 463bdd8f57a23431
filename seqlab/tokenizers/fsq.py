"""FSQ: every number of a short projection is rounded to a few values; the grid cell is the code.

Paper: Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple", ICLR 2024, as RecGPT (HKUDS, EMNLP
2025) uses it for items: the vector is cut into chunks, each becomes one code of a vocabulary that all
chunks share. There are no codewords to learn, so none can die. The codes are parallel.
vector-quantize-pytorch rounds.

Confirmed against RecGPT's code: one projection for all chunks, no encoder network, slot positions and a
pre-norm Transformer of two layers as the decoder, L1 error, Adam 1e-4, levels (8, 8, 8, 6, 5) of 768-wide
text vectors.
Changed on purpose: the decoder reads all slots, not the last (at 16 numbers a chunk that is a bottleneck);
chunks are dealt out (chunk j has the numbers j, j + C, ...), for an SVD's first numbers carry nearly
everything; the projection starts from the chunks' principal axes; the library's bound, which differs from
RecGPT's in the third digit.
Reconstructed: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import Loss
from seqlab.items.vectors import validated
from seqlab.layers.mlp import mlp
from seqlab.tokenizers.learned import ROWS_AT_ONCE, fit_network, original, standardised


@dataclass
class FSQ:
    """`c_j = cell(round(bound(W x_j)))` for chunk j.

    levels: chunks, C; values: values of each number of the projection (RecGPT: 8, 8, 8, 6, 5 = 15,360 codes);
    deal: deal the numbers out to the chunks in turn instead of cutting.
    """

    levels: int = 4
    values: tuple[int, ...] = (8, 6, 5)
    deal: bool = True
    depth: int = 2
    heads: int = 2
    dropout: float = 0.0
    epochs: int = 60
    batch: int = 256
    lr: float = 1e-3
    seed: int = 0

    ordered = False

    def fit(self, X: np.ndarray, checkpoint: Path | str | None = None) -> FSQ:
        """Train on vectors (n, d), with a checkpoint in a folder if one is given.

        `history_` has the error by epoch; `notes_` mentions chunks without a number. Raises `ValueError` for fewer than
        3 values.
        """
        X = validated(X)
        if min(self.values) < 3:
            raise ValueError(f"FSQ needs at least 3 values for each number of the projection (got {self.values}).")
        numbers = X.shape[1]
        empty = f"Vectors of {numbers} numbers leave {self.levels - numbers} of {self.levels} codes without content."
        self.notes_ = (empty,) * (numbers < self.levels)
        fit_network(self, lambda dim: Network(self, dim), (X,), checkpoint, weight_decay=0.0)
        self.sizes_ = (prod(self.values),) * self.levels
        return self

    @torch.no_grad()
    def encode(self, X: np.ndarray) -> np.ndarray:
        """The cell of every chunk: (n, C)."""
        parts = standardised(self, X).split(ROWS_AT_ONCE)
        return torch.cat([self.network_.quantise(part)[1] for part in parts]).numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The decoder's vectors (n, d) for cells (n, C); chunks without a column are masked."""
        codes = torch.as_tensor(codes, dtype=torch.long)
        known = codes.shape[1]
        full = nn.functional.pad(codes, (0, self.levels - known))
        masked, parts = torch.arange(self.levels) >= known, []
        for part in full.split(ROWS_AT_ONCE):
            rounded = self.network_.grid.indices_to_codes(part)  # (n, C, numbers)
            parts.append(self.network_.decode(rounded, masked.expand(len(part), -1)))
        return original(self, torch.cat(parts))


class Cells(nn.Module):
    """What codes vectors as a fitted FSQ does, as buffers: saved with a model, it codes the items of other catalogues.

    slots: chunks, C; width: numbers per chunk at most; values: as in `FSQ`, which deals the numbers out. NaN before
    `keep`, and in models that were saved without it.
    """

    def __init__(self, slots: int, width: int, values: tuple[int, ...]) -> None:
        super().__init__()
        self.slots, self.values = slots, values
        self.register_buffer("mean", torch.full((slots * width,), torch.nan))
        self.register_buffer("scale", torch.tensor(torch.nan))
        self.register_buffer("weight", torch.full((len(values), width), torch.nan))
        self.register_buffer("bias", torch.full((len(values),), torch.nan))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """States that were saved without the buffers leave those of the module."""
        for name, buffer in self.named_buffers():
            state_dict.setdefault(prefix + name, buffer.clone())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @property
    def known(self) -> bool:
        """Whether it codes vectors."""
        return not bool(self.scale.isnan())

    def keep(self, tokenizer: FSQ) -> None:
        """Take over what a fitted tokenizer, one that deals its numbers out, codes vectors by."""
        project, mean = tokenizer.network_.project, torch.from_numpy(tokenizer.mean_)
        self.mean.zero_()[: len(mean)] = mean
        self.scale.fill_(tokenizer.scale_)
        self.weight.zero_()[:, : project.in_features] = project.weight.detach()
        self.bias.copy_(project.bias.detach())

    def chunks(self, X: np.ndarray) -> Tensor:
        """The standardised numbers of vectors (n, d) by slot: (n, C, width)."""
        x = torch.from_numpy(validated(X)).to(self.mean)
        x = nn.functional.pad(x, (0, len(self.mean) - x.shape[1]))
        return ((x - self.mean) / self.scale).unflatten(1, (-1, self.slots)).mT  # (n, C, width)

    def forward(self, X: np.ndarray) -> Tensor:
        """The codes (n, C) of vectors (n, d)."""
        from vector_quantize_pytorch import FSQ as Grid

        grid = Grid(list(self.values)).to(self.mean.device)
        return grid(nn.functional.linear(self.chunks(X), self.weight, self.bias))[1].long()


class Network(nn.Module):
    """Projection, grid and decoder."""

    def __init__(self, settings: FSQ, dim: int) -> None:
        from vector_quantize_pytorch import FSQ as Grid

        super().__init__()
        self.chunks, self.dim = settings.levels, dim
        self.width = -(-dim // settings.levels)  # numbers per chunk; zeros fill up the last if need be
        self.deal = settings.deal
        hidden = max(32, self.width // settings.heads * settings.heads)
        self.project = nn.Linear(self.width, len(settings.values))
        self.grid = Grid(list(settings.values))
        self.widen = nn.Linear(len(settings.values), hidden)
        self.slots = nn.Parameter(torch.randn(settings.levels, hidden) * 0.02)
        self.unknown = nn.Parameter(torch.zeros(hidden))
        layer = nn.TransformerEncoderLayer(
            hidden, settings.heads, 4 * hidden, settings.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, settings.depth, enable_nested_tensor=False)
        self.out = mlp((settings.levels * hidden, 4 * dim, dim), nn.GELU)

    def loss(self, x: Tensor) -> Loss:
        """The L1 error of standardised vectors (n, d), summed over features, a mean over rows.

        Half of the rows are decoded from a prefix of random length, so that every prefix of a tuple can be decoded.
        """
        rounded, _ = self.quantise(x)
        drawn = torch.randint(1, self.chunks + 1, x.shape[:1], device=x.device)
        shown = torch.where(torch.rand(len(x), device=x.device) < 0.5, self.chunks, drawn)
        masked = torch.arange(self.chunks, device=x.device) >= shown[:, None]  # (n, C)
        error = (self.decode(rounded, masked) - x).abs().sum(1).mean()
        return Loss(error, {"reconstruction": error.detach()}, len(x))

    def chunk(self, x: Tensor) -> Tensor:
        """Chunks (n, C, width) of vectors (n, d)."""
        x = nn.functional.pad(x, (0, self.chunks * self.width - self.dim))
        if self.deal:
            return x.view(len(x), self.width, self.chunks).mT
        return x.view(len(x), self.chunks, self.width)

    @torch.no_grad()
    def start(self, data: Tensor) -> None:
        """Set the projection's rows to the principal axes of the chunks of vectors (n, d), scaled to fill the grid."""
        chunks = self.chunk(data).reshape(-1, self.width)
        variance, axes = torch.linalg.eigh(chunks.T @ chunks / len(chunks))
        numbers = min(self.project.out_features, self.width)
        self.project.bias.zero_()
        self.project.weight[:numbers] = (axes / variance.clamp(min=1e-6).sqrt()).flip(1)[:, :numbers].T

    def quantise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rounded projections (n, C, numbers), with a gradient, and codes (n, C)."""
        rounded, codes = self.grid(self.project(self.chunk(x)))
        return rounded, codes.long()

    def decode(self, rounded: Tensor, masked: Tensor) -> Tensor:
        """Vectors (n, d) from the slots that are not masked (n, C)."""
        known = torch.where(masked[..., None], self.unknown, self.widen(rounded))  # (n, C, hidden)
        return self.out(self.transformer(known + self.slots).flatten(1))
