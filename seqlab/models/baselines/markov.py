"""Markov: counts of the items that followed the last items in other histories, closer ones with a larger weight.

Paper: the chain behind FPMC (Rendle et al., WWW 2010) without its factors, and with gaps as in the sequential rules
of Ludewig & Jannach, "Evaluation of Session-based Recommendation Algorithms", UMUAI 2018. The idea: a transition
at gap 1 is stronger evidence than one at gap 5, and the last event is stronger than those before. A network with lower
metrics than this table has a bug.

Confirmed: nothing was read in code.
Reconstructed: weight 1 / gap, rows normalised to sum 1, a discount over the history; gaps and discount are those of the
best count model in our calibration.
Held against: HR@10 .2036, NDCG@10 .1124 on ml-100k without items of fewer than 5 ratings (our own calibration, gaps
1-10, last 10 items, discount .8): leave-one-out, full ranking, seen items filtered.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import Card, Measurement, Ranking
from seqlab.datasets.sequences import Batch
from seqlab.ranking import top
from seqlab.runtime.settings import Count, NonNegativeFloat, settings

if TYPE_CHECKING:
    from scipy import sparse

    from seqlab.datasets.splits import Split

UNIT = math.lcm(*range(1, 21))
"""Weights of gaps up to 20 are whole numbers of 1 / UNIT, so that sums of them are exact in float64."""

CARD = Card(
    claim="A floor.",
    title="Evaluation of Session-based Recommendation Algorithms",
    authors="Ludewig & Jannach",
    year=2018,
    venue="UMUAI",
    homes=("complete-journey", "amazon-beauty"),
    measured=(Measurement(), Measurement(("amazon2018-games", "ml-1m"), against=("sasrec",))),
)
TINY = {}


@settings
class Config:
    """Settings; a first-order chain is `gaps=1, max_length=1`."""

    max_length: Count | None = 10  # most recent events read
    gaps: Count = 10  # how many events apart two items may be to count as a transition
    discount: NonNegativeFloat = 0.8  # weight of an event of the history against that of the one after it


class Markov(nn.Module):
    """`score(i) = sum over the history of discount^age P(i | item)`; P is kept as its non-zero entries (CSR)."""

    crow: Tensor
    col: Tensor
    value: Tensor
    counts: Tensor

    def __init__(self, config: Config, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("crow", torch.zeros(n_items + 2, dtype=torch.long))  # row i: crow[i] to crow[i + 1]
        self.register_buffer("col", torch.zeros(0, dtype=torch.long))
        self.register_buffer("value", torch.zeros(0))
        # of the transitions, in units of 1 / UNIT; empty: not known
        self.register_buffer("counts", torch.zeros(0, dtype=torch.float64))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """States that were saved without counts leave those of the model."""
        state_dict.setdefault(prefix + "counts", self.counts)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def prepare(self, split: Split) -> None:
        self._set(self._count(split))

    def advance(self, split: Split) -> None:
        """Add the transitions of a further training part; those between the parts are in neither.

        Raises `ValueError` for a run that was saved without counts.
        """
        from scipy import sparse

        if len(self.counts) != len(self.value):
            raise ValueError("this run of markov was saved without its counts: train it again.")
        before = (part.cpu().numpy() for part in (self.counts, self.col, self.crow))
        size = len(self.crow) - 1
        self._set(sparse.csr_array(tuple(before), (size, size)) + self._count(split))

    def _count(self, split: Split) -> sparse.csr_array:
        """The transitions (N + 1, N + 1) in a training part, weighed by UNIT / gap."""
        from scipy import sparse

        items, users = split.train.items.cpu().numpy(), split.train.users.cpu().numpy()
        total = sparse.csr_array((split.n_items + 1, split.n_items + 1), dtype=np.float64)
        for gap in range(1, self.config.gaps + 1):
            same = users[gap:] == users[:-gap]
            pairs = items[:-gap][same], items[gap:][same]
            # sum integer counts first: that sum does not depend on their order
            total += sparse.coo_array((np.ones(len(pairs[0])), pairs), total.shape).tocsr() * (UNIT / gap)
        return total

    def _set(self, total: sparse.csr_array) -> None:
        rows = np.diff(total.indptr)
        share = total.data / np.repeat(np.maximum(total.sum(axis=1), 1e-12), rows)
        device = self.value.device
        self.crow = torch.from_numpy(total.indptr.astype(np.int64)).to(device)
        self.col = torch.from_numpy(total.indices.astype(np.int64)).to(device)
        self.value = torch.from_numpy(share.astype(np.float32)).to(device)
        self.counts = torch.from_numpy(total.data).to(device)

    def score(self, batch: Batch) -> Tensor:
        n_columns = len(self.crow) - 1
        scores = torch.zeros(len(batch) * n_columns, device=self.value.device)
        base = torch.arange(len(batch), device=scores.device) * n_columns
        for age in range(batch.items.shape[1]):  # within one age every cell occurs once, so the order of sums is fixed
            at = batch.lengths - 1 - age
            item = batch.items.gather(1, at.clamp(min=0)[:, None])[:, 0] * (at >= 0)  # (B,), 0 = before the history
            degree = self.crow[item + 1] - self.crow[item]
            row = torch.repeat_interleave(torch.arange(len(batch), device=scores.device), degree)  # (E,)
            before = degree.cumsum(0) - degree
            entry = (self.crow[item] - before)[row] + torch.arange(len(row), device=scores.device)
            scores[base[row] + self.col[entry]] += self.config.discount**age * self.value[entry]
        return scores.view(len(batch), n_columns)  # (B, N + 1)

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)
