"""Slates: the likelihood of what was clicked among the items that were shown, or that nothing was.

A slate of A items has A + 1 outcomes: no click, and a click on each slot. A system gives their log-probabilities by
`slate_log_probs(batch) -> (B, A + 1)`, column 0 for no click, for the slates `batch.context["candidates"]` (B, A). For
a system that only scores items (`score_pairs`, or `score`), the outcomes are a softmax of `offset` for no click and
`scale x score` for a slot; the two numbers are fitted to the slates of validation (see `fit_choice`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from seqlab.contracts import JudgesSlates, Scores, ScoresPairs, supports
from seqlab.evaluation.influence_values import ratio
from seqlab.evaluation.outcome import Metric, Outcome, Slice
from seqlab.runtime import processes
from seqlab.runtime.modules import device_of, evaluating
from seqlab.runtime.text import DataError, MissingDataError
from seqlab.tasks.next_item import rows_per_batch

if TYPE_CHECKING:
    from seqlab.datasets.sequences import Queries
    from seqlab.datasets.splits import Split

METRICS = (
    Metric("nats", low=-torch.inf, high=0.0),
    Metric("accuracy", low=-torch.inf, high=torch.inf),
    Metric("mrr", low=-torch.inf, high=torch.inf),
)
"""nats: the log-likelihood of the outcome of a slate; uniform: -log(A + 1). accuracy: the share of the clicked slates
in which the clicked item is the best of the slate, ties shared. mrr: 1 / its rank there, ties at their mean. The latter
two are ratios over the clicked slates, so their columns hold influence values, which may lie outside [0, 1]."""
PRIMARY = "nats"
HEADLINE = ("nats", "accuracy", "mrr")

MAX_TOKENS = 1 << 15
"""History positions per batch."""


class Choice(NamedTuple):
    """The outcomes of a slate are a softmax of `offset` (no click) and `scale x score` (each slot)."""

    scale: float
    offset: float


def check(model: nn.Module, split: Split) -> None:
    """Raise `DataError` unless the split has slates and the system can judge them."""
    for part in (split.valid, split.test):
        if part.candidates is None or part.labels is None:
            raise MissingDataError(
                f"{split.log.name}: the split {split.name!r} has no slates; split a log with exposures by 'slates 0.2'."
            )
    if not any(supports(model, one) for one in (JudgesSlates, ScoresPairs, Scores)):
        raise DataError(
            f"{type(model).__name__} cannot judge a slate: it has none of slate_log_probs, score_pairs and score."
        )


@torch.no_grad()
def measure(model: nn.Module, split: Split, part: str = "test", seen_filter: bool | None = None) -> Outcome:
    """The likelihood of what was clicked in every slate of `part` ("valid" or "test").

    seen_filter: has no effect, because a slate is fixed. Raises `DataError` as `check` does, and `ValueError` for
    numbers that are not finite, or not log-probabilities. Several processes must all call it; each returns the complete
    result.
    """
    import pandas as pd

    check(model, split)
    queries = {"valid": split.valid, "test": split.test}[part].to(device_of(model))
    clicked = clicked_slots(queries.labels)
    protocol = f"likelihood of the click or no click in {len(queries):,} slates, history before the slate"
    summary = {"uniform": float(-(1 + (queries.candidates > 0).sum(1)).double().log().mean())}
    if supports(model, JudgesSlates):
        log_probs = _judged(model, queries, split.n_items, whole=True)
        scores = log_probs[:, 1:]
    else:
        fitted_on = split.valid.to(device_of(model))
        scores = _judged(model, queries, split.n_items)
        seen = scores if part == "valid" else _judged(model, fitted_on, split.n_items)
        choice = fit_choice(seen, fitted_on.candidates > 0, clicked_slots(fitted_on.labels))
        log_probs = choice_log_probs(scores, queries.candidates > 0, choice)
        protocol += f"; a scale of the scores and an offset of no click fitted to {len(fitted_on):,} validation slates"
        summary |= {"scale": choice.scale, "no-click offset": choice.offset}
    nats = log_probs.gather(1, clicked[:, None])[:, 0]
    scores = scores.masked_fill(queries.candidates == 0, -torch.inf)
    of_click = scores.gather(1, (clicked - 1).clamp(min=0)[:, None])  # (Q, 1)
    higher, equal = (scores > of_click).sum(1), (scores == of_click).sum(1)
    first = (higher == 0) / equal
    rank = higher + (equal + 1) / 2
    frame = {
        "query": queries.id, "user": queries.user, "item": queries.item, "slot": clicked,
        "shown": (queries.candidates > 0).sum(1), "history_length": queries.end - queries.start, "click": clicked > 0,
        "nats": nats,
    }  # fmt: skip
    slices = {
        "history_length": Slice("history length", "events"),
        "click": Slice("outcome", yes="click", no="no click"),
    }
    if len(frame["shown"].unique()) > 1:
        slices["shown"] = Slice("length of the slate", "items")
    table = pd.DataFrame({name: values.cpu().numpy() for name, values in frame.items()})
    for name, values in (("accuracy", first), ("mrr", 1 / rank)):
        table[name] = ratio((values * (clicked > 0)).cpu().numpy(), table["click"])
    return Outcome(
        "slates", table, METRICS, PRIMARY, HEADLINE, protocol, slices=slices, summary=summary
    )  # fmt: skip


def clicked_slots(labels: Tensor) -> Tensor:
    """The clicked slot of each slate, from 1, 0 = none: (Q,); labels: (Q, A), NaN at padding."""
    is_clicked = labels.nan_to_num() > 0
    return torch.where(is_clicked.any(1), is_clicked.int().argmax(1) + 1, 0)


def choice_log_probs(scores: Tensor, valid: Tensor, choice: Choice) -> Tensor:
    """The log-probabilities (Q, A + 1) of a `Choice`; scores: (Q, A), valid: (Q, A) bool; -inf at padding."""
    logits = (choice.scale * scores.double()).masked_fill(~valid, -torch.inf)
    offset = torch.full_like(logits[:, :1], choice.offset)
    return torch.cat([offset, logits], 1).log_softmax(1)  # (Q, A + 1)


def fit_choice(scores: Tensor, valid: Tensor, clicked: Tensor) -> Choice:
    """The scale (at least 0) and the offset of no click with the largest likelihood: a convex problem in two numbers.

    scores: (Q, A); valid: (Q, A) bool; clicked: (Q,) the slot from 1, 0 = none. One more slate with scores from one
    standard deviation below the mean to one above, all outcomes equally likely, keeps both numbers finite.
    """
    known = scores.double()[valid]
    center = known.mean()
    spread = known.std(correction=0)
    spread = spread if spread > 0 else torch.ones_like(spread)
    width = scores.shape[1]
    x = torch.where(valid, (scores.double() - center) / spread, 0.0)
    x = torch.cat([x, torch.linspace(-1, 1, width, dtype=x.dtype, device=x.device)[None]])  # (Q + 1, A)
    valid = torch.cat([valid, torch.ones_like(valid[:1])])
    target = nn.functional.one_hot(clicked, width + 1).double()
    target = torch.cat([target, torch.full_like(target[:1], 1 / (width + 1))])  # (Q + 1, A + 1)
    scale, offset = _newton(x, valid, target, fixed_scale=False)
    if scale < 0:
        scale, offset = _newton(x, valid, target, fixed_scale=True)
    scale = scale / float(spread)
    return Choice(scale, offset + scale * float(center))


def _newton(x: Tensor, valid: Tensor, target: Tensor, fixed_scale: bool) -> tuple[float, float]:
    """The scale (0 if fixed) and the offset, by Newton's method with halved steps."""
    design = torch.zeros(*target.shape, 2, dtype=x.dtype, device=x.device)  # (Q, A + 1, 2): derivatives of the logits
    design[:, 1:, 0], design[:, 0, 1] = x, 1.0
    if fixed_scale:
        design = design[..., 1:]
    outside = torch.cat([torch.zeros_like(valid[:, :1]), ~valid], 1)

    def log_probs(numbers: Tensor) -> Tensor:
        return (design @ numbers).masked_fill(outside, -torch.inf).log_softmax(1)

    def loss(numbers: Tensor) -> Tensor:
        return -(target * log_probs(numbers).masked_fill(outside, 0.0)).sum()

    numbers = design.new_zeros(design.shape[2])
    for _ in range(100):
        p = log_probs(numbers).exp()
        gradient = torch.einsum("qa,qak->k", p - target, design)  # (2,): the gradient of a softmax is p - y
        mean = torch.einsum("qa,qak->qk", p, design)
        hessian = torch.einsum("qa,qak,qal->kl", p, design, design) - mean.T @ mean
        step = torch.linalg.solve(hessian + 1e-12 * torch.eye(len(numbers)).to(hessian), gradient)
        before, size = loss(numbers), 1.0
        while loss(numbers - size * step) > before and size > 1e-9:
            size /= 2
        numbers = numbers - size * step
        if float((step * gradient).sum()) < 1e-12 * len(x):
            break
    scale, offset = (0.0, float(numbers[0])) if fixed_scale else numbers.tolist()
    return scale, offset


