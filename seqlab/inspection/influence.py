"""The influence of each event on the scores, the surprise of each event, and the effect of an edit on the top k."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab import decoding
from seqlab.contracts import Ranking, Scores, supports
from seqlab.datasets.history import History, batch_of
from seqlab.datasets.sequences import Batch
from seqlab.ranking import Pairs, check_k, ranks_of, top_unseen, top_with_ties
from seqlab.runtime.modules import device_of, evaluating

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

NAN = float("nan")

POSITIONS_PER_PASS = 1 << 16
"""History positions encoded in one forward pass; more are split over several passes."""


def rows_per_pass(model: nn.Module, width: int) -> int:
    """The number of histories of up to `width` events in one forward pass."""
    return max(1, POSITIONS_PER_PASS // min(width, model.config.max_length or width))


@torch.no_grad()
def scores_of(model: nn.Module, histories: list[History], exact: bool = False) -> Tensor:
    """The scores of all items after each history, (len(histories), N + 1); padding has -inf.

    exact: use `decoding.scores` for a system without `score`, one pass over the catalogue per history; otherwise such a
    system raises `ValueError`.
    """
    if not supports(model, Scores) and not exact:
        raise ValueError(
            f"{type(model).__name__} returns lists without scoring the catalogue, so an event's influence is unknown"
        )
    score = model.score if supports(model, Scores) else partial(decoding.scores, model)
    longest, rows = model.config.max_length, rows_per_pass(model, max(len(history) for history in histories))
    with evaluating(model):
        found = [
            score(batch_of(histories[first : first + rows], longest).to(device_of(model))).float().cpu()
            for first in range(0, len(histories), rows)
        ]
    scores = torch.cat(found)
    scores[:, 0] = -torch.inf
    return scores


@torch.no_grad()
def lists_of(
    model: nn.Module, histories: list[History], k: int = 10, seen_filter: bool = False, ties: bool = False
) -> Ranking:
    """The best k items after each history, (len(histories), k), best first, 0 where there are fewer.

    ties: for a system without `score`, fill in `more`, the items that tie with the last one.
    """
    batch = batch_of(histories, model.config.max_length).to(device_of(model))
    seen = seen_pairs(histories, batch) if seen_filter else None
    with evaluating(model):
        if ties:
            ranking = top_with_ties(model, batch, k, seen)
        else:
            ranking = top_unseen(model, batch, k, seen) if seen_filter else model.recommend(batch, k)
    return Ranking(*(None if part is None else part.cpu() for part in (ranking.items, ranking.scores, ranking.tied)))


def seen_pairs(histories: list[History], batch: Batch) -> Pairs:
    """Rows and items of whole histories, including the events that are too old to be read, on the batch's device."""
    seen = [torch.cat([history.items, history.earlier]) for history in histories]
    row = torch.repeat_interleave(torch.tensor([len(items) for items in seen]))
    return row.to(batch.items.device), torch.cat(seen).to(batch.items.device)


def leave_one_out(
    model: nn.Module, history: History, item: int | None = None, seen_filter: bool = False, exact: bool = False
) -> pd.DataFrame:
    """How much less likely `item` becomes without each event; None: the item that the model recommends first.

    Columns position (from 0), item (of the event), value: the log-probability of the watched item given the whole
    history minus that given the history without the event; above 0 the event supports the item. attrs["item"] and
    attrs["log_probability"] describe the watched item; with the filter on it is the first unseen item. The T shortened
    histories are scored as one batch; events after the dropped one move up by a position. `exact` as in `scores_of`.
    The only event of a history has value NaN.
    """
    import pandas as pd

    shorter = [history.drop(at) for at in range(len(history))] if len(history) > 1 else []
    scores = scores_of(model, [history, *shorter], exact).log_softmax(1)  # (1 + T, N + 1), or (1, N + 1)
    if item is None:
        item = int(mask_seen(scores[:1], [history], seen_filter)[0].argmax())
    frame = pd.DataFrame(
        {
            "position": range(len(history)),
            "item": history.items.tolist(),
            "value": (scores[0, item] - scores[1:, item]).double().numpy() if shorter else NAN,
        }
    )
    frame.attrs |= {"item": item, "log_probability": float(scores[0, item])}
    return frame


