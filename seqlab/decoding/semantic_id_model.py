"""A system that generates the semantic ID of the next item with a `SemanticIdDecoder`: all but its codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from seqlab.contracts import Decoder, Loss, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.decoding.generation import recommend
from seqlab.layers.semantic_id_decoder import SemanticIdDecoder
from seqlab.tokenizers.codebook import CodeBook
from seqlab.tokenizers.resolve import CollisionRule
from seqlab.tokenizers.semantic_ids import SemanticIds
from seqlab.tracing import Layout, Tap

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split


class SemanticIdModel(nn.Module):
    """P(item | history) = product over levels of P(code | codes before it, history) (TIGER, Rajput et al. 2023).

    A system defines `tokenize`. resolve: how equal tuples are treated, if not as `config.resolve` says. config.cuts and
    config.legal_only, where there are such settings: as in `SemanticIdDecoder.loss`.
    """

    def __init__(
        self, config: Any, n_items: int, writer: SemanticIdDecoder, resolve: CollisionRule | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.writer = writer
        self.beam = Tap("beam", "user level rank")
        self.ids = SemanticIds(n_items, config, resolve=resolve)

    def tokenize(self, split: Split, checkpoint: Path | None) -> CodeBook:
        """The semantic IDs of the catalogue. checkpoint: the folder in which trained stages keep their checkpoints."""
        raise NotImplementedError

    def stages(self, split: Split, checkpoint: Path | None = None) -> None:
        """Make the semantic IDs, unless `ids.assign` has set them before."""
        if not self.ids.assigned:
            self.ids.assign(self.tokenize(split, checkpoint))

    def loss(self, batch: Batch) -> Loss:
        """Minus the log-probability of the next items; its parts, the cross-entropy of each level."""
        trie = self.ids.book.trie if getattr(self.config, "legal_only", False) else None
        return self.writer.loss(batch, self.ids.codes, getattr(self.config, "cuts", 1), trie)

    def layout(self, batch: Batch) -> Layout:
        """The tokens of the histories: a start token, then the codes of each item."""
        return self.writer.layout(batch.items)

    def decoder(self, batch: Batch) -> Decoder:
        """The decoder of the next item's codes; the histories are encoded here, once."""
        return self.writer.decoder(self.ids.codes[batch.items], batch.lengths)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        """By a beam at least as wide as the list; scores are log-probabilities of the tuples."""
        return recommend(self, batch, k)
