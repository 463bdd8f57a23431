"""Activation patching between two users: the values at one tap are replaced by those of another user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqlab.datasets.history import History
from seqlab.inspection.influence import NAN, compare_rankings, mask_seen, rows_per_pass, scores_of
from seqlab.tracing import Record, Trace, patch, taps, watch

if TYPE_CHECKING:
    import pandas as pd

POSITION_AXES = ("event", "token", "query_event", "query_token")
"""Axes of a tap along which single positions can be replaced."""

STATE_AXES = ("user", "dim")
"""Axes of a tap with one state per user, which is replaced whole."""

KEY_AXES = {"key_event", "key_token"}
"""Axes of attention keys."""

MIN_GAP = 1e-3
"""Smallest difference of two users' log-probabilities (nats) for which `recovered` is computed."""


@dataclass(frozen=True)
class Patched:
    """A user's recommendations with the other user's values at one tap.

    item: the other user's first recommendation (or the requested item); positions: the replaced positions of the tap,
    None if it has no positions. before, after, other: the item's log-probability for the user, for the user with the
    other's values, and for the other; recovered: (after - before) / (other - before), NaN if other - before is near 0.
    ranking: the patched top k compared with the user's, as `influence.rerank` returns it. alignment: how positions of
    histories of different lengths were matched, in a sentence.
    """

    tap: str
    item: int
    positions: tuple[int, ...] | None
    before: float
    after: float
    other: float
    recovered: float
    ranking: pd.DataFrame
    alignment: str


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
    """Recommend to the user of `history` with the values at `tap` replaced by those of `other`.

    tap: a name of `tracing.taps`. positions: along the tap (from 0, or from the end: -1) to replace; None: all that the
    other has a value for. Histories are aligned at their ends: the last position takes the other's last. Attention
    weights of a longer other are computed from its most recent events, as many as the user has; weights of a shorter
    one are 0 at the missing keys. One patched pass, and two to record (three for a longer other). Raises `KeyError` for
    an unknown tap, `ValueError` for a tap that scoring does not pass, a position without a counterpart, and a system
    without `score`.
    """
    pair = _Pair(model, history, other, item, seen_filter)
    if tap not in taps(model):
        raise KeyError(f"no tap is called {tap!r}; this model has: {', '.join(taps(model)) or 'none'}")
    mine = pair.record(tap)
    chosen = None
    if (axis_at := _position_axis(mine)) is not None:
        width, matched = mine.values.shape[axis_at], pair.matched(tap)
        chosen = matched if positions is None else [at + width if at < 0 else at for at in positions]
        if missing := [at for at in chosen if at not in matched]:
            raise ValueError(
                f"position {missing[0]} of {tap} has no counterpart; there are {matched[0]} to {matched[-1]}"
            )
    elif positions is not None:
        raise ValueError(f"{tap} has no positions (axes: {', '.join(mine.axes)}); omit `positions` to replace it whole")
    scores = pair.scores(tap, [chosen])[0]
    both = torch.stack([pair.own, scores])
    after = float(scores.log_softmax(0)[pair.item])
    return Patched(
        tap, pair.item, None if chosen is None else tuple(chosen), pair.before, after, pair.goal, pair.share(after),
        compare_rankings(mask_seen(both, [pair.history] * 2, seen_filter), k, both), pair.alignment,
    )  # fmt: skip


def tracing_grid(
    model: nn.Module, history: History, other: History, item: int | None = None, seen_filter: bool = False
) -> pd.DataFrame:
    """Replace one position of one tap at a time, to find where the model holds the difference of two users.

    Causal tracing (Meng et al., "Locating and Editing Factual Associations in GPT", 2022) between two users. One row
    per tap and position, in the model's order: tap, kind, position (along the tap, from 0), from_end (0 = last; an axis
    may count codes rather than events), log_probability (of the item), recovered: as in `patched`. A tap with one state
    per user has one row. attrs: item, before, other, alignment, and left_out: the other taps without positions, those
    that scoring does not pass, and those that it passes with tensors of several shapes. One pass per tap, all positions
    in one batch, besides the passes to record.
    """
    import pandas as pd

    pair = _Pair(model, history, other, item, seen_filter)
    rows, left_out = [], []
    for tap in taps(model):
        try:
            mine = pair.record(tap)
        except ValueError:
            mine = None
        axis_at = None if mine is None else _position_axis(mine)
        if mine is None or (axis_at is None and mine.axes != STATE_AXES):
            left_out.append(tap)
            continue
        width, matched, chosen = 1, range(1), [None]
        if axis_at is not None:
            width, matched = mine.values.shape[axis_at], pair.matched(tap)
            chosen = [[at] for at in matched]
        try:
            found = pair.scores(tap, chosen).log_softmax(1)[:, pair.item].tolist()
        except ValueError:
            left_out.append(tap)
            continue
        rows += [
            (tap, mine.kind, at, width - 1 - at, log_p, pair.share(log_p))
            for at, log_p in zip(matched, found, strict=True)
        ]
    frame = pd.DataFrame(rows, columns=["tap", "kind", "position", "from_end", "log_probability", "recovered"])
    frame.attrs |= {
        "item": pair.item, "before": pair.before, "other": pair.goal, "alignment": pair.alignment, "left_out": left_out,
    }  # fmt: skip
    return frame


