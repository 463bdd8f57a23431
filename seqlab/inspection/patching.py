"""Activation patching between two users: what one model part knew of the other user, put in place of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.datasets.history import History
from seqlab.inspection.influence import changed, free_of, rows_at_once, scores_of
from seqlab.tracing import Record, Trace, patch, taps, watch

if TYPE_CHECKING:
    import pandas as pd

ROWS = ("event", "token", "query_event", "query_token")
"""Axes of a tap along which single places can be replaced."""

KEYS = {"key_event", "key_token"}
"""Axes of what is looked at."""

SMALLEST_GAP = 1e-3
"""Nats between two users' log-probabilities below which no share of the way is told."""


@dataclass(frozen=True)
class Patched:
    """A user's recommendations with the other user's values at one tap.

    item: what the other is recommended first (or the item asked for); positions: the places of the tap that were
    replaced, None where it has no positions. before, after, other: the item's log-probability for the user, for the
    user with the other's values, and for the other; recovered: the share of the way from `before` to `other` (1: all
    of it, NaN where there is none to go). ranking: the patched top k against the user's own, as `influence.rerank`
    has it. told: how positions of histories of different lengths were matched.
    """

    tap: str
    item: int
    positions: tuple[int, ...] | None
    before: float
    after: float
    other: float
    recovered: float
    ranking: pd.DataFrame
    told: str


def patched(
    model: nn.Module,
    history: History,
    other: History,
    tap: str,
    positions: list[int] | None = None,
    item: int | None = None,
    k: int = 10,
    seen_filter: bool = False,
) -> Patched:
    """Recommend to the user of `history`, with what passes `tap` replaced by what passes it for `other`.

    tap: a name of `tracing.taps`. positions: places along the tap (from 0, or from the end: -1) to replace; None: all
    that the other has a value for. Histories are matched at their ends: the last position takes the other's last.
    Attention of a longer other is that among its last events, as many as the user has; that of a shorter one looks at
    nothing further back. One patched pass, and two to watch (three for a longer other). Raises `KeyError` for an
    unknown tap, `ValueError` for a tap that scoring does not pass, a position without a counterpart, and a system that
    scores nothing.
    """
    pair = _Pair(model, history, other, item, seen_filter)
    if tap not in taps(model):
        raise KeyError(f"no tap is called {tap!r}; this model has: {', '.join(taps(model)) or 'none'}")
    mine = pair.record(tap)
    chosen = None
    if (along := _along(mine)) is not None:
        width, matched = mine.values.shape[along], pair.matched(tap)
        chosen = matched if positions is None else [at + width if at < 0 else at for at in positions]
        if missing := [at for at in chosen if at not in matched]:
            raise ValueError(
                f"position {missing[0]} of {tap} has no counterpart; there are {matched[0]} to {matched[-1]}"
            )
    elif positions is not None:
        raise ValueError(f"{tap} has no positions (its axes: {', '.join(mine.axes)}); it can be replaced as a whole")
    scores = pair.scores(tap, [chosen])[0]
    both = torch.stack([pair.own, scores])
    after = float(scores.log_softmax(0)[pair.item])
    return Patched(
        tap, pair.item, None if chosen is None else tuple(chosen), pair.before, after, pair.goal, pair.share(after),
        changed(free_of(both, [pair.history] * 2, seen_filter), k, both), pair.told,
    )  # fmt: skip


def tracing_grid(
    model: nn.Module, history: History, other: History, item: int | None = None, seen_filter: bool = False
) -> pd.DataFrame:
    """Every position of every tap replaced alone: which part, and where, carries what sets the other user apart.

    The causal tracing of Meng et al. ("Locating and Editing Factual Associations in GPT", 2022), between two users.
    One row per tap and position, in the model's order: tap, kind, position (along the tap, from 0),
    from_end (0 = last; an axis may count codes rather than events), log_probability (of the item), recovered: as in
    `patched`, to which each row is equal. attrs has item, before, other, told, and left_out: the taps without
    positions, those that scoring does not pass, and those that it passes with several kinds of tensors. One pass per
    tap, all its positions at once, besides those to watch.
    """
    import pandas as pd

    pair = _Pair(model, history, other, item, seen_filter)
    rows, left_out = [], []
    for tap in taps(model):
        try:
            mine = pair.record(tap)
        except ValueError:
            mine = None
        if mine is None or (along := _along(mine)) is None:
            left_out.append(tap)
            continue
        width, matched = mine.values.shape[along], pair.matched(tap)
        try:
            found = pair.scores(tap, [[at] for at in matched]).log_softmax(1)[:, pair.item].tolist()
        except ValueError:
            left_out.append(tap)
            continue
        rows += [
            (tap, mine.kind, at, width - 1 - at, log_p, pair.share(log_p))
            for at, log_p in zip(matched, found, strict=True)
        ]
    frame = pd.DataFrame(rows, columns=["tap", "kind", "position", "from_end", "log_probability", "recovered"])
    frame.attrs |= {
        "item": pair.item, "before": pair.before, "other": pair.goal, "told": pair.told, "left_out": left_out,
    }  # fmt: skip
    return frame


