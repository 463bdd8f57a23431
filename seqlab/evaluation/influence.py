"""What each event of a history is worth, and what an edit of it changes, found by asking the model again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.datasets.sequences import Batch
from seqlab.recommender import device_of

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split

POSITIONS_AT_ONCE = 1 << 16
"""History positions encoded in one forward pass; a longer question is asked in several."""


@dataclass(frozen=True)
class History:
    """What a model reads of one user: items and times (T,), oldest first, and the ids `earlier` than it reads.

    An edit gives a new History. Moments stay where they are: moving an event changes which item came when.
    """

    user: int
    items: Tensor
    times: Tensor
    earlier: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def drop(self, at: int) -> History:
        """Without event `at` (from 0). Raises `ValueError` for the only one."""
        if len(self) == 1:
            raise ValueError("this is the only event; a model needs one to go on")
        kept = torch.arange(len(self)) != self._place(at)
        return replace(self, items=self.items[kept], times=self.times[kept])

    def move(self, at: int, to: int) -> History:
        """Event `at` comes to stand at `to`; those between make room."""
        order = list(range(len(self)))
        order.insert(self._place(to), order.pop(self._place(at)))
        return replace(self, items=self.items[torch.tensor(order)])

    def add(self, item: int) -> History:
        """One more event at the end, at the moment of the last."""
        return replace(
            self, items=torch.cat([self.items, torch.tensor([item])]), times=torch.cat([self.times, self.times[-1:]])
        )

    def reversed(self) -> History:
        """The same items, the last one first."""
        return replace(self, items=self.items.flip(0))

    def _place(self, at: int) -> int:
        if not 0 <= at < len(self):
            raise ValueError(f"there is no event {at}; the history has {len(self)}")
        return at


def history_of(split: Split, user: int, part: str = "test", longest: int | None = None) -> History:
    """The history that `part` asks this user about, cut to its `longest` most recent events (None: all of them).

    Raises `ValueError` for a user who is not asked.
    """
    questions = {"valid": split.valid, "test": split.test}[part]
    rows = (questions.user == user).nonzero()[:, 0]
    if not len(rows):
        raise ValueError(f"user {user} has no {part} question")
    batch = questions.batch(rows[:1])
    length = int(batch.lengths[0])
    first = 0 if longest is None else max(0, length - longest)
    items, times = batch.items[0, :length].cpu(), batch.times[0, :length].cpu()
    return History(int(user), items[first:], times[first:], items[:first])


def batch_of(histories: list[History], longest: int | None = None) -> Batch:
    """Histories as one Batch, each cut to its `longest` most recent events."""
    cut = [history.items if longest is None else history.items[-longest:] for history in histories]
    moments = [history.times if longest is None else history.times[-longest:] for history in histories]
    pad = torch.nn.utils.rnn.pad_sequence
    lengths = torch.tensor([len(items) for items in cut])
    user = torch.tensor([history.user for history in histories])
    return Batch(pad(cut, batch_first=True), pad(moments, batch_first=True), lengths, user)


@torch.no_grad()
def scores_of(model: nn.Module, histories: list[History]) -> Tensor:
    """The scores (len(histories), N + 1) a model gives after each history; padding has -inf.

    Raises `ValueError` for a system that generates lists and scores nothing.
    """
    if not hasattr(model, "score"):
        raise ValueError(
            f"{type(model).__name__} makes lists without scoring the catalogue, so no event's worth can be told"
        )
    longest = model.config.max_length
    width = max(len(history) for history in histories)
    rows = max(1, POSITIONS_AT_ONCE // min(width, longest or width))
    was_training = model.training
    model.eval()
    found = [
        model.score(batch_of(histories[first : first + rows], longest).to(device_of(model))).float().cpu()
        for first in range(0, len(histories), rows)
    ]
    model.train(was_training)
    scores = torch.cat(found)
    scores[:, 0] = -torch.inf
    return scores


def leave_one_out(
    model: nn.Module, history: History, item: int | None = None, seen_filter: bool = False
) -> pd.DataFrame:
    """How much less likely `item` becomes without each event; by default the item the model recommends first.

    Columns position (from 0), item (of the event), value: the log-probability of the watched item with the whole
    history minus that without the event. Above 0 the event speaks for it. attrs["item"] and attrs["log_probability"]
    tell what was watched; with the filter on it is the first item the user has not met. All T shortened histories go
    through the model in one batch; the events after a dropped one move up by a position, as if it had never happened.
    Raises `ValueError` for a history of one event.
    """
    import pandas as pd

    shorter = [history.drop(at) for at in range(len(history))]
    scores = scores_of(model, [history, *shorter]).log_softmax(1)  # (1 + T, N + 1)
    if item is None:
        item = int(_free(scores[:1], [history], seen_filter)[0].argmax())
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
    """The top k after an edit against the top k before it, by one forward pass.

    Columns rank, item, was (the rank before), moved (places gained), status: "same", "up", "down", "new" (was beyond
    k), "left" (now beyond k), "filtered" (the filter is on and the item is in the edited history; rank is NaN). Those
    that are no longer listed come last. For an item the filter kept out before, `was` is the place its score would
    have had.
    """
    scores = scores_of(model, [before, after])
    return changed(_free(scores, [before, after], seen_filter), k, scores)


def changed(free: Tensor, k: int = 10, scores: Tensor | None = None) -> pd.DataFrame:
    """Two top tens as `rerank` tells them: free (2, N + 1), before and after, -inf where an item may not be listed.

    scores (2, N + 1): what such items would have scored (None: nothing is asked about them).
    """
    import pandas as pd

    scores = free if scores is None else scores
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


def _free(scores: Tensor, histories: list[History], seen_filter: bool) -> Tensor:
    """The scores with what each user has met at -inf, if the filter is on."""
    if not seen_filter:
        return scores
    free = scores.clone()
    for row, history in enumerate(histories):
        free[row, history.items] = -torch.inf
        free[row, history.earlier] = -torch.inf
    return free


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
