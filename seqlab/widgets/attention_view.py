"""AttentionView: where each head of a model looks, next to what each event is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures, tracing
from seqlab.evaluation import influence
from seqlab.figures.attention_maps import bright_end
from seqlab.figures.theme import label
from seqlab.widgets.picking import offered, reading, titles_of, user_dropdown, user_label
from seqlab.widgets.showing import StatusLine, bundle, in_report, live_figure, panel, redraw

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.splits import Split
    from seqlab.evaluation.influence import History
    from seqlab.training import Run


class AttentionView:
    """Attention per layer and head of one user, beside the leave-one-out influence of each event on the top item.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: one drawn at random. `history`: what is
    read instead, edited or typed in; there is no user to choose then, and `show` gives the next history.
    Raises `ValueError` for a model without attention.
    """

    def __init__(
        self, run: Run, split: Split, user: int | str | None = None, seed: int = 0, history: History | None = None
    ) -> None:
        self._model, self._split, self._titles, self._filter = run.model, split, titles_of(split), run.ranks.seen_filter
        if not any(tap.kind == "attention" for tap in tracing.taps(self._model).values()):
            raise ValueError(f"{run.system} has no attention to look at; choose a Transformer such as sasrec")
        self._users = [] if history is not None else offered(split, user, seed)
        self._read(self._users[0] if history is None else history)
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Look at another history, or at that of a user of the log."""
        self._read(history)
        if self.view is not None:
            self.caption.value = self.words()
            self._draw()

    def still(self) -> go.Figure:
        """All layers and heads of the user, and the worth of each event."""
        return figures.attention_grid(self._weights, self._worth, self._words, self.words())

    def words(self) -> str:
        """What is shown, in two lines (escaped)."""
        import math

        top, probability = self._worth.attrs["item"], math.exp(self._worth.attrs["log_probability"])
        mean = influence.last_look(self._weights, len(self._worth))
        _, agree = influence.agreement(mean, self._worth)
        who, what = label(user_label(self._split, self._history.user)), label(self._titles[top], 40)
        return (
            f"User {who}: the top item is <b>{what}</b> ({probability:.1%})."
            f"<br>Where the last event looks (last layer, mean of heads) and what the events are worth {agree}."
        )

    def _read(self, who: History | int) -> None:
        """Watch one forward pass of a history, and ask what each event is worth."""
        history = reading(self._split, self._model, who)
        with tracing.watch(self._model, "attention") as trace:
            influence.scores_of(self._model, [history])
        weights = trace["attention"].frame()
        if "layer" not in weights.columns:
            weights["layer"] = 0
        self._history = history
        self._weights = weights
        self._worth = influence.leave_one_out(self._model, history, seen_filter=self._filter)
        words = [self._titles[item] for item in history.items.tolist()]
        asked = int(weights["query"].max()) + 1 - len(words)  # a masked model has a position for what comes next
        self._words = [*words, *(["(what comes next)"] * asked)]

    def _one_head(self) -> pd.DataFrame:
        return self._weights[
            (self._weights["layer"] == self.layer.value - 1) & (self._weights["head"] == self.head.value - 1)
        ]

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        layers, heads = int(self._weights["layer"].max()) + 1, int(self._weights["head"].max()) + 1
        self.user = user_dropdown(self._split, self._users)
        self.layer = ipywidgets.IntSlider(layers, 1, layers, description="layer", disabled=layers == 1)
        self.head = ipywidgets.IntSlider(1, 1, heads, description="head", disabled=heads == 1)
        self.caption = ipywidgets.HTML(self.words())
        self.figure = live_figure(self._figure())
        self.user.observe(self.status.guard(self._choose), "value")
        for slider in (self.layer, self.head):
            slider.observe(self.status.guard(self._draw), "value")
        bar = ipywidgets.HBox([self.user, self.layer, self.head])
        return panel(self.status, bar, self.caption, self.figure, figure=self.figure)

    def _figure(self) -> go.Figure:
        return figures.attention(self._one_head(), self._worth, self._words, bright_end(self._weights))

    def _choose(self, change: object) -> None:
        self.show(self.user.value)

    def _draw(self, change: object = None) -> None:
        redraw(self.figure, self._figure())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return bundle(self)
