"""RQ-VAE: residual quantisation of what an encoder makes of the vectors (TIGER), with LETTER's terms.

Papers: Rajput et al., "Recommender Systems with Generative Retrieval" (TIGER), NeurIPS 2023; LETTER, CIKM
2024; the Sinkhorn assignment is LC-Rec's. vector-quantize-pytorch holds the codes, starts them from k-means
and revives dead ones.

Confirmed against authors' code: MLP with ReLU and its mirror, nearest codes on residuals, the
straight-through gradient, both errors summed over the features (an averaged one is weaker by their number:
codes then explain little, or collapse), beta .25, LETTER's in-batch cross-entropy and its groups of codes, Sinkhorn's
epsilon .003 and 50 rounds.
Changed on purpose: a code is the running average of what chose it (learned codes lag behind the encoder and
left a third more error after 30 epochs), except with the diversity term, which needs their gradient; AdamW
instead of 20,000 epochs of Adagrad; k-means on all items instead of one batch; vectors are centred and scaled
to unit variance per feature; Sinkhorn settles collisions in `encode` and is no part of training.
Reconstructed: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.items.vectors import checked
from seqlab.layers.mlp import mlp
from seqlab.runtime.progress import interactive
from seqlab.tokenizers.clustering import balanced_kmeans, nearest, sizes_for


@dataclass
class RQVAE:
    """`z = Enc(x)`, residual codes of z, `Dec(sum of codewords)`.

    codes: K per level, or a tuple with one for each, at most (`clustering.sizes_for`); hidden: widths of the encoder;
    latent: width of the codes; beta: weight of the commitment. reconstruction "mean", start=False (no k-means) and
    revive=0 are there to show the collapse they cause. revive: a code chosen less often than this per batch, on a
    running average, moves to some item's residual. sinkhorn: the last code of items with equal tuples is assigned by
    balanced transport. collaborative: LETTER's alpha (paper .01 to .02), needs the vectors in `fit`; diversity:
    LETTER's beta (1e-4), with its `groups`.
    """

    levels: int = 3
    codes: int | tuple[int, ...] = 256
    hidden: tuple[int, ...] = (512, 256, 128)
    latent: int = 32
    epochs: int = 100
    batch: int = 1024
    lr: float = 1e-3
    beta: float = 0.25
    reconstruction: Literal["sum", "mean"] = "sum"
    start: bool = True
    revive: float = 1.0
    sinkhorn: bool = False
    collaborative: float = 0.0
    diversity: float = 0.0
    groups: int = 10
    seed: int = 0

    ordered = True

    def fit(self, X: np.ndarray, collaborative: np.ndarray | None = None) -> RQVAE:
        """Train. collaborative: (n, latent) vectors of the same items, from training events alone.

        `history_` has one row per epoch: loss parts per item, use of each level (codes chosen / codes), unique
        tuples / items; `notes_` says if there are fewer codes than wanted. Raises ValueError for vectors that do not
        fit.
        """
        X = checked(X)
        sizes, self.notes_ = sizes_for(self.codes, self.levels, len(X))
        other = self._collaborative(collaborative, len(X))
        self.mean_ = X.mean(0)
        self.scale_ = float((X - self.mean_).std()) or 1.0
        data = torch.from_numpy((X - self.mean_) / self.scale_)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.seed)
            self.network_ = Network(self, sizes, X.shape[1])
            self.history_ = self._train(data, other)
        self.network_.eval()
        self.sizes_ = sizes
        return self

    def _collaborative(self, vectors: np.ndarray | None, n: int) -> Tensor | None:
        if not self.collaborative:
            return None
        if vectors is None:
            raise ValueError("collaborative > 0 needs fit(X, collaborative=vectors), learned from training events.")
        vectors = checked(vectors)
        if vectors.shape != (n, self.latent):
            raise ValueError(
                f"collaborative vectors must be (items, latent) = ({n}, {self.latent}), got {vectors.shape}; "
                "set latent to their width."
            )
        return torch.from_numpy(vectors)

    def _train(self, data: Tensor, other: Tensor | None) -> list[dict[str, float]]:
        from tqdm.auto import tqdm

        network, history = self.network_, []
        optimiser = torch.optim.AdamW(network.parameters(), self.lr, weight_decay=1e-4)
        steps = self.epochs * -(-len(data) // self.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min(1.0, (step + 1) / 20) * (1 - step / max(steps, 1)) ** 0.5
        )
        network.train()
        if self.start:
            with torch.no_grad():  # the first pass in training mode starts every level: on all items
                network.quantise(network.encoder(data))
        for epoch in tqdm(range(self.epochs), "rq_vae", unit="epoch", disable=not interactive()):
            groups = self._code_groups() if self.diversity else None
            sums: dict[str, float] = {}
            seen = []
            for rows in torch.randperm(len(data)).split(self.batch):
                parts, codes = self.loss(data[rows], None if other is None else other[rows], groups)
                optimiser.zero_grad()
                sum(parts.values()).backward()
                optimiser.step()
                schedule.step()
                seen.append(codes)
                for name, value in parts.items():
                    sums[name] = sums.get(name, 0.0) + float(value.detach()) * len(rows) / len(data)
            tuples = torch.cat(seen)
            use = {
                f"use {level}": len(one.unique()) / size
                for level, (one, size) in enumerate(zip(tuples.T, network.quantiser.codebook_sizes, strict=True))
            }
            history.append({"epoch": epoch, **sums, **use, "unique": len(tuples.unique(dim=0)) / len(data)})
        return history

    def loss(
        self, x: Tensor, other: Tensor | None = None, groups: list[Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The weighted parts of the loss of scaled vectors (n, d), means over rows; and codes (n, C)."""
        z = self.network_.encoder(x)  # (n, latent)
        words, codes = self.network_.quantise(z)  # (C, n, latent), (n, C)
        before = words.detach().cumsum(0) - words.detach()  # what the levels before have explained
        residual = z - before  # (C, n, latent)
        error = (self.network_.decoder(z + (words.sum(0) - z).detach()) - x) ** 2  # straight through
        parts = {
            "reconstruction": (error.sum(1) if self.reconstruction == "sum" else error.mean(1)).mean(),
            "commitment": self.beta * ((residual - words.detach()) ** 2).sum((0, 2)).mean(),
        }
        if self.diversity:
            parts["codebook"] = ((residual.detach() - words) ** 2).sum((0, 2)).mean()
        if other is not None:
            zq = z + (words.sum(0) - z).detach()
            here = torch.arange(len(x), device=x.device)
            parts["collaborative"] = self.collaborative * F.cross_entropy(zq @ other.T, here)
        if groups is not None:
            parts["diversity"] = self.diversity * sum(
                diversity_loss(layer.codebook, groups[level], codes[:, level])
                for level, layer in enumerate(self.network_.quantiser.layers)
            )
        return parts, codes

    def _code_groups(self) -> list[Tensor]:
        """The group of every code, of about equal size within a level: (K,) for each level."""
        found = []
        for layer in self.network_.quantiser.layers:
            words = layer.codebook.detach().numpy()
            centres, bonus = balanced_kmeans(words, min(self.groups, len(words)), iterations=3, seed=self.seed)
            found.append(torch.from_numpy(nearest(words, centres, bonus)))
        return found

    @torch.no_grad()
    def encode(self, X: np.ndarray) -> np.ndarray:
        """The nearest code of every level in turn (n, C); `sinkhorn` spreads equal tuples."""
        x = torch.from_numpy((checked(X) - self.mean_) / self.scale_)
        words, codes = zip(
            *[self.network_.quantise(self.network_.encoder(some)) for some in x.split(8192)], strict=True
        )
        codes = torch.cat(codes)
        if self.sinkhorn:
            before = torch.cat([one[:-1].sum(0) for one in words])
            residual = torch.cat([self.network_.encoder(some) for some in x.split(8192)]) - before
            codes = _spread(codes, torch.cdist(residual, self.network_.quantiser.layers[-1].codebook) ** 2)
        return codes.numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """What the decoder makes of the sum of the codewords there are: (n, d)."""
        layers = self.network_.quantiser.layers
        columns = torch.as_tensor(codes, dtype=torch.long).T
        parts = [
            self.network_.decoder(sum(layer.codebook[one] for layer, one in zip(layers, some, strict=False)))
            for some in columns.split(8192, dim=1)
        ]
        return torch.cat(parts).numpy() * self.scale_ + self.mean_


