"""How many items the lists of several systems share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

ROWS = 1024
"""Lists that are compared at a time."""


def shared_items(lists: Mapping[str, Tensor]) -> pd.DataFrame:
    """The number of items that two systems both list for a user, as a mean over users: a row and a column per system.

    lists: (Q, k) the items of each system for the same users, each item once, 0 = none. The diagonal has the mean
    lengths of the lists.
    """
    import pandas as pd

    names = list(lists)
    shared = pd.DataFrame(0.0, index=names, columns=names)
    for a, first in enumerate(names):
        for second in names[a:]:
            pairs = zip(lists[first].split(ROWS), lists[second].split(ROWS), strict=True)
            count = sum(int(((x[:, :, None] == y[:, None]) & (x[:, :, None] > 0)).sum()) for x, y in pairs)
            shared.loc[first, second] = shared.loc[second, first] = count / max(len(lists[first]), 1)
    return shared
