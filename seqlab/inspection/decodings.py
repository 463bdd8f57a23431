"""Several decodings side by side: the list of each for one user, what the lists share, how far each is from the law.

The law is the probability of every item when a tuple is drawn code by code along the tree of the catalogue
(`decoding.law`); it does not depend on a decoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqlab import decoding
from seqlab.ranking import check_k
from seqlab.runtime.modules import evaluating

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from seqlab.datasets.sequences import Batch
    from seqlab.decoding import Decoding

DISTANCE = (
    "Distance to the exact law: total variation, half the sum over all items of |its share by the decoding - its "
    "probability|. Drawn items have the share of the draws, those that a search found their probability, scaled to a "
    "sum of 1. The mark is the distance of as many draws from the law itself, by chance alone."
)
"""The definition of `Decodings.measures["distance"]`."""


@dataclass(frozen=True)
class Decodings:
    """The first k items of one user by several decodings.

    lists: columns decoding, rank, item, probability (of the item under the law), exact_rank (the place if all items are
    scored). overlap: how many items the lists of two decodings share, a row and a column per decoding.
    measures: a row per decoding: items (of the list), held (probability of its items), distance (see DISTANCE), noise
    (the distance that as many draws from the law itself have on average; NaN for a search), codes (different first
    codes in the list), categories (different ones in it; NaN without a column of categories).
    """

    lists: pd.DataFrame
    overlap: pd.DataFrame
    measures: pd.DataFrame


@torch.no_grad()
def decodings(
    model: nn.Module, batch: Batch, chosen: Mapping[str, Decoding], k: int = 10, categories: Tensor | None = None
) -> Decodings:
    """The lists of the first user of a batch by the decodings `chosen`, by name.

    categories: (N + 1, G) of the items, 0 = none, as `items.categories.categories_of` has them.
    """
    import pandas as pd

    k, batch, trie = check_k(k), batch.select(torch.arange(1, device=batch.user.device)), model.ids.book.trie
    with evaluating(model):
        law = decoding.law(model, batch)[0].cpu()  # (N + 1,)
        scores = decoding.scores(model, batch)[0].float().cpu()
        scores[0] = -torch.inf
        exact_rank = torch.searchsorted((-scores).sort().values, -scores) + 1  # (N + 1,)
        items, rows = {}, {}
        for name, one in chosen.items():
            items[name], share, draws = _list_and_shares(model, batch, one, k, law)
            listed = items[name]
            codes = trie.to("cpu").path(trie.to("cpu").find(model.ids.book.codes[listed].cpu()))[:, 0]
            seen = torch.zeros(0) if categories is None else categories[listed]
            rows[name] = {
                "items": len(listed), "held": float(law[listed].sum()),
                "distance": float((share - law).abs().sum() / 2), "noise": noise(law.numpy(), draws),
                "codes": len(codes.unique()),
                "categories": float("nan") if categories is None else len(seen[seen > 0].unique()),
            }  # fmt: skip
    lists = pd.concat([
        pd.DataFrame({"decoding": name, "rank": range(1, len(one) + 1), "item": one.tolist(),
                      "probability": law[one].numpy(), "exact_rank": exact_rank[one].numpy()})
        for name, one in items.items()
    ], ignore_index=True)  # fmt: skip
    shared = [[len(set(a.tolist()) & set(b.tolist())) for b in items.values()] for a in items.values()]
    overlap = pd.DataFrame(shared, index=[*items], columns=[*items])
    return Decodings(lists, overlap, pd.DataFrame.from_dict(rows, orient="index"))


def noise(law: np.ndarray, draws: int) -> float:
    """The average total variation between a law and the shares of `draws` draws from it; NaN for no draws.

    The mean absolute deviation of a binomial count is 2 m (1 - p) P(count = m) with m = floor(n p) + 1 (de Moivre).
    """
    from scipy.stats import binom

    if not draws:
        return float("nan")
    most = np.floor(draws * law) + 1
    return float((most * (1 - law) * binom.pmf(most, draws, law)).sum() / draws)


def _list_and_shares(model: nn.Module, batch: Batch, one: Decoding, k: int, law: Tensor) -> tuple[Tensor, Tensor, int]:
    """The items of the list, the share (N + 1,) of every item by this decoding, and the number of draws (0: none)."""
    from seqlab.decoding.settings import resolve

    one = resolve(model, one)
    if one.method == "exact":
        return decoding.recommend(model, batch, k, one).items[0].cpu(), law, 0
    if one.method in ("sample", "typical"):
        drawn = decoding.draw(model, batch, one)
        beams, share, count = drawn.beams(), drawn.shares()[0].cpu(), one.draws
    else:
        beams, count = decoding.found(model, batch, one), 0
        every = beams.ranking(len(law) - 1).items[0].cpu()
        share = torch.zeros_like(law).index_fill(0, every[every > 0], 1.0) * law
        share = share / share.sum()
    listed = beams.items(k)[0][0].cpu()
    return listed[listed > 0], share, count
