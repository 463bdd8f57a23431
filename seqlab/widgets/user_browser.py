"""UserBrowser: one user after the other: what they did, what was recommended, what came next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab.figures import user_cards
from seqlab.figures.tables import Html
from seqlab.widgets.picking import sample_users, titles_of, user_label
from seqlab.widgets.showing import StatusLine, bundle, in_report, panel

if TYPE_CHECKING:
    from seqlab.datasets.splits import Split
    from seqlab.training import Run


class UserBrowser:
    """The test users of a run in a random order (the same for one seed); the still shows the first `users` of them."""

    def __init__(self, run: Run, split: Split, users: int = 10, k: int = 10, last: int = 10, seed: int = 0) -> None:
        self._run, self._split, self._count, self._k, self._last = run, split, users, k, last
        self._order = sample_users(split, len(split.test), seed)
        self._titles = titles_of(split)
        self._rank = dict(zip(run.ranks.frame["user"], run.ranks.frame.itertuples(index=False), strict=True))
        self._row = {user: row for row, user in enumerate(split.test.user.tolist())}
        self.view = None if in_report() else self._controls()

    def card(self, user: int) -> dict[str, Any]:
        """What is known about one user, for `figures.user_cards`."""
        import torch

        from seqlab.recommender import device_of, top_unseen

        run, split = self._run, self._split
        row = torch.tensor([self._row[user]])
        whole = split.test.batch(row).items[0].cpu()
        batch = split.test.batch(row, run.model.config.max_length).to(device_of(run.model))
        with torch.no_grad():
            if run.ranks.seen_filter:
                ranking = top_unseen(run.model, batch, self._k, whole[None].to(batch.items.device))
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
        return user_cards([self.card(user) for user in self._order[: self._count]])

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.position = ipywidgets.IntSlider(
            1, 1, len(self._order), description="user", continuous_update=False, layout={"width": "420px"}
        )
        self.previous = ipywidgets.Button(description="Previous", icon="arrow-left", layout={"width": "110px"})
        self.next = ipywidgets.Button(description="Next", icon="arrow-right", layout={"width": "110px"})
        self.card_view = ipywidgets.HTML(layout={"width": "98%"})
        self.previous.on_click(self.status.guard(lambda _: self._step(-1)))
        self.next.on_click(self.status.guard(lambda _: self._step(+1)))
        self.position.observe(self.status.guard(self._show), "value")
        self.status.guard(self._show)()
        bar = ipywidgets.HBox([self.previous, self.next, self.position])
        return panel(self.status, bar, self.card_view)

    def _step(self, by: int) -> None:
        self.position.value = min(max(self.position.value + by, 1), len(self._order))

    def _show(self, change: object = None) -> None:
        self.card_view.value = user_cards([self.card(self._order[self.position.value - 1])]).markup

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return bundle(self)
