"""ReSID: item vectors from predicting masked fields, codes from a balanced tree, and a generator of these codes.

Paper: "ReSID", arXiv 2602.02338, 2026. FAMAE: a Transformer reads a history and the next item with some of its fields
(id, shop, categories) masked, and predicts them; an item's vector is its fields' embeddings, concatenated. GAOQ: a
balanced tree over these vectors, whose codes below the first level mean a direction, the same under every parent.

Confirmed against the paper's text: m ~ Uniform{1..J} hidden fields of the last item alone, a mask vector per field, sum
of fields plus position, bidirectional, sqrt(d) cos logits per field, concatenation, GAOQ (balanced_tree).
Changed on purpose: the generator is this lab's TIGER as a decoder alone (paper: T5, 4 + 4 layers) with a beam of 20
(paper 50); the whole softmax, not 128 negatives; a fixed number of epochs, not early stopping; a value (an id too)
without a training event is never an answer, its vector is the mean of the others and a little noise (the paper adds
such items to training).
Reconstructed: alpha_k = 1 (not given); random windows; positions count back from the last item; which columns are
fields (`fields`): genres and year of ml-1m, S3-Rec's attributes on amazon-beauty, codes of the text without any.
Held against: its paper on Musical Instruments (`CARD`), which is not here. A critique holds that GAOQ's argument does
not follow for balanced trees: compare anchors=none, all else equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab import decoding, tokenizers
from seqlab.contracts import Card, Decoder, Loss, Measurement, Published, Ranking
from seqlab.datasets import named
from seqlab.datasets.sequences import Batch
from seqlab.items.vectors import has_words, item_vectors
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.semantic_id_decoder import SemanticIdDecoder
from seqlab.layers.transformer import Block
from seqlab.optimization.loop import cosine, epoch_seed
from seqlab.optimization.stage import seeded, train
from seqlab.runtime.settings import Count, NonNegativeInt, PositiveFloat, Share, settings
from seqlab.tokenizers.codebook import CodeBook
from seqlab.tokenizers.resolve import CollisionRule
from seqlab.tokenizers.rq_kmeans import RQKMeans
from seqlab.tokenizers.semantic_ids import SemanticIds, resized, with_size_note
from seqlab.tracing import Layout, Tap

if TYPE_CHECKING:
    from pathlib import Path

    from seqlab.datasets.splits import Split

CARD = Card(
    claim="IDs made from what the recommender learns beat SASRec with the same fields.",
    title="ReSID",
    year=2026,
    venue="arXiv 2602.02338",
    controls=("sasrec_side", "resid:anchors=none"),
    control_names={"resid:anchors=none": "anchors=none"},
    homes=("complete-journey", "amazon-beauty"),
    seen_filter=False,
    measured=(
        Measurement(arms=("resid", "resid:anchors=none"), against=("sasrec_side",)),
        Measurement(("complete-journey",), against=("resid:anchors=none",), seeds=(0, 1, 2)),
        Measurement(("amazon-beauty",), against=("resid:anchors=none",)),
        Measurement(("amazon2018-games", "ml-1m"), against=("sasrec",), seen_filter=True),
    ),
    published=(
        Published("Musical Instruments, Amazon 2023", {"recall@10": 0.0645, "ndcg@10": 0.0346}, "its paper",
                  "SASRec with its fields has .0639 and .0326 there."),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the paper's beside them."""

    max_length: Count = 20  # most recent items read; paper 32
    dim: Count = 64  # paper 128
    layers: Count = 2  # paper 4 + 4
    heads: Count = 2  # paper 4
    dropout: Share = 0.2  # of the generator
    levels: tuple[Count, ...] = (32, 32, 64)  # codes at most: branches (fewer if under 10 items each), room; see paper
    tokenizer: str = "balanced_tree"  # of seqlab.tokenizers; random_codes is the control, which reads no vectors
    anchors: Literal["aligned", "none"] = "aligned"  # of the tree; paper aligned (GAOQ)
    vectors: str | None = None  # of items.vectors; none: FAMAE's, as in the paper
    resolve: CollisionRule = "index"  # equal tuples; a tree numbers its leaves, and moves equal ones
    field_dim: Count = 64  # of FAMAE, which has 2 layers, 4 heads and dropout .1 as in the paper; paper 128
    field_epochs: NonNegativeInt = 10  # of FAMAE; a small log needs more epochs or a higher rate
    field_rate: PositiveFloat = 1e-3  # paper 1e-3
    windows: Count = 4  # training histories of FAMAE per user and epoch, on average; paper all


