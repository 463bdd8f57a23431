"""RelatedItems: what can replace an item, what goes with it, and what counting says, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import RelatesItems
from seqlab.datasets.split_names import with_columns
from seqlab.figures.html import Html
from seqlab.figures.theme import label
from seqlab.items.categories import categories_of
from seqlab.items.co_purchases import co_purchases
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import ItemPicker, history_for, titles_of
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

REPLACES, GOES_WITH, COUNTED = "IN·IN: alike", "IN·OUT: goes with it", "PMI: counted"
"""The captions of the three lists."""

MOST_PAIRS = 4000
"""Pairs that are drawn of the whole catalogue."""


@displayed
class RelatedItems:
    """What can replace an item, and what goes with it? Lists by the two tables of a run beside counts of pairs.

    run: of a system with two tables of item vectors (`tables`), such as complements. item: the first item shown, by
    title, id or number; None: the last one of `history`, or of `user`, a number of the log or, as text, an id of the
    source; the most frequent one without them. items: how many the still shows: that one, then the most frequent ones
    of other categories. category: column of the item table, see `items.categories`. support: least baskets of a pair
    for its PMI. seed: of the pairs that `scatter` draws. Scores are cosines. Raises `ValueError` for another system and
    for an unknown item.
    """

    question = "What can replace an item, and what goes with it?"
    needs = (RelatesItems,)
    topic = "Neighbours"

    def __init__(
        self, run: Run, split: Split, user: int | str | None = None, seed: int = 0, history: History | None = None,
        item: int | str | None = None, items: int = 3, k: int = 8, category: str | None = None, support: int = 5,
    ) -> None:  # fmt: skip
        check(self, run)
        self._seed = seed
        self._titles, self._k, self._count, self._items = titles_of(split), check_k(k), items, split.log.items
        self._category, self._names = self._first_category(split, category)
        self._tables = {kind: [_unit(one) for one in run.model.tables(kind)] for kind in ("in_in", "in_out")}
        counted = co_purchases(with_columns(split, ("basket",)).train, split.n_items, support)
        self._pmi, self._frequency = counted.weights("pmi"), counted.items
        if item in (None, "") and (history is not None or user not in (None, "")):
            item = int(history_for(split, run.model, user if history is None else history).items[-1])
        self.item = self._item_of(item)
        self.view = None if in_report() else self._controls()

    def show(self, history: History) -> None:
        """Show the last item of another history."""
        self.pick(int(history.items[-1]))

    def pick(self, item: int) -> None:
        """Show another item."""
        self.item = item
        if self.view is not None:
            self.listed.value = self.lists(item).markup
            redraw(self.figure, self.scatter(item))

    def scores(self, item: int) -> dict[str, Any]:
        """The scores (N + 1,) of all items for one item, by caption; -inf for itself, PMI is 0 where it is unknown."""
        import numpy as np

        found = {}
        for caption, kind in ((REPLACES, "in_in"), (GOES_WITH, "in_out")):
            source, target = self._tables[kind]
            found[caption] = target @ source[item]
        found[COUNTED] = self._pmi[[item]].toarray()[0].astype(np.float64)
        for values in found.values():
            values[[0, item]] = -np.inf
        return found

    def lists(self, item: int) -> Html:
        """The best items by each score."""
        listed = {}
        for caption, values in self.scores(item).items():
            best = (-values).argsort(kind="stable")[: self._k]
            best = best[values[best] > (0 if caption == COUNTED else float("-inf"))]
            listed[caption] = [
                (self._titles[other], float(values[other]), self._chip(other), self._same(item, other))
                for other in best.tolist()
            ]
        return figures.related_items(self._titles[item], self._chip(item), listed)

    def scatter(self, item: int | None = None, seed: int | None = None) -> go.Figure:
        """The two scores of every partner of an item; None: of pairs of the catalogue, drawn at random."""
        if item is not None:
            frame = self._pairs_of(item)
            return figures.pair_scores(frame, REPLACES, GOES_WITH, f"All items beside {label(self._titles[item], 50)}")
        frame = self._random_pairs(self._seed if seed is None else seed)
        caption = f"{len(frame):,} pairs, {frame['same'].sum():,} of one category"
        return figures.pair_scores(frame, REPLACES, GOES_WITH, caption)

    def still(self) -> Html:
        """The lists of some items."""
        return Html("").join(self.lists(item) for item in self._examples())

    def _examples(self) -> list[int]:
        """The chosen item, then the most frequent ones of other categories."""
        shown = [self.item]
        for item in (-self._frequency).argsort(kind="stable").tolist():
            new = self._category[item] not in {self._category[one] for one in shown} or not self._names
            if item and len(shown) < self._count and item not in shown and new:
                shown.append(item)
        return shown

    def _pairs_of(self, item: int) -> pd.DataFrame:
        import numpy as np
        import pandas as pd

        scores = self.scores(item)
        others = np.flatnonzero(self._frequency > 0)
        others = others[(others != item) & (others > 0)]
        return pd.DataFrame({
            "one": self._titles[item], "other": [self._titles[other] for other in others],
            "same": (self._category[others] == self._category[item]) & (self._category[item] > 0),
            **{caption: scores[caption][others] for caption in (REPLACES, GOES_WITH)},
        })  # fmt: skip

    def _random_pairs(self, seed: int) -> pd.DataFrame:
        """Pairs of items that were bought, half of them of one category as far as there are any."""
        import numpy as np
        import pandas as pd

        random, known = np.random.default_rng(seed), np.flatnonzero(self._frequency > 0)
        known = known[known > 0]
        drawn = random.choice(known, (100 * MOST_PAIRS, 2))
        drawn = drawn[drawn[:, 0] != drawn[:, 1]]
        of = self._category[drawn]
        same = (of[:, 0] == of[:, 1]) & (of[:, 0] > 0)
        chosen = np.concatenate([drawn[same][: MOST_PAIRS // 2], drawn[~same][: MOST_PAIRS // 2]])
        columns = {}
        for caption, kind in ((REPLACES, "in_in"), (GOES_WITH, "in_out")):
            source, target = self._tables[kind]
            columns[caption] = (source[chosen[:, 0]] * target[chosen[:, 1]]).sum(1)
        of = self._category[chosen]
        return pd.DataFrame({
            "one": [self._titles[item] for item in chosen[:, 0]],
            "other": [self._titles[item] for item in chosen[:, 1]],
            "same": (of[:, 0] == of[:, 1]) & (of[:, 0] > 0), **columns,
        })  # fmt: skip

    def _first_category(self, split: Split, column: str | None) -> tuple[Any, list[str]]:
        categories, names = categories_of(split.log, column)
        return categories[:, 0].numpy(), names

    def _chip(self, item: int) -> str:
        at = int(self._category[item])
        return self._names[at - 1].lower() if at else ""

    def _same(self, item: int, other: int) -> bool:
        return bool(self._category[item] and self._category[item] == self._category[other])

    def _item_of(self, item: int | str | None) -> int:
        if item is None or item == "":
            return int(self._frequency.argmax())
        if isinstance(item, int):
            found = [item] if 0 < item < len(self._titles) else []
        else:
            wanted = item.casefold()
            for names in (["", *map(str, self._items["title"])], self._titles):
                if found := [at for at, name in enumerate(names) if at and name.casefold() == wanted]:
                    break
            found = found or self._items.index[self._items["item_id"].astype(str) == item].tolist()
        if not found:
            raise ValueError(f"there is no item {item!r}; an example of a title is {self._titles[1]!r}")
        return int(found[0])

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.picker = ItemPicker(self._titles, "an item", self.status.guard(self.pick))
        self.listed = ipywidgets.HTML(self.lists(self.item).markup, layout={"width": "100%"})
        self.figure = interactive_figure(self.scatter(self.item))
        return panel(self.status, self.picker.view, self.listed, self.figure, figure=self.figure)


def _unit(table: Any) -> Any:
    """Rows (N + 1, D) of length 1, as an array."""
    import torch.nn.functional as F

    return F.normalize(table.detach().float().cpu(), dim=1).numpy()
