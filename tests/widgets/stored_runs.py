"""The stored small runs of all systems, each loaded once, and the systems that each view fits."""

import functools
from pathlib import Path

from seqlab.datasets import leave_one_out
from seqlab.runs.run import load_run
from tests.synthetic import chain_log

FOLDER = Path(__file__).parents[1] / "runs_before"
SYSTEMS = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())

VECTORS = {"bert4rec", "gru4rec", "mancar", "rearec", "sasrec", "sasrec_side"}
GENERATORS = {"discrec", "recgpt", "reg4rec", "resid", "tiger"}
LISTING = {"discrec", "reg4rec", "resid", "tiger"}  # without `score`
FITTING = {
    "ItemMap": VECTORS,
    "AttentionView": {"bert4rec", "mancar", "rearec", "sasrec", "sasrec_side", "setrec"} | GENERATORS,
    "InfluenceView": {*SYSTEMS} - LISTING,
    "Why": {*SYSTEMS} - LISTING,
    "Patching": {"bert4rec", "gru4rec", "recgpt", "sasrec", "sasrec_side", "setrec"},
    "CodeTree": GENERATORS,
    "BeamSteps": GENERATORS - {"reg4rec"},
    "ReasoningSteps": {"mancar", "rearec"},
    "Neighbours": VECTORS,
    "Reliability": {*SYSTEMS} - LISTING,
    **dict.fromkeys(("IntensityOverTime", "AfterEvent", "RelatedItems", "CandidateAttention"), frozenset()),
}
"""The systems of a view that does not fit all; the view refuses the others."""


@functools.cache
def split():
    return leave_one_out(chain_log())


@functools.cache
def run(system):
    return load_run(FOLDER / system, split())
