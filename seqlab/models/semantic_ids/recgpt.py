"""RecGPT: reads items as FSQ tokens of their text and predicts all codes of the next item at once; items have no table.

Paper: Jiang et al., "RecGPT: A Foundation Model for Sequential Recommendation", EMNLP 2025 (HKUDS). Every item of
every domain is four tokens of one fixed vocabulary, so nothing learnt belongs to a catalogue: the parameters of a
model trained here can be loaded into one built for other items.

Confirmed against the authors' code: one vocabulary and one output table, untied and without a bias, for all slots;
LN(token) + LN(W chunk), the raw chunk of the text vector beside its code; attention free inside an item and causal
between items; token j of an item predicts token j of the next, so the codes are independent given the history;
a search along the catalogue's trie. Its temperature of .1 changes no order: all tuples share the normalisers.
Changed on purpose: `score` is exact, the sum of four log-probabilities per item; their search (10 first codes, then
5 each, 20 kept) adds errors, and `decoding=beam` shows it with the trie's legal codes alone. Items of one tuple
tie (theirs overwrite each other). Positions count items from the oldest read, with a slot apart, and never depend on
the batch (theirs are absolute, padded right to train and left to predict). Pre-norm blocks, trained on one log.
Vectors have length 1, as the usual MPNet sentence encoder gives them; whether the authors' do was not checked.
Added: `per_item`. A code that many items have is probable because they are many, and a sum of such codes recommends
crowds; shared out among its items, a code's probability says how good each is. The paper has no such thing.
Reconstructed: nothing.
Held against: zero-shot on data that are not here (`CARD`); on Steam compare with copying the last item.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqlab import contracts, decoding
from seqlab.contracts import Card, Loss, Measurement, Published, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.items.vectors import OF_ANY_CATALOGUE, item_vectors, validated, words_or_collaborative
from seqlab.layers import initialization, losses
from seqlab.layers.dropout import Dropout
from seqlab.layers.mixers.attention import Attention
from seqlab.layers.transformer import Block
from seqlab.runtime.settings import Count, Share, settings
from seqlab.tokenizers.codebook import CodeBook
from seqlab.tokenizers.fsq import FSQ, Cells
from seqlab.tokenizers.resolve import CollisionRule
from seqlab.tokenizers.semantic_ids import SemanticIds, semantic_ids, with_size_note
from seqlab.tracing import Layout, Tap

if TYPE_CHECKING:
    from pathlib import Path

    from seqlab.datasets.splits import Split

CARD = Card(
    claim="Text alone carries over to catalogues never seen.",
    title="RecGPT: A Foundation Model for Sequential Recommendation",
    authors="Jiang et al.",
    year=2025,
    venue="EMNLP",
    controls=("recgpt:tokenizer=random_codes", "tiger", "sasrec_side"),
    control_names={"recgpt:tokenizer=random_codes": "random codes"},
    homes=("complete-journey", "amazon-beauty"),
    seen_filter=False,
    measured=(
        Measurement(arms=("recgpt", "recgpt:per_item=True"),
                    against=("sasrec_side", "tiger", "recgpt", "recgpt:tokenizer=random_codes")),
        Measurement(("amazon2018-games",), ("recgpt", "recgpt:per_item=True"), ("sasrec", "recgpt"), seen_filter=True),
        Measurement(("amazon2018-games",), ("recgpt:per_item=True",), ("tiger",), seen_filter=True),
        Measurement(("ml-1m",), ("recgpt:per_item=True",), ("sasrec", "tiger:narrow"), seen_filter=True),
    ),
    published=(
        Published("Baby, Amazon", {"recall@1": 0.0273, "recall@5": 0.0283, "ndcg@5": 0.0279}, "its paper",
                  "Not trained on it."),
        Published("Steam", {"recall@1": 0.1237, "recall@5": 0.1253, "ndcg@5": 0.1245}, "its paper",
                  "Not trained on it. 12.45 % of the answers repeat the last item, and nothing hides what was seen."),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the paper's beside them."""

    max_length: Count = 50  # most recent items read; paper 256
    dim: Count = 64  # paper 768
    layers: Count = 2  # paper 3
    heads: Count = 2  # paper 12
    dropout: Share = 0.2  # paper .1
    levels: tuple[Count, ...] = (15_360, 15_360, 15_360, 15_360)  # codes per slot at most; as the paper
    values: tuple[Count, ...] = (8, 8, 8, 6, 5)  # FSQ's grid, whose product is a slot's codes; as the paper
    tokenizer: str = "fsq"  # of seqlab.tokenizers; random_codes is the control, which reads no vectors
    vectors: str | None = None  # of items.vectors; none: tfidf, or collaborative without words; paper MPNet
    resolve: CollisionRule = "none"  # equal tuples; paper none
    dense: bool = True  # the input is the code and its chunk of the vector; paper yes
    chunk: Count = 16  # numbers of a vector per slot at most; paper 192
    per_item: bool = False  # divide the probability of a code by the number of its items; paper no


