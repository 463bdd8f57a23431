"""Parallel VQ: several experts see the vector, each with codes of its own (REG4Rec's MPQ).

Paper: REG4Rec, arXiv 2508.15308, 2025; no official code was found.
Confirmed from reviews of the paper: expert encoders with a codebook each, a router that mixes the chosen
codewords, the error of the reconstructed vector, a term that keeps experts orthogonal.
Reconstructed: everything else: the form and weight of that term (mean squared cosine between experts, .1),
the commitment of VQ-VAE (.25), k-means start, revival, sizes. The codes are parallel; without the
orthogonality term they become copies of each other, which the report's "shared" column shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import Loss
from seqlab.items.vectors import validated
from seqlab.layers.mlp import mlp
from seqlab.tokenizers.clustering import feasible_sizes
from seqlab.tokenizers.learned import ROWS_AT_ONCE, fit_network, original, standardised


@dataclass
class ParallelVQ:
    """`z_r = E_r(x)`, `c_r = argmin_k |z_r - e_rk|`, `x ~ Dec(sum_r gate_r(x) e_{r,c_r})`.

    levels: experts, C; codes: K per expert at most, or a tuple with one for each (`clustering.feasible_sizes`);
    orthogonal: weight of the mean squared cosine between experts' outputs; revive: as in rq_vae.
    """

    levels: int = 4
    codes: int | tuple[int, ...] = 256
    hidden: tuple[int, ...] = (128,)
    latent: int = 32
    epochs: int = 60
    batch: int = 1024
    lr: float = 1e-3
    beta: float = 0.25
    orthogonal: float = 0.1
    revive: float = 1.0
    seed: int = 0

    ordered = False

    def fit(self, X: np.ndarray, checkpoint: Path | str | None = None) -> ParallelVQ:
        """Train on vectors (n, d), with a checkpoint in a folder if one is given.

        `history_` has the parts of the loss by epoch; `notes_` mentions levels with fewer codes than wanted.
        """
        X = validated(X)
        self.sizes_, fewer = feasible_sizes(self.codes, self.levels, len(X))
        fit_network(self, lambda dim: Network(self, self.sizes_, dim), (X,), checkpoint)
        self.gate_ = torch.from_numpy(self.gates(X)).mean(0)
        self.notes_ = (*fewer, "The gate differs by item; decoding codes alone uses its mean.")
        return self

    @torch.no_grad()
    def encode(self, X: np.ndarray) -> np.ndarray:
        """Every expert's nearest code: (n, C)."""
        network, parts = self.network_, standardised(self, X).split(ROWS_AT_ONCE)
        return torch.cat([network.quantise(network.views(part))[1] for part in parts]).numpy()

    @torch.no_grad()
    def gates(self, X: np.ndarray) -> np.ndarray:
        """The weight of each expert for each item: (n, C), rows sum to 1."""
        parts = standardised(self, X).split(ROWS_AT_ONCE)
        return torch.cat([self.network_.gate(part).softmax(-1) for part in parts]).numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The decoder's vectors (n, d) for the codewords, mixed by the mean gate; columns may be missing at the end."""
        network, parts = self.network_, []
        for columns in torch.as_tensor(codes, dtype=torch.long).T.split(ROWS_AT_ONCE, dim=1):
            words = torch.stack([book.codebook[code] for book, code in zip(network.books, columns, strict=False)])
            parts.append(network.decoder(network.mix(words, self.gate_[: len(words)])))
        return original(self, torch.cat(parts))


class Network(nn.Module):
    """Experts, their codes, the router and the decoder."""

    def __init__(self, settings: ParallelVQ, sizes: tuple[int, ...], dim: int) -> None:
        from vector_quantize_pytorch import VectorQuantize

        super().__init__()
        self.beta, self.orthogonal = settings.beta, settings.orthogonal
        widths = [dim, *settings.hidden, settings.latent]
        self.experts = nn.ModuleList(mlp(widths) for _ in range(settings.levels))
        self.books = nn.ModuleList(
            VectorQuantize(
                dim=settings.latent, codebook_size=size, kmeans_init=True, kmeans_iters=20,
                decay=0.9, threshold_ema_dead_code=settings.revive, commitment_weight=0.0,
                rotation_trick=False,
            )
            for size in sizes
        )  # fmt: skip
        self.gate = nn.Linear(dim, settings.levels)
        self.decoder = mlp(widths[::-1])

    @torch.no_grad()
    def start(self, data: Tensor) -> None:
        """Initialise the codes by k-means of all vectors (n, d)."""
        self.quantise(self.views(data))

    def loss(self, x: Tensor) -> Loss:
        """The loss of standardised vectors (n, d), its parts weighted: sums over features, means over rows."""
        z = self.views(x)  # (M, n, latent)
        words, _ = self.quantise(z)
        mixed = self.mix(z + (words - z).detach(), self.gate(x).softmax(-1))
        unit = nn.functional.normalize(z, dim=-1)
        cosine = torch.einsum("anz,bnz->nab", unit, unit) ** 2  # (n, M, M)
        pairs = max(len(z) * (len(z) - 1), 1)
        parts = {
            "reconstruction": ((self.decoder(mixed) - x) ** 2).sum(1).mean(),
            "commitment": self.beta * ((z - words.detach()) ** 2).sum((0, 2)).mean(),
            # times the features, as the other parts are sums over them
            "orthogonal": self.orthogonal * x.shape[1] * (cosine.sum((1, 2)) - len(z)).mean() / pairs,
        }
        return Loss(sum(parts.values()), {name: part.detach() for name, part in parts.items()}, len(x))

    def views(self, x: Tensor) -> Tensor:
        """Every expert's encoding of vectors (n, d): (M, n, latent)."""
        return torch.stack([expert(x) for expert in self.experts])

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Codewords (M, n, latent), and codes (n, M)."""
        codes = torch.stack([book(one.detach()[None])[1][0] for book, one in zip(self.books, z, strict=True)])
        words = torch.stack([book.codebook[one] for book, one in zip(self.books, codes, strict=True)])
        return words, codes.T

    def mix(self, words: Tensor, gate: Tensor) -> Tensor:
        """Sum of codewords (M, n, latent) by gate (n, M) or (M,): (n, latent)."""
        return torch.einsum("mnz,nm->nz", words, gate.expand(words.shape[1], -1))
