"""Desk, the state of a workbench: runs on one dataset, one selection, one user, one history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from seqlab.datasets.history import history_of, typed_history
from seqlab.figures.html import Html
from seqlab.items.vectors import from_model, item_vectors
from seqlab.widgets.code_tree import CodeTree
from seqlab.widgets.display import StatusLine, in_report
from seqlab.widgets.inputs.picking import longest_of, sample_users, user_of
from seqlab.widgets.inputs.selection import Selection
from seqlab.widgets.item_map import ItemMap
from seqlab.widgets.neighbours import has_vectors
from seqlab.widgets.user_list import UserList
from seqlab.widgets.workbench.pages import HISTORY, TABS, HistoryPage, history_list, pages, side_lists, who
from seqlab.widgets.workbench.tabs import Case, Tabs, column, drawn, heading, quiet, side_by_side

if TYPE_CHECKING:
    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selected


class Desk:
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
        if tab and tab not in TABS:
            raise ValueError(f"there is no tab {tab!r}; there are {', '.join(TABS)}")
        self.runs, self.split, self._seed, self._other = dict(runs), split, seed, other or ""
        self._longest = max(longest_of(run.model) for run in runs.values())
        self.case = self._case(user, typed, history)
        self._first = self.case.true.user
        books = [run.model.ids.book for run in runs.values() if hasattr(run.model, "ids") and run.model.ids.assigned]
        self.selection = Selection(split, books[0] if books else None)
        asked = self._asked(selection or {})
        self.selection.select(**asked)
        able = [label for label, run in runs.items() if has_vectors(run.model)]
        vectors = from_model(runs[able[0]].model) if able else item_vectors(split, "collaborative")
        self.drawn_from = (
            f"the item vectors of {able[0]}" if able else "who meets which items (no run has item vectors)"
        )
        self.map = ItemMap(vectors, split, seed=seed, selection=self.selection)
        names = [label for label, run in runs.items() if hasattr(run.model, "ids") and run.model.ids.assigned][:2]
        self.tree = None
        if books:
            path = asked.get("codes", ())
            self.tree = CodeTree(
                books[0], split, *books[1:2], path=path, names=(*names, "")[:2], selection=self.selection
            )
        self.users = UserList(split, self.selection, next(iter(runs.values())))
        met = None if not other else self._history(user_of(split, other))
        self.tabs = Tabs(
            pages(self.runs, split, self.selection, seed, self._edited, met),
            self.case, tab or ("" if in_report() else HISTORY),
        )  # fmt: skip
        self.view = None if in_report() else self._controls()

    def open(self, user: int | str) -> None:
        """Look at a user of the log; what they met is selected."""
        number = user_of(self.split, user)
        if self.view is None:
            self.selection.select(users=[number])
        else:
            self.users.pick(number)
        if self.case.true.user != number:
            self._begin(number)

    def state(self) -> dict[str, Any]:
        """What is shown, in literals: the parameters that show it again."""
        now, true = self.case.now, self.case.true
        page = self.tabs.made.get(HISTORY)
        other = page.other if isinstance(page, HistoryPage) else None
        return {
            "user": self._name(true.user) if true.user else "",
            "typed": [] if true.user else self._ids([*true.earlier.tolist(), *true.items.tolist()]),
            "history": self._ids(now.items.tolist()) if self.case.edited else [],
            "selection": self._selected(),
            "tab": self.tabs.opened,
            "other": self._other if other is None or not other.user else self._name(other.user),
            "seed": self._seed,
        }

    def still(self) -> Html:
        """What is selected, on the map and in the tree; the user, all top tens and why; and the open tab, or all."""
        open_tabs = [self.tabs.opened] if self.tabs.opened else list(TABS)
        page = self.tabs.page(HISTORY)
        parts = [
            heading("What is selected"),
            self.selection.still(),
            quiet(f"Items that lie together are alike, by {self.drawn_from}."),
            drawn(self.map.still()),
            *([] if self.tree is None else [drawn(self.tree.still())]),
            heading("The user, and what is recommended"),
            side_by_side([history_list(self.split, self.case), side_lists(self.runs, self.split, self.case)]),
            *page.asked.stills("Why"),
            *self.tabs.stills(*open_tabs),
        ]
        return Html("").join(parts)

    def brief(self) -> Html:
        """What is selected, the user and all top tens: what a page without a kernel shows of the live one."""
        lists = side_lists(self.runs, self.split, self.case)
        return self.selection.still() + side_by_side([history_list(self.split, self.case), lists])

    def _case(
        self, user: int | str | None, typed: str | list[str | int] | None, history: str | list[str | int] | None
    ) -> Case:
        number = user_of(self.split, user)
        if typed and number is not None:
            raise ValueError(f"look at user {user}, or at somebody typed in, not at both")
        if typed:
            true = typed_history(self.split, typed, self._longest)
        else:
            true = self._history(number or sample_users(self.split, 1, self._seed)[0])
        if not history:
            return Case(true, true)
        edited = typed_history(self.split, history)
        return Case(true, replace(edited, user=true.user, earlier=true.earlier))

    def _history(self, user: int) -> History:
        return history_of(self.split, user, longest=self._longest)

    def _asked(self, selection: Mapping[str, list]) -> dict[str, Any]:
        """A pinned selection as `Selection.select` takes it: ids of the source become numbers."""
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

    def _selected(self) -> dict[str, list]:
        now = self.selection.now
        if now.asked == "users":
            return {"users": [self._name(user) for user in now.users.tolist()]}
        if now.asked == "codes":
            return {"codes": list(now.codes)}
        return {"items": self._ids(now.items.tolist())} if now.asked == "items" else {}

    def _ids(self, items: list[int]) -> list[str]:
        return [str(self.split.log.items.at[item, "item_id"]) for item in items]

    def _name(self, user: int) -> str:
        return str(self.split.log.users.at[user, "user_id"])

    def _begin(self, user: int) -> None:
        true = self._history(user)
        self.case = Case(true, true)
        if self.view is not None:
            self._tell()
        self.tabs.show(self.case)

    def _edited(self, case: Case) -> None:
        """The history was edited, or somebody typed in, on its own tab."""
        self.case = case
        self.tabs.heard(case)
        self._tell()

    def _follow(self, now: Selected) -> None:
        """A user who is selected anywhere is the one to look at; one who is looked at already keeps their edits."""
        if now.asked == "users" and len(now.users) == 1 and int(now.users[0]) != self.case.true.user:
            self._begin(int(now.users[0]))

    def _undone(self) -> None:
        """Where no choice of a user is left to go back to, the first one is looked at again."""
        if not self.selection.now and self.case.true.user not in (0, self._first):
            self._begin(self._first)

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.told = ipywidgets.HTML()
        self._tell()
        self.selection.follow(self._follow, self.status)
        self.selection.back.on_click(self.status.guard(lambda _: self._undone()))
        space = f"Items that lie together are alike, by {self.drawn_from}; draw around some to select them."
        item_map = ipywidgets.VBox([ipywidgets.HTML(quiet(space).markup), self.map.view], layout=column(3, 420))
        users = ipywidgets.VBox([self.users.view], layout=column(1, 250))
        parts = [ipywidgets.HBox([users, item_map], layout={"width": "100%", "flex_flow": "row wrap"})]
        if self.tree is not None:
            words = "The tree of the items' codes: open a branch to select its items and whoever met them."
            parts += [ipywidgets.HTML(quiet(words).markup), self.tree.view]
        left = ipywidgets.VBox(parts, layout=column(4, 430)).add_class("seqlab-linked")
        right = ipywidgets.VBox([self.told, self.tabs.view], layout=column(6, 560))
        both = ipywidgets.HBox([left, right], layout={"width": "100%", "flex_flow": "row wrap"})
        return ipywidgets.VBox(
            [self.selection.view, self.status.view, both, self.status.page], layout={"width": "100%"}
        ).add_class("seqlab-panel")

    def _tell(self) -> None:
        self.told.value = Html("<h3 role='status'>{}</h3>").format(who(self.split, self.case)).markup
