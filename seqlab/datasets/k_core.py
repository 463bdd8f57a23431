"""The k-core of a log: users and items with few events are dropped until none is left."""

from __future__ import annotations

import numpy as np

from seqlab.datasets.log import InteractionLog
from seqlab.runtime.text import DataError


def k_core(log: InteractionLog, users: int = 5, items: int = 5) -> InteractionLog:
    """The k-core of a log: iteratively drop users with fewer than `users` events and items with fewer than `items`.

    A note counts what was dropped. Raises `DataError` if nothing is left.
    """
    user, item = log.events["user"].to_numpy(), log.events["item"].to_numpy()
    kept = np.ones(len(user), dtype=bool)
    while True:
        active = np.bincount(user[kept], minlength=log.n_users + 1) >= users
        popular = np.bincount(item[kept], minlength=log.n_items + 1) >= items
        smaller = kept & active[user] & popular[item]
        if smaller.sum() == kept.sum():
            break
        kept = smaller
    if not kept.any():
        raise DataError(f"{log.name}: no event is left after the {users}/{items}-core filter. Lower the limits.")
    note = (
        f"k-core (users >= {users}, items >= {items} events) dropped {int((~kept).sum()):,} events, "
        f"{log.n_users - len(np.unique(user[kept])):,} users and {log.n_items - len(np.unique(item[kept])):,} items."
    )
    return log.select(kept, note)
