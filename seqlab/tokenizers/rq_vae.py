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

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.contracts import Loss
from seqlab.items.vectors import validated
from seqlab.layers.mlp import mlp
from seqlab.optimization.checkpoint import State
from seqlab.tokenizers.clustering import balanced_kmeans, column_potentials, feasible_sizes, nearest
from seqlab.tokenizers.learned import ROWS_AT_ONCE, fit_network, original, standardised


@dataclass
class RQVAE:
    """`z = Enc(x)`, residual codes of z, `Dec(sum of codewords)`.

    codes: K per level at most, or a tuple with one for each (`clustering.feasible_sizes`); hidden: encoder widths;
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

    def fit(
        self, X: np.ndarray, collaborative: np.ndarray | None = None, checkpoint: Path | str | None = None
    ) -> RQVAE:
        """Train on vectors (n, d), with a checkpoint in a folder if one is given.

        collaborative: (n, latent) vectors of the same items, from training events alone. `history_` has one row per
        epoch: the parts of the loss per item, use of each level (codes chosen / codes), unique tuples / items; `notes_`
        mentions levels with fewer codes than wanted. Raises `ValueError` for vectors that do not fit.
        """
        X = validated(X)
        self.sizes_, self.notes_ = feasible_sizes(self.codes, self.levels, len(X))
        other = self._collaborative(collaborative, len(X))
        arrays = (X,) if other is None else (X, other)
        fit_network(
            self, lambda dim: Network(self, self.sizes_, dim), arrays, checkpoint, batches=self._batches,
            rate=self._rate, after_epoch=self._after_epoch,
        )  # fmt: skip
        return self

    def _collaborative(self, vectors: np.ndarray | None, n: int) -> np.ndarray | None:
        if not self.collaborative:
            return None
        if vectors is None:
            raise ValueError("collaborative > 0 needs fit(X, collaborative=vectors), learned from training events.")
        vectors = validated(vectors)
        if vectors.shape != (n, self.latent):
            raise ValueError(
                f"collaborative vectors must be (items, latent) = ({n}, {self.latent}), got {vectors.shape}; "
                "set latent to their width."
            )
        return vectors

    def _rate(self, step: int, epoch: int, steps: int) -> float:
        return self.lr * (min(1.0, step / 20) * (1 - (step - 1) / max(steps, 1)) ** 0.5)

    def _batches(self, arrays: list[Tensor], device: torch.device) -> Iterator[Any]:
        """Vectors (n, d), the collaborative vectors (n, latent) or None, and the groups of the codes or None."""
        groups = [group.to(device) for group in self._code_groups()] if self.diversity else None
        self.network_.chosen.clear()
        for rows in torch.randperm(len(arrays[0])).split(self.batch):
            x, *other = (array[rows].to(device) for array in arrays)
            yield x, other[0] if other else None, groups

    def _after_epoch(self, state: State) -> dict[str, float]:
        tuples = torch.cat(self.network_.chosen)
        use = {f"use {level}": len(column.unique()) / self.sizes_[level] for level, column in enumerate(tuples.T)}
        return use | {"unique": len(tuples.unique(dim=0)) / len(tuples)}

    def _code_groups(self) -> list[Tensor]:
        """The group of every code, of about equal size within a level: (K,) for each level."""
        found = []
        for layer in self.network_.quantiser.layers:
            words = layer.codebook.detach().cpu().numpy()
            centres, bonus = balanced_kmeans(words, min(self.groups, len(words)), iterations=3, seed=self.seed)
            found.append(torch.from_numpy(nearest(words, centres, bonus)))
        return found

    @torch.no_grad()
    def encode(self, X: np.ndarray) -> np.ndarray:
        """The nearest code of every level in turn (n, C); with `sinkhorn`, equal tuples get other last codes."""
        z = torch.cat([self.network_.encoder(part) for part in standardised(self, X).split(ROWS_AT_ONCE)])
        words, codes = zip(*[self.network_.quantise(part) for part in z.split(ROWS_AT_ONCE)], strict=True)
        codes = torch.cat(codes)
        if self.sinkhorn:
            residual = z - torch.cat([one[:-1].sum(0) for one in words])
            codes = _separate(codes, torch.cdist(residual, self.network_.quantiser.layers[-1].codebook) ** 2)
        return codes.numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The decoder's vectors (n, d) for the sum of the codewords; columns may be missing at the end."""
        network, parts = self.network_, []
        for columns in torch.as_tensor(codes, dtype=torch.long).T.split(ROWS_AT_ONCE, dim=1):
            layers = zip(network.quantiser.layers, columns, strict=False)
            parts.append(network.decoder(sum(layer.codebook[code] for layer, code in layers)))
        return original(self, torch.cat(parts))


