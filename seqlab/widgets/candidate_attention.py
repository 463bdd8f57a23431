"""CandidateAttention: which events of a history a click model looks at, for each candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seqlab import figures, tracing
from seqlab.figures.theme import plain
from seqlab.runtime.modules import device_of, evaluating
from seqlab.widgets.display import StatusLine, displayed, in_report, interactive_figure, panel, redraw
from seqlab.widgets.inputs.picking import titles_of, user_choices, user_dropdown, user_label

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from seqlab.datasets.splits import Split
    from seqlab.runs.run import Run

TAP = "candidate_attention"

MAX_CANDIDATES = 3


@displayed
class CandidateAttention:
    """Which events decide about a candidate? The attention of each candidate to the last events, and its probability.

    run: of a system with the tap "candidate_attention", such as dare; split: with labelled candidates. user: the first
    one of the dropdown, by number or id; the still shows that one. events: how many of the last events are shown.
    Raises `ValueError` for another system or split.
    """

    def __init__(self, run: Run, split: Split, user: int | str | None = None, events: int = 16, seed: int = 0) -> None:
        if not any(tap.kind == TAP for tap in tracing.taps(run.model).values()):
            raise ValueError(f"{run.system} has no attention of candidates; choose a system such as dare")
        if split.test.candidates is None:
            raise ValueError("the queries of this split have no candidates; choose a split such as 'candidates 2'")
        self._model, self._split, self._events = run.model, split, events
        self._titles, self._users = titles_of(split), user_choices(split, user, seed)
        self._rows = {user: row for row, user in enumerate(split.test.user.tolist())}
        self.view = None if in_report() else self._controls()

    def measure(self, user: int) -> tuple[str, pd.DataFrame, list[str]]:
        """For one user: a caption, the tidy frame of all panels, and the titles of the events."""
        import pandas as pd
        import torch

        row = torch.tensor([self._rows[user]])
        batch = self._split.test.batch(row, self._model.config.max_length).to(device_of(self._model))
        candidates = batch.context["candidates"]
        with torch.no_grad(), evaluating(self._model), tracing.watch(self._model, TAP) as trace:
            logits = self._model.label_logits(batch, candidates)
        length = int(batch.lengths[0])
        first = max(0, length - self._events)
        weights = trace[TAP].values[0, :, first:length]  # (M, events)
        labels, parts, named = self._split.test.labels[row][0], [], []
        order = labels.nan_to_num().argsort(descending=True, stable=True).tolist()[:MAX_CANDIDATES]
        for number, at in enumerate(order, 1):
            title = plain(self._titles[int(candidates[0, at])], 26)
            named.append(f"{number} {title} {torch.sigmoid(logits[0, at]):.0%}{' ✓' if labels[at] > 0 else ''}")
            parts.append(pd.DataFrame({
                "position": range(length - first), "value": weights[at].double().numpy(),
                "panel": f"no. {number}", "unit": "weight",
            }))  # fmt: skip
        caption = f"User {user_label(self._split, user)}, the last {length - first:,} events\n" + "\n".join(named)
        titles = [self._titles[item] for item in batch.items[0, first:length].tolist()]
        return caption, pd.concat(parts, ignore_index=True), titles

    def still(self) -> go.Figure:
        """The first user; ✓ marks what came next."""
        return self._figure(self._users[0])

    def _figure(self, user: int) -> go.Figure:
        caption, frame, titles = self.measure(user)
        figure = figures.influences(frame.assign(history=caption), {caption: titles})
        lines = caption.count("\n") - 1  # beyond the two that there is place for
        return figure.update_layout(margin_t=78 + 16 * lines, height=figure.layout.height + 16 * lines)

    def _controls(self) -> Any:

        self.status = StatusLine()
        self.user = user_dropdown(self._split, self._users)
        self.figure = interactive_figure(self._figure(self.user.value))
        self.user.observe(self.status.guard(lambda change: self._draw(change.new)), "value")
        return panel(self.status, self.user, self.figure, figure=self.figure)

    def _draw(self, user: int) -> None:
        redraw(self.figure, self._figure(user))