class Network(nn.Module):
    """Encoder, codes, decoder."""

    def __init__(self, settings: RQVAE, sizes: tuple[int, ...], dim: int) -> None:
        from vector_quantize_pytorch import ResidualVQ

        super().__init__()
        widths = [dim, *settings.hidden, settings.latent]
        self.encoder, self.decoder = mlp(widths), mlp(widths[::-1])
        self.quantiser = ResidualVQ(
            dim=settings.latent, codebook_size=sizes, num_quantizers=settings.levels,
            kmeans_init=settings.start, kmeans_iters=20, decay=0.9,
            learnable_codebook=settings.diversity > 0, ema_update=settings.diversity == 0,
            threshold_ema_dead_code=settings.revive, commitment_weight=0.0, rotation_trick=False,
        )  # fmt: skip

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Codewords (C, n, latent), and codes (n, C)."""
        # the library's sum over levels hands the encoder one gradient per level, and its losses are means
        _, codes, _ = self.quantiser(z.detach()[None])
        codes = codes[0]
        words = torch.stack([layer.codebook[one] for layer, one in zip(self.quantiser.layers, codes.T, strict=True)])
        return words, codes


def sinkhorn(distances: Tensor, epsilon: float = 0.003, rounds: int = 50) -> Tensor:
    """Balanced transport of rows to codes: (n, K), rows sum to 1, every code gets n / K (LC-Rec's rule).

    Distances are centred and scaled to [-1, 1]; in logs, for exp(-1 / .003) is no number.
    """
    middle, half = (distances.max() + distances.min()) / 2, (distances.max() - distances.min()) / 2
    plan = -(distances.double() - middle) / (half.clamp(min=1e-9) * epsilon)
    share = float(np.log(plan.shape[0] / plan.shape[1]))
    for _ in range(rounds):
        plan = plan - plan.logsumexp(0, keepdim=True) + share
        plan = plan - plan.logsumexp(1, keepdim=True)
    return plan.exp()


def _spread(codes: Tensor, distances: Tensor) -> Tensor:
    """Items with equal tuples get last codes by `sinkhorn`, of those that no other item of the prefix has."""
    codes = codes.clone()
    _, tuples, counts = torch.unique(codes, dim=0, return_inverse=True, return_counts=True)
    _, prefixes = torch.unique(codes[:, :-1], dim=0, return_inverse=True)
    order = prefixes.argsort(stable=True)
    crowded = torch.unique(prefixes[counts[tuples] > 1])
    bounds = torch.searchsorted(prefixes[order], torch.stack([crowded, crowded + 1]))
    for start, end in bounds.T.tolist():
        rows = order[start:end]
        movers = rows[counts[tuples[rows]] > 1]
        free = torch.ones(distances.shape[1], dtype=torch.bool)
        free[codes[rows[counts[tuples[rows]] == 1], -1]] = False
        if free.any():
            place = free.nonzero()[:, 0]
            codes[movers, -1] = place[sinkhorn(distances[movers][:, place]).argmax(1)]
    return codes


def diversity_loss(words: Tensor, group: Tensor, chosen: Tensor) -> Tensor:
    """LETTER's: the chosen code is to be near another of its group, drawn at random, and not the rest."""
    same = (group[chosen, None] == group[None]) & (torch.arange(len(words)) != chosen[:, None])  # (n, K)
    known = same.any(1)
    if not known.any():
        return words.sum() * 0
    chosen, positive = chosen[known], torch.multinomial(same[known].float(), 1)[:, 0]
    scores = (words[chosen] @ words.T).scatter(1, chosen[:, None], -torch.inf)
    return F.cross_entropy(scores, positive)