class Network(nn.Module):
    """Encoder, codes, decoder."""

    def __init__(self, settings: RQVAE, sizes: tuple[int, ...], dim: int) -> None:
        from vector_quantize_pytorch import ResidualVQ

        super().__init__()
        self.settings = settings
        self.chosen: list[Tensor] = []  # codes (n, C) of each batch of an epoch
        widths = [dim, *settings.hidden, settings.latent]
        self.encoder, self.decoder = mlp(widths), mlp(widths[::-1])
        self.quantiser = ResidualVQ(
            dim=settings.latent, codebook_size=sizes, num_quantizers=settings.levels,
            kmeans_init=settings.start, kmeans_iters=20, decay=0.9,
            learnable_codebook=settings.diversity > 0, ema_update=settings.diversity == 0,
            threshold_ema_dead_code=settings.revive, commitment_weight=0.0, rotation_trick=False,
        )  # fmt: skip

    @torch.no_grad()
    def start(self, data: Tensor) -> None:
        """Initialise the codes by k-means of all vectors (n, d), level by level."""
        if self.settings.start:
            self.quantise(self.encoder(data))

    def loss(self, batch: tuple[Tensor, Tensor | None, list[Tensor] | None]) -> Loss:
        """The sum of the `parts` of a batch, whose codes join `chosen`."""
        parts, codes = self.parts(*batch)
        self.chosen.append(codes)
        return Loss(sum(parts.values()), {name: part.detach() for name, part in parts.items()}, len(codes))

    def parts(
        self, x: Tensor, other: Tensor | None = None, groups: list[Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The weighted parts of the loss of standardised vectors (n, d), means over rows; and codes (n, C).

        other: collaborative vectors (n, latent); groups: of the codes, for LETTER's diversity.
        """
        settings = self.settings
        z = self.encoder(x)  # (n, latent)
        words, codes = self.quantise(z)  # (C, n, latent), (n, C)
        before = words.detach().cumsum(0) - words.detach()  # what the levels before have explained
        residual = z - before  # (C, n, latent)
        straight_through = z + (words.sum(0) - z).detach()  # (n, latent)
        error = (self.decoder(straight_through) - x) ** 2
        parts = {
            "reconstruction": (error.sum(1) if settings.reconstruction == "sum" else error.mean(1)).mean(),
            "commitment": settings.beta * ((residual - words.detach()) ** 2).sum((0, 2)).mean(),
        }
        if settings.diversity:
            parts["codebook"] = ((residual.detach() - words) ** 2).sum((0, 2)).mean()
        if other is not None:
            here = torch.arange(len(x), device=x.device)
            parts["collaborative"] = settings.collaborative * F.cross_entropy(straight_through @ other.T, here)
        if groups is not None:
            parts["diversity"] = settings.diversity * sum(
                diversity_loss(layer.codebook, groups[level], codes[:, level])
                for level, layer in enumerate(self.quantiser.layers)
            )
        return parts, codes

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Codewords (C, n, latent), and codes (n, C)."""
        # the library's sum over levels hands the encoder one gradient per level, and its losses are means
        _, codes, _ = self.quantiser(z.detach()[None])
        codes = codes[0]
        words = torch.stack([layer.codebook[one] for layer, one in zip(self.quantiser.layers, codes.T, strict=True)])
        return words, codes


def sinkhorn(distances: Tensor, epsilon: float = 0.003, rounds: int = 50) -> Tensor:
    """Balanced transport of rows to codes: (n, K), rows sum to 1, every code gets n / K (LC-Rec's rule).

    Distances are centred and scaled to [-1, 1].
    """
    middle, half = (distances.max() + distances.min()) / 2, (distances.max() - distances.min()) / 2
    cost = (distances.double() - middle) / half.clamp(min=1e-9)
    first = epsilon * (np.log(cost.shape[0] / cost.shape[1]) - (cost / -epsilon).logsumexp(0))
    potentials = column_potentials(cost, epsilon, rounds - 1, first)
    return ((potentials - cost) / epsilon).softmax(1)


def _separate(codes: Tensor, distances: Tensor) -> Tensor:
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
    """LETTER's: cross-entropy of another code of the group, drawn at random, for each code that was `chosen` (n,).

    words: (K, latent); group: (K,) of each code.
    """
    itself = torch.arange(len(words), device=words.device) == chosen[:, None]
    same = (group[chosen, None] == group[None]) & ~itself  # (n, K)
    known = same.any(1)
    if not known.any():
        return words.sum() * 0
    chosen, positive = chosen[known], torch.multinomial(same[known].float(), 1)[:, 0]
    scores = (words[chosen] @ words.T).scatter(1, chosen[:, None], -torch.inf)
    return F.cross_entropy(scores, positive)
