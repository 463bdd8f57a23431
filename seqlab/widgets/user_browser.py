"""UserBrowser: one user after the other: what they did, what was recommended, what came next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.figures import user_cards
from seqlab.figures.tables import Html
from seqlab.ranking import check_k, top_unseen
from seqlab.runtime.modules import device_of
from seqlab.tasks.next_item import full_history
from seqlab.widgets.display import StatusLine, View, in_report, panel
from seqlab.widgets.inputs.picking import sample_users, titles_of, user_label

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run
    from seqlab.widgets.inputs.selection import Selection


class UserBrowser(View):
    """The test users of a run in a random order (the same for one seed); the still shows the first `users` of them.

    With a `selection` they are the users of that, in a list to search and sort; who is shown is selected, and who alone
    is selected elsewhere is shown.
    """

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
        self.selection = selection
        self._run, self._split, self._count, self._k, self._last = run, split, users, check_k(k), last
        self._order = sample_users(split, len(split.test), seed)
        self._titles = titles_of(split)
        self._rank = dict(zip(run.ranks.frame["user"], run.ranks.frame.itertuples(index=False), strict=True))
        self._row = {user: row for row, user in enumerate(split.test.user.tolist())}
        self.view = None if in_report() else self._controls()

    def card(self, user: int) -> dict[str, Any]:
        """What is known about one user, for `figures.user_cards`."""
        import torch

        run, split = self._run, self._split
        row = torch.tensor([self._row[user]])
        batch = split.test.batch(row, run.model.config.max_length)
        whole = full_history(split.test, row, batch.items)[0].cpu()
        batch = batch.to(device_of(run.model))
        with torch.no_grad():
            if run.ranks.seen_filter:  # which keeps the answer, as evaluation does
                met = whole[whole != split.test.item[row].cpu()].to(batch.items.device)
                ranking = top_unseen(run.model, batch, self._k, (torch.zeros_like(met), met))
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
            "met": bool(result.seen),
        }

    def still(self) -> Html:
        """The first users, one card each."""
        if self.selection is None or not self.selection.now:
            return user_cards([self.card(user) for user in self._order[: self._count]])
        held = set(self.selection.now.users.tolist())
        cards = user_cards([self.card(user) for user in [one for one in self._order if one in held][: self._count]])
        return Html(self.selection.still().body + cards.body)

    def _controls(self) -> Any:
        self.status = StatusLine()
        if self.selection is not None:
            return self._with_list()
        bar = self._bar(1)
        self.status.guard(self._show)()
        return panel(self.status, bar, self.card_view)

    def _bar(self, first: int) -> Any:
        """What leads from user to user, and the place of the card."""
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

    def _with_list(self) -> Any:
        import ipywidgets

        from seqlab.widgets.user_list import UserList

        bar, self._placing, self._on_card = self._bar(0), False, None  # 0: nobody yet
        self.list = UserList(self._split, self.selection, self._run, on_pick=self._picked, on_list=self._listed)
        self._listed()
        left = ipywidgets.Box([self.list.view], layout={"width": "350px", "min_width": "350px"})
        right = ipywidgets.VBox([bar, self.card_view], layout={"flex": "1 1 auto", "min_width": "0"})
        return panel(self.status, ipywidgets.HBox([left, right], layout={"width": "100%"}))

    def _listed(self) -> None:
        """The list has changed: show the only one in it, or stay with who was picked if they are in it, else nobody."""
        user = self.list.picked if self.list.picked in self.list.users else None
        if len(self.list.users) == 1 and len(self.selection.now.users) == 1:
            user = int(self.list.users[0])
        self._place(user)
        if user is not None and user != self._on_card:
            self._picked(user)
        elif user is None:
            say = "Pick a user in the list, or press Next." if len(self.list.users) else "Nobody is in the list."
            self.card_view.value, self._on_card = Html(f"<div>{say}</div>").markup, None

    def _picked(self, user: int) -> None:
        self._place(user)
        self.card_view.value, self._on_card = user_cards([self.card(user)]).markup, user

    def _place(self, user: int | None) -> None:
        """Put the slider where a user is in the list; it is nobody's choice."""
        self._placing = True
        self.position.max = len(self.list.users)
        self.position.value = 0 if user is None else int(np.flatnonzero(self.list.users == user)[0]) + 1
        self._placing = False

    def _step(self, by: int) -> None:
        self.position.value = min(max(self.position.value + by, 1), self.position.max)

    def _show(self, change: object = None) -> None:
        if self.selection is None:
            self.card_view.value = user_cards([self.card(self._order[self.position.value - 1])]).markup
        elif not self._placing:
            at = self.position.value
            if at:
                self.list.pick(self.list.users[at - 1])