def rerank(model: nn.Module, before: History, after: History, k: int = 10, seen_filter: bool = False) -> pd.DataFrame:
    """The top k after an edit compared with the top k before it; one forward pass (two for a system without `score`).

    Columns rank, item, was (the rank before), moved (was - rank), status: "same", "up", "down", "new" (was beyond k),
    "left" (now beyond k), "filtered" (the filter is on and the edited history contains the item; rank is NaN). Items
    that left the list come last. For an item that the filter removed before the edit, `was` is the rank of its
    unfiltered score. Without `score`, ranks beyond k are unknown: NaN.
    """
    if not supports(model, Scores):
        old, new = (lists_of(model, [history], k, seen_filter).items[0].tolist() for history in (before, after))
        filtered = set(after.items.tolist()) if seen_filter else set()
        return _compare(
            [item for item in old if item], [item for item in new if item], lambda row, item: NAN, filtered.__contains__
        )
    scores = scores_of(model, [before, after])
    return compare_rankings(mask_seen(scores, [before, after], seen_filter), k, scores)


def compare_rankings(masked: Tensor, k: int = 10, scores: Tensor | None = None) -> pd.DataFrame:
    """Two top k as `rerank` returns them. masked: (2, N + 1), before and after, -inf for items that may not be listed.

    scores: (2, N + 1), the unmasked scores (None: as masked).
    """
    k, scores = check_k(k), masked if scores is None else scores
    old, new = (
        [item for item in row.topk(min(k, len(row) - 1)).indices.tolist() if row[item] > -torch.inf] for row in masked
    )
    return _compare(
        old, new, lambda row, item: float((masked[row] > scores[row, item]).sum() + 1),
        lambda item: bool(masked[1, item] == -torch.inf),
    )  # fmt: skip


def _compare(
    old: list[int], new: list[int], rank_beyond: Callable[[int, int], float], filtered: Callable[[int], bool]
) -> pd.DataFrame:
    """The table of `rerank` for two lists; rank_beyond(0 for old or 1 for new, item): the rank of an unlisted item."""
    import pandas as pd

    rows = []
    for item in [*new, *(item for item in old if item not in new)]:
        was, rank = (
            float(listed.index(item) + 1) if item in listed else rank_beyond(row, item)
            for row, listed in enumerate((old, new))
        )
        if item not in new:
            rank, status = (NAN, "filtered") if filtered(item) else (rank, "left")
        elif item not in old:
            status = "new"
        else:
            status = "same" if was == rank else "up" if was > rank else "down"
        rows.append((rank, item, was, was - rank, status))
    return pd.DataFrame(rows, columns=["rank", "item", "was", "moved", "status"])


def mask_seen(scores: Tensor, histories: list[History], seen_filter: bool) -> Tensor:
    """The scores with each user's seen items at -inf, if the filter is on."""
    if not seen_filter:
        return scores
    masked = scores.clone()
    for row, history in enumerate(histories):
        masked[row, history.items] = -torch.inf
        masked[row, history.earlier] = -torch.inf
    return masked


def surprise(model: nn.Module, history: History) -> pd.DataFrame:
    """The surprisal of every event but the first: minus its log-probability given the events before it.

    Columns position (of the event, from 0), item, value (nats; softmax of the scores over the whole catalogue), rank
    (of the event among all items, seen ones included, ties at their mean). attrs["position"] is the most surprising
    event. The prefixes are scored as one batch, each as a history of its own, so that a bidirectional system sees no
    future event either. Raises `ValueError` for a history of one event and for a system without `score`.
    """
    import pandas as pd

    if len(history) < 2:
        raise ValueError("the history has only one event; surprise needs an event before it")
    positions, targets = range(1, len(history)), history.items[1:]
    scores = scores_of(model, [history.drop(*range(at, len(history))) for at in positions])  # (T - 1, N + 1)
    value = scores.double().logsumexp(1) - scores.gather(1, targets[:, None])[:, 0]
    ranks = ranks_of(scores, targets).numpy()
    frame = pd.DataFrame({"position": positions, "item": targets.tolist(), "value": value.numpy(), "rank": ranks})
    frame.attrs["position"] = int(torch.argmax(value)) + 1
    return frame


def agreement(a: pd.DataFrame, b: pd.DataFrame) -> tuple[float, str]:
    """Spearman's rank correlation of two measures of the same events, and the same in words.

    a, b: columns position, value. NaN for fewer than three events or a constant measure.
    """
    joined = a[["position", "value"]].merge(b[["position", "value"]], on="position")
    if len(joined) < 3 or joined["value_x"].nunique() < 2 or joined["value_y"].nunique() < 2:
        return NAN, "cannot be compared: too few events, or all alike"
    rho = float(joined["value_x"].rank().corr(joined["value_y"].rank()))
    if abs(rho) < 0.2:
        return rho, f"are unrelated in their order (Spearman {rho:+.2f})"
    strength = "weakly" if abs(rho) < 0.4 else "moderately" if abs(rho) < 0.7 else "strongly"
    return rho, f"{strength} {'agree' if rho > 0 else 'disagree'} in their order (Spearman {rho:+.2f})"
