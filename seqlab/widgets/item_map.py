"""ItemMap: the items in two dimensions, coloured by any column, with the nearest neighbours of any item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab import figures
from seqlab.contracts import ItemVectors
from seqlab.figures import catalogue_maps
from seqlab.figures.theme import column_words
from seqlab.inspection import projection
from seqlab.items.vectors import from_model, validated
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import ItemPicker, titles_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selection

EVENTS = "training events"


@displayed
class ItemMap:
    """The item vectors of a run, or any vectors (N, D), as a map.

    `color`: a column of the items (None: the first suitable one). `examples`: ids of items whose neighbours the still
    lists (None: fairly frequent items of three groups). With a `selection`, unselected items are faint, and a lasso, a
    box, a click or the list of titles selects. Raises `ValueError` for a system without item vectors or an unknown
    column.
    """

    question = "Which items lie together?"
    needs = (ItemVectors,)

    def __init__(
        self,
        of: Run | np.ndarray,
        split: Split,
        color: str | None = None,
        method: projection.Method = "pca",
        seed: int = 0,
        examples: list[int] | None = None,
        selection: Selection | None = None,
    ) -> None:
        self._vectors = validated(of, split.n_items) if isinstance(of, np.ndarray) else from_model(of.model)
        self._titles, self._seed, self.selection = titles_of(split), seed, selection
        counts = split.train.item_counts(split.n_items)[1:].cpu().numpy()
        self._items = split.log.items.assign(title=self._titles[1:], **{EVENTS: counts})
        self.columns = [
            name for name in self._items.columns if name not in ("item_id", "title") and _informative(self._items[name])
        ]
        self._color = color or next((name for name in self.columns if name != EVENTS), EVENTS)
        if self._color not in self.columns:
            raise ValueError(
                f"the items cannot be coloured by {self._color!r}; the columns are {', '.join(self.columns)}"
            )
        self._method = method
        self._examples = examples or self._default_examples(counts)
        self._picked: int | None = None
        self.view = None if in_report() else self._controls()

    def neighbours(self, item: int, k: int = 10) -> pd.DataFrame:
        """The nearest items by cosine: columns item, title, cosine."""
        import pandas as pd

        rows, cosine = projection.neighbours(self._vectors, item - 1, k)
        return pd.DataFrame({"item": rows + 1, "title": [self._titles[row + 1] for row in rows], "cosine": cosine})

    def map(self, color: str | None = None) -> go.Figure:
        """The map, coloured by any of `columns`."""
        return figures.item_map(self._frame(self._method), color or self._color)

    def still(self) -> go.Figure:
        """The map, and the neighbours of the example items."""
        examples = {item: self.neighbours(item) for item in self._examples}
        selected = None if self.selection is None else self.selection.now.items
        return figures.item_map_with_neighbours(self._frame(self._method), self._color, examples, selected)

    def _frame(self, method: projection.Method) -> pd.DataFrame:
        xy = projection.coordinates(self._vectors, method, self._seed)
        return self._items.assign(x=xy[:, 0], y=xy[:, 1])

    def _default_examples(self, counts: Any) -> list[int]:
        """The item at the upper quartile of frequency in each of the three largest groups.

        The most frequent items would be near all other frequent ones.
        """
        ranked = self._items.assign(_count=counts).sort_values("_count", ascending=False, kind="stable")
        if self._color == EVENTS:
            return [int(ranked.index[len(ranked) * quarter // 4]) for quarter in (0, 1, 2)]
        groups = [ranked[ranked[self._color] == name] for name in self._items[self._color].value_counts().index[:3]]
        return [int(group.index[len(group) // 4]) for group in groups]

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        names = [(column_words(name), name) for name in self.columns]
        self.color = ipywidgets.Dropdown(options=names, value=self._color, description="colour")
        self.method = ipywidgets.ToggleButtons(
            options=[("PCA", "pca"), ("t-SNE (seconds at first)", "tsne"), ("UMAP (a minute at first)", "umap")],
            value=self._method,
            style={"button_width": "auto"},
        )
        self.picker = ItemPicker(self._titles, "find", self.status.guard(self.pick))
        self.near = ipywidgets.HTML("Choose an item here, or click a dot.", layout={"width": "330px"})
        self._map_frame = self._frame(self._method)
        chooser, under = [self.picker.view], []
        if self.selection is not None:
            from seqlab.widgets.inputs.lasso import Lasso

            self.lasso = Lasso(self.status.guard(lambda items: self.selection.select(items, by=self)))
            under = [self.lasso]
            chooser.append(self._buttons())
            self.near.value = "Draw around dots with the mouse, click one, or choose an item here and press Select."
        self.figure = interactive_figure(self._figure("pan" if self.selection is None else "lasso"))
        if self.selection is not None:
            self.lasso.mark(self.selection.now.items)
            self.selection.follow(lambda now: self.lasso.mark(now.items), self.status)
        for trace in self.figure.data[:-2]:
            trace.on_click(self.status.guard(self._clicked))
        self.color.observe(self.status.guard(self._redraw), "value")
        self.method.observe(self.status.guard(self._project), "value")
        side = ipywidgets.VBox([*chooser, self.near], layout={"width": "350px", "min_width": "350px"})
        plot = ipywidgets.Box([self.figure], layout={"flex": "1 1 500px", "min_width": "0", "display": "block"})
        body = ipywidgets.HBox([plot, side], layout={"width": "100%"})
        bar = ipywidgets.HBox([self.color, self.method])
        return panel(self.status, bar, body, *under, figure=self.figure)

    def _buttons(self) -> Any:
        """Buttons that select by keyboard."""
        import ipywidgets

        actions = {
            "Select": lambda item: [item],
            "Add": lambda item: [*self.selection.now.items, item],
            "Select with neighbours": lambda item: [item, *self.neighbours(item)["item"]],
        }
        self.buttons = {name: ipywidgets.Button(description=name, layout={"width": "auto"}) for name in actions}
        error = self.status.line()
        for name, items in actions.items():
            self.buttons[name].on_click(self.status.guard(lambda _, items=items: self._select(items), error))
        return ipywidgets.VBox([ipywidgets.HBox(list(self.buttons.values())), error])

    def _select(self, items: Callable[[int], list[int]]) -> None:
        if self.picker.item is None:
            raise ValueError("choose an item in the list above first")
        self.selection.select(items(self.picker.item), by=self)

    def pick(self, item: int) -> None:
        """Mark an item and its ten nearest neighbours, and list them."""
        self._picked = int(item)
        near = self.neighbours(self._picked)
        listed = [(title, cosine, False) for title, cosine in zip(near["title"], near["cosine"], strict=True)]
        self.near.value = figures.neighbours(self._titles[self._picked], {"by cosine": listed}).markup
        rings = catalogue_maps.rings(self._map_frame, self._picked, near["item"].tolist())
        with self.figure.batch_update():
            for old, ring in zip(self.figure.data[-2:], rings, strict=True):
                old.update(x=ring.x, y=ring.y, text=ring.text)

    def _clicked(self, trace: Any, points: Any, state: Any) -> None:
        if points.point_inds:
            item = int(trace.customdata[points.point_inds[0]])
            if self.selection is not None:
                self.selection.select([item], by=self)
            self.pick(item)

    def _project(self, change: object) -> None:
        self._map_frame = self._frame(self.method.value)
        self._redraw()

    def _figure(self, dragmode: str) -> go.Figure:
        near = [] if self._picked is None else self.neighbours(self._picked)["item"].tolist()
        figure = figures.item_map(self._map_frame, self.color.value, self._picked, near)
        if self.selection is not None:
            figure.update_layout(newselection_mode="gradual")  # required by `Lasso`
        return figure.update_layout(dragmode=dragmode)

    def _redraw(self, change: object = None) -> None:
        redraw(self.figure, self._figure(self.figure.layout.dragmode))
        if self.selection is not None:
            self.lasso.drawn += 1


def _informative(column: pd.Series) -> bool:
    """Whether a column has several values and, if not numeric, few enough of them for colours."""
    import pandas as pd

    kinds = column.nunique()
    return kinds > 1 and (pd.api.types.is_numeric_dtype(column) or kinds <= max(12, len(column) // 3))