def has_positions(model: nn.Module, tap: str) -> bool:
    """Whether single positions of a tap can be replaced."""
    return bool({*POSITION_AXES} & {*taps(model)[tap].axes})


class _Pair:
    """Two users before a patch: the scores and the recorded taps of each."""

    def __init__(self, model: nn.Module, history: History, other: History, item: int | None, seen_filter: bool) -> None:
        longest = model.config.max_length
        self.model, self.history = model, history if longest is None else history.last(longest)
        other = other if longest is None else other.last(longest)
        with watch(model) as self.mine:
            self.own = scores_of(model, [self.history])[0]  # (N + 1,)
        with watch(model) as self.theirs:
            target = scores_of(model, [other])  # (1, N + 1)
        self.recent = self.theirs
        if len(other) > len(self.history):
            with watch(model) as self.recent:
                scores_of(model, [other.last(len(self.history))])
        self.item = int(mask_seen(target, [other], seen_filter)[0].argmax()) if item is None else item
        if not 0 < self.item < len(self.own):
            raise ValueError(f"there is no item {self.item}; the catalogue has 1 to {len(self.own) - 1}")
        self.before, self.goal = (float(row.log_softmax(0)[self.item]) for row in (self.own, target[0]))
        lengths = len(self.history), len(other)
        self.alignment = f"both histories have {lengths[0]} events: each position takes the value of the same position"
        if lengths[0] != lengths[1]:
            self.alignment = (
                f"the user's {lengths[0]} events and the other's {lengths[1]} are aligned at the end; events before "
                f"the last {min(lengths)} have no counterpart"
            )

    def record(self, tap: str) -> Record:
        """The user's values at the tap; `ValueError` if there are none."""
        return _recorded(self.mine, tap)

    def given(self, tap: str) -> Record:
        """The other's values at the tap; for attention those of as many recent events as the user has.

        Weights on older events have no position here, and may be the whole mass.
        """
        return _recorded(self.recent if KEY_AXES & set(self.record(tap).axes) else self.theirs, tap)

    def matched(self, tap: str) -> range:
        """The positions along the tap that have a counterpart for the other user."""
        mine, theirs = self.record(tap), self.given(tap)
        axis_at = _position_axis(mine)
        width = mine.values.shape[axis_at]
        return range(width - min(width, theirs.values.shape[axis_at]), width)

    def share(self, log_p: float) -> float:
        """The share of the gap between the two users' log-probabilities that `log_p` has closed."""
        gap = self.goal - self.before
        return NAN if abs(gap) < MIN_GAP else (log_p - self.before) / gap

    def scores(self, tap: str, chosen: list[list[int] | None]) -> Tensor:
        """Scores (R, N + 1) of the user with the other's values at these positions of the tap, one list per row.

        None replaces the whole tap.
        """
        found, rows = [], rows_per_pass(self.model, len(self.history))
        for first in range(0, len(chosen), rows):
            some = chosen[first : first + rows]
            with patch(self.model, {tap: self._replacing(tap, some)}):
                found.append(scores_of(self.model, [self.history] * len(some)))
        return torch.cat(found)

    def _replacing(self, tap: str, chosen: list[list[int] | None]) -> Callable[[Tensor], Tensor]:
        mine, theirs = self.record(tap), self.given(tap)
        aligned, axis_at = _aligned(theirs, mine, tap), _position_axis(mine)

        def replace(x: Tensor) -> Tensor:
            if x.shape != (len(chosen), *aligned.shape):
                raise ValueError(f"{tap} passes more than one kind of tensor in one pass, so it cannot be patched")
            given = aligned.to(x)
            if axis_at is None:
                return given.expand_as(x)
            replaced = torch.zeros(len(chosen), x.shape[axis_at], dtype=torch.bool)
            for row, positions in enumerate(chosen):
                replaced[row, positions] = True
            shape = [len(chosen), *(size if axis == axis_at else 1 for axis, size in enumerate(x.shape) if axis)]
            return torch.where(replaced.view(shape).to(x.device), given, x)

        return replace


def _recorded(trace: Trace, tap: str) -> Record:
    try:
        return trace[tap].passes[-1]
    except KeyError as error:
        raise ValueError(f"nothing passes {tap} when this system scores a history, so it cannot be patched") from error


def _position_axis(record: Record) -> int | None:
    """The dimension of a tap that holds its positions; None if there is none."""
    return next((at for at, axis in enumerate(record.axes) if axis in POSITION_AXES), None)


def _aligned(theirs: Record, mine: Record, tap: str) -> Tensor:
    """The other's values in the user's shape (without the user axis), aligned at the end, else zeros."""
    aligned = torch.zeros(mine.values.shape[1:])
    to, source = [], []
    for axis, size, given in zip(mine.axes[1:], aligned.shape, theirs.values.shape[1:], strict=True):
        if size != given and axis not in (*POSITION_AXES, *KEY_AXES):
            raise ValueError(f"{tap} has size {size} along {axis} for one user and {given} for the other")
        both = min(size, given)
        to.append(slice(size - both, None))
        source.append(slice(given - both, None))
    aligned[tuple(to)] = theirs.values[0][tuple(source)]
    return aligned
