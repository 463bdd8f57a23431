"""Rules for items with equal tuples: every result of a generative system depends on the choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

CollisionRule = Literal["index", "reassign", "popularity", "none"]


def resolve(
    codes: np.ndarray,
    sizes: tuple[int, ...],
    how: CollisionRule = "index",
    *,
    vectors: np.ndarray | None = None,
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
    popularity: np.ndarray | None = None,
    most: int | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, tuple[int, ...], str]:
    """Tuples (n, C) made unique, or not: new codes, new sizes, and a sentence on it.

    how: "index" appends a column (also where none is needed: C + 1 levels) that numbers the items of a tuple,
        in random order (item numbers often follow the time of the first event, which would leak); "popularity"
        numbers them from the most popular, by counts `popularity` (n,) of training events (MMGRec);
        "reassign" moves all but the nearest item of a tuple to the nearest free codes of the last level,
        chosen together (needs `vectors` (n, d) and the tokenizer's `decode`; a prefix with more items than
        codes keeps collisions); "none" leaves them, and an answer is a whole bucket.
    most: codes that an appended column may have at most. Where more items share a tuple, the others move to the
        nearest tuples with the same prefix that have room, as far as there is any (needs `decode`).
    Raises ValueError for another `how` or what is missing for it.
    """
    if how not in get_args(CollisionRule):
        raise ValueError(f"collisions are resolved by one of {', '.join(get_args(CollisionRule))} (got {how!r}).")
    codes = np.asarray(codes, dtype=np.int64)
    groups = _groups(codes)
    colliding = int((np.bincount(groups)[groups] > 1).sum())
    before = f"{colliding:,} of {len(codes):,} items shared their tuple with another"
    if how == "none":
        return codes, sizes, f"Collisions are left: {before}."
    if how == "reassign":
        if vectors is None or decode is None:
            raise ValueError("resolve='reassign' needs the vectors and the tokenizer's decode.")
        codes = _reassigned(codes, sizes[-1], groups, vectors, decode)
        after = _groups(codes)
        left = int((np.bincount(after)[after] > 1).sum())
        return (
            codes,
            sizes,
            f"Collisions moved to the nearest free code of the last level: {before}, now {left:,} do.",
        )
    order, moved = np.random.default_rng(seed).permutation(len(codes)), ""
    if how == "popularity":
        if popularity is None or len(popularity) != len(codes):
            raise ValueError(f"resolve='popularity' needs one training count per item ({len(codes):,}).")
        order = order[np.argsort(-np.asarray(popularity)[order], kind="stable")]
    place = _place_in_group(groups, order)
    if most is not None and (surplus := place >= most).any():
        codes = _move_surplus(codes, sizes[-1], groups, surplus, most, decode)
        place = _place_in_group(_groups(codes), order)
        moved = f" {surplus.sum():,} beyond {most:,} items of a tuple moved to the nearest tuples with room."
    size = int(place.max()) + 1
    by = "popularity" if how == "popularity" else "a random order"
    return (
        np.column_stack([codes, place]),
        (*sizes, size),
        f"Collisions distinguished by an extra column of {size:,} codes, by {by}: {before}.{moved}",
    )


def _groups(codes: np.ndarray) -> np.ndarray:
    """A number per row, equal for equal rows."""
    at = np.zeros(len(codes), dtype=np.int64)
    for column in codes.T:
        at = np.unique(at * (int(column.max()) + 1) + column, return_inverse=True)[1]
    return at


def _place_in_group(groups: np.ndarray, order: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each group, in the given order of the rows."""
    by_group = order[np.argsort(groups[order], kind="stable")]
    counts = np.bincount(groups)
    starts = np.cumsum(counts) - counts
    place = np.empty(len(groups), dtype=np.int64)
    place[by_group] = np.arange(len(groups)) - starts[groups[by_group]]
    return place


def _move_surplus(
    codes: np.ndarray, size: int, groups: np.ndarray, surplus: np.ndarray, most: int, decode: Callable | None
) -> np.ndarray:
    """Codes (n, C) in which the `surplus` (n,) of a tuple has another last code, one with fewer than `most` items."""
    if decode is None:
        raise ValueError("most needs the tokenizer's decode, to find the nearest tuples.")
    codes = codes.copy()
    for group in np.unique(groups[surplus]):  # the few tuples that hold too many
        movers = np.flatnonzero(surplus & (groups == group))
        choices = np.repeat(codes[movers[:1]], size, axis=0)
        choices[:, -1] = np.arange(size)
        points = decode(choices)  # (size, d)
        near = np.argsort(np.linalg.norm(points - points[codes[movers[0], -1]], axis=1), kind="stable")
        beside = (codes[:, :-1] == codes[movers[0], :-1]).all(1)
        room = np.maximum(most - np.bincount(codes[beside, -1], minlength=size), 0)[near].cumsum()
        movers = movers[: room[-1]]
        codes[movers, -1] = near[np.searchsorted(room, np.arange(len(movers)), side="right")]
    return codes


def _reassigned(codes: np.ndarray, size: int, groups: np.ndarray, vectors: np.ndarray, decode: Callable) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    codes = codes.copy()
    error = np.linalg.norm(vectors - decode(codes), axis=1)
    moves = _place_in_group(groups, np.argsort(error, kind="stable")) > 0  # the nearest item keeps the tuple
    prefixes = _groups(codes[:, :-1]) if codes.shape[1] > 1 else np.zeros(len(codes), dtype=np.int64)
    by_prefix = np.argsort(prefixes, kind="stable")
    bounds = np.searchsorted(prefixes[by_prefix], np.arange(prefixes.max() + 2))
    for prefix in np.unique(prefixes[moves]):
        rows = by_prefix[bounds[prefix] : bounds[prefix + 1]]
        movers = rows[moves[rows]]
        free = np.setdiff1d(np.arange(size), codes[rows, -1])
        if not len(free):
            continue
        choices = np.repeat(codes[rows[:1]], len(free), axis=0)
        choices[:, -1] = free
        points = decode(choices)  # (free, d)
        cost = (
            (vectors[movers] ** 2).sum(1)[:, None] - 2 * vectors[movers] @ points.T + (points**2).sum(1)[None]
        )  # (movers, free)
        mover, code = linear_sum_assignment(cost)
        codes[movers[mover], -1] = free[code]
    return codes
