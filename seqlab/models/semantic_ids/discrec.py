"""DiscRec: TIGER whose codes pass two branches, each by itself and within its item, and a gate that mixes them.

Paper: Liu et al., "DiscRec: Disentangled Semantic-Collaborative Modeling for Generative Recommendation", 2025 (arXiv
2506.15576). One embedding of a code has to carry what it means and what it is bought with. A second branch, which
knows a code's place in its item and attends within the item alone, takes the second task; a gate mixes the two.

Confirmed against the authors' code: LN(code + place); two heads without an output projection, around which the branch
adds its input; LN and a ReLU layer; the gate is a softmax over the branches' products with one vector each; all this
at the embeddings of encoder and decoder, which have branches of their own (the decoder's causal, over a first token
and the codes so far); cross-entropy, no constraint in training, and a beam of 20 along the trie.
Changed on purpose: the generator is this lab's TIGER, by default a decoder alone that learns from every position of a
history in one pass; there the branch is causal in the history too, for its codes are also answers. "encoder_decoder"
is the paper's layout. No end token, whose block is padding in their code. Any number of codes. Equal tuples tie.
Reconstructed: the inside of the branch's ReLU layer: it does not add its input, and dropout is at its end.
Held against: the authors' log on amazon-beauty (`CARD`): full ranking, no seen filter, equal tuples credited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from seqlab import decoding
from seqlab.contracts import Card, Decoder, Loss, Measurement, Published, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers.attention import attend
from seqlab.layers.dropout import Dropout
from seqlab.layers.mlp import mlp
from seqlab.layers.semantic_id_decoder import SemanticIdDecoder
from seqlab.runtime.settings import Count, Share, settings
from seqlab.tokenizers.resolve import CollisionRule
from seqlab.tokenizers.semantic_ids import SemanticIds, semantic_ids
from seqlab.tracing import Layout, Tap

if TYPE_CHECKING:
    from pathlib import Path

    from seqlab.datasets.splits import Split

CARD = Card(
    claim="Disentangled codes beat TIGER's.",
    title="DiscRec: Disentangled Semantic-Collaborative Modeling for Generative Recommendation",
    authors="Liu et al.",
    year=2025,
    venue="arXiv 2506.15576",
    controls=("tiger",),
    homes=("complete-journey", "amazon-beauty"),
    seen_filter=False,
    measured=(
        Measurement(against=("sasrec_side", "tiger")),
        Measurement(("amazon2018-games",), against=("sasrec", "tiger"), seen_filter=True),
        Measurement(("ml-1m",), against=("sasrec", "tiger:narrow"), seen_filter=True),
    ),
    published=(
        Published("amazon-beauty", {"recall@10": 0.0656, "ndcg@10": 0.0348}, seen_filter=False,
                  source="its authors' log",
                  differs="RQ-VAE codes of LLaMA's text vectors, up to 200 epochs."),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the paper's beside them."""

    layout: Literal["decoder", "encoder_decoder"] = "decoder"  # paper encoder_decoder
    branch: Literal["within_item", "alone", "none"] = "within_item"  # alone: as large, without attention; none: TIGER
    gate: bool = True  # learned weights of the branches; paper yes; no: their mean
    places: bool = True  # the branch has embeddings of the slots of an item; paper yes
    feed: Count = 256  # width of the branch's ReLU layer; paper 1024
    max_length: Count = 20  # most recent items read; paper 20
    dim: Annotated[Count, Field(multiple_of=2)] = 64  # the attention of the branch has 2 heads; paper 128
    layers: Count = 2  # of the decoder, and of the encoder where there is one; paper 4
    heads: Count = 2  # of the generator; paper 6 of 64. The branch has 2
    dropout: Share = 0.2  # paper .1
    levels: tuple[Count, ...] = (256, 256, 256, 256)  # codes per level at most; paper 4 x 256
    tokenizer: str = "rq_kmeans"  # of seqlab.tokenizers; paper rq_vae; random_codes is the control
    vectors: str | None = None  # of items.vectors; none: tfidf+collaborative, or the latter alone; paper LLaMA
    resolve: CollisionRule = "index"  # equal tuples; paper: a last level that separates most, the others tie
    cuts: Count = 4  # encoder_decoder: training histories per user and epoch, cut at random


