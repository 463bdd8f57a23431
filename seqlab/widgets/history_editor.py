"""HistoryEditor: drop, move or add an event, and watch the top ten re-rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.evaluation import influence
from seqlab.figures.tables import Html
from seqlab.figures.theme import plain
from seqlab.widgets.picking import ItemPicker, sample_users, titles_of, user_label, user_of
from seqlab.widgets.showing import StatusLine, bundle, in_report, panel

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.influence import History
    from seqlab.training import Run

WINDOW = 50
"""Events shown of a model that reads the whole history."""


class HistoryEditor:
    """One user's history to edit, and the top `k` after every edit against that of the true history.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: one drawn at random.
    Every edit costs one forward pass.
    """

    def __init__(self, run: Run, split: Split, user: int | str | None = None, k: int = 10, seed: int = 0) -> None:
        self._model, self._split, self._titles, self._k = run.model, split, titles_of(split), k
        self._filter = run.ranks.seen_filter
        self._user = user_of(split, user) or sample_users(split, 1, seed)[0]
        longest = run.model.config.max_length or WINDOW
        self._true = influence.history_of(split, self._user, longest=longest)
        self.history = self._true
        self._before: list[History] = []
        self.view = None if in_report() else self._controls()

    def ranking(self, history: History) -> pd.DataFrame:
        """The top ten of a history against that of the true one: `evaluation.influence.rerank` with titles."""
        frame = influence.rerank(self._model, self._true, history, self._k, self._filter)
        return frame.assign(title=[self._titles[item] for item in frame["item"]])

    def still(self) -> Html:
        """The true top ten, and what three ready edits make of it."""
        true = self._true
        captions = {"with the true history": self.ranking(true)[["rank", "title"]]}
        if len(true) > 1:
            worth = influence.leave_one_out(self._model, true, seen_filter=self._filter)
            best = int(worth["value"].iloc[:-1].idxmax())
            last, other = (plain(self._titles[int(true.items[at])], 40) for at in (len(true) - 1, best))
            edits = {
                f"without the last event: {last}": true.drop(len(true) - 1),
                f"without the most influential of the others: {other} (event {best + 1})": true.drop(best),
                "with the order reversed": true.reversed(),
            }
            captions |= {words: self.ranking(history) for words, history in edits.items()}
        tables = figures.top_tens(captions)
        who = figures.tables.text(user_label(self._split, self._user))
        return Html(f"<div>User {who}, {len(true)} events read; arrows are places gained or lost.</div>{tables.body}")

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.events = ipywidgets.Select(rows=14, layout={"width": "330px"})
        self.picker = ItemPicker(self._titles, "add")
        self.lists = ipywidgets.HTML(layout={"width": "100%"})
        self.told = ipywidgets.HTML()
        edits = {
            "Drop": self._drop,
            "Move earlier": lambda: self._move(-1),
            "Move later": lambda: self._move(+1),
            "Undo": self._undo,
            "Reset": self._reset,
        }
        self.buttons = {name: ipywidgets.Button(description=name, layout={"width": "auto"}) for name in (*edits, "Add")}
        self.buttons["Add"].layout.width = "80px"
        for name, edit in (edits | {"Add": self._add}).items():
            self.buttons[name].on_click(self.status.guard(lambda _, edit=edit: edit()))
        self._show(len(self.history) - 1)
        left = ipywidgets.VBox(
            [
                ipywidgets.HTML("<b>History</b>, oldest first"),
                self.events,
                ipywidgets.HBox([self.buttons[name] for name in ("Drop", "Move earlier", "Move later")]),
                ipywidgets.HBox([self.buttons[name] for name in ("Undo", "Reset")]),
                self.picker.view,
                self.buttons["Add"],
            ],
            layout={"width": "350px", "min_width": "350px"},
        )
        right = ipywidgets.VBox([self.told, self.lists], layout={"flex": "1 1 auto", "min_width": "0"})
        return panel(self.status, ipywidgets.HBox([left, right], layout={"width": "100%"}))

    def _edit(self, history: History, chosen: int) -> None:
        self._before.append(self.history)
        self.history = history
        self._show(chosen)

    def _drop(self) -> None:
        at = self.events.index
        self._edit(self.history.drop(at), min(at, len(self.history) - 2))

    def _move(self, by: int) -> None:
        at = self.events.index
        to = at + by
        if not 0 <= to < len(self.history):
            raise ValueError(f"this is already the {'first' if by < 0 else 'last'} event")
        self._edit(self.history.move(at, to), to)

    def _add(self) -> None:
        if self.picker.item is None:
            raise ValueError("choose an item in the list above first")
        self._edit(self.history.add(self.picker.item), len(self.history))

    def _undo(self) -> None:
        if not self._before:
            raise ValueError("there is nothing to undo")
        self.history = self._before.pop()
        self._show(min(self.events.index or 0, len(self.history) - 1))

    def _reset(self) -> None:
        if self.history is not self._true:
            self._edit(self._true, len(self._true) - 1)

    def _show(self, chosen: int) -> None:
        true = list(self._true.items.tolist())
        words = [f"{at}. {plain(self._titles[item], 60)}" for at, item in enumerate(self.history.items.tolist(), 1)]
        self.events.options = [(word, at) for at, word in enumerate(words)]
        self.events.index = chosen
        ranking = self.ranking(self.history)
        now = (
            "no edit yet"
            if self.history.items.tolist() == true
            else f"{len(self._before)} edit{'s' * (len(self._before) != 1)}"
        )
        who = figures.tables.text(user_label(self._split, self._user))
        self.told.value = f"<b>User {who}</b>: {now}; arrows compare with the true history."
        captions = {"with the true history": self.ranking(self._true)[["rank", "title"]], "now": ranking}
        self.lists.value = figures.top_tens(captions).markup

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return bundle(self)
