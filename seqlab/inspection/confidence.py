"""How sure a system is of its list: probabilities from its own scores, one row per query.

`p_i = exp(s_i / temperature) / sum of exp(s_j / temperature)` over the items that may be recommended: all, or with the
seen filter those that are not in the complete history. The answer always may be, as in `tasks.next_item`. Scores of
systems that were not trained with a softmax over the catalogue are no log-probabilities; a temperature repairs their
spread, not their shape. Only a batch of scores (B, N + 1) is in memory at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab import decoding
from seqlab.contracts import GeneratesCodes, Scores, ScoresExactly, UserStates, name_of, supports
from seqlab.layers.dropout import Dropout
from seqlab.ranking import ranks_of, topk
from seqlab.runtime.modules import device_of, evaluating
from seqlab.tasks.next_item import MAX_TOKENS, history_pairs, rows_per_batch

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.sequences import Batch, Queries

SCALARS = ("entropy", "margin", "log_p_top1", "log_length")
"""What is known of any system before an item is proposed: nats, the log of the first probability over the second, the
log of the first, the log of the number of events."""

LOG_SCALES = (-14.0, 10.0)
"""The logarithms of the smallest and the largest factor of scores, 1 / temperature, that are tried."""

POINTS = 8
"""Temperatures per pass over the queries: every pass narrows their range to a ninth."""

PASSES = 5
EXACT_ROWS = 32
"""Queries per batch of a system whose scores cost a pass over the catalogue each."""


@dataclass(frozen=True)
class Confidence:
    """What a system says of its own lists.

    frame: one row per query: query, user, item (the answer), rank, hit (whether it is among the first k), p_answer,
    p_top1, mass (of the first k, the probability of a hit in its own words), raw_mass (at temperature 1), the columns
    `SCALARS`, history_length, seen (whether the answer is in the history). states: (Q, D) after the last event; None
    for a system without `encode`, and where they were not requested.
    """

    frame: pd.DataFrame
    k: int
    seen_filter: bool
    n_items: int
    states: Tensor | None = None

    def scalars(self) -> Tensor:
        """(Q, 4) float32 the columns `SCALARS`."""
        return torch.from_numpy(self.frame[list(SCALARS)].to_numpy(np.float32, copy=True))

    def select(self, rows: np.ndarray) -> Confidence:
        """Some of the queries, by index or boolean mask."""
        states = None if self.states is None else self.states[torch.from_numpy(rows)]
        return Confidence(self.frame[rows].reset_index(drop=True), self.k, self.seen_filter, self.n_items, states)


def scores_of(model: nn.Module) -> Callable[[Batch], Tensor]:
    """The function of a batch that gives the scores (B, N + 1) of all items, exact ones for a system that writes codes.

    Raises `ValueError` for a system with neither.
    """
    if supports(model, Scores):
        return model.score
    if supports(model, ScoresExactly) or supports(model, GeneratesCodes):
        return partial(decoding.scores, model)
    raise ValueError(f"{name_of(model)} gives lists without scores of the catalogue; choose a system that scores it.")


@torch.no_grad()
def scored(
    model: nn.Module, queries: Queries, n_items: int, seen_filter: bool
) -> Iterator[tuple[Tensor, Batch, Tensor, Tensor]]:
    """The scores of all queries, a batch at a time: rows (B,), the batch, scores (B, N + 1), seen (B,) bool.

    Scores are -inf at padding and, with the filter, at the items of the history that are not the answer. seen: whether
    the answer is in the history. The model must be in the mode that is wanted. Raises `ValueError` where scores are not
    finite.
    """
    score = scores_of(model)
    rows_at_most = rows_per_batch(queries.user.device, n_items + 1) if supports(model, Scores) else EXACT_ROWS
    for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, rows_at_most):
        answers, scores = queries.item[rows], score(batch).float()
        scores[:, 0] = -torch.inf
        of_answer = scores.gather(1, answers[:, None])
        if not bool(of_answer.isfinite().all()):
            raise ValueError(f"{name_of(model)} gave scores that are not finite; training may have diverged.")
        seen = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        for row, item in history_pairs(queries, rows):
            seen[row[item == answers[row]]] = True
            if seen_filter:
                scores[row, item] = -torch.inf
        yield rows, batch, scores.scatter_(1, answers[:, None], of_answer), seen


@torch.no_grad()
def confidence(
    model: nn.Module,
    queries: Queries,
    n_items: int,
    seen_filter: bool,
    k: int = 10,
    temperature: float = 1.0,
    states: bool = False,
) -> Confidence:
    """The confidence of a system in its k best items, for every query. states: keep those of a system with `encode`.

    Raises `ValueError` as `scored` does.
    """
    import pandas as pd

    queries, k = queries.to(device_of(model)), min(k, n_items)
    columns: dict[str, Tensor] = {}
    kept = None
    with evaluating(model):
        for rows, batch, scores, seen in scored(model, queries, n_items, seen_filter):
            found = _of_scores(scores, queries.item[rows], k, temperature) | {"seen": seen}
            for name, value in found.items():
                columns.setdefault(name, value.new_zeros(len(queries)))[rows] = value
            if states and supports(model, UserStates):
                last = batch.last(model.encode(batch)).float()  # (B, D)
                kept = last.new_zeros(len(queries), last.shape[1]) if kept is None else kept
                kept[rows] = last
    lengths = queries.end - queries.start
    frame = pd.DataFrame(
        {
            "query": queries.id.cpu().numpy(),
            "user": queries.user.cpu().numpy(),
            "item": queries.item.cpu().numpy(),
            **{name: value.cpu().numpy() for name, value in columns.items()},
            "history_length": lengths.cpu().numpy(),
            "log_length": lengths.clamp(min=1).double().log().cpu().numpy(),
        }
    )
    frame.insert(4, "hit", frame["rank"] <= k)
    return Confidence(frame, k, seen_filter, n_items, None if kept is None else kept.cpu())


def _of_scores(scores: Tensor, answers: Tensor, k: int, temperature: float) -> dict[str, Tensor]:
    """The columns of `Confidence.frame` that come from scores (B, N + 1)."""
    best, items = topk(scores, max(k, min(2, scores.shape[1] - 1)))  # (B, k), two at least for the margin
    raw_mass = (best[:, :k] - scores.logsumexp(1, keepdim=True)).exp().sum(1)
    log_p = (scores / temperature).log_softmax(1)  # (B, N + 1)
    listed = log_p.gather(1, items)
    p = log_p.exp()
    return {
        "rank": ranks_of(scores, answers),
        "p_answer": log_p.gather(1, answers[:, None])[:, 0].exp().double(),
        "p_top1": listed[:, 0].exp().double(),
        "mass": listed[:, :k].exp().sum(1).clamp(max=1).double(),
        "raw_mass": raw_mass.clamp(max=1).double(),
        "entropy": -(p * log_p.masked_fill(p == 0, 0)).sum(1).double(),
        "margin": (listed[:, 0] - listed[:, 1] if listed.shape[1] > 1 else listed[:, 0]).clamp(max=50).double(),
        "log_p_top1": listed[:, 0].double(),
    }


def fit_temperature(
    model: nn.Module, queries: Queries, n_items: int, seen_filter: bool, users: int = 2048, seed: int = 0
) -> float:
    """The temperature with the smallest mean of -log p_answer over some queries, drawn with `seed`.

    In 1 / temperature the mean is convex, so the sign of its derivative, the mean of (expected score - score of the
    answer), brackets the minimum. The result is an end of `exp(LOG_SCALES)` where scores tell nothing, or everything.
    """
    queries = drawn(queries, users, seed).to(device_of(model))
    low, high = LOG_SCALES
    with evaluating(model):
        for _ in range(PASSES):
            tried = torch.linspace(low, high, POINTS + 2, dtype=torch.float64)
            slope = torch.zeros(POINTS, dtype=torch.float64)
            for rows, _, scores, _ in scored(model, queries, n_items, seen_filter):
                of_answer = scores.gather(1, queries.item[rows][:, None])[:, 0].double().sum().cpu()
                known = scores.masked_fill(scores == -torch.inf, 0)
                for at, scale in enumerate(tried[1:-1].exp().tolist()):
                    expected = torch.linalg.vecdot((scale * scores).softmax(1), known)
                    slope[at] += expected.double().sum().cpu() - of_answer
            below = int((slope < 0).sum())  # the minimum lies above these
            low, high = float(tried[below]), float(tried[below + 1])
    return float(np.exp(-(low + high) / 2))


def drawn(queries: Queries, count: int | None, seed: int) -> Queries:
    """So many of the queries with one known answer, drawn with `seed`, in their order; None: all."""
    answered = (queries.item > 0).nonzero()[:, 0].cpu()
    chosen = torch.randperm(len(answered), generator=torch.Generator().manual_seed(seed))[:count].sort().values
    return queries.select(answered[chosen].to(queries.user.device))


@contextlib.contextmanager
def dropping(model: nn.Module, seed: int) -> Iterator[bool]:
    """Dropout on, everything else in evaluation mode: its random numbers are drawn with `seed`.

    Gives whether the model has dropout with a probability above 0.
    """
    kinds = (Dropout, nn.Dropout)
    modules = [one for one in model.modules() if isinstance(one, kinds)]
    active = any(getattr(one, "probability", getattr(one, "p", 0)) > 0 for one in modules)
    with evaluating(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for one in modules:
            one.train()
        yield active