class RecGPT(nn.Module):
    """log P(item | history) = sum over slots of log P(code | slot, history): exact for the whole catalogue."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.decoding = decoding.Decoding()  # by default exact; no part of the training
        self.ids = SemanticIds(n_items, config)
        dim, slots, self.vocabulary = config.dim, len(config.levels), max(config.levels)
        self.content_slots = slots - (config.resolve in ("index", "popularity"))  # without the index
        self.dense = config.dense and config.tokenizer != "random_codes"  # the control reads no vectors
        self.table = nn.Embedding(self.vocabulary + 1, dim)  # shared by the slots; the last row is padding
        self.positions = nn.Embedding(config.max_length, dim)
        self.slots = nn.Embedding(slots, dim)
        self.norm_code = nn.LayerNorm(dim)
        if self.dense:
            self.project = nn.Linear(config.chunk, dim, bias=False)
            self.norm_chunk = nn.LayerNorm(dim)
        self.code_part = Tap("inputs", "user event slot dim")
        self.chunk_part = Tap("inputs", "user event slot dim")
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(Attention(dim, config.heads, over="token"), dim, config.dropout, over="token")
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, self.vocabulary, bias=False)
        self.written = Tap("codes", "user slot code")
        initialization.normal(self.table, self.positions, self.slots)
        self.register_buffer("chunks", torch.zeros(n_items + 1, slots, config.chunk) if self.dense else None)
        self.cells = Cells(self.content_slots, config.chunk, config.values) if config.tokenizer == "fsq" else None

    def stages(self, split: Split, checkpoint: Path | None = None) -> None:
        """Tokenize the catalogue and split its vectors, unless `ids.assign` and `set_chunks` were called before."""
        if not self.ids.assigned:
            self.ids.assign(self._tokenize(split, checkpoint))
        if self.dense and not bool(self.chunks.any()):
            self.set_chunks(normalized(item_vectors(split, self._source(split))))

    def _tokenize(self, split: Split, checkpoint: Path | None) -> CodeBook:
        """The codes of `config.tokenizer`: by default FSQ of vectors of length 1, on the grid of `config.values`."""
        from seqlab.tokenizers import make_codebook

        config, source = self.config, self._source(split)
        if config.tokenizer != "fsq":
            return semantic_ids(split, replace(config, vectors=source), checkpoint=checkpoint)
        X, counts = normalized(item_vectors(split, source)), split.train.item_counts(split.n_items).numpy()
        tokenizer = FSQ(levels=self.content_slots, values=config.values)
        book = make_codebook(
            tokenizer, X, resolve=config.resolve, popularity=counts, vectors=source, most=config.levels[-1],
            checkpoint=None if checkpoint is None else checkpoint / "tokenizer",
        )  # fmt: skip
        self.cells.keep(tokenizer)
        return with_size_note(book, config.levels[: self.content_slots], split.n_items)

    def _source(self, split: Split) -> str:
        return self.config.vectors or words_or_collaborative(split.log)

    def set_chunks(self, X: np.ndarray) -> None:
        """Split the vectors (N, d) over the slots as FSQ does: slot j of C has the numbers j, j + C, ...

        Raises `ValueError` for more numbers than the slots hold, and for another number of items.
        """
        x, slots = torch.from_numpy(validated(X, len(self.ids.codes) - 1)), self.content_slots
        if x.shape[1] > slots * self.config.chunk:
            raise ValueError(
                f"vectors of {x.shape[1]} numbers do not fit {slots} slots of {self.config.chunk}; "
                f"set chunk={-(-x.shape[1] // slots)}."
            )
        x = x - x.mean(0)
        x = F.pad(x / (x.std() or 1.0), (0, slots * self.config.chunk - x.shape[1]))
        self.chunks[1:, :slots] = x.unflatten(1, (-1, slots)).mT.to(self.chunks)  # (N, C, chunk)

    def with_catalogue(self, split: Split) -> RecGPT:
        """The same weights on the items of another log, coded from their text as those of training; for evaluation.

        Raises `ValueError` where codes or vectors are those of its own catalogue.
        """
        config, source, other = self.config, self._source(split), copy.deepcopy(self).eval()
        other.ids = SemanticIds(split.n_items, config).to(self.ids.codes.device)
        if config.tokenizer == "random_codes":
            other.stages(split)
            return other
        if self.cells is None or config.resolve != "none":
            raise ValueError(
                "recgpt codes the items of another catalogue where tokenizer=fsq and resolve=none, or where "
                f"tokenizer=random_codes (this run has {config.tokenizer} and {config.resolve})."
            )
        if source not in OF_ANY_CATALOGUE:
            raise ValueError(
                f"this run of recgpt reads {source} vectors, which depend on all items of a catalogue: only "
                f"with vectors={' or '.join(OF_ANY_CATALOGUE)} do its codes have a meaning in another one. Train it so."
            )
        if not self.cells.known:
            raise ValueError("this run of recgpt was saved without what coded its items, or was given codes: train it.")
        X = normalized(item_vectors(split, source))
        codes = F.pad(self.cells(X), (0, 0, 1, 0))  # (N + 1, C)
        other.ids.assign(CodeBook(codes, config.levels, "FSQ of another catalogue", vectors=source, ordered=False))
        if self.dense:
            other.chunks = F.pad(self.cells.chunks(X), (0, 0, 0, 0, 1, 0))  # (N + 1, C, width)
        return other

    def token_states(self, batch: Batch) -> Tensor:
        """The states after every item, one per slot: (B, T, C, D). They depend on that item and those before."""
        items = batch.items
        codes = self.ids.book.codes[items].masked_fill(items[..., None] == 0, self.vocabulary)  # (B, T, C)
        x = self.code_part(self.norm_code(self.table(codes)))  # (B, T, C, D)
        if self.dense:
            x = x + self.chunk_part(self.norm_chunk(self.project(self.chunks[items])))
        place = torch.arange(items.shape[1], device=items.device)
        x = self.dropout(x + self.slots.weight + self.positions(place)[:, None]).flatten(1, 2)  # (B, T C, D)
        item = torch.arange(x.shape[1], device=x.device) // self.slots.num_embeddings
        mask = (item <= item[:, None])[None]  # (1, T C, T C): an item's codes, and those of items before it
        for block in self.blocks:
            x = block(x, mask)
        return x.unflatten(1, (items.shape[1], -1))  # (B, T, C, D)

    def layout(self, batch: Batch) -> Layout:
        """The tokens: the codes of each item; those of the last one are the readout."""
        return Layout.of_events(batch.items, self.slots.num_embeddings, "code")

    def loss(self, batch: Batch) -> Loss:
        """Minus the log-probability of the next items; its parts, the cross-entropy of each slot."""
        has_target = batch.targets > 0  # (B, T)
        hidden = self.norm(self.token_states(batch)[has_target])  # (M, C, D)
        truth = self.ids.codes[batch.targets[has_target]] + 1  # (M, C), from 1 as the table's rows
        table = F.pad(self.head.weight, (0, 0, 1, 0))  # (K + 1, D)
        parts = [losses.softmax(hidden[:, slot].contiguous(), table, code) for slot, code in enumerate(truth.T)]
        return Loss(torch.stack(parts).sum(), {f"slot {slot}": part.detach() for slot, part in enumerate(parts)})

    def slot_log_p(self, batch: Batch) -> Tensor:
        """Log-probabilities of the next item's codes, slot by slot: (B, C, K)."""
        logits = self.head(self.norm(batch.last(self.token_states(batch))))  # (B, C, K)
        return self.written(logits.float().log_softmax(-1))

    def slot_scores(self, batch: Batch) -> Tensor:
        """The score of each code, a log-probability that is summed over the slots of an item: (B, C, K)."""
        log_p = self.slot_log_p(batch)
        if not self.config.per_item:
            return log_p
        holders = torch.stack([codes.bincount(minlength=self.vocabulary) for codes in self.ids.codes[1:].T])  # (C, K)
        return (log_p - holders.clamp(min=1).log()).log_softmax(-1)

    def score(self, batch: Batch) -> Tensor:
        return decoding.parallel(self.slot_scores(batch), self.ids.book.codes)  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        """By `decoding`, else by the exact scores, sums over the slots; items of one tuple tie."""
        return decoding.recommend(self, batch, k)

    def decoder(self, batch: Batch) -> contracts.Decoder:
        """The decoder of the next item's codes, whose slots are independent given the history."""
        return _Slots(self.slot_scores(batch))


def normalized(X: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1: items of rare words have short rows, which would share the cells around 0.

    Rows shorter than .001 are rounding errors, of items without a word that others have: they are not scaled.
    """
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length < 1e-3, 1, length)


class _Slots:
    """A decoder whose logits do not depend on the codes before: the slots are independent given the history."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores  # (B, C, K)

    def start(self) -> tuple[Tensor, Any]:
        return self.scores[:, :1], 0

    def step(self, state: Any, parent: Tensor, code: Tensor) -> tuple[Tensor, Any]:
        return self.scores[:, state + 1, None].expand(-1, parent.shape[1], -1), state + 1
