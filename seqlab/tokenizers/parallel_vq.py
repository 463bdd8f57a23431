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

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.items.vectors import checked
from seqlab.layers.mlp import mlp
from seqlab.runtime.progress import interactive
from seqlab.tokenizers.clustering import sizes_for


@dataclass
class ParallelVQ:
    """`z_r = E_r(x)`, `c_r = argmin_k |z_r - e_rk|`, `x ~ Dec(sum_r gate_r(x) e_{r,c_r})`.

    levels: experts, C; codes: K per expert, or a tuple with one for each, at most (`clustering.sizes_for`); orthogonal:
    weight of the mean squared cosine between experts' outputs; revive: as in rq_vae.
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

    def fit(self, X: np.ndarray) -> ParallelVQ:
        """Train; `history_` has the loss parts by epoch, `notes_` says if there are fewer codes than wanted."""
        X = checked(X)
        sizes, fewer = sizes_for(self.codes, self.levels, len(X))
        self.mean_ = X.mean(0)
        self.scale_ = float((X - self.mean_).std()) or 1.0
        data = torch.from_numpy((X - self.mean_) / self.scale_)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            self.network_ = Network(self, sizes, X.shape[1])
            self._train(data)
        self.network_.eval()
        self.gate_ = torch.from_numpy(self.gates(X)).mean(0)
        self.notes_ = (*fewer, "The gate differs by item; decoding codes alone uses its mean.")
        self.sizes_ = sizes
        return self

    def _train(self, data: Tensor) -> None:
        from tqdm.auto import tqdm

        network, self.history_ = self.network_, []
        optimiser = torch.optim.AdamW(network.parameters(), self.lr, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs)
        network.train()
        with torch.no_grad():
            network.quantise(network.views(data))  # k-means on all items
        for epoch in tqdm(range(self.epochs), "parallel_vq", unit="epoch", disable=not interactive()):
            sums: dict[str, float] = {}
            for rows in torch.randperm(len(data)).split(self.batch):
                parts = self.loss(data[rows])
                optimiser.zero_grad()
                sum(parts.values()).backward()
                optimiser.step()
                for name, value in parts.items():
                    sums[name] = sums.get(name, 0.0) + float(value.detach()) * len(rows) / len(data)
            schedule.step()
            self.history_.append({"epoch": epoch, **sums})

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """The weighted parts of the loss of scaled vectors (n, d): sums over features, means over rows."""
        network = self.network_
        z = network.views(x)  # (M, n, latent)
        words, _ = network.quantise(z)
        mixed = network.mix(z + (words - z).detach(), network.gate(x).softmax(-1))
        unit = nn.functional.normalize(z, dim=-1)
        cosine = torch.einsum("anz,bnz->nab", unit, unit) ** 2  # (n, M, M)
        pairs = max(self.levels * (self.levels - 1), 1)
        return {
            "reconstruction": ((network.decoder(mixed) - x) ** 2).sum(1).mean(),
            "commitment": self.beta * ((z - words.detach()) ** 2).sum((0, 2)).mean(),
            # times the features, as the other parts are sums over them
            "orthogonal": self.orthogonal * x.shape[1] * (cosine.sum((1, 2)) - self.levels).mean() / pairs,
        }

    @torch.no_grad()
    def encode(self, X: np.ndarray) -> np.ndarray:
        """Every expert's nearest code: (n, C)."""
        x = torch.from_numpy((checked(X) - self.mean_) / self.scale_)
        return torch.cat([self.network_.quantise(self.network_.views(some))[1] for some in x.split(8192)]).numpy()

    @torch.no_grad()
    def gates(self, X: np.ndarray) -> np.ndarray:
        """How much each expert counts for each item: (n, C), rows sum to 1."""
        x = torch.from_numpy((checked(X) - self.mean_) / self.scale_)
        return torch.cat([self.network_.gate(some).softmax(-1) for some in x.split(8192)]).numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """What the decoder makes of the codewords there are, mixed by the mean gate: (n, d)."""
        columns = torch.as_tensor(codes, dtype=torch.long).T
        parts = []
        for some in columns.split(8192, dim=1):
            words = torch.stack([book.codebook[one] for book, one in zip(self.network_.books, some, strict=False)])
            parts.append(self.network_.decoder(self.network_.mix(words, self.gate_[: len(words)])))
        return torch.cat(parts).numpy() * self.scale_ + self.mean_


class Network(nn.Module):
    """Experts, their codes, the router and the decoder."""

    def __init__(self, settings: ParallelVQ, sizes: tuple[int, ...], dim: int) -> None:
        from vector_quantize_pytorch import VectorQuantize

        super().__init__()
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

    def views(self, x: Tensor) -> Tensor:
        """What each expert makes of vectors (n, d): (M, n, latent)."""
        return torch.stack([expert(x) for expert in self.experts])

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Codewords (M, n, latent), and codes (n, M)."""
        codes = torch.stack([book(one.detach()[None])[1][0] for book, one in zip(self.books, z, strict=True)])
        words = torch.stack([book.codebook[one] for book, one in zip(self.books, codes, strict=True)])
        return words, codes.T

    def mix(self, words: Tensor, gate: Tensor) -> Tensor:
        """Sum of codewords (M, n, latent) by gate (n, M) or (M,): (n, latent)."""
        return torch.einsum("mnz,nm->nz", words, gate.expand(words.shape[1], -1))
