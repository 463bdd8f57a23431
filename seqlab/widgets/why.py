"""Why: the influence of each event on a recommendation, the attention to it, and its surprise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from seqlab import figures
from seqlab.contracts import Scores
from seqlab.figures.histories import Measure
from seqlab.figures.html import Html, text
from seqlab.figures.theme import plain
from seqlab.inspection import influence
from seqlab.inspection.examples import MATTERS, supported_item
from seqlab.inspection.explanation import explain
from seqlab.ranking import check_k
from seqlab.widgets.display import StatusLine, displayed, guarded, in_report, panel
from seqlab.widgets.inputs.picking import history_for, titles_of, user_label
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

MAX_EVENTS = 8
"""Events shown before a predicted one."""

INTRO = (
    "Influence is how much the log-probability of the item falls without the event: +0.1 is about 10 % less likely, "
    "+0.7 half as likely. Surprise is minus the log-probability of the event itself, given the events before it. Both "
    "are in nats, units of the natural logarithm."
)


@displayed
class Why:
    """The influence of each event on one of the `k` recommendations, and the surprise of each event.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: a random one. `history`: a History
    instead of a user. `item`: the explained item (None: the first recommendation; in the still, the first one to which
    an event matters, see `inspection.examples.supported_item`). `intro`: whether the view explains itself. Raises
    `ValueError` for a system without `score`.
    """

    question = "Why is this item recommended: which events support it, and which surprised the system?"
    needs = (Scores,)
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
        intro: bool = True,
    ) -> None:
        check(self, run)
        self._intro = Html("<div class='quiet'>{}</div>").format(INTRO) if intro else Html("")
        self._model, self._split, self._titles, self._k = run.model, split, titles_of(split), check_k(k)
        self._filter = run.seen_filter
        self._requested = item
        self._set_history(history_for(split, self._model, user if history is None else history, seed))
        self.view = None if in_report() else self._controls()

    def show(self, history: History) -> None:
        """Show another history; the explained item stays if the user is the same."""
        guarded(self, self._replace_history, history)

    def still(self) -> Html:
        """The influence, attention and surprise of every event, and the prediction before the most surprising one."""
        if self.view is None and self._requested is None:
            self.found = self.found.of_item(self._model, supported_item(self._model, self.history, self.found.listed))
        moment = "" if self.most_surprising is None else self.prediction_before(self.most_surprising)
        return Html("{}{}{}{}").format(self._intro, self.caption(), self.measures(), moment)

    @property
    def most_surprising(self) -> int | None:
        """The position (from 0) of the most surprising event; None in a history of one event."""
        return self.found.most_surprising

    @property
    def item(self) -> int:
        """The explained item."""
        return self.found.item

    def caption(self) -> Html:
        """The item, the events with most influence, and whether attention and influence agree."""
        found, name = self.found, text(self._titles[self.item], 90)
        place = "not in" if found.rank is None else f"number {found.rank} of"
        user = text(user_label(self._split, self.history.user))
        message = Html("<b>{}</b> is {} the top {} of user {}, with a probability of {:.2%}. ").format(
            name, place, len(found.listed), user, found.probability
        )
        if found.influence is None:
            message += "There is only one event: add a second to see the influence of each."
            return Html("<div>{}</div>").format(message)
        message += self._extremes(found.influence["value"])
        if agreement := found.agreement():
            label = found.attention_map.readout_label()
            message += f". The influence of the events and the attention of {label} {agreement[1]}"
        peak = found.surprise.set_index("position").loc[self.most_surprising]
        message += Html(". The most surprising was event {}, {}: the model gave it {}, rank {:,.10g}.").format(
            self.most_surprising + 1, self._event(self.most_surprising), _one_in(peak["value"]), peak["rank"]
        )
        return Html("<div>{}</div>").format(message)

    def _extremes(self, values: pd.Series) -> Html:
        """The events that support the item most and reduce it most, and its probability without each."""
        if values.abs().max() < MATTERS:
            return Html(
                "No event matters: without any one of them, its probability changes by less than {:.0%}"
            ).format(MATTERS)
        parts = []
        for at, does, matters in (
            (int(values.idxmax()), "supports", values.max() > 0), (int(values.idxmin()), "reduces", values.min() < 0),
        ):  # fmt: skip
            if matters:
                words = Html("event {}, {}, {} it most ({:+.2f}: without it, {:.2%})")
                without = self.found.probability * math.exp(-values[at])
                parts.append(words.format(at + 1, self._event(at), does, values[at], without))
            else:
                parts.append(Html("no event {} it").format(does))
        message = Html("; ").join(parts)
        return message[0].upper() + message[1:]

    def measures(self) -> Html:
        """A table of events with influence, attention and surprise."""
        found = self.found
        shown = [Measure("influence", "log-probability", _values(found.influence))]
        if found.attention is not None:
            source = f"of {found.attention_map.readout_label()}"
            shown.append(Measure("attention", source, _values(found.attention), ".1%"))
        shown.append(Measure("surprise", "−log p", _values(found.surprise), ".1f"))
        return figures.event_measures(self._events(), shown, self.most_surprising)

    def prediction_before(self, at: int) -> Html:
        """The recommendations before event `at` (from 0), and the event itself."""
        before, target = self.history_before(at), int(self.history.items[at])
        scores = influence.scores_of(self._model, [before])[0]
        listed = scores.topk(min(self._k, len(scores) - 1)).indices.tolist()
        row = self.found.surprise.set_index("position").loc[at]
        card = {
            "user": f"{user_label(self._split, self.history.user)}, before event {at + 1}",
            "earlier": max(0, at - MAX_EVENTS),
            "history": [self._titles[item] for item in before.items[-MAX_EVENTS:].tolist()],
            "recommended": [self._titles[item] for item in listed],
            "hit": listed.index(target) + 1 if target in listed else 0,
            "answer": self._titles[target],
            "rank": float(row["rank"]),
            "of": len(self._titles) - 1,
            "seen": target in before.items,
        }
        message = f"To event {at + 1} the model gave {_one_in(row['value'])} (surprise {row['value']:.2f})."
        return Html("<div>{} All items are ranked here, seen items too.</div>{}").format(
            message, figures.user_cards([card])
        )

    def history_before(self, at: int) -> History:
        """The history before event `at` (from 0)."""
        return self.history.drop(*range(at, len(self.history)))

    def _set_history(self, history: History) -> None:
        """Compute everything for a history."""
        self.history = history
        self.found = explain(self._model, history, self._requested, self._k, self._filter)

    def _events(self) -> list[str]:
        return [self._titles[item] for item in self.history.items.tolist()]

    def _event(self, at: int) -> Html:
        return Html("<b>{}</b>").format(text(self._titles[int(self.history.items[at])], 40))

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        self.item_choice = ipywidgets.Dropdown(description="why", layout={"width": "min(420px, 97%)"})
        self.message = ipywidgets.HTML(layout={"width": "100%"})
        self.jump = ipywidgets.Button(description="Jump to the most surprising event", layout={"width": "auto"})
        self.at = ipywidgets.IntSlider(2, 2, 2, description="event", continuous_update=False)
        self.expected = ipywidgets.HTML(layout={"width": "100%"})
        self._fill_controls()
        self.item_choice.observe(self.status.guard(self._item_chosen), "value")
        self.jump.on_click(self.status.guard(self._jump))
        self.at.observe(self.status.guard(self._show_prediction), "value")
        bar = ipywidgets.HBox([self.jump, self.at], layout={"flex_flow": "row wrap"})
        return panel(self.status, ipywidgets.HTML(self._intro), self.item_choice, self.message, bar, self.expected)

    def _fill_controls(self) -> None:
        """Fill the controls for the history that was read."""
        self._filling = True
        labels = {item: f"{at}. {plain(self._titles[item], 60)}" for at, item in enumerate(self.found.listed, 1)}
        labels.setdefault(self.item, f"not listed: {plain(self._titles[self.item], 60)}")
        self.item_choice.options = [(label, item) for item, label in labels.items()]
        self.item_choice.value = self.item
        self.jump.disabled = self.at.disabled = self.most_surprising is None
        self.at.max = max(2, len(self.history))
        self.at.value = 2
        self.expected.value = ""
        self._update_caption()
        self._filling = False

    def _update_caption(self) -> None:
        self.message.value = (self.caption() + self.measures()).markup

    def _replace_history(self, history: History) -> None:
        if history.user != self.history.user:
            self._requested = None
        self._set_history(history_for(self._split, self._model, history))
        if self.view is not None:
            self._fill_controls()

    def _item_chosen(self, change: object) -> None:
        if not self._filling:
            self._requested = None if self.item_choice.value == self.found.listed[0] else self.item_choice.value
            self.found = self.found.of_item(self._model, self.item_choice.value)
            self._update_caption()

    def _jump(self, click: object) -> None:
        if self.at.value == self.most_surprising + 1:
            self._show_prediction()
        self.at.value = self.most_surprising + 1

    def _show_prediction(self, change: object = None) -> None:
        if not self._filling:
            self.expected.value = self.prediction_before(self.at.value - 1).markup


def _one_in(surprise: float) -> str:
    """A probability in words, from minus its logarithm."""
    chance = math.exp(-surprise)
    return f"a probability of {chance:.1%}" if chance > 0.1 else f"1 chance in {float(f'{1 / chance:.2g}'):,.0f}"


def _values(frame: pd.DataFrame | None) -> dict[int, float]:
    return {} if frame is None else dict(zip(frame["position"].tolist(), frame["value"].tolist(), strict=True))