class _Pair:
    """Two users before a patch: what each is recommended, and what passes the taps for each."""

    def __init__(self, model: nn.Module, history: History, other: History, item: int | None, seen_filter: bool) -> None:
        longest = model.config.max_length
        self.model, self.history = model, history if longest is None else history.last(longest)
        other = other if longest is None else other.last(longest)
        with watch(model) as self.mine:
            self.own = scores_of(model, [self.history])[0]  # (N + 1,)
        with watch(model) as self.theirs:
            wanted = scores_of(model, [other])  # (1, N + 1)
        self.recent = self.theirs
        if len(other) > len(self.history):
            with watch(model) as self.recent:
                scores_of(model, [other.last(len(self.history))])
        self.item = int(free_of(wanted, [other], seen_filter)[0].argmax()) if item is None else item
        if not 0 < self.item < len(self.own):
            raise ValueError(f"there is no item {self.item}; the catalogue has 1 to {len(self.own) - 1}")
        self.before, self.goal = (float(row.log_softmax(0)[self.item]) for row in (self.own, wanted[0]))
        lengths = len(self.history), len(other)
        self.told = f"both histories have {lengths[0]} events: each position takes the other's of its own place"
        if lengths[0] != lengths[1]:
            self.told = (
                f"the user's {lengths[0]} events and the other's {lengths[1]} are matched at the end, the last with "
                f"the last; what is further back than {min(lengths)} events has no counterpart"
            )

    def record(self, tap: str) -> Record:
        """What passes the tap for the user; `ValueError` if nothing does."""
        return _passed(self.mine, tap)

    def given(self, tap: str) -> Record:
        """What passes it for the other; attention, that of as many recent events as the user has.

        What attention spends further back cannot be placed, and may be all there is.
        """
        return _passed(self.recent if KEYS & set(self.record(tap).axes) else self.theirs, tap)

    def matched(self, tap: str) -> range:
        """The places along the tap that have a counterpart for the other user."""
        mine, theirs = self.record(tap), self.given(tap)
        along = _along(mine)
        width = mine.values.shape[along]
        return range(width - min(width, theirs.values.shape[along]), width)

    def share(self, log_p: float) -> float:
        """How much of the way from the user's log-probability to the other's this one has gone."""
        gap = self.goal - self.before
        return float("nan") if abs(gap) < SMALLEST_GAP else (log_p - self.before) / gap

    def scores(self, tap: str, chosen: list[list[int] | None]) -> Tensor:
        """Scores (R, N + 1) of the user with the other's values at these places of the tap, one choice per row.

        None replaces all of a tap without positions.
        """
        found, rows = [], rows_at_once(self.model, len(self.history))
        for first in range(0, len(chosen), rows):
            some = chosen[first : first + rows]
            with patch(self.model, {tap: self._replacing(tap, some)}):
                found.append(scores_of(self.model, [self.history] * len(some)))
        return torch.cat(found)

    def _replacing(self, tap: str, chosen: list[list[int] | None]) -> Callable[[Tensor], Tensor]:
        mine, theirs = self.record(tap), self.given(tap)
        fitted, along = _fitted(theirs, mine, tap), _along(mine)

        def replace(x: Tensor) -> Tensor:
            if x.shape != (len(chosen), *fitted.shape):
                raise ValueError(f"{tap} passes more than one kind of tensor in one pass, so it cannot be patched")
            given = fitted.to(x)
            if along is None:
                return given.expand_as(x)
            here = torch.zeros(len(chosen), x.shape[along], dtype=torch.bool)
            for row, places in enumerate(chosen):
                here[row, places] = True
            shape = [len(chosen), *(size if axis == along else 1 for axis, size in enumerate(x.shape) if axis)]
            return torch.where(here.view(shape).to(x.device), given, x)

        return replace


def _passed(trace: Trace, tap: str) -> Record:
    try:
        return trace[tap]
    except KeyError as error:
        raise ValueError(f"nothing passes {tap} when this system scores a history, so it cannot be patched") from error


def _along(record: Record) -> int | None:
    """Which axis of a tap has its positions."""
    return next((at for at, axis in enumerate(record.axes) if axis in ROWS), None)


def _fitted(theirs: Record, mine: Record, tap: str) -> Tensor:
    """The other's values in the user's shape (without the user axis), position by position from the end.

    Where the other has none, zeros.
    """
    fitted = torch.zeros(mine.values.shape[1:])
    to, source = [], []
    for axis, size, given in zip(mine.axes[1:], fitted.shape, theirs.values.shape[1:], strict=True):
        if size != given and axis not in (*ROWS, *KEYS):
            raise ValueError(f"{tap} has {size} along {axis} for one user and {given} for the other")
        both = min(size, given)
        to.append(slice(size - both, None))
        source.append(slice(given - both, None))
    fitted[tuple(to)] = theirs.values[0][tuple(source)]
    return fitted
