"""UserList: a list of the users of the test queries or of a selection, to search, sort and pick from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain
from seqlab.widgets.display import StatusLine, displayed, in_report, panel
from seqlab.widgets.inputs.selection import UNDO_LIMIT

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selected, Selection

MAX_LISTED = 100
"""The largest number of users in the list; the others are counted."""

ORDERS = {"selected": "most selected items seen", "result": "{}, best first", "events": "longest history"}
"""Column to sort by -> label; "result" is the rank, or the primary metric of a task without ranks."""


@displayed
class UserList:
    """The users of a selection (nothing selected: all users of the test queries), to search, sort and pick from.

    Picking a user selects the items of their history and leaves the list as it is. run: for the column of the rank, or
    of the primary metric of a task without ranks (None: no column); the mean, for a user with several queries. users:
    rows of the still. on_pick(user) is called for a pick, on_list() after a change of the list.
    """

    question = "Who are the users of a selection, and how well are they served?"
    needs = ()

    def __init__(
        self,
        split: Split,
        selection: Selection,
        run: Run | None = None,
        users: int = 10,
        on_pick: Callable[[int], None] | None = None,
        on_list: Callable[[], None] | None = None,
    ) -> None:
        import pandas as pd

        self.selection, self._count, self._on_pick, self._on_list = selection, users, on_pick, on_list
        test = split.test
        events = pd.Series((test.end - test.start).cpu().numpy(), index=test.user.cpu().numpy())
        events = events[~events.index.duplicated()].loc[selection.users]  # before the first query
        names = split.log.users["user_id"].loc[selection.users].map(lambda name: plain(name, 40))
        self._all = pd.DataFrame({"user": names, "events": events})
        self.result, self._higher = "", False
        if run is not None:
            outcome = run.outcome
            self.result = "rank" if "rank" in outcome.frame else outcome.primary
            self._higher = self.result != "rank" and outcome.metric(outcome.primary).higher
            column = outcome.frame if self.result == "rank" else outcome.values([self.result])
            self._all[self.result] = column[self.result].groupby(outcome.frame["user"]).mean()
        self._lower = names.str.casefold()
        self._order, self._query = next(iter(self.orders)), ""
        self._picks: deque[tuple[Selected, Selected, np.ndarray]] = deque(maxlen=UNDO_LIMIT)
        self._update_base()
        self.picked: int | None = None
        self.view = None if in_report() else self._controls()

    @property
    def orders(self) -> dict[str, str]:
        """The columns to sort by: column -> label."""
        named = {self.result if name == "result" else name: words for name, words in ORDERS.items()}
        return {name: words.format(name) for name, words in named.items() if name}

    def frame(self) -> pd.DataFrame:
        """The whole list: index user; columns user (id), events, the rank or metric, selected (items seen of these)."""
        rows = self._all.assign(selected=self._selected_counts)
        if self._base:
            rows = rows.loc[self._base.users]
        if query := self._query.strip().casefold():
            rows = rows[self._lower.loc[rows.index].str.contains(query, regex=False)]
        return rows.sort_values(self._order, ascending=self._order == self.result and not self._higher, kind="stable")

    def pick(self, user: int) -> None:
        """Select a user and the items of their history; the list stays as it is."""
        self.selection.select(users=[user], by=self)
        self._picks.append((self.selection.now, self._base, self._selected_counts))
        self._set_picked(int(user))

    def still(self) -> Html:
        """The first users as a table."""
        rows = self.frame()
        table = figures.table(rows.head(self._count).rename(columns={"selected": "selected items seen"}), 1)
        return Html("<div>{}</div>{}").format(text(self._summary(len(rows))), table)

    def _update_base(self) -> None:
        """List the users of the current selection."""
        self._base, self._selected_counts = self.selection.now, self.selection.counts()

    def _summary(self, count: int) -> str:
        of = "users with a test query" if not self._base else "users of the selection"
        whole = len(self._all) if not self._base else len(self._base.users)
        listed = f", the first {MAX_LISTED} are listed" if count > MAX_LISTED else ""
        return f"{count:,} of {whole:,} {of}{listed}." if count or whole else "No user has seen a selected item."

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        wide = {"width": "97%"}
        named = {"description_width": "auto"}
        self.search = ipywidgets.Text(
            placeholder="part of a user id, then Enter", description="find", style=named, layout=wide
        )
        error = self.status.line()
        options = [(words, name) for name, words in self.orders.items()]
        self.order = ipywidgets.Dropdown(options=options, description="sort by", style=named, layout=wide)
        self.listed = ipywidgets.Select(rows=12, layout=wide)
        self.message = ipywidgets.HTML()
        self._filling = False
        self._fill()
        for control in (self.search, self.order):
            control.observe(self.status.guard(self._search_changed), "value")
        entered = self.status.guard(self._pick_found, error)
        self.search.on_msg(lambda box, content, buffers: entered() if content.get("event") == "submit" else None)
        self.listed.observe(self.status.guard(self._list_chosen), "value")
        self.selection.follow(self._follow, self.status)
        return panel(self.status, self.search, error, self.order, self.listed, self.message)

    def _set_picked(self, user: int) -> None:
        self.picked = user
        self._select_picked()
        if self._on_pick is not None:
            self._on_pick(user)

    def _follow(self, now: Selected) -> None:
        if now.by is self:
            return
        undone = [(base, counts) for pick, base, counts in self._picks if pick.users is now.users]
        if not undone:
            self._update_base()
            self._list()
        else:  # Undo returns to a pick of this list, and to the list of that time
            self._base, self._selected_counts = undone[-1]
            self.picked = int(now.users[0])
            self._list()
            self._set_picked(self.picked)

    def _search_changed(self, change: object) -> None:
        self._order, self._query = self.order.value, self.search.value
        self._list()

    def _list_chosen(self, change: Any) -> None:
        if change.new is not None and not self._filling:
            self.pick(change.new)

    def _pick_found(self) -> None:
        """Pick the user of the id that was typed, or the first one found."""
        query = self._query.strip().casefold()
        whole = self._lower.index[self._lower == query].intersection(self.users)
        if not len(self.users):
            raise ValueError(f"no user of the list has {plain(self._query, 60)!r} in the id")
        self.pick(int(whole[0] if len(whole) else self.users[0]))

    def _list(self) -> None:
        self._fill()
        if self._on_list is not None:
            self._on_list()

    def _fill(self) -> None:
        rows = self.frame()
        self.users = rows.index.to_numpy()
        options = []
        results, digits = rows.get(self.result), 10 if self.result == "rank" else 4
        for row in rows.head(MAX_LISTED).itertuples():
            result = f"{self.result} {results[row.Index]:,.{digits}g} · " if self.result else ""
            selected = f" · {row.selected:,} selected" if self._base else ""
            options.append((f"{row.user}  {result}{row.events:,} event{'s' * (row.events != 1)}{selected}", row.Index))
        self._filling = True  # ipywidgets selects the first of new options, which is no pick
        self.listed.options = options
        self._filling = False
        self._select_picked()
        self.message.value = Html("<div class='quiet'>{}</div>").format(text(self._summary(len(rows)))).markup

    def _select_picked(self) -> None:
        self._filling = True
        shown = [user for _, user in self.listed.options]
        self.listed.value = self.picked if self.picked in shown else None
        self._filling = False
