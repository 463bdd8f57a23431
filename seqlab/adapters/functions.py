"""A function from histories to scores as a system: batched, cached, with a progress bar where it is slow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from cachetools import LRUCache
from torch import Tensor, nn

from seqlab import tracing
from seqlab.contracts import Ranking
from seqlab.ranking import top
from seqlab.runtime.modules import device_of, evaluating
from seqlab.runtime.progress import interactive
from seqlab.runtime.settings import settings
from seqlab.runtime.text import DataError

if TYPE_CHECKING:
    import numpy as np

    from seqlab.datasets.sequences import Batch

    Score = Callable[..., Tensor | np.ndarray]

SLOW = 2.0
"""Seconds after which a progress bar is shown."""


@settings
class Config:
    """The settings of a wrapped function, as tables show them."""

    name: str = "mine"
    max_length: int = 50
    padding: Literal["right", "left"] = "right"


def wrap(
    score: Score,
    name: str = "mine",
    max_length: int = 50,
    *,
    module: nn.Module | None = None,
    numbering: Tensor | np.ndarray | list[int] | None = None,
    padding: Literal["right", "left"] = "right",
    batch_size: int = 256,
    cache_mb: float = 64,
) -> ScoringFunction:
    """A function that scores the whole catalogue, as a system.

    `run = seqlab.open_model(wrap(score), split)` makes it a run in memory for every widget of a system that scores, as
    `widgets.HistoryEditor(run, split)`, `widgets.Workbench([run, other], split)` and `widgets.CompareSystems`, and for
    tables, as `evaluation.intervals(run.outcome)` and `evaluation.compare(run.outcome, other.outcome)`.

    score(items) is given histories of item ids, an int64 tensor (B, T), oldest event first, padded with 0, and returns
    the scores of the next item: finite numbers (B, N + 1) with a column for the padding, or (B, N) without, in a tensor
    or a NumPy array. A function with a parameter `times` is called as score(items, times=times), with unix seconds
    (B, T) float64, NaN = unknown, 0 at padding. The scores of a history must not depend on the other rows, nor change
    from call to call: they are cached. The ids are those of the log, whose `items["item_id"]` has those of the source.

    max_length: how many of the most recent events it is given. module: the module that computes the scores (default:
    `score` itself, or the object of which it is a method, if that is a module); its taps are found, its device is used,
    and it is in evaluation mode. numbering: (N + 1,) the id of each item in the function's own catalogue, 0 for the
    padding and for items that it does not know; histories and columns of scores then have these ids. Unknown items are
    left out of histories, and have the lowest score of their row. padding: "left" for rows that end with the last event
    and always have `max_length` columns. batch_size: the most rows per call. cache_mb: the size of the cache in
    megabytes (10^6 bytes), 0 = none.
    Raises `ValueError` for an argument that cannot be used.
    """
    if not callable(score):
        raise ValueError(f"wrap takes a function, score(items) -> scores of all items (got {type(score).__name__}).")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1 (got {batch_size}).")
    if not cache_mb >= 0:
        raise ValueError(f"cache_mb must be at least 0 (got {cache_mb}).")
    config = Config(name, max_length, padding)
    if config.max_length < 1:
        raise ValueError(f"max_length must be at least 1 (got {max_length}).")
    if module is None:
        owner = getattr(score, "__self__", score)
        module = owner if isinstance(owner, nn.Module) else None
    function = score.__call__ if isinstance(score, nn.Module) else score
    timed = "times" in _parameters(score.forward if isinstance(score, nn.Module) else score)
    own = None if numbering is None else _checked(torch.as_tensor(numbering), name)
    return ScoringFunction(function, config, timed, module, own, batch_size, int(cache_mb * 1e6))


class ScoringFunction(nn.Module):
    """A function of histories as a system with `score` and `recommend`; made by `wrap`.

    n_items: the number of items N, set by `bind`; while it is None, the function is taken to return (B, N + 1). calls,
    scored: how often the function was called, and on how many histories in all.
    """

    def __init__(
        self,
        function: Score,
        config: Config,
        timed: bool,
        module: nn.Module | None,
        numbering: Tensor | None,
        batch_size: int,
        cache_bytes: int,
    ) -> None:
        super().__init__()
        self.config, self.name, self.batch_size = config, config.name, batch_size
        self.module = module
        self.n_items = None if numbering is None else len(numbering) - 1
        self.calls = self.scored = 0
        self._function, self._timed, self._numbering = function, timed, numbering
        history = 16 * config.max_length  # bytes of the items and the times in a key, at most
        self._cache = LRUCache(cache_bytes, getsizeof=lambda row: row.nbytes + history)
        self._cached_weights: object = None
        self._bar = None
        if config.padding == "right" and (numbering is None or bool(numbering[1:].all())):
            self.layout = None  # the tokens are the events of the batch

    def bind(self, n_items: int) -> None:
        """Set the number of items. Raises `ValueError` for another one than the numbering's, or than before."""
        if self.n_items not in (None, n_items):
            raise DataError(
                f"{self.name} is of {self.n_items:,} items, but this split has {n_items:,}; wrap the function again "
                "for this split."
            )
        self.n_items = n_items

    def score(self, batch: Batch) -> Tensor:
        """The scores (B, N + 1) of the catalogue.

        A history is not scored again while it is in the cache, unless a tap is watched or patched, or gradients are
        computed. Raises `ValueError` for a result of another shape, and for scores that are not finite.
        """
        if self._bar is not None or self._differentiates or any(tap.active for tap in tracing.taps(self).values()):
            return self._scores(batch)
        self._renew_cache()
        keys = self._keys(batch)
        known = {key: self._cache.get(key) for key in keys}
        new = {key: row for row, key in enumerate(keys) if known[key] is None}
        if new:
            rows = torch.tensor([*new.values()], device=batch.items.device)
            known |= zip(new, self._scores(batch.select(rows)), strict=True)
        scores = torch.stack([known[key] for key in keys])  # (B, N + 1)
        for key in new:
            if self._cache.getsizeof(known[key]) <= self._cache.maxsize:
                self._cache[key] = known[key].detach().clone()  # not a view of the whole batch
        return scores

    def recommend(self, batch: Batch, k: int) -> Ranking:
        return top(self.score(batch), k)

    def layout(self, batch: Batch) -> tracing.Layout:
        """The tokens of the rows that the function is given: events, and padding before or after them."""
        items, _, position = self._inputs(batch)
        kind = torch.where(items > 0, tracing.KINDS.index("event"), tracing.KINDS.index("padding"))
        last = position == position.amax(1, keepdim=True)
        return tracing.Layout(items, torch.full_like(items, -1), kind, position, last & (items > 0))

    @contextmanager
    def measured(self, histories: int | None = None) -> Iterator[None]:
        """Scores do not go through the cache; one progress bar over all of them, so many `histories` if it is known."""
        with self._progress(histories) as self._bar:
            try:
                yield
            finally:
                self._bar = None

    @property
    def _differentiates(self) -> bool:
        return torch.is_grad_enabled() and self.module is not None

    def _scores(self, batch: Batch) -> Tensor:
        """The scores (B, N + 1) of all rows, `batch_size` at a time."""
        if self._bar is None:
            with self._progress(len(batch)) as bar:
                return self._in_parts(batch, bar)
        return self._in_parts(batch, self._bar)

    def _in_parts(self, batch: Batch, bar: Any) -> Tensor:
        parts = []
        with torch.set_grad_enabled(self._differentiates), evaluating(self):
            for rows in torch.arange(len(batch), device=batch.items.device).split(self.batch_size):
                parts.append(self._call(batch.select(rows)))
                bar.update(len(rows))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _call(self, batch: Batch) -> Tensor:
        """One call of the function, and its result as (B, N + 1) on the batch's device."""
        items, times, _ = self._inputs(batch)
        device = device_of(self)
        own = items if self._numbering is None else self._numbering.to(items.device)[items]
        given = {"times": times.to(device)} if self._timed else {}
        found = self._function(own.to(device), **given)
        self.calls, self.scored = self.calls + 1, self.scored + len(items)
        scores = self._columns(self._tensor(found, items), items).to(items.device)  # (B, N + 1)
        if not bool(scores.sum().isfinite()) and not bool(scores.isfinite().all()):  # a sum reads them once
            raise ValueError(
                f"{self.name} gave scores that are not finite numbers (NaN or infinite); return a very low number for "
                "an item that may not be recommended."
            )
        return scores

    def _tensor(self, found: Any, items: Tensor) -> Tensor:
        try:
            scores = torch.as_tensor(found)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"{self.name} must return a tensor or a NumPy array of scores (got {type(found).__name__})."
            ) from None
        if scores.dtype == torch.bool or scores.is_complex():
            raise ValueError(f"{self.name} must return numbers as scores (got {scores.dtype}).")
        if scores.dim() != 2 or len(scores) != len(items):
            raise self._shape(scores, items)
        return scores if scores.dtype in (torch.float32, torch.float64) else scores.to(
            torch.float32 if scores.is_floating_point() else torch.float64
        )  # fmt: skip

    def _columns(self, scores: Tensor, items: Tensor) -> Tensor:
        """The columns of our items: (B, N + 1), in a new tensor, with 0 for the padding."""
        width = scores.shape[1]
        if self._numbering is not None:
            own = self._numbering.to(scores.device)
            if width <= int(own.max()):
                raise ValueError(
                    f"{self.name} returned {width:,} columns of scores, but its numbering goes up to {int(own.max()):,}"
                    " (from 0, the padding)."
                )
            least = scores[:, own[own > 0]].amin(1, keepdim=True)
            scores = torch.where(own > 0, scores[:, own], least)  # (B, N + 1)
        elif self.n_items is None or width == self.n_items + 1:
            scores = scores.clone()
        elif width == self.n_items:
            scores = torch.cat([scores.new_zeros(len(scores), 1), scores], 1)  # (B, N + 1)
        else:
            raise self._shape(scores, items)
        scores[:, 0] = 0.0
        return scores

    def _shape(self, scores: Tensor, items: Tensor) -> ValueError:
        rows, n = len(items), self.n_items
        wanted = f"({rows}, N + 1) or ({rows}, N)" if n is None else f"({rows}, {n + 1}) or ({rows}, {n})"
        return ValueError(
            f"{self.name} must return scores {wanted}, one row per history and one column per item, for items "
            f"{tuple(items.shape)} (got {tuple(scores.shape)})."
        )

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Items and times (B, T) as the function is given them, and their positions in the batch, -1 = padding."""
        longest, left = self.config.max_length, self.config.padding == "left"
        known = batch.items > 0
        if self._numbering is not None:
            known = self._numbering.to(batch.items.device)[batch.items] > 0
        order, count = known.int().argsort(dim=1, descending=True, stable=True), known.sum(1)  # (B, T), (B,)
        lengths = count.clamp(max=longest)
        width = longest if left else max(int(lengths.max()), 1)
        place = torch.arange(width, device=lengths.device) - (width - lengths[:, None]) * left  # (B, T)
        valid = (place >= 0) & (place < lengths[:, None])
        position = order.gather(1, (place + (count - lengths)[:, None]).clamp(0, order.shape[1] - 1))  # (B, T)
        items, times = (part.gather(1, position).masked_fill(~valid, 0) for part in (batch.items, batch.times))
        return items, times, position.masked_fill(~valid, -1)

    def _keys(self, batch: Batch) -> list[bytes]:
        """What the scores of each row depend on: the bytes of its items, and of its times if the function has them."""
        items, times, position = (part.cpu().numpy() for part in self._inputs(batch))
        valid = position >= 0
        keys = [row[own].tobytes() for row, own in zip(items, valid, strict=True)]
        if self._timed:
            keys = [key + row[own].tobytes() for key, row, own in zip(keys, times, valid, strict=True)]
        return keys

    def _renew_cache(self) -> None:
        """Empty the cache if a tensor of the module was replaced or modified in place."""
        tensors = [*self.parameters(), *self.buffers()]
        weights = tuple((id(one), 0 if one.is_inference() else one._version) for one in tensors)
        if weights != self._cached_weights:
            self._cache.clear()
            self._cached_weights = weights

    def _progress(self, histories: int | None) -> Any:
        from tqdm.auto import tqdm

        words = {"desc": self.name, "unit": " histories"}
        return tqdm(total=histories, delay=SLOW, leave=False, disable=not interactive(), **words)


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the parameters of a function; () where they are unknown, as of some built-in ones."""
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def _checked(numbering: Tensor, name: str) -> Tensor:
    """The numbering as int64. Raises `ValueError` unless it is (N + 1,), 0 first, then different ids, or 0."""
    whole = numbering.dim() == 1 and not numbering.is_floating_point() and numbering.dtype != torch.bool
    known = numbering[numbering > 0] if whole else numbering
    if not whole or not len(known) or int(numbering[0]) or int(numbering.min()) or len(known.unique()) < len(known):
        raise ValueError(
            f"the numbering of {name} must be whole numbers (N + 1,): 0 for the padding, then for each item of the log "
            "an id from 1 that no other item has, or 0 where there is none (got "
            f"{str(numbering.dtype).removeprefix('torch.')} {tuple(numbering.shape)})."
        )
    return numbering.long()
