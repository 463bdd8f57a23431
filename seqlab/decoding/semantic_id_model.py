"""Base classes of systems with semantic IDs: the making of the codes, and generation by a `SemanticIdDecoder`."""

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
from seqlab.tokenizers.semantic_ids import SemanticIds, semantic_ids
from seqlab.tracing import Layout, Tap

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split


class TokenizedModel(nn.Module):
    """A system that reads items as codes, its buffer `ids`; a stage before its training makes them."""

    def __init__(self, config: Any, n_items: int, ordered: bool = True, resolve: CollisionRule | None = None) -> None:
        """ordered, resolve: as in `SemanticIds`."""
        super().__init__()
        self.config = config
        self.ids = SemanticIds(n_items, config, ordered, resolve)

    def tokenize(self, split: Split, checkpoint: Path | None) -> CodeBook:
        """The codes of `config.tokenizer`. checkpoint: the folder in which trained stages keep their checkpoints."""
        return semantic_ids(split, self.config, getattr(self.config, "letter", False), checkpoint)

    def stages(self, split: Split, checkpoint: Path | None = None) -> None:
        """Make the semantic IDs, unless `ids.assign` has set them before."""
        if not self.ids.assigned:
            self.ids.assign(self.tokenize(split, checkpoint))


class SemanticIdModel(TokenizedModel):
    """P(item | history) = product over levels of P(code | codes before it, history) (TIGER, Rajput et al. 2023).

    resolve: as in `SemanticIds`. Settings that some systems have: `cuts` and `legal_only`, as in
    `SemanticIdDecoder.loss`.
    """

    def __init__(
        self, config: Any, n_items: int, writer: SemanticIdDecoder, resolve: CollisionRule | None = None
    ) -> None:
        super().__init__(config, n_items, resolve=resolve)
        self.writer = writer
        self.beam = Tap("beam", "user level rank")

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
