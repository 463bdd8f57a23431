"""Next-code scores -> ranked items: exact scores, beams over a trie, diverse beams, draws; chosen by a setting."""

from seqlab.contracts import Decoder
from seqlab.decoding.beams import Beams, Step, best_items
from seqlab.decoding.draws import Draws, sample, typical, uniforms
from seqlab.decoding.generation import beam_of, draw, exact_scores, found, generate, law, recommend, scores
from seqlab.decoding.scoring import exact, parallel
from seqlab.decoding.search import beam, diverse, legal
from seqlab.decoding.settings import METHODS, Decoding

__all__ = [
    "METHODS", "Beams", "Decoder", "Decoding", "Draws", "Step", "beam", "beam_of", "best_items", "diverse", "draw",
    "exact", "exact_scores", "found", "generate", "law", "legal", "parallel", "recommend", "sample", "scores",
    "typical", "uniforms",
]  # fmt: skip
