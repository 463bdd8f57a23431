"""Substitutes and complements: which neighbours of an item are of its own kind, and which are bought with it later.

Kvernadze et al. (arXiv 2211.14982) claim that of the two tables of a skip-gram model IN.IN ranks substitutes and IN.OUT
complements. The tables here measure that for any scores of pairs of items, on baskets that no score was made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import needs_of
from seqlab.datasets.baskets import basket_items, number_baskets
from seqlab.datasets.events import Events, offsets_of
from seqlab.datasets.sequences import Batch, Sequences
from seqlab.datasets.splits import whole_log
from seqlab.items.co_purchases import count_pairs
from seqlab.runtime.text import DataError

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split

MEASURES = ("same_kind", "switching", "lift", "pooled_lift", "popularity")
COUNTED = ("pmi", "pmi, support 5", "count", "random", "factors in_in", "factors in_out")
LARGEST = 8192
"""Largest number of items for a dense table of their pairs (512 MB)."""

SWITCHERS, TOGETHER = 3, 0.1
"""Two items of one kind are substitutes if at least so many households switch between them, and of the households that
bought both at most this share ever had both in one basket."""


@dataclass(frozen=True)
class Factors:
    """A symmetric matrix `W diag(L) W'` of rank D as `inputs @ outputs.T`.

    inputs = W |L|^1/2 and outputs = W sign(L) |L|^1/2: (N, D). eigenvalues: L (D,), the largest |L| first. `inputs @
    inputs.T` differs from it on the negative eigenvalues only.
    """

    inputs: np.ndarray
    outputs: np.ndarray
    eigenvalues: np.ndarray


def factorise(table: np.ndarray, dim: int = 64) -> Factors:
    """The best approximation of rank `dim` of a symmetric table (N, N), by its eigenvalues of largest magnitude."""
    from scipy.sparse.linalg import eigsh

    if dim < len(table) - 1:
        values, vectors = eigsh(table, k=dim, which="LM", v0=np.ones(len(table)))
    else:
        values, vectors = np.linalg.eigh(table)
    order = np.argsort(-np.abs(values), kind="stable")[:dim]
    values, vectors = values[order], vectors[:, order]
    inputs = vectors * np.sqrt(np.abs(values))
    return Factors(inputs, inputs * np.sign(values), values)


def eigenvalues(source: Tensor, target: Tensor) -> Tensor:
    """The eigenvalues (2 D,), ascending, of the symmetric part of the score `source @ target.T`; both are (N, D)."""
    both = torch.cat([source, target], 1).double()  # (N, 2 D)
    root = torch.linalg.qr(both, mode="r").R
    dim = source.shape[1]
    half = root[:, :dim] @ root[:, dim:].T
    return torch.linalg.eigvalsh((half + half.T) / 2)


def pair_pmi(pairs: np.ndarray, support: int = 1, unseen: float = -np.inf) -> np.ndarray:
    """The PMI (N, N) of counts of pairs (N, N) with marginals that are sums of pairs, as skip-gram sees them.

    unseen: the value of pairs of fewer than `support` baskets. The diagonal is 0.
    """
    sums = pairs.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.log(pairs * pairs.sum() / np.outer(sums, sums))
    table = np.where(pairs >= support, table, unseen)
    np.fill_diagonal(table, 0.0)
    return table


@torch.no_grad()
def item_scores(model: nn.Module, items: Tensor, rows: int = 512) -> Tensor:
    """The scores (M, N + 1) of all items for users whose history is a single item, a basket of one; items: (M,)."""
    parts = []
    for chunk in items.split(rows):
        column = chunk[:, None]  # (B, 1)
        extra = {name: torch.ones_like(column) for name in needs_of(model)}
        events = Events(column, torch.zeros_like(column, dtype=torch.float64), extra)
        one = torch.ones_like(chunk)
        parts.append(model.eval().score(Batch(events, one, one)))
    return torch.cat(parts)


def relatedness(
    split: Split,
    systems: Mapping[str, nn.Module] | None = None,
    kind: str = "product_type",
    group: str = "product_category",
    items: int = 3000,
    k: int = 10,
    dim: int = 64,
    against: str = "factors in_out",
    samples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether the k nearest items are substitutes or complements, for every way to score pairs of items.

    split: training are the first events of each user (as of "by-time" and "last-basket"), gathered with the column
        "basket"; the other events are the held-out baskets. systems: name -> a trained system with `score`. kind,
        group: columns of the item table. items: how many of the most frequent ones are queries and candidates.
    Beside the systems: PMI of training pairs, counts, random order, and the exact factors of PMI with `dim` dimensions
        (see `Factors`; unseen pairs count -2).
    Measures: same_kind, the share of neighbours of the same `kind`; switching, the share found of the substitutes that
        households switch to in held-out baskets (see `SWITCHERS`); lift, the mean held-out lift of neighbours of
        another `group`, which a few rare pairs can make; pooled_lift, their held-out pairs over those expected;
        popularity, the training baskets of neighbours over those of the items on average.

    Columns method, measure, value, low, high (95 % over the query items: Bayesian bootstrap), and difference,
    difference_low, difference_high: to the method `against`, paired. Raises `DataError` without the columns, and
    `ValueError` for an unknown `against`.
    """
    import pandas as pd

    test = _Heldout(split, kind, group, items)
    scores = {name: (lambda name=name: test.counted(name, dim, seed)) for name in COUNTED}
    scores |= {name: (lambda model=model: test.scored(model)) for name, model in (systems or {}).items()}
    if against not in scores:
        raise ValueError(f"against must be one of {', '.join(scores)} (got {against!r}).")
    weights = np.random.default_rng(seed).standard_exponential((samples, len(test.items))).astype(np.float32)
    parts = {name: test.measure(make(), k) for name, make in scores.items()}  # (n, 2) per measure
    drawn = {
        (name, measure): _ratio(weights @ part.astype(np.float32))
        for name, found in parts.items()
        for measure, part in found.items()
    }
    rows = []
    for (name, measure), sample in drawn.items():
        value, other = (float(_ratio(parts[one][measure].sum(0))) for one in (name, against))
        gap = sample - drawn[against, measure]
        rows.append({
            "method": name, "measure": measure, "value": value,
            "low": np.quantile(sample, 0.025), "high": np.quantile(sample, 0.975), "difference": value - other,
            "difference_low": np.quantile(gap, 0.025), "difference_high": np.quantile(gap, 0.975),
        })  # fmt: skip
    return pd.DataFrame(rows)


