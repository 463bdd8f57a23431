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

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.items.vectors import checked
from seqlab.runtime.progress import interactive


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

    def fit(self, X: np.ndarray) -> FSQ:
        """Train; `notes_` tells of chunks without a number. Raises ValueError for fewer than 3 values."""
        X = checked(X)
        if min(self.values) < 3:
            raise ValueError(f"FSQ needs at least 3 values for each number of the projection (got {self.values}).")
        numbers = X.shape[1]
        empty = f"Vectors of {numbers} numbers leave {self.levels - numbers} of {self.levels} codes nothing to tell of."
        self.notes_ = (empty,) * (numbers < self.levels)
        self.mean_ = X.mean(0)
        self.scale_ = float((X - self.mean_).std()) or 1.0
        data = torch.from_numpy((X - self.mean_) / self.scale_)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            self.network_ = Network(self, X.shape[1])
            self.network_.start(data)
            self._train(data)
        self.network_.eval()
        self.sizes_ = (prod(self.values),) * self.levels
        return self

    def _train(self, data: Tensor) -> None:
        from tqdm.auto import tqdm

        network, self.history_ = self.network_, []
        optimiser = torch.optim.Adam(network.parameters(), self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs)
        network.train()
        for epoch in tqdm(range(self.epochs), "fsq", unit="epoch", disable=not interactive()):
            total = 0.0
            for rows in torch.randperm(len(data)).split(self.batch):
                rounded, _ = network.quantise(data[rows])
                # any prefix of the slots is to decode, so that a tuple can be read from the left
                drawn = torch.randint(1, self.levels + 1, rows.shape)
                shown = torch.where(torch.rand(len(rows)) < 0.5, self.levels, drawn)
                hidden = torch.arange(self.levels) >= shown[:, None]
                loss = (network.decode(rounded, hidden) - data[rows]).abs().sum(1).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += float(loss.detach()) * len(rows) / len(data)
            schedule.step()
            self.history_.append({"epoch": epoch, "reconstruction": total})

    @torch.no_grad()
    def encode(self, X: np.ndarray) -> np.ndarray:
        """The cell of every chunk: (n, C)."""
        x = torch.from_numpy((checked(X) - self.mean_) / self.scale_)
        return torch.cat([self.network_.quantise(some)[1] for some in x.split(8192)]).numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """What the decoder makes of the cells (n, d); chunks without a column are unknown to it."""
        codes = torch.as_tensor(codes, dtype=torch.long)
        known = codes.shape[1]
        full = torch.nn.functional.pad(codes, (0, self.levels - known))
        parts = []
        for some in full.split(8192):
            rounded = self.network_.grid.indices_to_codes(some)  # (n, C, numbers)
            hidden = (torch.arange(self.levels) >= known).expand(len(some), -1)
            parts.append(self.network_.decode(rounded, hidden))
        return torch.cat(parts).numpy() * self.scale_ + self.mean_


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
        self.out = nn.Sequential(nn.Linear(settings.levels * hidden, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def cut(self, x: Tensor) -> Tensor:
        """Chunks (n, C, width) of vectors (n, d)."""
        x = nn.functional.pad(x, (0, self.chunks * self.width - self.dim))
        if self.deal:
            return x.view(len(x), self.width, self.chunks).mT
        return x.view(len(x), self.chunks, self.width)

    @torch.no_grad()
    def start(self, data: Tensor) -> None:
        """The projection's rows are the principal axes of the chunks, scaled so that the grid is filled."""
        chunks = self.cut(data).reshape(-1, self.width)
        variance, axes = torch.linalg.eigh(chunks.T @ chunks / len(chunks))
        numbers = min(self.project.out_features, self.width)
        self.project.bias.zero_()
        self.project.weight[:numbers] = (axes / variance.clamp(min=1e-6).sqrt()).flip(1)[:, :numbers].T

    def quantise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rounded projections (n, C, numbers), with a gradient, and codes (n, C)."""
        rounded, codes = self.grid(self.project(self.cut(x)))
        return rounded, codes.long()

    def decode(self, rounded: Tensor, hidden: Tensor) -> Tensor:
        """Vectors (n, d) from the slots that are not hidden (n, C)."""
        known = torch.where(hidden[..., None], self.unknown, self.widen(rounded))  # (n, C, hidden)
        return self.out(self.transformer(known + self.slots).flatten(1))
