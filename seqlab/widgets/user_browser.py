"""UserBrowser: the history, the recommendations and the answer of one test user at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.contracts import Recommends, needs_of
from seqlab.datasets.split_names import with_columns
from seqlab.figures import user_cards
from seqlab.figures.html import Html
from seqlab.ranking import check_k, top_unseen
from seqlab.runtime.modules import device_of
from seqlab.tasks.next_item import full_history
from seqlab.widgets.display import StatusLine, displayed, in_report, panel
from seqlab.widgets.inputs.picking import sample_users, titles_of, user_label

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selection


@displayed
class UserBrowser:
    """The test users of a run in a random order (by seed); the still shows the first `users` of them.

    Of a user with several queries the first is shown. Raises `ValueError` for a run that was not measured by ranks.
    With a `selection`, its users are listed, to search and sort; the shown user becomes selected, and a single user
    selected in another view is shown.
    """

    question = "What did the users do last, what would they have been recommended, and what came next?"
    needs = (Recommends,)

    def __init__(
        self,
        run: Run,
        split: Split,
        users: int = 10,
        k: int = 10,
        last: int = 10,
        seed: int = 0,
        selection: Selection | None = None,
    ) -> None:
        if "rank" not in run.outcome.frame:
            raise ValueError(
                f"{run.system} was measured by {run.outcome.task}, which ranks no items, so there are no lists to show."
            )
        self.selection, split = selection, with_columns(split, needs_of(run.model))
        self._run, self._split, self._count, self._k, self._last = run, split, users, check_k(k), last
        self._order = sample_users(split, len(split.test), seed)
        self._titles = titles_of(split)
        self._row = {user: row for row, user in reversed([*enumerate(split.test.user.tolist())])}
        of_query = run.outcome.frame.set_index("query", drop=False).loc[split.test.id[[*self._row.values()]].tolist()]
        self._rank = dict(zip(of_query["user"], of_query.itertuples(index=False), strict=True))
        self.view = None if in_report() else self._controls()

    def card(self, user: int) -> dict[str, Any]:
        """One user's card for `figures.user_cards`."""
        import torch

        run, split = self._run, self._split
        row = torch.tensor([self._row[user]])
        batch = split.test.batch(row, run.model.config.max_length)
        whole = full_history(split.test, row, batch.items)[0].cpu()
        batch = batch.to(device_of(run.model))
        with torch.no_grad():
            if run.seen_filter:  # keep the answer, as the evaluation does
                seen = whole[whole != split.test.item[row].cpu()].to(batch.items.device)
                ranking = top_unseen(run.model, batch, self._k, (torch.zeros_like(seen), seen))
            else:
                ranking = run.model.recommend(batch, self._k)
        result = self._rank[user]
        listed = [item for item in ranking.items[0].tolist() if item]
        return {
            "user": user_label(split, user),
            "earlier": max(0, len(whole) - self._last),
            "history": [self._titles[item] for item in whole[-self._last :].tolist()],
            "recommended": [self._titles[item] for item in listed],
            "hit": listed.index(result.item) + 1 if result.item in listed else 0,
            "answer": self._titles[result.item],
            "rank": float(result.rank),
            "of": split.n_items,
            "seen": bool(result.seen),
        }

    def still(self) -> Html:
        """The first users, one card each."""
        if self.selection is None or not self.selection.now:
            return user_cards([self.card(user) for user in self._order[: self._count]])
        selected = set(self.selection.now.users.tolist())
        cards = user_cards([self.card(user) for user in [one for one in self._order if one in selected][: self._count]])
        return self.selection.still() + cards

    def _controls(self) -> Any:
        self.status = StatusLine()
        if self.selection is not None:
            return self._list_controls()
        bar = self._bar(1)
        self.status.guard(self._show)()
        return panel(self.status, bar, self.card_view)

    def _bar(self, first: int) -> Any:
        """The controls to move between users, and the card's container."""
        import ipywidgets

        self.position = ipywidgets.IntSlider(
            first, first, len(self._order), description="user", continuous_update=False, layout={"width": "420px"}
        )
        whole = {"width": "110px", "flex": "0 0 auto"}
        self.previous = ipywidgets.Button(description="Previous", icon="arrow-left", layout=whole)
        self.next = ipywidgets.Button(description="Next", icon="arrow-right", layout=whole)
        self.card_view = ipywidgets.HTML(layout={"width": "98%"})
        self.previous.on_click(self.status.guard(lambda _: self._step(-1)))
        self.next.on_click(self.status.guard(lambda _: self._step(+1)))
        self.position.observe(self.status.guard(self._show), "value")
        return ipywidgets.HBox([self.previous, self.next, self.position])

    def _list_controls(self) -> Any:
        import ipywidgets

        from seqlab.widgets.user_list import UserList

        bar, self._moving, self._card_user = self._bar(0), False, None  # 0: no user
        self.list = UserList(self._split, self.selection, self._run, on_pick=self._picked, on_list=self._list_changed)
        self._list_changed()
        left = ipywidgets.Box([self.list.view], layout={"width": "350px", "min_width": "350px"})
        right = ipywidgets.VBox([bar, self.card_view], layout={"flex": "1 1 auto", "min_width": "0"})
        return panel(self.status, ipywidgets.HBox([left, right], layout={"width": "100%"}))

    def _list_changed(self) -> None:
        """After a change of the list, show its only user, or the picked user if listed, else none."""
        user = self.list.picked if self.list.picked in self.list.users else None
        if len(self.list.users) == 1 and len(self.selection.now.users) == 1:
            user = int(self.list.users[0])
        self._move_slider(user)
        if user is not None and user != self._card_user:
            self._picked(user)
        elif user is None:
            hint = "Pick a user in the list, or press Next." if len(self.list.users) else "The list is empty."
            self.card_view.value, self._card_user = Html("<div>{}</div>").format(hint).markup, None

    def _picked(self, user: int) -> None:
        self._move_slider(user)
        self.card_view.value, self._card_user = user_cards([self.card(user)]).markup, user

    def _move_slider(self, user: int | None) -> None:
        """Set the slider to a user's position in the list, without a pick."""
        self._moving = True
        self.position.max = len(self.list.users)
        self.position.value = 0 if user is None else int(np.flatnonzero(self.list.users == user)[0]) + 1
        self._moving = False

    def _step(self, by: int) -> None:
        self.position.value = min(max(self.position.value + by, 1), self.position.max)

    def _show(self, change: object = None) -> None:
        if self.selection is None:
            self.card_view.value = user_cards([self.card(self._order[self.position.value - 1])]).markup
        elif not self._moving:
            at = self.position.value
            if at:
                self.list.pick(self.list.users[at - 1])
