"""Next-code scores -> ranked items: beams over a trie, exact scoring, two ways to a more varied list."""

from seqlab.contracts import Decoder
from seqlab.decoding.beams import Beams, Step, best_items
from seqlab.decoding.generation import generate, recommend, scores
from seqlab.decoding.scoring import exact, parallel
from seqlab.decoding.search import beam, diverse, typical

__all__ = [
    "Beams", "Decoder", "Step", "beam", "best_items", "diverse", "exact", "generate", "parallel", "recommend", "scores",
    "typical",
]  # fmt: skip
