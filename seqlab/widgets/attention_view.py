"""AttentionView: the attention of each layer and head, beside the influence of each event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from seqlab import figures
from seqlab.contracts import Recommends
from seqlab.figures.attention_maps import scale_end
from seqlab.figures.theme import label
from seqlab.inspection import attention, influence
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import history_for, titles_of, user_choices, user_dropdown, user_label
from seqlab.widgets.views import check

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run


@displayed
class AttentionView:
    """The attention per layer and head for one user, beside the leave-one-out influence of each event on the top item.

    `by`: a row per event, or per token that the model reads (codes of an event, reasoning steps, ...). By event, the
    tokens of an event are aggregated, and tokens without an event have rows of their own below the events.
    `user` is a number of the log (1..U) or, as text, an id of the source; None: a random one. `history`: a History
    instead of a user; `show` replaces it. Raises `ValueError` for a model without attention.
    """

    question = "Which events does the system attend to, and do they matter for its first recommendation?"
    needs = (Recommends, "attention")
    topic = "Attention and memory"

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        by: Literal["event", "token"] = "event",
    ) -> None:
        check(self, run)
        self._model, self._split, self._titles, self._filter = run.model, split, titles_of(split), run.seen_filter
        self._by = by
        self._users = [] if history is not None else user_choices(split, user, seed)
        self._set_history(self._users[0] if history is None else history)
        self.view = None if in_report() else self._controls()

    def show(self, history: History | int) -> None:
        """Show another history, or that of a user of the log."""
        self._set_history(history)
        if self.view is not None:
            self.caption_view.value = self.caption()
            self._draw()

    def still(self) -> go.Figure:
        """All layers and heads for the user, and the influence of each event."""
        return figures.attention_grid(
            self._attention.frame(self._by),
            self._influence,
            self._history_titles(),
            self.caption(),
            **self._row_options(),
        )

    def caption(self) -> str:
        """The user, the top item, and whether attention and influence agree (escaped HTML)."""
        import math

        top, probability = self._influence.attrs["item"], math.exp(self._influence.attrs["log_probability"])
        message = (
            "These tokens are the encoder's; the readout is a decoder's that attends to all of them,<br>"
            "so no row here can be compared with the influence of the events."
        )
        if (readout := self._attention.readout_attention()) is not None:
            _, agree = influence.agreement(readout, self._influence)
            message = (
                f"The attention of {self._attention.readout_label()} (last layer, mean of heads)<br>"
                f"and the influence of the events {agree}."
            )
        user, title = label(user_label(self._split, self._history.user)), label(self._titles[top], 40)
        return f"User {user}: the top item is <b>{title}</b> ({probability:.1%}).<br>{message}"

    def _set_history(self, history: History | int) -> None:
        """Compute the attention and the influence of the events for a history."""
        self._history = history_for(self._split, self._model, history)
        self._attention = attention.attention_of(self._model, self._history)
        self._influence = influence.leave_one_out(self._model, self._history, seen_filter=self._filter, exact=True)

    def _history_titles(self) -> list[str]:
        return [self._titles[item] for item in self._history.items.tolist()]

    def _row_options(self) -> dict[str, list]:
        """The labels of the rows, and the event of each."""
        return {
            "tokens": self._attention.labels(self._titles, self._by),
            "rows": self._attention.events_of_rows(self._by),
        }

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        layers, heads = self._attention.weights.shape[:2]
        self.user = user_dropdown(self._split, self._users)
        self.layer = ipywidgets.IntSlider(layers, 1, layers, description="layer", disabled=layers == 1)
        self.head = ipywidgets.IntSlider(1, 1, heads, description="head", disabled=heads == 1)
        rows = [("by event", "event"), ("by token", "token")]
        self.by = ipywidgets.Dropdown(options=rows, value=self._by, description="rows", layout={"width": "170px"})
        self.caption_view = ipywidgets.HTML(self.caption())
        self.figure = interactive_figure(self._figure())
        self.user.observe(self.status.guard(self._choose), "value")
        for control in (self.layer, self.head, self.by):
            control.observe(self.status.guard(self._draw), "value")
        tokens = [] if self._attention.one_token_per_event else [self.by]
        bar = ipywidgets.HBox([self.user, self.layer, self.head, *tokens])
        return panel(self.status, bar, self.caption_view, self.figure, figure=self.figure)

    def _figure(self) -> go.Figure:
        frame = self._attention.frame(self._by)
        one = frame[(frame["layer"] == self.layer.value - 1) & (frame["head"] == self.head.value - 1)]
        top = scale_end(frame, self._attention.events_of_rows(self._by))
        return figures.attention(one, self._influence, self._history_titles(), top, **self._row_options())

    def _choose(self, change: object) -> None:
        self.show(self.user.value)

    def _draw(self, change: object = None) -> None:
        self._by = self.by.value
        redraw(self.figure, self._figure())
