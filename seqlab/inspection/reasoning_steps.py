"""The rank of the answer, the certainty and the movement at every step of a reasoning system, for every query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from seqlab.contracts import Reasons, supports
from seqlab.datasets.history import batch_of
from seqlab.evaluation.outcome import Outcome
from seqlab.evaluation.ranking_metrics import list_statistics, per_user
from seqlab.ranking import ranks_of
from seqlab.runtime.modules import device_of, evaluating
from seqlab.tasks import next_item
from seqlab.tasks.next_item import MAX_TOKENS, history_pairs, rows_per_batch

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.ranking import Pairs

METRICS = ("recall@10", "ndcg@10")
TOP_K = 10
"""The number of items kept per step."""


@dataclass(frozen=True)
class StepRanks:
    """The measures of every reasoning step for every query of one part.

    frame: a row per query and step (from 0, the plain encoder), grouped by query. Columns query, user, item (the
    answer), step, rank (1 = best, ties at their mean), entropy (nats, over the whole catalogue), entropy_even (with the
    last step's temperature at every step, which removes the effect of the temperature schedule), margin (probability
    of the first item minus that of the second), kl (nats, KL divergence of the previous step from this one), cosine
    (with the previous state), kept (how many of the ten best items the previous step had too), history_length, seen,
    item_count. kl, cosine and kept are NaN at step 0.
    top: (Q, S + 1, 10) item ids of each step, best first, 0 = none; train_counts: (N + 1,).
    """

    frame: pd.DataFrame
    top: Tensor
    train_counts: Tensor
    seen_filter: bool
    n_items: int

    @property
    def steps(self) -> int:
        """S, the number of reasoning steps after the plain encoder."""
        return self.top.shape[1] - 1

    def wide(self, column: str) -> np.ndarray:
        """A column of the frame as (Q, S + 1)."""
        return self.frame[column].to_numpy().reshape(-1, self.steps + 1)

    @cached_property
    def quality(self) -> np.ndarray:
        """Every query's recall@10 and ndcg@10 at every step: (Q, S + 1, 2)."""
        values = per_user(self.frame["rank"].to_numpy())[list(METRICS)].to_numpy()
        return values.reshape(len(self.top), self.steps + 1, len(METRICS))

    def stops(self, epsilon: float, least: int = 1, most: int | None = None) -> np.ndarray:
        """The step at which each query stops, (Q,): the first from `least` on with KL below `epsilon`, else the last.

        most: the largest number of steps (None: all).
        """
        most = self.steps if most is None else min(most, self.steps)
        below = self.wide("kl")[:, least : most + 1] < epsilon
        if not below.shape[1]:
            return np.full(len(below), most)
        return np.where(below.any(1), below.argmax(1) + least, most)

    def at(self, step: int | np.ndarray) -> Outcome:
        """The outcome of the ranks at one step, or at one step per query (Q,), for the functions of `evaluation`."""
        chosen = np.broadcast_to(np.asarray(step), len(self.top))
        rows = self.frame.iloc[np.arange(len(chosen)) * (self.steps + 1) + chosen]
        columns = ["query", "user", "item", "rank", "history_length", "seen", "item_count"]
        listed = self.top[torch.arange(len(chosen)), torch.from_numpy(chosen.copy())].long()
        exposure = torch.bincount(listed[listed > 0], minlength=self.n_items + 1)
        frame = rows[columns].reset_index(drop=True)
        return next_item.outcome(frame, self.n_items, self.seen_filter, list_statistics(exposure, self.train_counts))


@torch.no_grad()
def rank_steps(model: nn.Module, split: Split, part: str = "test", seen_filter: bool | None = None) -> StepRanks:
    """Rank the answer of every query of `part` ("valid" or "test") by every step's state, in one pass.

    Probabilities are over the whole catalogue under each step's temperature; the seen filter (as in `tasks.next_item`)
    affects ranks and lists only. Queries are processed in batches that bound the memory. Each step is ranked by its
    state; a system that averages its states (ERL) may be better or worse than any of them. Raises `ValueError` for a
    system that does not reason in steps.
    """
    import pandas as pd

    require_reasoning(model)
    queries = {"valid": split.valid, "test": split.test}[part].to(device_of(model))
    seen_filter = not split.log.repeats if seen_filter is None else seen_filter
    steps, n_items, count = model.config.steps, split.n_items, len(queries)
    columns = {
        name: torch.full((count, steps + 1), torch.nan, dtype=torch.float64)
        for name in ("rank", "entropy", "entropy_even", "margin", "kl", "cosine", "kept")
    }
    top = torch.zeros(count, steps + 1, min(TOP_K, n_items), dtype=torch.int32)
    seen = torch.zeros(count, dtype=torch.bool)
    # `_measure` holds some four tables of that size
    rows_at_most = rows_per_batch(device_of(model), 4 * (n_items + 1) * (steps + 1))
    with evaluating(model):
        for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, rows_at_most):
            states = model.reasoning_states(batch)
            scores = model.step_scores(states).float()  # (B, S + 1, N + 1)
            at, answers = rows.cpu(), queries.item[rows]
            seen_pairs = history_pairs(queries, rows) if seen_filter else []
            measured, listed = _measure(scores, states, model.temperatures, answers, seen_pairs)
            for name, values in measured.items():
                columns[name][at] = values.double().cpu()
            top[at] = listed.int().cpu()
            for row, item in history_pairs(queries, rows):
                seen[at[row[item == answers[row]].cpu()]] = True
    counts = split.train.item_counts(n_items).cpu()
    item, user = queries.item.cpu(), queries.user.cpu()
    facts = {
        "query": queries.id.cpu(), "user": user, "item": item, "history_length": (queries.end - queries.start).cpu(),
        "seen": seen, "item_count": counts[item],
    }  # fmt: skip
    frame = pd.DataFrame({name: values.repeat_interleave(steps + 1).numpy() for name, values in facts.items()})
    frame.insert(3, "step", np.tile(np.arange(steps + 1), count))
    for place, (name, values) in enumerate(columns.items(), 4):
        frame.insert(place, name, values.flatten().numpy())
    return StepRanks(frame, top, counts, seen_filter, n_items)


