"""The linked views of a workbench: several runs on one dataset share one selection, one user and one history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from seqlab.contracts import ItemVectors, supports
from seqlab.datasets.history import history_of, typed_history
from seqlab.figures.html import Html
from seqlab.items.vectors import from_model, item_vectors
from seqlab.widgets.code_tree import CodeTree, book_of
from seqlab.widgets.display import StatusLine, in_report
from seqlab.widgets.inputs.picking import max_events, sample_users, user_of
from seqlab.widgets.inputs.selection import Selection
from seqlab.widgets.item_map import ItemMap
from seqlab.widgets.user_list import UserList
from seqlab.widgets.workbench.pages import (
    HISTORY,
    OTHER,
    HistoryPage,
    Shared,
    history_list,
    pages,
    side_lists,
    subject_label,
    topics,
)
from seqlab.widgets.workbench.tabs import Subject, Tabs, column, heading, quiet, side_by_side, still_html

if TYPE_CHECKING:
    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selected


CHOOSE = "Choose users or items"

RENAMED = {"Beam": "Decoding"}
"""Tabs of pinned views by their names today."""


class LinkedViews:
    """The linked views of a dataset, and the tabs about one user. The arguments are those of `Workbench`."""

    def __init__(
        self,
        runs: Mapping[str, Run],
        split: Split,
        user: int | str | None = None,
        typed: str | list[str | int] | None = None,
        history: str | list[str | int] | None = None,
        selection: Mapping[str, list] | None = None,
        tab: str | None = None,
        other: int | str | None = None,
        seed: int = 0,
    ) -> None:
        tab = RENAMED.get(tab, tab)
        if tab and tab not in (known := [*topics(), OTHER]):
            raise ValueError(f"there is no tab {tab!r}; there are {', '.join(known)}")
        self.runs, self.split, self._seed, self._other = dict(runs), split, seed, other or ""
        self._longest = max(max_events(run.model) for run in runs.values())
        self.subject = self._subject(user, typed, history)
        self._first, self._choosing = self.subject.original.user, not (user or typed)
        books = {label: book for label, run in runs.items() if (book := book_of(run.model)) is not None}
        self.selection = Selection(split, next(iter(books.values()), None))
        selected = self._parse_selection(selection or {})
        self.selection.select(**selected)
        able = [label for label, run in runs.items() if supports(run.model, ItemVectors)]
        vectors = from_model(runs[able[0]].model) if able else item_vectors(split, "collaborative")
        self.map_source = (
            f"the item vectors of {able[0]}" if able else "co-occurrence in the histories (no run has item vectors)"
        )
        self.map = ItemMap(vectors, split, seed=seed, selection=self.selection)
        self.tree = None
        if books:
            first, *second = [*books.values()][:2]
            path, names = selected.get("codes", ()), (*books, "")[:2]
            self.tree = CodeTree(first, split, *second, path=path, names=names, selection=self.selection)
        self.users = UserList(split, self.selection, next(iter(runs.values())), on_pick=self._picked)
        source = None if not other else self._history(user_of(split, other))
        made = pages(Shared(self.runs, split, self.selection, seed, source), self._edited)
        opened = next((one for one in (tab, OTHER) if one in made), "") if tab else ""
        self.tabs = Tabs(made, self.subject, opened)
        self.view = None if in_report() else self._controls()

    def open(self, user: int | str) -> None:
        """Show a user of the log; the items of their history become selected."""
        number = user_of(self.split, user)
        if self.view is None:
            self.selection.select(users=[number])
        else:
            self.choose.value = False
            self.users.pick(number)
        if self.subject.original.user != number:
            self._start(number)

    def state(self) -> dict[str, Any]:
        """The state in literals: parameters that restore it."""
        now, true = self.subject.current, self.subject.original
        page = self.tabs.made.get(HISTORY)
        other = page.source if isinstance(page, HistoryPage) else None
        return {
            "user": self._name(true.user) if true.user else "",
            "typed": [] if true.user else self._ids([*true.earlier.tolist(), *true.items.tolist()]),
            "history": self._ids(now.items.tolist()) if self.subject.edited else [],
            "selection": self._selection_ids(),
            "tab": self.tabs.opened,
            "other": self._other if other is None or not other.user else self._name(other.user),
            "seed": self._seed,
        }

    def still(self) -> Html:
        """The selection on the map and in the tree, the user, all top tens and why, and the open tab, or all tabs."""
        open_tabs = [self.tabs.opened] if self.tabs.opened else [one for one in self.tabs.names if one != OTHER]
        questions = self.tabs.page(HISTORY).questions
        parts = [
            heading("The selection"),
            self.selection.still(),
            quiet(f"Nearby items are similar, by {self.map_source}."),
            still_html(self.map.still()),
            *([] if self.tree is None else [still_html(self.tree.still())]),
            heading("The user, and what is recommended"),
            side_by_side([history_list(self.split, self.subject), side_lists(self.runs, self.split, self.subject)]),
            *questions.stills(questions.names[:1]),
            *self.tabs.stills(open_tabs),
        ]
        return Html("").join(parts)

    def summary(self) -> Html:
        """The selection, the user and all top tens: the HTML beside the interactive view."""
        lists = side_lists(self.runs, self.split, self.subject)
        return self.selection.still() + side_by_side([history_list(self.split, self.subject), lists])

    def _subject(
        self, user: int | str | None, typed: str | list[str | int] | None, history: str | list[str | int] | None
    ) -> Subject:
        number = user_of(self.split, user)
        if typed and number is not None:
            raise ValueError(f"choose user {user} or a typed history, not both")
        if typed:
            original = typed_history(self.split, typed, self._longest)
        else:
            original = self._history(number or sample_users(self.split, 1, self._seed)[0])
        if not history:
            return Subject(original, original)
        edited = typed_history(self.split, history)
        return Subject(original, replace(edited, user=original.user, earlier=original.earlier))

    def _history(self, user: int) -> History:
        return history_of(self.split, user, longest=self._longest)

    def _parse_selection(self, selection: Mapping[str, list]) -> dict[str, Any]:
        """A pinned selection as arguments of `Selection.select`: ids of the source become numbers."""
        (what, chosen), *rest = [*selection.items()] or [("", [])]
        if not what:
            return {}
        if rest or what not in ("items", "codes", "users"):
            raise ValueError(f"a selection is of items, codes or users (got {', '.join(map(repr, selection))})")
        if what == "codes":
            return {"codes": tuple(map(int, chosen))}
        if what == "users":
            return {"users": [user_of(self.split, str(one)) for one in chosen]}
        numbers = {str(name): number for number, name in self.split.log.items["item_id"].items()}
        if strange := [one for one in chosen if str(one) not in numbers]:
            raise ValueError(f"there is no item with the id {strange[0]!r}")
        return {"items": [numbers[str(one)] for one in chosen]}

    def _selection_ids(self) -> dict[str, list]:
        now = self.selection.now
        if now.kind == "users":
            return {"users": [self._name(user) for user in now.users.tolist()]}
        if now.kind == "codes":
            return {"codes": list(now.codes)}
        return {"items": self._ids(now.items.tolist())} if now.kind == "items" else {}

    def _ids(self, items: list[int]) -> list[str]:
        return [str(self.split.log.items.at[item, "item_id"]) for item in items]

    def _name(self, user: int) -> str:
        return str(self.split.log.users.at[user, "user_id"])

    def _start(self, user: int) -> None:
        original = self._history(user)
        self.subject = Subject(original, original)
        if self.view is not None:
            self._update_header()
        self.tabs.show(self.subject)

    def _edited(self, subject: Subject) -> None:
        """The history was edited or typed in on its tab."""
        self.subject = subject
        self.tabs.set_subject(subject)
        self._update_header()

    def _follow(self, now: Selected) -> None:
        """Show a user selected in any view; the current user keeps their edits."""
        if now.kind == "users" and len(now.users) == 1 and int(now.users[0]) != self.subject.original.user:
            self._start(int(now.users[0]))

    def _after_undo(self) -> None:
        """Show the first user again when no earlier selection is left."""
        if not self.selection.now and self.subject.original.user not in (0, self._first):
            self._start(self._first)

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.header = ipywidgets.HTML(layout={"flex": "1 1 200px", "min_width": "0"})
        self._update_header()
        self.selection.follow(self._follow, self.status)
        self.selection.undo_button.on_click(self.status.guard(lambda _: self._after_undo()))
        space = f"Nearby items are similar, by {self.map_source}; draw around some to select them."
        item_map = ipywidgets.VBox([ipywidgets.HTML(quiet(space).markup), self.map.view], layout=column(3, 560))
        parts = [ipywidgets.VBox([self.users.view], layout=column(1, 250)), item_map]
        if self.tree is not None:
            words = "The tree of the items' codes: open a branch to select its items and the users who have them."
            parts.append(ipywidgets.VBox([ipywidgets.HTML(quiet(words).markup), self.tree.view], layout=column(3, 900)))
        self.chooser = ipywidgets.HBox(parts, layout={"width": "100%", "flex_flow": "row wrap"})
        self.chooser.add_class("seqlab-chooser")
        auto = {"width": "auto"}
        self.previous = ipywidgets.Button(description="Previous user", icon="arrow-left", layout=auto)
        self.next = ipywidgets.Button(description="Next user", icon="arrow-right", layout=auto)
        self.choose = ipywidgets.ToggleButton(True, description=CHOOSE, icon="search", layout=auto)
        self.choose.observe(self.status.guard(lambda change: self._show_chooser()), "value")
        for button, by in ((self.previous, -1), (self.next, 1)):
            button.on_click(self.status.guard(lambda _, by=by: self._step(by)))
        self.choose.value = self._choosing
        bar = [self.header, self.previous, self.next, self.choose]
        row = ipywidgets.HBox(bar, layout={"width": "100%", "flex_flow": "row wrap", "align_items": "center"})
        parts = [self.selection.view, self.chooser, row, self.status.view, self.tabs.view, self.status.page]
        return ipywidgets.VBox(parts, layout={"width": "100%"}).add_class("seqlab-panel")

    def _show_chooser(self) -> None:
        """Show or hide the views that users and items are chosen from."""
        self.chooser.layout.display = "flex" if self.choose.value else "none"

    def _picked(self, user: int) -> None:
        """Hide these views after a user was picked in the list, and move the focus, which would be lost with it."""
        if self.choose.value and self.selection.now.by is self.users:  # not for Undo
            self.choose.value = False
            self.choose.focus()

    def _step(self, by: int) -> None:
        """Pick the next or the previous user of the list."""
        listed, now = self.users.users.tolist(), self.subject.original.user
        at = listed.index(now) + by if now in listed else 0
        if not 0 <= at < len(listed):
            raise ValueError(f"this is the {'first' if by < 0 else 'last'} user of the list")
        self.users.pick(listed[at])

    def _update_header(self) -> None:
        self.header.value = Html("<h3 role='status'>{}</h3>").format(subject_label(self.split, self.subject)).markup
