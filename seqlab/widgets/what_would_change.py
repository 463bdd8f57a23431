"""WhatWouldChange: the fewest events to drop that bring an item into or out of the top ten (a counterfactual)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import Recommends, Scores, supports
from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain
from seqlab.inspection import influence
from seqlab.inspection.edits import edit_search
from seqlab.inspection.examples import movable_item
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, displayed, in_report, panel
from seqlab.widgets.inputs.picking import ItemPicker, history_for, titles_of, user_label
from seqlab.widgets.views import check

if TYPE_CHECKING:
    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.inspection.edits import Edit
    from seqlab.runs.run import Run

INTRO = "The fewest events without which an item would have left the list or entered it."
CANCEL_INTERVAL = 0.01
"""Seconds between two forward passes, in which a click on Cancel is handled."""


@displayed
class WhatWouldChange:
    """The smallest edit of a history that takes an item out of the top `k`, or brings it in, and the list after it.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: a random one. `history`: a History
    instead of a user. `item`: that of the still (None: one that a single event decides about, if there is one, see
    `inspection.examples.movable_item`); an item in the top `k` is to leave it, another to enter. `limit`: the largest
    number of histories to score. `intro`: whether the view explains itself. In a running kernel the search pauses
    between forward passes, so that it can be cancelled; the best edit so far is then shown.
    """

    question = "What would have to change: without which events would an item leave the list or enter it?"
    needs = (Recommends,)
    topic = "History editor"
    explanation = INTRO

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        item: int | None = None,
        k: int = 10,
        limit: int = 5_000,
        intro: bool = True,
    ) -> None:
        check(self, run)
        self._intro = Html("<div class='quiet'>{}</div>").format(INTRO) if intro else Html("")
        self._model, self._split, self._titles = run.model, split, titles_of(split)
        self._k, self._limit = check_k(k), limit
        self._filter, self._item = run.seen_filter, item
        self._steps: Iterator[Edit] | None = None
        self._set_history(history_for(split, self._model, user if history is None else history, seed))
        self.view = None if in_report() else self._controls()

    def show(self, history: History) -> None:
        """Show another history; a running search is stopped and its result is discarded."""
        if self.view is None:
            self._set_history(history_for(self._split, self._model, history))
        else:
            self.status.guard(self._replace_history)(history)

    def still(self) -> Html:
        """The last result; before any search, that for `item`."""
        edit = self.edit
        if edit is None:
            for edit in self._search(self._example() if self._item is None else self._item):  # noqa: B007
                pass
        return self._intro + self.result(edit)

    def _example(self) -> int:
        return movable_item(self._model, self.history, self._k, self._filter)

    def result(self, edit: Edit, stopped: bool = False) -> Html:
        """An edit as a sentence, the cost of the search and its certainty, and the list before and after."""
        shown = Html("<p>{} {}</p>").format(self.describe(edit), self.search_note(edit, stopped))
        if not edit.dropped:
            return shown + figures.top_tens({"the list": self._list(self.history)})
        ranking = influence.rerank(self._model, self.history, edit.history, self._k, self._filter)
        lists = {
            "with the whole history": self._list(self.history),
            f"without {_event_count(edit)}": ranking.assign(title=[self._titles[item] for item in ranking["item"]]),
        }
        events = [self._titles[item] for item in self.history.items.tolist()]
        return shown + figures.top_tens(lists) + figures.dropped_events(events, edit.dropped)

    def describe(self, edit: Edit) -> Html:
        """The effect of the edit in a sentence."""
        name, before = Html("<b>{}</b>").format(text(self._titles[edit.item], 90)), self._rank_label(edit.rank_before)
        where = Html("the top {} of user {}").format(edit.k, text(user_label(self._split, self.history.user)))
        if not edit.dropped and edit.found:
            place = "in" if edit.into else "out of"
            return Html("{} ({}) is already {} {}: nothing has to change.").format(name, before, place, where)
        if not edit.dropped:
            moves = "brings" if edit.into else "takes"
            return Html("No edit was found that {} {} ({}) {} {}.").format(moves, name, before, _direction(edit), where)
        titles = [
            Html("<i>{}</i> (event {})").format(text(self._titles[int(self.history.items[at])], 40), at + 1)
            for at in edit.dropped
        ]
        listed = Html(", ").join(titles[:-1]) + " and " * (len(titles) > 1) + titles[-1]
        after, direction = self._rank_label(edit.rank_after), _direction(edit)
        outcome = direction if edit.found else f"which is not yet {direction}"
        return Html("Without {}, {} goes from {} to {}, {} {}.").format(listed, name, before, after, outcome, where)

    def search_note(self, edit: Edit, stopped: bool = False) -> str:
        """Whether a smaller edit may exist, and the cost of the search, in sentences."""
        message = edit.message[0].upper() + edit.message[1:]
        if stopped:
            message = f"Stopped while {edit.message}: a better edit may exist"
        certain = " (certain)" if edit.exact else " (not certain)" if edit.found and not stopped else ""
        scored = f"{edit.scored:,} histor{'y' if edit.scored == 1 else 'ies'}"
        return f"{message}{certain}. {scored} scored in {edit.passes:,} forward pass{'es' * (edit.passes != 1)}."

    def _rank_label(self, rank: float) -> str:
        if math.isfinite(rank):
            return f"rank {rank:,.10g}"
        return "removed by the filter" if supports(self._model, Scores) else "beyond the list"

    def _list(self, history: History) -> Any:
        frame = influence.rerank(self._model, history, history, self._k, self._filter)[["rank", "item"]]
        return frame.assign(title=[self._titles[item] for item in frame["item"]])

    def _search(self, item: int) -> Iterator[Edit]:
        into = item not in self._top
        return edit_search(self._model, self.history, item, into, self._k, self._filter, self._limit)

    def _set_history(self, history: History) -> None:
        self.history, self.edit = history, None
        self._top = self._list(history)["item"].tolist()

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        guard, error = self.status.guard, self.status.line()
        wide = {"width": "97%"}
        self.out = ipywidgets.Dropdown(description="in the list", layout=wide)
        self.picker = ItemPicker(
            self._titles, "any item", on_enter=guard(lambda: self._start_search(self.picker.chosen()), error)
        )
        self.buttons = {
            name: ipywidgets.Button(description=name, layout={"width": "auto"})
            for name in ("Take it out", "Bring it in", "Cancel")
        }
        self.buttons["Take it out"].on_click(guard(lambda _: self._start_search(self.out.value)))
        self.buttons["Bring it in"].on_click(guard(lambda _: self._start_search(self.picker.chosen()), error))
        self.buttons["Cancel"].on_click(guard(lambda _: self._cancel()))
        self._step = guard(self._next_pass)
        self.progress = ipywidgets.HTML()
        self.message = ipywidgets.HTML(layout={"width": "100%"})
        self._fill_controls()
        left = ipywidgets.VBox(
            [self.out, self.buttons["Take it out"], self.picker.view, self.buttons["Bring it in"], error],
            layout={"width": "350px"},
        )
        answer = ipywidgets.VBox(
            [ipywidgets.HBox([self.buttons["Cancel"], self.progress]), self.message],
            layout={"flex": "1 1 330px", "min_width": "0"},
        )
        body = ipywidgets.HBox([left, answer], layout={"width": "100%", "flex_flow": "row wrap"})
        return panel(self.status, ipywidgets.HTML(self._intro), body)

    def _fill_controls(self) -> None:
        self.out.options = [(f"{at}. {plain(self._titles[item], 60)}", item) for at, item in enumerate(self._top, 1)]
        self.out.value = self._top[0]
        self._stop_search()
        self.progress.value = "Choose an item and press a button."
        self.message.value = ""

    def _replace_history(self, history: History) -> None:
        self._stop_search()
        self._set_history(history_for(self._split, self._model, history))
        self._fill_controls()

    def _start_search(self, item: int) -> None:
        """Start a search; a running one is stopped."""
        self._stop_search()
        self.edit, self.message.value = None, ""
        self._steps = steps = self._search(item)
        self.buttons["Cancel"].disabled = False
        self.progress.value = "Searching ..."
        try:
            self._task = asyncio.get_running_loop().create_task(self._run_search(steps))
        except RuntimeError:  # no event loop: run to the end
            while self._steps is not None:
                self._next_pass()

    async def _run_search(self, steps: Iterator[Edit]) -> None:
        while self._steps is steps:
            await asyncio.sleep(CANCEL_INTERVAL)
            if self._steps is steps:
                self._step()

    def _next_pass(self) -> None:
        """One more forward pass, and the best edit after it."""
        try:
            edit = next(self._steps, None)
        except Exception:
            self._stop_search()
            self.progress.value = "Choose another item."
            raise
        if edit is None:
            self._stop_search()
            self.progress.value = ""
            self.message.value = self.result(self.edit).markup
            return
        self.edit = edit
        scored = f"{edit.scored:,} histories in {edit.passes:,} forward passes"
        self.progress.value = f"Searching ... {scored}; {edit.message}."

    def _cancel(self) -> None:
        self._stop_search()
        self.progress.value = ""
        if self.edit is not None:
            self.message.value = self.result(self.edit, stopped=True).markup

    def _stop_search(self) -> None:
        """Stop the search."""
        self._steps = None
        self.buttons["Cancel"].disabled = True


def _direction(edit: Edit) -> str:
    return "into" if edit.into else "out of"


def _event_count(edit: Edit) -> str:
    return "1 event" if len(edit.dropped) == 1 else f"{len(edit.dropped)} events"