def require_reasoning(model: nn.Module) -> None:
    """`ValueError` for a system that does not reason in steps."""
    if not supports(model, Reasons):
        raise ValueError(f"{type(model).__name__} does not reason in steps; choose a system such as rearec")


@torch.no_grad()
def steps_of(model: nn.Module, history: History, answer: int, seen_filter: bool = False) -> StepRanks:
    """`rank_steps` for a single query: this history, with `answer` as its answer."""
    import pandas as pd

    require_reasoning(model)
    batch = batch_of([history], model.config.max_length).to(device_of(model))
    with evaluating(model):
        states = model.reasoning_states(batch)
        scores = model.step_scores(states).float()  # (1, S + 1, N + 1)
        seen, target = torch.cat([history.items, history.earlier]).to(scores.device), scores.new_tensor([answer]).long()
        seen_pairs = [(torch.zeros_like(seen), seen)] if seen_filter else []
        measured, listed = _measure(scores, states, model.temperatures, target, seen_pairs)
    facts = {"query": 0, "user": history.user, "item": answer, "step": range(scores.shape[1])}
    frame = pd.DataFrame(facts | {name: values[0].double().cpu().numpy() for name, values in measured.items()})
    counts = torch.zeros(scores.shape[2], dtype=torch.long)  # unknown for a single history
    return StepRanks(frame, listed.int().cpu(), counts, seen_filter, scores.shape[2] - 1)


def _measure(
    scores: Tensor, states: Tensor, temperatures: Tensor, answers: Tensor, seen_pairs: Iterable[Pairs]
) -> tuple[dict[str, Tensor], Tensor]:
    """The measures of the steps of some queries, (B, S + 1) each, and the best items (B, S + 1, 10).

    seen_pairs: items that the filter removes, except the answer. Writes to `scores`.
    """
    steps = scores.shape[1]
    if not bool(scores[:, :, 1:].sum(-1).isfinite().all()):
        raise ValueError("A step gave scores that are not finite; training may have diverged.")
    divided = temperatures.to(scores)[:, None]
    logs = (scores[:, :, 1:] / divided).log_softmax(-1)  # (B, S + 1, N)
    probabilities = logs.exp()
    two = probabilities.topk(min(2, probabilities.shape[-1]), dim=-1).values
    even = (scores[:, :, 1:] / divided[-1]).log_softmax(-1)
    missing = scores.new_full((len(scores), 1), torch.nan)
    moved = (probabilities[:, :-1] * (logs[:, :-1] - logs[:, 1:])).sum(-1).clamp(min=0)  # (B, S)
    cosine = torch.cosine_similarity(states[:, 1:].float(), states[:, :-1].float(), dim=-1)
    scores[:, :, 0] = -torch.inf
    target = answers[:, None, None].expand(-1, steps, 1)
    target_score = scores.gather(2, target)
    for row, item in seen_pairs:
        scores[row, :, item] = -torch.inf
    scores.scatter_(2, target, target_score)
    best = scores.topk(min(TOP_K, scores.shape[-1] - 1), dim=-1)
    listed = best.indices.masked_fill(best.values == -torch.inf, 0)
    stayed = ((listed[:, 1:, :, None] == listed[:, :-1, None, :]) & (listed[:, 1:, :, None] > 0)).any(-1).sum(-1)
    measured = {
        "rank": ranks_of(scores.flatten(0, 1), answers.repeat_interleave(steps)).unflatten(0, (-1, steps)),
        "entropy": -(probabilities * logs).sum(-1),
        "entropy_even": -(even.exp() * even).sum(-1),
        "margin": two[..., 0] - two[..., -1],
        "kl": torch.cat([missing, moved], 1),
        "cosine": torch.cat([missing, cosine], 1),
        "kept": torch.cat([missing, stayed.to(scores)], 1),
    }
    return measured, listed