class ReSID(nn.Module):
    """P(item | history) = product over levels of P(code | codes before it, history)."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.writer = SemanticIdDecoder(config)
        self.beam = Tap("beam", "user level rank")
        self.decoding = decoding.Decoding()  # by default a beam; no part of the training
        self.ids = SemanticIds(n_items, config, resolve=_resolve(config))

    def stages(self, split: Split, checkpoint: Path | None = None) -> None:
        """Train FAMAE and make the semantic IDs, the same for every seed, unless `ids.assign` has set them before."""
        if not self.ids.assigned:
            self.ids.assign(_tokenize(self.config, split, checkpoint))

    def loss(self, batch: Batch) -> Loss:
        """Minus the log-probability of the next items; its parts, the cross-entropy of each level."""
        return self.writer.loss(batch, self.ids.codes)

    def layout(self, batch: Batch) -> Layout:
        """The tokens of the histories: a start token, then the codes of each item."""
        return self.writer.layout(batch.items)

    def decoder(self, batch: Batch) -> Decoder:
        """The decoder of the next item's codes; the histories are encoded here, once."""
        return self.writer.decoder(self.ids.codes[batch.items], batch.lengths)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        """By `decoding`; scores are log-probabilities of the tuples."""
        return decoding.recommend(self, batch, k)

    def exact_score(self, batch: Batch) -> Tensor:
        """The log-probability of every item, without a search: (B, N + 1). Costs a pass over the catalogue."""
        return decoding.exact_scores(self, batch)


