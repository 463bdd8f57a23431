"""ChosenUser: one user for all views of a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from seqlab.datasets.history import history_of
from seqlab.figures.html import Html, text
from seqlab.widgets.display import StatusLine, displayed, in_report, panel
from seqlab.widgets.inputs.picking import answers_of, titles_of, user_choices, user_label, user_of

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split

PAUSE = 0.01
"""Seconds between two views that are redrawn, in which a further choice is handled."""


@displayed
class ChosenUser:
    """A user whom all linked views show: one that is chosen here, or in the menu of a linked view, is shown by all.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: a random one. `number` is the current
    user. In a running kernel, views are redrawn one after another; a further choice stops those of an earlier one.
    """

    question = "Whose history is shown?"
    needs = ()

    def __init__(self, split: Split, user: int | str | None = None, seed: int = 0) -> None:
        self._split, self._titles, self._answers = split, titles_of(split), answers_of(split)
        self._users = user_choices(split, user, seed)
        self.number = self._users[0]
        self._listeners: list[Callable[[int], object]] = []
        self.view = None if in_report() else self._controls()

    def link(self, view: Any) -> Any:
        """Show every further choice in a view too, and follow its menu of users, if it has one; returns the view.

        view: a widget with `show(history)` that was made with `user=chosen.number`.
        """
        menu = None if view.view is None else getattr(view, "user", None)
        if getattr(menu, "description", "") == "user":
            self._listeners.append(lambda number: self._set_menu(menu, number))
            menu.observe(self.status.guard(lambda change: self.choose(change.new)), "value")
        else:
            self._listeners.append(lambda number: view.show(history_of(self._split, number)))
        return view

    def choose(self, user: int | str) -> None:
        """Show a user in all linked views. Raises `ValueError` for a user without a test query."""
        number = user_of(self._split, user)
        if number is None or number == self.number:
            return
        self.number = number
        if self.view is not None:
            self.menu.value = user_label(self._split, number)
            self.about.value = self.still().markup
        try:
            self._task = asyncio.get_running_loop().create_task(self._redraw(number))
        except RuntimeError:  # no event loop
            for listener in self._listeners:
                listener(number)

    def still(self) -> Html:
        """The user, the length of the history, its last event, and what came next."""
        history, answer = history_of(self._split, self.number), self._answers.get(self.number)
        message = Html("<b>User {}</b>: {:,} event{}, the last <b>{}</b>").format(
            text(user_label(self._split, self.number), 40), len(history), "s" * (len(history) != 1),
            text(self._titles[int(history.items[-1])], 90),
        )  # fmt: skip
        if answer is not None:
            message += Html("; next came <b>{}</b>").format(text(self._titles[answer], 90))
        return Html("<div role='status'>{}.</div>").format(message)

    def _set_menu(self, menu: Any, number: int) -> None:
        """Choose a user in the menu of a view, which then shows that user."""
        if number not in {value for _, value in menu.options}:
            menu.options = [(user_label(self._split, number), number), *menu.options]  # the first one becomes chosen
        menu.value = number

    async def _redraw(self, number: int) -> None:
        for listener in list(self._listeners):
            await asyncio.sleep(PAUSE)
            if self.number != number:
                return
            self.status.guard(listener)(number)

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.menu = ipywidgets.Combobox(
            options=[user_label(self._split, user) for user in self._users],
            value=user_label(self._split, self.number), description="user", continuous_update=False,
            placeholder="id of a user",
        )  # fmt: skip
        self.about = ipywidgets.HTML(self.still().markup, layout={"flex": "1 1 300px", "min_width": "0"})
        self.menu.observe(self.status.guard(self._chosen), "value")
        return panel(self.status, ipywidgets.HBox([self.menu, self.about], layout={"flex_flow": "row wrap"}))

    def _chosen(self, change: object) -> None:
        if (typed := self.menu.value.strip()) and typed != user_label(self._split, self.number):
            self.choose(typed)
