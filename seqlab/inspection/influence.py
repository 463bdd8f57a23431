"""What each event of a history is worth, how surprising it is, and what an edit changes: by asking the model again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab import decoding
from seqlab.contracts import Ranking
from seqlab.datasets.history import History, batch_of
from seqlab.datasets.sequences import Batch
from seqlab.ranking import Pairs, check_k, ranks_of, top_unseen, top_with_ties
from seqlab.runtime.modules import device_of, evaluating

if TYPE_CHECKING:
    import pandas as pd


POSITIONS_AT_ONCE = 1 << 16
"""History positions encoded in one forward pass; a longer query is asked in several."""


def rows_at_once(model: nn.Module, width: int) -> int:
    """How many histories of up to `width` events one forward pass takes."""
    return max(1, POSITIONS_AT_ONCE // min(width, model.config.max_length or width))


@torch.no_grad()
def scores_of(model: nn.Module, histories: list[History], exact: bool = False) -> Tensor:
    """The scores (len(histories), N + 1) a model gives after each history; padding has -inf.

    exact: a system that generates lists gives its `decoding.scores`, which cost it a pass over the catalogue per
    history; without it such a system, which scores nothing by itself, raises `ValueError`.
    """
    score = getattr(model, "score", None) or (partial(decoding.scores, model) if exact else None)
    if score is None:
        raise ValueError(
            f"{type(model).__name__} makes lists without scoring the catalogue, so no event's worth can be told"
        )
    longest, rows = model.config.max_length, rows_at_once(model, max(len(history) for history in histories))
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
    """The k items (len(histories), k) a model lists after each history, the best first, 0 where it has no more.

    ties: of a system without `score`, find all `more` that tie with the last item.
    """
    batch = batch_of(histories, model.config.max_length).to(device_of(model))
    seen = met_in(histories, batch) if seen_filter else None
    with evaluating(model):
        if ties:
            ranking = top_with_ties(model, batch, k, seen)
        else:
            ranking = top_unseen(model, batch, k, seen) if seen_filter else model.recommend(batch, k)
    return Ranking(*(None if part is None else part.cpu() for part in (ranking.items, ranking.scores, ranking.tied)))


def met_in(histories: list[History], batch: Batch) -> Pairs:
    """The items of whole histories, those earlier than a model reads too, where their `batch` is."""
    met = [torch.cat([history.items, history.earlier]) for history in histories]
    row = torch.repeat_interleave(torch.tensor([len(items) for items in met]))
    return row.to(batch.items.device), torch.cat(met).to(batch.items.device)


def leave_one_out(
    model: nn.Module, history: History, item: int | None = None, seen_filter: bool = False, exact: bool = False
) -> pd.DataFrame:
    """How much less likely `item` becomes without each event; by default the item the model recommends first.

    Columns position (from 0), item (of the event), value: the log-probability of the watched item with the whole
    history minus that without the event. Above 0 the event speaks for it. attrs["item"] and attrs["log_probability"]
    tell what was watched; with the filter on it is the first item the user has not met. All T shortened histories go
    through the model in one batch; the events after a dropped one move up by a position, as if it had never happened.
    `exact` as in `scores_of`. Raises `ValueError` for a history of one event.
    """
    import pandas as pd

    shorter = [history.drop(at) for at in range(len(history))]
    scores = scores_of(model, [history, *shorter], exact).log_softmax(1)  # (1 + T, N + 1)
    if item is None:
        item = int(free_of(scores[:1], [history], seen_filter)[0].argmax())
    frame = pd.DataFrame(
        {
            "position": range(len(history)),
            "item": history.items.tolist(),
            "value": (scores[0, item] - scores[1:, item]).double().numpy(),
        }
    )
    frame.attrs |= {"item": item, "log_probability": float(scores[0, item])}
    return frame


def rerank(model: nn.Module, before: History, after: History, k: int = 10, seen_filter: bool = False) -> pd.DataFrame:
    """The top k after an edit against the top k before it, by one forward pass (two of a system without `score`).

    Columns rank, item, was (the rank before), moved (places gained), status: "same", "up", "down", "new" (was beyond
    k), "left" (now beyond k), "filtered" (the filter is on and the item is in the edited history; rank is NaN). Those
    that are no longer listed come last. For an item the filter kept out before, `was` is the place its score would
    have had. A system without `score` is asked for its lists, which say nothing of places beyond k: those are NaN.
    """
    if not hasattr(model, "score"):
        old, new = (lists_of(model, [history], k, seen_filter).items[0].tolist() for history in (before, after))
        return _changed_lists(old, new, set(after.items.tolist()) if seen_filter else set())
    scores = scores_of(model, [before, after])
    return changed(free_of(scores, [before, after], seen_filter), k, scores)


def changed(free: Tensor, k: int = 10, scores: Tensor | None = None) -> pd.DataFrame:
    """Two top tens as `rerank` tells them: free (2, N + 1), before and after, -inf where an item may not be listed.

    scores (2, N + 1): what such items would have scored (None: nothing is asked about them).
    """
    import pandas as pd

    k, scores = check_k(k), free if scores is None else scores
    old, new = (
        [item for item in row.topk(min(k, len(row) - 1)).indices.tolist() if row[item] > -torch.inf] for row in free
    )
    rows = []
    for item in [*new, *(item for item in old if item not in new)]:
        was, rank = (
            float(listed.index(item) + 1 if item in listed else (free[row] > scores[row, item]).sum() + 1)
            for row, listed in enumerate((old, new))
        )
        if item not in new:
            gone = free[1, item] == -torch.inf
            rank, status = (float("nan"), "filtered") if gone else (rank, "left")
        elif item not in old:
            status = "new"
        else:
            status = "same" if was == rank else "up" if was > rank else "down"
        rows.append({"rank": rank, "item": item, "was": was, "moved": was - rank, "status": status})
    return pd.DataFrame(rows, columns=["rank", "item", "was", "moved", "status"])


def _changed_lists(old: list[int], new: list[int], met: set[int]) -> pd.DataFrame:
    """Two lists (0: nothing) as `rerank` tells them; met: what the filter keeps out of the second."""
    import pandas as pd

    before, after = ({item: float(rank) for rank, item in enumerate(items, 1) if item} for items in (old, new))
    rows = []
    for item in [*after, *(item for item in before if item not in after)]:
        was, rank = before.get(item, float("nan")), after.get(item, float("nan"))
        if item not in after:
            status = "filtered" if item in met else "left"
        elif item not in before:
            status = "new"
        else:
            status = "same" if was == rank else "up" if was > rank else "down"
        rows.append((rank, item, was, was - rank, status))
    return pd.DataFrame(rows, columns=["rank", "item", "was", "moved", "status"])


def free_of(scores: Tensor, histories: list[History], seen_filter: bool) -> Tensor:
    """The scores with what each user has met at -inf, if the filter is on."""
    if not seen_filter:
        return scores
    free = scores.clone()
    for row, history in enumerate(histories):
        free[row, history.items] = -torch.inf
        free[row, history.earlier] = -torch.inf
    return free


def surprise(model: nn.Module, history: History) -> pd.DataFrame:
    """Minus the log-probability of every event given those before it, one row per event but the first.

    Columns position (of the event, from 0), item, value (nats; the softmax of the scores over the whole catalogue,
    whatever a system's scores are), rank (of the event among all items, seen ones too, ties at their mean).
    attrs["position"] is the most surprising one. All prefixes go through the model in one batch, each as if the
    history ended there, so a system that looks both ways is asked fairly too. Raises `ValueError` for a history of
    one event and for a system that scores nothing.
    """
    import pandas as pd

    if len(history) < 2:
        raise ValueError("nothing comes after the only event, so there is nothing to be surprised by")
    places = range(1, len(history))
    scores = scores_of(model, [history.drop(*range(at, len(history))) for at in places])  # (T - 1, N + 1)
    came = history.items[1:]
    value = scores.double().logsumexp(1) - scores.gather(1, came[:, None])[:, 0]
    frame = pd.DataFrame(
        {
            "position": places,
            "item": came.tolist(),
            "value": value.numpy(),
            "rank": ranks_of(scores, came).numpy(),
        }
    )
    frame.attrs["position"] = int(torch.argmax(value)) + 1
    return frame


def agreement(a: pd.DataFrame, b: pd.DataFrame) -> tuple[float, str]:
    """Spearman's rank correlation of two measures of the same events, and what it means in words.

    a, b: columns position, value. NaN (and a sentence) for fewer than three events or a constant measure.
    """
    joined = a[["position", "value"]].merge(b[["position", "value"]], on="position")
    if len(joined) < 3 or joined["value_x"].nunique() < 2 or joined["value_y"].nunique() < 2:
        return float("nan"), "cannot be compared: too few events, or all alike"
    rho = float(joined["value_x"].rank().corr(joined["value_y"].rank()))
    if abs(rho) < 0.2:
        return rho, f"are unrelated in their order (Spearman {rho:+.2f})"
    strength = "weakly" if abs(rho) < 0.4 else "moderately" if abs(rho) < 0.7 else "strongly"
    return rho, f"{strength} {'agree' if rho > 0 else 'disagree'} in their order (Spearman {rho:+.2f})"