class DiscRec(nn.Module):
    """P(item | history) = product over levels of P(code | codes before it, history), all read through two branches."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        encoder = config.layout == "encoder_decoder"

        def mix(written: bool) -> Branches:
            return Branches(config, causal=written or not encoder, writes=written)

        self.config = config
        self.writer = SemanticIdDecoder(config, encoder, mix if config.branch != "none" else None)
        self.beam = Tap("beam", "user level rank")
        self.decoding = decoding.Decoding()  # by default a beam; no part of the training
        self.ids = SemanticIds(n_items, config)

    def stages(self, split: Split, checkpoint: Path | None = None) -> None:
        """Make the semantic IDs, unless `ids.assign` has set them before."""
        if not self.ids.assigned:
            self.ids.assign(semantic_ids(split, self.config, checkpoint=checkpoint))

    def loss(self, batch: Batch) -> Loss:
        """Minus the log-probability of the next items; its parts, the cross-entropy of each level."""
        return self.writer.loss(batch, self.ids.codes, self.config.cuts)

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


class Branches(nn.Module):
    """Each code as it is (semantic), each among the codes of its item (collaborative), and the gate between the two.

    causal: only codes before it. The history and the generated codes have separate taps, "gates" and "written gates".
    writes: all codes are generated ones.
    """

    def __init__(self, config: Config, causal: bool, writes: bool = False) -> None:
        super().__init__()
        dim, codes = config.dim, len(config.levels)
        # what is switched off stays zero
        self.places = nn.Parameter(torch.randn(codes, dim) * 0.02 * config.places, requires_grad=config.places)
        self.gate = nn.Parameter(torch.zeros(2, dim), requires_grad=config.gate)
        self.before_attention, self.before_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project_in = nn.Linear(dim, 3 * dim)
        self.feed = mlp((dim, config.feed, dim))
        nn.init.normal_(self.feed[-1].weight, std=0.02 / config.feed**0.5)  # as small as the embeddings beside it
        nn.init.zeros_(self.feed[-1].bias)
        self.dropout = Dropout(config.dropout)
        mask = torch.ones(codes, codes)
        mask = torch.eye(codes) if config.branch == "alone" else mask.tril() if causal else mask
        self.register_buffer("mask", mask.bool(), persistent=False)  # (query, key)
        self.decode_taps = _taps("written ", "beam")
        self.prefill_taps = self.decode_taps if writes else _taps("", "event")

    def forward(self, x: Tensor, last_only: bool = False) -> Tensor:
        """The first n codes of T items or beams, x (B, T, n, D), mixed: (B, T, n, D); `last_only`: (B, T, 1, D)."""
        n = x.shape[2]
        wanted = slice(n - 1 if last_only else 0, n)
        taps = self.decode_taps if last_only else self.prefill_taps
        y = self.before_attention(x + self.places[:n])
        query, key, value = (
            part.unflatten(-1, (2, -1)).transpose(2, 3)  # (B, T, H, n, D/H)
            for part in self.project_in(y).chunk(3, dim=-1)
        )
        mixed = attend(query[..., wanted, :], key, value, self.mask[wanted, :n], taps["weights"])  # (B, T, H, n, D/H)
        y = y[:, :, wanted] + mixed.transpose(2, 3).flatten(3)  # (B, T, n, D)
        collaborative = self.dropout(self.feed(self.before_feed(y)))
        both = taps["branches"](torch.stack([x[:, :, wanted], collaborative], 3))  # (B, T, n, 2, D)
        gates = taps["gates"]((both * self.gate).sum(-1).softmax(-1))  # (B, T, n, 2)
        return (gates[..., None] * both).sum(3)  # (B, T, n, D)


def _taps(prefix: str, where: str) -> nn.ModuleDict:
    return nn.ModuleDict({
        "weights": Tap(f"{prefix}within item", f"user {where} head query_slot key_slot"),
        "branches": Tap(f"{prefix}branches", f"user {where} slot branch dim"),
        "gates": Tap(f"{prefix}gates", f"user {where} slot branch"),
    })  # fmt: skip