def switched(user: np.ndarray, basket: np.ndarray, item: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, ...]:
    """Households that have bought two items of one kind: in different baskets only, and in one basket at least once.

    user, basket, item: (E,) from 0; kinds: (n,) of the items. Returns two tables (n, n), symmetric, 0 on the diagonal
    and for items of different kinds. The first counts those who switch: evidence for substitutes.
    """
    import pandas as pd
    from scipy import sparse

    n, users = len(kinds), int(user.max(initial=-1)) + 1
    has = sparse.coo_array((np.ones(len(user), np.float32), (user, item)), (users, n)).tocsr()
    has.data[:] = 1
    both = (has.T @ has).toarray() * (kinds[:, None] == kinds)
    np.fill_diagonal(both, 0)
    frame = pd.DataFrame({"user": user, "basket": basket, "item": item, "kind": kinds[item]}).drop_duplicates()
    pairs = frame.merge(frame, on=["user", "basket", "kind"])
    pairs = pairs[pairs["item_x"] != pairs["item_y"]].drop_duplicates(["user", "item_x", "item_y"])
    together = np.zeros_like(both)
    np.add.at(together, (pairs["item_x"].to_numpy(), pairs["item_y"].to_numpy()), 1)
    return both - together, together


class _Heldout:
    """The most frequent training items, the pairs of training baskets, and what is measured on the held-out baskets."""

    def __init__(self, split: Split, kind: str, group: str, items: int) -> None:
        table = split.log.items
        if missing := [column for column in (kind, group) if column not in table.columns]:
            raise DataError(f"{split.log.name}: the item table has no column {missing[0]!r}. Name another one.")
        if items > LARGEST:
            raise DataError(f"relatedness: items must be at most {LARGEST:,} (got {items:,}).")
        counts = basket_items(split.train)
        frequency = torch.bincount(counts.values, minlength=split.n_items + 1)
        self.items = frequency.argsort(descending=True, stable=True)[:items]
        self.items = self.items[frequency[self.items] > 0]
        self.place = torch.full((split.n_items + 1,), -1).scatter(0, self.items, torch.arange(len(self.items)))
        columns = table.loc[self.items.numpy(), [kind, group]]
        self.kinds, self.groups = (np.unique(columns[one], return_inverse=True)[1] for one in (kind, group))
        self.train_pairs, sizes = self._pairs(split.train)
        self.popularity = sizes / sizes.mean()
        whole, _ = whole_log(split.log, ("basket",))
        position = torch.arange(len(whole.items)) - whole.offsets[:-1][whole.users - 1]
        later = position >= split.train.lengths[whole.users - 1]
        heldout = Sequences(
            whole.events[later], offsets_of(torch.bincount(whole.users[later] - 1, minlength=whole.n_users))
        )
        self.pairs, _ = self._pairs(heldout)
        sums = self.pairs.sum(1)
        self.expected = np.outer(sums, sums) / max(self.pairs.sum(), 1)
        inside = self.place[heldout.items] >= 0
        user, basket = heldout.users, number_baskets(heldout.users, heldout.extra["basket"])
        alternates, together = switched(
            user[inside].numpy(), basket[inside].numpy(), self.place[heldout.items[inside]].numpy(), self.kinds
        )
        self.substitutes = (alternates >= SWITCHERS) & (together <= TOGETHER * (alternates + together))

    def _pairs(self, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """The baskets (n, n) with two items, and those (n,) with one."""
        found = count_pairs(basket_items(sequences), len(self.place) - 1)
        own = self.items.numpy()
        return found.pairs[own][:, own].toarray(), found.items[own]

    def counted(self, name: str, dim: int, seed: int) -> np.ndarray:
        """The scores (n, n) of a way of `COUNTED`, from training baskets."""
        if name == "random":
            return np.random.default_rng(seed).random(self.train_pairs.shape)
        if name == "count":
            return self.train_pairs.copy()
        if name.startswith("pmi"):
            return pair_pmi(self.train_pairs, 5 if "support" in name else 1)
        factors = factorise(pair_pmi(self.train_pairs, unseen=-2.0), dim)
        source, target = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (factors.inputs, factors.outputs))
        return source @ (source if name.endswith("in_in") else target).T

    def scored(self, model: nn.Module) -> np.ndarray:
        """The scores (n, n) of a system for users who have one item."""
        device = next((one.device for one in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
        return item_scores(model, self.items.to(device))[:, self.items.to(device)].double().cpu().numpy()

    def measure(self, scores: np.ndarray, k: int) -> dict[str, np.ndarray]:
        """The numerator and denominator (n, 2) of every measure, for each query item."""
        scores = torch.from_numpy(scores)
        scores.fill_diagonal_(-torch.inf)
        best, near = (one.numpy() for one in scores.topk(min(k, len(scores) - 1), dim=1))
        valid, row = best > -np.inf, np.arange(len(near))[:, None]
        other = valid & (self.groups[near] != self.groups[:, None])
        seen, expected = self.pairs[row, near], self.expected[row, near]
        lift = np.divide(seen, expected, out=np.zeros_like(seen), where=expected > 0)
        other_with = other & (expected > 0)
        truths = self.substitutes.sum(1)
        found = (self.substitutes[row, near] & valid).sum(1)
        return {
            "same_kind": np.stack([((self.kinds[near] == self.kinds[:, None]) & valid).sum(1), valid.sum(1)], 1),
            "switching": np.stack([found / np.maximum(np.minimum(truths, k), 1), truths > 0], 1),
            "lift": np.stack([(lift * other_with).sum(1), other_with.sum(1)], 1),
            "pooled_lift": np.stack([(seen * other).sum(1), (expected * other).sum(1)], 1),
            "popularity": np.stack([(self.popularity[near] * valid).sum(1), valid.sum(1)], 1),
        }


def _ratio(sums: np.ndarray) -> np.ndarray:
    """The first over the second of the last axis, NaN where that is 0."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.full(sums.shape[:-1], np.nan), where=sums[..., 1] > 0)