def _judged(model: nn.Module, queries: Queries, n_items: int, whole: bool = False) -> Tensor:
    """The scores (Q, A) of the items of every slate; whole: the log-probabilities (Q, A + 1) of `slate_log_probs`."""
    in_pairs = supports(model, ScoresPairs)
    found = queries.labels.new_zeros(len(queries), queries.candidates.shape[1] + whole)
    rows_at_most = rows_per_batch(found.device, found.shape[1] if whole or in_pairs else n_items + 1)
    shard = processes.index(), processes.count()
    with processes.propagate_errors(), evaluating(model):
        for rows, batch in queries.batches(model.config.max_length, MAX_TOKENS, rows_at_most, shard):
            candidates = queries.candidates[rows]
            outside = candidates == 0
            if whole:
                values = model.slate_log_probs(batch).double()  # (B, A + 1)
                outside = torch.cat([torch.zeros_like(outside[:, :1]), outside], 1)
                total = values.masked_fill(outside, -torch.inf).logsumexp(1)
                if not bool((total.abs() < 1e-3).all()):
                    raise ValueError(
                        f"{type(model).__name__}.slate_log_probs must sum to 1 over the slots and no click (a sum is "
                        f"{float(total.exp()[total.abs().argmax()]):.4g})."
                    )
            elif in_pairs:
                values = model.score_pairs(batch, candidates)  # (B, A)
            else:
                values = model.score(batch).gather(1, candidates)  # (B, A)
            values = values.double().masked_fill(outside, 0.0)
            if not bool(values.isfinite().all()):
                raise ValueError(
                    f"{type(model).__name__} gave numbers that are not finite; training may have diverged."
                )
            found[rows] = values
    return processes.all_reduce_sum(found)
