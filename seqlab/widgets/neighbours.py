"""Neighbours: the nearest items by each run's item vectors, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import ItemVectors
from seqlab.figures.html import Html
from seqlab.inspection import projection
from seqlab.items.vectors import from_model
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, displayed, in_report, panel
from seqlab.widgets.inputs.picking import ItemPicker, history_for, titles_of
from seqlab.widgets.views import checked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selection

MAX_ITEMS = 3
"""The number of items whose neighbours are shown: the last ones of a history, the newest first."""

INTRO = "The nearest items, by the cosine of item vectors"
SEVERAL = " of each run; items that all runs list are bold"


@displayed
class Neighbours:
    """The `k` nearest items, in each run, of a history's last items or of the selected items.

    runs: a run, or several by label. `user` is a number of the log (1..U) or, as text, an id of the source; None: a
    random one. `history`: a History instead of a user. Raises `ValueError` for a system without item vectors.
    """

    question = "Which items are most alike for the system?"
    needs = (ItemVectors,)

    def __init__(
        self,
        runs: Run | Mapping[str, Run],
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        k: int = 8,
        selection: Selection | None = None,
    ) -> None:
        runs = checked(self, runs)
        self._vectors = {label: from_model(run.model) for label, run in runs.items()}
        self._titles, self._k, self.selection = titles_of(split), check_k(k), selection
        first = next(iter(runs.values())).model
        self._set_items(history_for(split, first, user if history is None else history, seed))
        self.view = None if in_report() else self._controls()

    def show(self, history: History) -> None:
        """List the neighbours of another history's last items."""
        self._set_items(history)
        self._draw()

    def pick(self, *items: int) -> None:
        """List the neighbours of these items."""
        self._items = items
        self._draw()

    def nearest(self, item: int) -> dict[str, list[tuple[int, float]]]:
        """Label -> the nearest items and their cosines, nearest first."""
        result = {}
        for label, vectors in self._vectors.items():
            rows, cosine = projection.neighbours(vectors, item - 1, self._k)
            result[label] = list(zip((rows + 1).tolist(), cosine.tolist(), strict=True))
        return result

    def still(self) -> Html:
        """The lists of every item, side by side."""
        lists = [Html("<div>{}</div>").format(self._lists(item)) for item in self._items]
        shape = "" if len(self._vectors) > 1 else "grid"
        intro = INTRO + SEVERAL * (len(self._vectors) > 1)
        return Html("<div class='quiet'>{}.</div><div class='{}'>{}</div>").format(intro, shape, Html("").join(lists))

    def _set_items(self, history: History) -> None:
        """Show the selected items if they are few, else the last of a history."""
        now = None if self.selection is None else self.selection.now
        chosen = now is not None and now.kind == "items" and len(now.items) <= MAX_ITEMS
        self._history = history
        self._items = (now.items if chosen else history.items.flip(0)).tolist()
        self._items = list(dict.fromkeys(self._items))[:MAX_ITEMS]

    def _lists(self, item: int) -> Html:
        nearest = self.nearest(item)
        shared = set.intersection(*({other for other, _ in listed} for listed in nearest.values()))
        lists = {
            label: [(self._titles[other], cosine, other in shared and len(nearest) > 1) for other, cosine in listed]
            for label, listed in nearest.items()
        }
        return figures.neighbours(self._titles[item], lists)

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.picker = ItemPicker(self._titles, "any item", self.status.guard(self.pick))
        self.message = ipywidgets.HTML(self.still().markup, layout={"width": "100%"})
        if self.selection is not None:
            self.selection.follow(lambda now: self.show(self._history), self.status)
        return panel(self.status, self.message, self.picker.view)

    def _draw(self) -> None:
        if self.view is not None:
            self.message.value = self.still().markup
