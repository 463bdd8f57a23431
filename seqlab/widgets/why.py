"""Why: what a recommendation hangs on, where the model looked, and where the history surprised it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from seqlab import figures, tracing
from seqlab.figures.histories import Measure
from seqlab.figures.tables import Html, text
from seqlab.figures.theme import plain
from seqlab.inspection import attention, influence
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, View, in_report, panel
from seqlab.widgets.inputs.picking import history_for, titles_of, user_label

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

LAST = 8
"""Events shown before a surprising moment."""

INTRO = (
    "Worth is how much less likely the item becomes without the event; surprise is how unlikely the event itself was, "
    "given the events read before it."
)


class Why(View):
    """What each event of a history is worth to one of its `k` recommendations, and how surprising each event was.

    `history`: a History, a number of the log (1..U) or, as text, an id of the source; None: a user drawn at random.
    `item`: to ask about (None: the one recommended first). Raises `ValueError` for a system that scores nothing.
    """

    def __init__(
        self,
        run: Run,
        split: Split,
        history: History | int | str | None = None,
        item: int | None = None,
        k: int = 10,
        seed: int = 0,
    ) -> None:
        if not hasattr(run.model, "score"):
            raise ValueError(
                f"{run.system} makes lists without scoring the catalogue, so no event's worth can be told; choose a "
                "system that scores, such as sasrec"
            )
        self._model, self._split, self._titles, self._k = run.model, split, titles_of(split), check_k(k)
        self._filter = run.ranks.seen_filter
        self._asked = item
        self._read(history_for(split, self._model, history, seed))
        self.view = None if in_report() else self._controls()

    def show(self, history: History) -> None:
        """Ask about another history; the item asked about stays while the user does."""
        if self.view is None:
            self._show(history)
        else:
            self.status.guard(self._show)(history)

    def still(self) -> Html:
        """The worth of every event, where the model looked, the surprises, and the most surprising moment."""
        moment = "" if self.surprising is None else self.prediction_before(self.surprising).body
        return Html(f"<div class='quiet'>{INTRO}</div>{self.words()}{self.measures().body}{moment}")

    @property
    def surprising(self) -> int | None:
        """The position (from 0) of the most surprising event; None in a history of one event."""
        return None if self._surprise is None else self._surprise.attrs["position"]

    def words(self) -> str:
        """What is asked, what speaks for it and against it, and whether attention says the same (escaped)."""
        name, chance = text(self._titles[self.item], 90), math.exp(float(self._log_p[self.item]))
        place = f"number {self._top.index(self.item) + 1} of" if self.item in self._top else "not in"
        said = (
            f"<b>{name}</b> is {place} the top {len(self._top)} of user "
            f"{text(user_label(self._split, self.history.user))}, with a probability of {chance:.2%}. "
        )
        if self._worth is None:
            return f"<div>{said}One event alone is all there is to go on: add a second to see what each is worth.</div>"
        worth = self._worth["value"]
        best, worst = int(worth.idxmax()), int(worth.idxmin())
        said += f"Event {best + 1}, {self._event(best)}, speaks most for it ({worth[best]:+.2f} nats)"
        if worth[worst] < 0:
            said += f"; event {worst + 1}, {self._event(worst)}, most against it ({worth[worst]:+.2f})"
        if self._looked is not None:
            _, agree = influence.agreement(self._looked, self._worth)
            said += f". The worth of the events and the attention of {self._attention.readout_label()} {agree}"
        peak = self._surprise.set_index("position").loc[self.surprising]
        said += (
            f". The most surprising was event {self.surprising + 1}, {self._event(self.surprising)}: "
            f"{peak['value']:.1f} nats, rank {peak['rank']:,.10g}."
        )
        return f"<div>{said}</div>"

    def measures(self) -> Html:
        """Every event with its worth, the attention it gets and its surprise."""
        shown = [Measure("worth", "log-probability, nats", _values(self._worth))]
        if self._looked is not None:
            shown.append(Measure("attention", f"of {self._attention.readout_label()}", _values(self._looked), ".1%"))
        shown.append(Measure("surprise", "−log p, nats", _values(self._surprise), ".1f"))
        return figures.event_measures(self._events(), shown, self.surprising)

    def prediction_before(self, at: int) -> Html:
        """What the model expected when the history ended before event `at` (from 0), and what came instead."""
        before, came = self.history_before(at), int(self.history.items[at])
        scores = influence.scores_of(self._model, [before])[0]
        listed = scores.topk(min(self._k, len(scores) - 1)).indices.tolist()
        row = self._surprise.set_index("position").loc[at]
        card = {
            "user": f"{user_label(self._split, self.history.user)}, before event {at + 1}",
            "earlier": max(0, at - LAST),
            "history": [self._titles[item] for item in before.items[-LAST:].tolist()],
            "recommended": [self._titles[item] for item in listed],
            "hit": listed.index(came) + 1 if came in listed else 0,
            "answer": self._titles[came],
            "rank": float(row["rank"]),
            "of": len(self._titles) - 1,
            "met": came in before.items,
        }
        chance = math.exp(-row["value"])
        said = f"Event {at + 1} cost {row['value']:.2f} nats: the model gave it {chance:.2g} of its probability."
        return Html(
            f"<div>{said} All items are ranked here, those met before too.</div>{figures.user_cards([card]).body}"
        )

    def history_before(self, at: int) -> History:
        """The history as it was before event `at` (from 0)."""
        return self.history.drop(*range(at, len(self.history)))

    def _read(self, history: History) -> None:
        """Ask the model about a history."""
        self.history = history
        with tracing.watch(self._model, "attention") as trace:
            scores = influence.scores_of(self._model, [history])
        self._log_p = scores[0].log_softmax(0)
        free = influence.mask_seen(scores, [history], self._filter)[0]
        self._top = [item for item in free.topk(min(self._k, len(free) - 1)).indices.tolist() if free[item] > -math.inf]
        attentive = attention.has_attention(self._model)
        self._attention = attention.attention_in(trace, self._model, history) if attentive else None
        self._looked = self._attention.readout_attention() if attentive else None
        alone = len(history) < 2
        self._surprise = None if alone else influence.surprise(self._model, history)
        self._ask(self._asked)

    def _ask(self, item: int | None) -> None:
        """Ask what each event is worth to an item; None: to the first."""
        if item is not None and not 0 < item < len(self._titles):
            raise ValueError(f"there is no item {item}; the catalogue has 1 to {len(self._titles) - 1}")
        self.item = self._top[0] if item is None else item
        alone = len(self.history) < 2
        self._worth = None if alone else influence.leave_one_out(self._model, self.history, self.item)

    def _events(self) -> list[str]:
        return [self._titles[item] for item in self.history.items.tolist()]

    def _event(self, at: int) -> str:
        return f"<b>{text(self._titles[int(self.history.items[at])], 40)}</b>"

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.ask = ipywidgets.Dropdown(description="why", layout={"width": "min(420px, 97%)"})
        self.message = ipywidgets.HTML(layout={"width": "100%"})
        self.jump = ipywidgets.Button(description="Jump to the most surprising moment", layout={"width": "auto"})
        self.at = ipywidgets.IntSlider(2, 2, 2, description="event", continuous_update=False)
        self.expected = ipywidgets.HTML(layout={"width": "100%"})
        self._offer()
        self.ask.observe(self.status.guard(self._choose), "value")
        self.jump.on_click(self.status.guard(self._jump))
        self.at.observe(self.status.guard(self._look), "value")
        bar = ipywidgets.HBox([self.jump, self.at], layout={"flex_flow": "row wrap"})
        return panel(self.status, ipywidgets.HTML(INTRO), self.ask, self.message, bar, self.expected)

    def _offer(self) -> None:
        """Fill the controls for the history that was read."""
        self._filling = True
        words = {item: f"{at}. {plain(self._titles[item], 60)}" for at, item in enumerate(self._top, 1)}
        words.setdefault(self.item, f"not listed: {plain(self._titles[self.item], 60)}")
        self.ask.options = [(said, item) for item, said in words.items()]
        self.ask.value = self.item
        self.jump.disabled = self.at.disabled = self.surprising is None
        self.at.max = max(2, len(self.history))
        self.at.value = 2
        self.expected.value = ""
        self._tell()
        self._filling = False

    def _tell(self) -> None:
        self.message.value = Html(f"{self.words()}{self.measures().body}").markup

    def _show(self, history: History) -> None:
        if history.user != self.history.user:
            self._asked = None
        self._read(history_for(self._split, self._model, history))
        if self.view is not None:
            self._offer()

    def _choose(self, change: object) -> None:
        if not self._filling:
            self._asked = None if self.ask.value == self._top[0] else self.ask.value
            self._ask(self.ask.value)
            self._tell()

    def _jump(self, click: object) -> None:
        if self.at.value == self.surprising + 1:
            self._look()
        self.at.value = self.surprising + 1

    def _look(self, change: object = None) -> None:
        if not self._filling:
            self.expected.value = self.prediction_before(self.at.value - 1).markup


def _values(frame: pd.DataFrame | None) -> dict[int, float]:
    return {} if frame is None else dict(zip(frame["position"].tolist(), frame["value"].tolist(), strict=True))
