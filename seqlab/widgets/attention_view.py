"""AttentionView: where each head of a model looks, next to what each event is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from seqlab import figures
from seqlab.figures.attention_maps import bright_end
from seqlab.figures.theme import label
from seqlab.inspection import attention, influence
from seqlab.widgets.display import StatusLine, View, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import user_choices, history_for, titles_of, user_dropdown, user_label

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from seqlab.datasets.history import History
    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run


class AttentionView(View):
    """Attention per layer and head of one user, beside the leave-one-out influence of each event on the top item.

    `by`: a row per event, or per token that the model reads (the codes of an event, thoughts, ...). By event, an
    event's tokens are looked at together; what is no event stands below the events under its own name.

    `user` is a number of the log (1..U) or, as text, an id of the source; None: one drawn at random. `history`: what is
    read instead, edited or typed in; there is no user to choose then, and `show` gives the next history.
    Raises `ValueError` for a model without attention.
    """

    def __init__(
        self,
        run: Run,
        split: Split,
        user: int | str | None = None,
        seed: int = 0,
        history: History | None = None,
        by: Literal["event", "token"] = "event",
    ) -> None:
        self._model, self._split, self._titles, self._filter = run.model, split, titles_of(split), run.ranks.seen_filter
        if not attention.has_attention(self._model):
            raise ValueError(f"{run.system} has no attention to look at; choose a Transformer such as sasrec")
        self._by = by
        self._users = [] if history is not None else user_choices(split, user, seed)
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
        return figures.attention_grid(
            self._look.frame(self._by), self._worth, self._titles_read(), self.words(), **self._named()
        )

    def words(self) -> str:
        """What is shown, in lines (escaped)."""
        import math

        top, probability = self._worth.attrs["item"], math.exp(self._worth.attrs["log_probability"])
        said = (
            "An encoder reads these tokens; a decoder that looks at all of them answers,<br>"
            "so no row here can be held against the worth of the events."
        )
        if (looked := self._look.readout_attention()) is not None:
            _, agree = influence.agreement(looked, self._worth)
            said = (
                f"The attention of {self._look.readout_label()} (last layer, mean of heads)<br>"
                f"and the worth of the events {agree}."
            )
        who, what = label(user_label(self._split, self._history.user)), label(self._titles[top], 40)
        return f"User {who}: the top item is <b>{what}</b> ({probability:.1%}).<br>{said}"

    def _read(self, who: History | int) -> None:
        """Watch one forward pass of a history, and ask what each event is worth."""
        self._history = history_for(self._split, self._model, who)
        self._attention = attention.attention_of(self._model, self._history)
        self._worth = influence.leave_one_out(self._model, self._history, seen_filter=self._filter, exact=True)

    def _titles_read(self) -> list[str]:
        return [self._titles[item] for item in self._history.items.tolist()]

    def _named(self) -> dict[str, list]:
        """What the rows are called, and whose they are."""
        return {"tokens": self._look.labels(self._titles, self._by), "rows": self._look.events_of_rows(self._by)}

    def _controls(self) -> Any:
        import ipywidgets

        self.status = StatusLine()
        layers, heads = self._look.weights.shape[:2]
        self.user = user_dropdown(self._split, self._users)
        self.layer = ipywidgets.IntSlider(layers, 1, layers, description="layer", disabled=layers == 1)
        self.head = ipywidgets.IntSlider(1, 1, heads, description="head", disabled=heads == 1)
        rows = [("by event", "event"), ("by token", "token")]
        self.by = ipywidgets.Dropdown(options=rows, value=self._by, description="rows", layout={"width": "170px"})
        self.caption = ipywidgets.HTML(self.words())
        self.figure = interactive_figure(self._figure())
        self.user.observe(self.status.guard(self._choose), "value")
        for control in (self.layer, self.head, self.by):
            control.observe(self.status.guard(self._draw), "value")
        tokens = [] if self._look.one_token_per_event else [self.by]
        bar = ipywidgets.HBox([self.user, self.layer, self.head, *tokens])
        return panel(self.status, bar, self.caption, self.figure, figure=self.figure)

    def _figure(self) -> go.Figure:
        frame = self._look.frame(self._by)
        one = frame[(frame["layer"] == self.layer.value - 1) & (frame["head"] == self.head.value - 1)]
        top = bright_end(frame, self._look.events_of_rows(self._by))
        return figures.attention(one, self._worth, self._titles_read(), top, **self._named())

    def _choose(self, change: object) -> None:
        self.show(self.user.value)

    def _draw(self, change: object = None) -> None:
        self._by = self.by.value
        redraw(self.figure, self._figure())