def fields(split: Split) -> tuple[tuple[str, ...], Tensor, list[int]]:
    """Names of the J fields, codes (N + 1, J), and how many values of each occur in training: the first ones.

    Field 0 is the item. A column is one if its values have three items or more on average; a list ("Comedy|Drama",
    "17 4 2") is a field per place, up to four. Without such columns: k-means codes of the text, if any. 0: unknown.
    """
    items, found = split.log.items, {"item": split.log.items.index.to_series()}
    for column in items.columns.difference(["item_id", "title", *named.unread(split.log.card)], sort=False):
        values = items[column].fillna("").astype(str)
        between = "|" if values.str.contains(r"[^\d ]").any() else " "
        for place, value in values.str.split(between, regex=False, expand=True).iloc[:, :4].items():
            value = value.fillna("").str.strip()
            if 1 < value[value != ""].nunique() <= (value != "").sum() / 3:
                found[f"{column} {place + 1}"] = value
    if len(found) == 1 and has_words(split.log):
        X = item_vectors(split, "tfidf")
        places = RQKMeans(3, max(2, min(64, split.n_items // 8))).fit(X).encode(X).T  # (3, N)
        found |= {f"text {place}": pd.Series(codes, items.index) for place, codes in enumerate(places, 1)}
    counts, codes, n_seen = pd.Series(split.train.item_counts(split.n_items)[1:].numpy(), items.index), [], []
    for value in found.values():
        often = counts.groupby(value).sum().drop("", errors="ignore").sort_values(ascending=False, kind="stable")
        codes.append(often.index.get_indexer(value) + 1)
        n_seen.append(int((often > 0).sum()))
    return tuple(found), F.pad(torch.from_numpy(np.stack(codes, 1)), (0, 0, 1, 0)), n_seen


class FAMAE(nn.Module):
    """Field-aware masked auto-encoder: predicts the masked fields of the last item of a history."""

    def __init__(self, config: Config, names: tuple[str, ...], codes: Tensor, n_seen: list[int]) -> None:
        super().__init__()
        self.names, self.n_seen, self.windows, dim = names, n_seen, config.windows, config.field_dim
        sizes = codes.amax(0) + 2  # a field's mask, nothing, its values
        self.register_buffer("codes", codes)  # (N + 1, J)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes)  # (J,) where each field's mask is
        self.table, self.positions = nn.Embedding(int(sizes.sum()), dim), nn.Embedding(config.max_length + 1, dim)
        self.dropout, self.norm = Dropout(0.1), nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(Block(Attention(dim, 4, causal=False), dim, 0.1) for _ in range(2))
        initialization.normal(self.table, self.positions)

    def forward(self, items: Tensor, lengths: Tensor, hide: Tensor) -> Tensor:
        """Vectors (M, D) of length sqrt(D) for the last of items (M, T), with its fields `hide` (M, J) hidden."""
        ago = lengths[:, None] - 1 - torch.arange(items.shape[1], device=items.device)  # (M, T), below 0: padding
        at = (1 + self.codes[items]).masked_fill((ago == 0)[..., None] & hide[:, None], 0) + self.offsets  # (M, T, J)
        x = self.dropout(self.table(at).sum(2) + self.positions(ago.clamp(min=0)))  # (M, T, D)
        for block in self.blocks:
            x = block(x, ago >= 0)
        return F.normalize(self.norm(x[ago == 0]), dim=1) * x.shape[2] ** 0.5

    def value_directions(self, field: int) -> Tensor:
        """The directions of a field's values seen in training, behind a row that is never a target: (1 + seen, D)."""
        first = int(self.offsets[field]) + 1
        return F.normalize(self.table.weight[first : first + 1 + self.n_seen[field]], dim=1)

    def loss(self, batch: Batch) -> Loss:
        """`field_loss` of random histories with random fields hidden."""
        drawn = self.mask_fields(batch)
        return Loss(self.field_loss(*drawn), count=len(drawn[0]))

    def field_loss(self, items: Tensor, lengths: Tensor, hide: Tensor) -> Tensor:
        """Cross-entropy of the hidden fields that have a value: a sum per row, the mean of the rows.

        items, lengths, hide: as in `forward`.
        """
        state, truth = self(items, lengths, hide), self.codes[items.gather(1, lengths[:, None] - 1)[:, 0]]
        total, counted = state.sum() * 0, hide & (truth > 0)  # (M, J)
        for field, rows in enumerate(counted.T):
            if bool(rows.any()):
                one = losses.softmax(state[rows], self.value_directions(field), truth[rows, field])
                total = total + one * rows.float().mean()
        return total

    def mask_fields(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Random histories that end with their next item, and which of its fields are hidden: as in `forward`."""
        ends = batch.cut(self.windows)
        last = ends.lengths[:, None]  # (M, 1) where the next item stands
        items = F.pad(ends.items, (0, 1)).scatter(1, last, ends.last(ends.targets)[:, None])  # (M, T)
        ranks = torch.rand(len(items), len(self.names), device=items.device).argsort(1).argsort(1)  # (M, J)
        return items, last[:, 0] + 1, ranks < torch.randint_like(last, 1, len(self.names) + 1)

    @torch.no_grad()
    def vectors(self) -> np.ndarray:
        """The embeddings of each item's fields side by side: (N, J D)."""
        table = self.table.weight.clone()
        for begin, seen, end in zip(self.offsets + 2, self.n_seen, self.offsets + 2 + self.codes.amax(0), strict=True):
            mean = table[begin : begin + max(seen, 1)].mean(0)
            table[begin + seen : end] += mean  # of unseen values, which are still their initial noise
        return table[self.offsets + 1 + self.codes[1:]].flatten(1).cpu().numpy()


def pretrain(config: Config, split: Split, seed: int = 0, checkpoint: Path | None = None) -> FAMAE:
    """A FAMAE trained on training events alone; torch's random numbers are left as they were.

    checkpoint: a folder, as in `optimization.stage.train`.
    """
    sizes, longest = fields(split), config.max_length
    about = {"config": asdict(config), "seed": seed, "data": split.log.fingerprint(), "split": split.name}

    def batches(epoch: int, device: torch.device) -> Iterable[Batch]:
        return split.train.to(device).training_batches(longest, 512, epoch_seed(seed, epoch))

    def rate(step: int, epoch: int) -> float:
        return config.field_rate * cosine(epoch / config.field_epochs)

    with seeded(seed):
        famae = FAMAE(config, *sizes)
        optimizer = torch.optim.AdamW(famae.parameters(), config.field_rate, weight_decay=1e-5)
        train(
            "FAMAE", famae, batches, optimizer, rate, config.field_epochs,
            targets=split.train.targets_per_epoch(longest), clip=1.0, checkpoint=checkpoint, settings=about,
        )  # fmt: skip
    return famae


def _resolve(config: Config) -> CollisionRule:
    """The rule for equal tuples: a tree numbers its leaves itself, so what is still equal is moved."""
    return "reassign" if config.tokenizer == "balanced_tree" and config.resolve != "none" else config.resolve


def _tokenize(config: Config, split: Split, checkpoint: Path | None) -> CodeBook:
    """The semantic IDs by the settings, from the item table and training events alone."""
    famae, codes = (None if checkpoint is None else checkpoint / name for name in ("famae", "tokenizer"))
    tree, random = config.tokenizer == "balanced_tree", config.tokenizer == "random_codes"
    content = config.levels[:-1] if tree or config.resolve in ("index", "popularity") else config.levels
    shrink = min(1.0, (split.n_items / 10 / np.prod(content)) ** (1 / len(content)))
    fewer = tuple(max(2, int(size * shrink)) for size in content)
    tokenizer = resized(tokenizers.create(config.tokenizer), content, fewer, fewer)
    if tree:
        tokenizer = replace(tokenizer, anchors=config.anchors)
    if config.vectors or random:  # the control reads nothing, so nothing is trained for it
        X = np.zeros((split.n_items, 1)) if random else item_vectors(split, config.vectors)
    else:
        X = pretrain(config, split, checkpoint=famae).vectors()
    counts, source = split.train.item_counts(split.n_items).numpy(), "none" if random else config.vectors or "FAMAE"
    book = tokenizers.make_codebook(
        tokenizer, X, resolve=_resolve(config), popularity=counts, vectors=source, most=config.levels[-1],
        checkpoint=codes,
    )  # fmt: skip
    book = with_size_note(book, content, split.n_items)
    if not tree:
        return book
    cosines = np.round(tokenizer.coherence(), 3)
    return replace(book, notes=(*book.notes, f"Mean cosine of steps with one code, from level 1: {cosines}."))
