"""WhatWouldChange: the fewest events to drop that bring an item into the top ten, or out of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.figures.tables import Html, text
from seqlab.figures.theme import plain
from seqlab.inspection import influence
from seqlab.inspection.edits import edit_search
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, View, in_report, panel
from seqlab.widgets.inputs.picking import ItemPicker, history_for, titles_of, user_label

if TYPE_CHECKING:
    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.inspection.edits import Edit
    from seqlab.runs.run import Run

INTRO = "The fewest events that, had they never happened, would have taken an item out of the list or brought it in."
CANCEL_INTERVAL = 0.01
"""Seconds between two forward passes in which a press of Cancel is set_subject."""


class WhatWouldChange(View):
    """The smallest edit of a history that takes an item out of the top `k`, or brings it in, and the list after it.

    `history`: a History, a number of the log (1..U) or, as text, an id of the source; None: a user drawn at random.
    `item`: what the still asks about (None: the item recommended first); an item of the top `k` is to go out of it,
    another to come in. `limit`: histories asked about at most. In a running kernel the search breathes between forward
    passes, so that it can be cancelled; what it had found stays.
    """

    def __init__(
        self,
        run: Run,
        split: Split,
        history: History | int | str | None = None,
        item: int | None = None,
        k: int = 10,
        limit: int = 5_000,
        seed: int = 0,
    ) -> None:
        self._model, self._split, self._titles = run.model, split, titles_of(split)
        self._k, self._limit = check_k(k), limit
        self._filter, self._item = run.ranks.seen_filter, item
        self._steps: Iterator[Edit] | None = None
        self._read(history_for(split, self._model, history, seed))
        self.view = None if in_report() else self._controls()

    def show(self, history: History) -> None:
        """Ask about another history; a search that runs is stopped and what it found is gone."""
        if self.view is None:
            self._read(history_for(self._split, self._model, history))
        else:
            self.status.guard(self._show)(history)

    def still(self) -> Html:
        """What was found last; where nothing was asked, what would take the first item (or `item`) out or in."""
        edit = self.edit
        if edit is None:
            for edit in self._search(self._top[0] if self._item is None else self._item):  # noqa: B007
                pass
        return Html(f"<div class='quiet'>{INTRO}</div>{self.found(edit).body}")

    def found(self, edit: Edit, stopped: bool = False) -> Html:
        """An edit as a sentence, what the search cost and whether it is certain, the list before and after."""
        shown = f"<p>{self.words(edit)} {self.cost(edit, stopped)}</p>"
        if not edit.dropped:
            return Html(shown + figures.top_tens({"the list": self._list(self.history)}).body)
        ranking = influence.rerank(self._model, self.history, edit.history, self._k, self._filter)
        lists = {
            "with the whole history": self._list(self.history),
            f"without {_events(edit)}": ranking.assign(title=[self._titles[item] for item in ranking["item"]]),
        }
        events = [self._titles[item] for item in self.history.items.tolist()]
        dropped = figures.dropped_events(events, edit.dropped)
        return Html(f"{shown}{figures.top_tens(lists).body}{dropped.body}")

    def words(self, edit: Edit) -> str:
        """What the edit does, in a sentence (escaped)."""
        name, who = f"<b>{text(self._titles[edit.item], 90)}</b>", text(user_label(self._split, self.history.user))
        where, before = f"the top {edit.k} of user {who}", self._place(edit.rank_before)
        if not edit.dropped and edit.found:
            return f"{name} ({before}) is {'in' if edit.into else 'out of'} {where} as it is: nothing has to change."
        if not edit.dropped:
            return (
                f"No edit was found that {'brings' if edit.into else 'takes'} {name} ({before}) {_way(edit)} {where}."
            )
        titles = [
            f"<i>{text(self._titles[int(self.history.items[at])], 40)}</i> (event {at + 1})" for at in edit.dropped
        ]
        moved = f"goes from {before} to {self._place(edit.rank_after)}"
        so = f"{_way(edit)} {where}" if edit.found else f"which is not yet {_way(edit)} {where}"
        return f"Without {', '.join(titles[:-1])}{' and ' * (len(titles) > 1)}{titles[-1]}, {name} {moved}, {so}."

    def cost(self, edit: Edit, stopped: bool = False) -> str:
        """Whether a smaller edit may exist, and what the search cost, in sentences."""
        message = edit.message[0].upper() + edit.message[1:]
        if stopped:
            message = f"Stopped while {edit.message}: a better edit may exist"
        certain = " (certain)" if edit.exact else " (not certain)" if edit.found and not stopped else ""
        asked = f"{edit.scored:,} histor{'y' if edit.scored == 1 else 'ies'}"
        return f"{message}{certain}. {asked} asked about in {edit.passes:,} forward pass{'es' * (edit.passes != 1)}."

    def _place(self, rank: float) -> str:
        if math.isfinite(rank):
            return f"rank {rank:,.10g}"
        return "kept out by the filter" if hasattr(self._model, "score") else "beyond the list"

    def _list(self, history: History) -> Any:
        frame = influence.rerank(self._model, history, history, self._k, self._filter)[["rank", "item"]]
        return frame.assign(title=[self._titles[item] for item in frame["item"]])

    def _search(self, item: int) -> Iterator[Edit]:
        into = item not in self._top
        return edit_search(self._model, self.history, item, into, self._k, self._filter, self._limit)

    def _read(self, history: History) -> None:
        self.history, self.edit = history, None
        self._top = self._list(history)["item"].tolist()

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        guard = self.status.guard
        wide = {"width": "97%"}
        self.out = ipywidgets.Dropdown(description="in the list", layout=wide)
        self.picker = ItemPicker(self._titles, "any item", on_enter=guard(lambda: self._ask(self.picker.chosen())))
        self.buttons = {
            name: ipywidgets.Button(description=name, layout={"width": "auto"})
            for name in ("Take it out", "Bring it in", "Cancel")
        }
        self.buttons["Take it out"].on_click(guard(lambda _: self._ask(self.out.value)))
        self.buttons["Bring it in"].on_click(guard(lambda _: self._ask(self.picker.chosen())))
        self.buttons["Cancel"].on_click(guard(lambda _: self._cancel()))
        self._step = guard(self._advance)
        self.progress = ipywidgets.HTML()
        self.message = ipywidgets.HTML(layout={"width": "100%"})
        self._offer()
        left = ipywidgets.VBox(
            [self.out, self.buttons["Take it out"], self.picker.view, self.buttons["Bring it in"]],
            layout={"width": "350px"},
        )
        answer = ipywidgets.VBox(
            [ipywidgets.HBox([self.buttons["Cancel"], self.progress]), self.message],
            layout={"flex": "1 1 330px", "min_width": "0"},
        )
        body = ipywidgets.HBox([left, answer], layout={"width": "100%", "flex_flow": "row wrap"})
        return panel(self.status, ipywidgets.HTML(INTRO), body)

    def _offer(self) -> None:
        self.out.options = [(f"{at}. {plain(self._titles[item], 60)}", item) for at, item in enumerate(self._top, 1)]
        self.out.value = self._top[0]
        self._end()
        self.progress.value = "Choose an item and press a button."
        self.message.value = ""

    def _show(self, history: History) -> None:
        self._end()
        self._read(history_for(self._split, self._model, history))
        self._offer()

    def _ask(self, item: int) -> None:
        """Begin a search; a running one gives way."""
        self._end()
        self.edit, self.message.value = None, ""
        self._steps = steps = self._search(item)
        self.buttons["Cancel"].disabled = False
        self.progress.value = "Asking ..."
        try:
            self._task = asyncio.get_running_loop().create_task(self._go_on(steps))
        except RuntimeError:  # nothing else runs that could be kept waiting
            while self._steps is not None:
                self._advance()

    async def _go_on(self, steps: Iterator[Edit]) -> None:
        while self._steps is steps:
            await asyncio.sleep(CANCEL_INTERVAL)
            if self._steps is steps:
                self._step()

    def _advance(self) -> None:
        """One more forward pass, and what is known after it."""
        try:
            edit = next(self._steps, None)
        except Exception:
            self._end()
            self.progress.value = "Choose another item."
            raise
        if edit is None:
            self._end()
            self.progress.value = ""
            self.message.value = self.found(self.edit).markup
            return
        self.edit = edit
        asked = f"{edit.scored:,} histories in {edit.passes:,} forward passes"
        self.progress.value = f"Asking ... {asked}; {edit.message}."

    def _cancel(self) -> None:
        self._end()
        self.progress.value = ""
        if self.edit is not None:
            self.message.value = self.found(self.edit, stopped=True).markup

    def _end(self) -> None:
        """No search runs from now on."""
        self._steps = None
        self.buttons["Cancel"].disabled = True


def _way(edit: Edit) -> str:
    return "into" if edit.into else "out of"


def _events(edit: Edit) -> str:
    return "1 event" if len(edit.dropped) == 1 else f"{len(edit.dropped)} events"
