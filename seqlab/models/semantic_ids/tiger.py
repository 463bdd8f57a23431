"""TIGER: generates the next item's semantic ID code by code; the Transformer's parameters are the index.

Paper: Rajput et al., "Recommender Systems with Generative Retrieval", NeurIPS 2023. A history becomes the sequence of
its items' codes; a sequence-to-sequence Transformer is trained by cross-entropy to generate those of the next item, and
a beam search writes them at inference.

Confirmed against the paper's tables and three independent re-implementations: code tuples of a content tokenizer with
a last code that tells equal ones apart, own code tables per level, teacher forcing, at most 20 items of history.
Changed on purpose: the default layout is a decoder alone, which learns from every position of a history in one pass
(some twenty times cheaper per epoch; "encoder_decoder" is the paper's); the beam walks the trie of the catalogue
(the paper's is unconstrained and answers up to 1.6 % of its top 10 with tuples nobody has); learned positions, item
and slot apart, instead of T5's relative ones; no hashed user token; own output table per level, without a bias.
LETTER (Wang et al., CIKM 2024) is an option of the tokenizer; its frozen SASRec vectors are co-occurrence vectors here.
Reconstructed: how the encoder-decoder sees an epoch (the paper counts steps): `cuts` random histories per user.
Held against: its paper on amazon-beauty, and random codes there (`CARD`): full ranking, no seen filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from seqlab import decoding
from seqlab.contracts import Card, Decoder, Loss, Measurement, Published, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.layers.semantic_id_decoder import SemanticIdDecoder
from seqlab.runtime.settings import Count, Share, settings
from seqlab.tokenizers.resolve import CollisionRule
from seqlab.tokenizers.semantic_ids import SemanticIds, semantic_ids
from seqlab.tracing import Layout, Tap

if TYPE_CHECKING:
    from pathlib import Path

    from seqlab.datasets.splits import Split

CARD = Card(
    claim="Semantic IDs beat random ones, and SASRec.",
    title="Recommender Systems with Generative Retrieval",
    authors="Rajput et al.",
    year=2023,
    venue="NeurIPS",
    controls=("tiger:tokenizer=random_codes", "sasrec", "sasrec_side"),
    control_names={"tiger:tokenizer=random_codes": "tiger with random codes"},
    homes=("complete-journey", "amazon-beauty"),
    seen_filter=False,
    named={"narrow": "dim=64:epochs=20"},  # on ml-1m, as wide and as long as systems held against it are trained there
    measured=(
        Measurement(arms=("tiger", "tiger:tokenizer=random_codes"), against=("sasrec_side",)),
        Measurement(("complete-journey",), against=("tiger:tokenizer=random_codes",), seeds=(0, 1, 2)),
        Measurement(("amazon-beauty",), against=("tiger:tokenizer=random_codes",)),
        Measurement(("amazon2018-games",), against=("sasrec",), seen_filter=True),
        Measurement(("ml-1m",), against=("sasrec", "markov", "tiger:narrow"), seen_filter=True),
    ),
    published=(
        Published("amazon-beauty", {"recall@10": 0.0648, "ndcg@10": 0.0384}, seen_filter=False, source="its paper",
                  differs="13 million parameters, 200,000 steps, text of title, price, brand and category."),
        Published("amazon-beauty", {"recall@10": 0.0434, "ndcg@10": 0.025}, seen_filter=False, source="its paper",
                  differs="As above.", variant="random codes"),
    ),
)  # fmt: skip
TINY = {"max_length": 8, "dim": 32, "layers": 1, "heads": 2, "dropout": 0.0}


@settings
class Config:
    """Settings, with the paper's beside them."""

    layout: Literal["decoder", "encoder_decoder"] = "decoder"  # paper encoder_decoder
    max_length: Count = 20  # most recent items read; paper 20
    dim: Count = 64  # paper 128
    layers: Count = 2  # of the decoder, and of the encoder where there is one; paper 4
    heads: Count = 2  # paper 6 of 64
    dropout: Share = 0.2  # paper .1
    levels: tuple[Count, ...] = (256, 256, 256, 256)  # codes per level at most; paper 3 x 256 and an index
    tokenizer: str = "rq_kmeans"  # of seqlab.tokenizers; paper rq_vae
    vectors: str | None = None  # of items.vectors; none: tfidf+collaborative, or the latter alone; paper Sentence-T5
    resolve: CollisionRule = "index"  # equal tuples; paper index
    letter: bool = False  # rq_vae with LETTER's collaborative and diversity terms
    legal_only: bool = False  # train and score with probabilities among legal codes (MSCGRec); paper no
    cuts: Count = 4  # encoder_decoder: training histories per user and epoch, cut at random


class TIGER(nn.Module):
    """P(item | history) = product over levels of P(code | codes before it, history)."""

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.writer = SemanticIdDecoder(config, encoder=config.layout == "encoder_decoder")
        self.beam = Tap("beam", "user level rank")
        self.decoding = decoding.Decoding()  # by default a beam; no part of the training
        self.ids = SemanticIds(n_items, config)

    def stages(self, split: Split, checkpoint: Path | None = None) -> None:
        """Make the semantic IDs, unless `ids.assign` has set them before."""
        if not self.ids.assigned:
            self.ids.assign(semantic_ids(split, self.config, self.config.letter, checkpoint))

    def loss(self, batch: Batch) -> Loss:
        """Minus the log-probability of the next items; its parts, the cross-entropy of each level."""
        trie = self.ids.book.trie if self.config.legal_only else None
        return self.writer.loss(batch, self.ids.codes, self.config.cuts, trie)

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
